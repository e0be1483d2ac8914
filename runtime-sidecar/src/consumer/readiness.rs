//! Whether a handler is ready: an open port, or a path that answers 2xx.
//!
//! Nothing is pulled while it is not, so that a handler that starts, or has crashed, costs no message
//! an attempt. A call that could not reach it makes it suspect at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Uri};
use http_body_util::Full;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use weir_broker::Clock;
use weir_core::config::TargetConfig;

use crate::call::Target;

/// Longest wait for a handler to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says that the handler should be looked at again before it gets another message.
#[derive(Clone)]
pub struct Suspicion {
    ready: watch::Sender<bool>,
    look: Arc<Notify>,
    checked: bool,
}

impl Suspicion {
    /// For a handler (not ready until it was seen to be) or a target (always ready).
    pub fn new(config: &TargetConfig) -> Self {
        let checked = matches!(config, TargetConfig::Handler { .. });
        Self {
            ready: watch::Sender::new(!checked),
            look: Arc::default(),
            checked,
        }
    }

    /// The handler could not be reached.
    pub fn raise(&self) {
        if self.checked {
            self.ready.send_replace(false);
            self.look.notify_one();
        }
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
    loop {
        let answers = is_ready(&target, path.as_ref(), &*clock);
        let ready = timeout(PATIENCE, answers).await.unwrap_or(false);
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
