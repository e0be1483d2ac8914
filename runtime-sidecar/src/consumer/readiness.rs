//! Whether a handler is ready: an open port, or a path that answers 2xx.
//!
//! Nothing is pulled while it is not, so that a handler that starts, or has crashed, costs no message
//! an attempt. A call that could not reach it makes it suspect at once, and a handler that is about to
//! end gets nothing new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Uri};
use http_body_util::Full;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use weir_broker::Clock;
use weir_core::config::{ConsumerConfig, TargetConfig};

use crate::call::Target;

/// Longest wait for a handler to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// A handler that is about to end, but was not seen to, gets messages again after its longest call
/// and this: it may have come back between two looks.
const LONGEST_LEAVE: Duration = Duration::from_mins(1);

/// What others tell about a handler: that it did not answer, or that it is about to end.
#[derive(Clone)]
pub struct Suspicion {
    ready: watch::Sender<bool>,
    look: Arc<Notify>,
    leaving: Arc<AtomicBool>,
    checked: bool,
    longest_leave: Duration,
}

impl Suspicion {
    /// For a handler (not ready until it was seen to be) or a target (always ready).
    pub fn new(config: &ConsumerConfig) -> Self {
        let checked = matches!(config.target, TargetConfig::Handler { .. });
        let longest_call = Duration::from_secs(config.timeout_seconds.into());
        Self {
            ready: watch::Sender::new(!checked),
            look: Arc::default(),
            leaving: Arc::default(),
            checked,
            longest_leave: longest_call + LONGEST_LEAVE,
        }
    }

    /// The handler could not be reached.
    pub fn raise(&self) {
        if self.checked {
            self.ready.send_replace(false);
            self.look.notify_one();
        }
    }

    /// The handler is about to end: it is not ready until it was gone and is back, however it answers.
    pub fn leave(&self) {
        if self.checked {
            self.leaving.store(true, Ordering::Release);
            self.raise();
        }
    }

    /// Whether the handler is about to end.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Whether the handler is ready.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }
}

/// Looks at the handler for ever: every `interval` while it is not ready, ten times less often while
/// it is.
pub async fn watch(
    suspicion: Suspicion,
    config: TargetConfig,
    target: Arc<Target>,
    clock: Arc<dyn Clock>,
    interval: Duration,
) {
    let TargetConfig::Handler { readiness_path, .. } = config else {
        return std::future::pending().await;
    };
    let path = readiness_path.as_deref().map(|path| {
        path.parse::<Uri>()
            .unwrap_or_else(|_| Uri::from_static("/"))
    });
    let mut leaving_since = None;
    loop {
        let answers = is_ready(&target, path.as_ref(), &*clock);
        let answers = timeout(PATIENCE, answers).await.unwrap_or(false);
        let mut ready = answers;
        if suspicion.leaving.load(Ordering::Acquire) {
            let since = *leaving_since.get_or_insert_with(Instant::now);
            if !answers || since.elapsed() > suspicion.longest_leave {
                leaving_since = None;
                suspicion.leaving.store(false, Ordering::Release);
            }
            ready = false;
        }
        suspicion
            .ready
            .send_if_modified(|known| std::mem::replace(known, ready) != ready);
        let pause = if ready { interval * 10 } else { interval };
        let _ = timeout(pause, suspicion.look.notified()).await;
    }
}

async fn is_ready(target: &Target, path: Option<&Uri>, clock: &dyn Clock) -> bool {
    let Some(path) = path else {
        return target.probe().await.is_ok();
    };
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = path.clone();
    request.headers_mut().insert(HOST, target.host().clone());
    let answer = target.call(request, 0, || clock.now()).await;
    answer.is_ok_and(|answer| (200..300).contains(&answer.status))
}
