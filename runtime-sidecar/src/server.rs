//! An HTTP server (HTTP/1.1 and h2c) with bounds on everything a peer can make long: the head, the
//! number of headers, silence, the number of connections. Bodies are bounded by who reads them.
//!
//! The three listeners (intake, admin, ops) differ only in their [`Answer`].

mod head;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::settings::HttpLimits;
use crate::supervise::{Heart, PanicAlarm, RunError, TICK, panicked};

/// What a connection without a request gets where places are short.
const CROWDED_IDLE: Duration = Duration::from_secs(2);

/// Answers requests.
pub trait Answer: Send + Sync + 'static {
    /// The body of an answer. One that comes in parts keeps its connection while it comes.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static;

    /// One request, one answer. Dropped when the peer goes away.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves until `stop`; then lets running requests finish until `abort`.
pub async fn serve<A: Answer>(
    listener: TcpListener,
    answer: Arc<A>,
    limits: &HttpLimits,
    heart: Heart,
    stop: CancellationToken,
    abort: CancellationToken,
) -> Result<(), RunError> {
    let alarm = CancellationToken::new();
    let shared = Arc::new(Shared {
        answer,
        builder: builder(limits, alarm.clone()),
        limits: limits.clone(),
        served: Semaphore::new(limits.served),
        stop: stop.clone(),
    });
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        let accept = async {
            let slot = slots
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (listener.accept().await, slot)
        };
        tokio::select! {
            (accepted, slot) = accept => match accepted {
                Ok((stream, _peer)) => {
                    let shared = shared.clone();
                    connections.spawn(async move {
                        shared.connection(stream).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: wait for some to be closed.
                    warn!(%error, "cannot accept connections");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(ended) = connections.join_next() => {
                ended.map_err(|error| panicked("http connection", error))?;
            }
            () = alarm.cancelled() => return Err(stream_panicked()),
            () = stop.cancelled() => break,
            _ = tick.tick() => heart.beat(),
        }
    }
    drop(listener);
    loop {
        tokio::select! {
            ended = connections.join_next() => match ended {
                Some(ended) => ended.map_err(|error| panicked("http connection", error))?,
                None => return Ok(()),
            },
            () = alarm.cancelled() => return Err(stream_panicked()),
            () = abort.cancelled() => return Ok(()),
            _ = tick.tick() => heart.beat(),
        }
    }
}

fn stream_panicked() -> RunError {
    RunError::TaskPanicked {
        task: "http stream".to_owned(),
        why: "see the log".to_owned(),
    }
}

fn builder(limits: &HttpLimits, alarm: CancellationToken) -> auto::Builder<Tasks> {
    let mut builder = auto::Builder::new(Tasks {
        set: Arc::default(),
        alarm,
    });
    builder
        .http1()
        .timer(TokioTimer::new())
        // Silence is judged in `serve`, the first head before it: no timer for each request.
        .header_read_timeout(None)
        .max_headers(limits.header_count)
        .max_buf_size(limits.header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.http2_streams)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024);
    builder
}

/// Where HTTP/2 puts its streams: a set that ends with the server, instead of detached tasks.
#[derive(Clone)]
struct Tasks {
    set: Arc<Mutex<JoinSet<()>>>,
    alarm: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let alarm = PanicAlarm(self.alarm.clone());
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        while set.try_join_next().is_some() {}
        set.spawn(async move {
            future.await;
            drop(alarm);
        });
    }
}

/// What all connections of a server share.
struct Shared<A> {
    answer: Arc<A>,
    builder: auto::Builder<Tasks>,
    limits: HttpLimits,
    /// Connections that may be served at once; others wait where they cost next to nothing.
    served: Semaphore,
    stop: CancellationToken,
}

impl<A: Answer> Shared<A> {
    /// One connection from its first byte to its end.
    async fn connection(&self, stream: TcpStream) {
        let deadline = self.limits.header_deadline;
        let _ = stream.set_nodelay(true);
        let head = async {
            if !head::arrives(&stream, self.limits.header_bytes)
                .await
                .unwrap_or(false)
            {
                return None;
            }
            self.served.acquire().await.ok()
        };
        let slot = tokio::select! {
            biased;
            slot = timeout(deadline, head) => slot.ok().flatten(),
            () = self.stop.cancelled() => None,
        };
        if slot.is_some() {
            // Boxed, so that a connection that waits is small.
            Box::pin(self.serve(stream)).await;
        }
    }

    async fn serve(&self, stream: TcpStream) {
        let activity = Arc::new(Activity::default());
        let service = service_fn({
            let activity = activity.clone();
            let answer = self.answer.clone();
            move |request| {
                let (answer, running) = (answer.clone(), activity.begin());
                async move {
                    let response = answer.answer(request).await;
                    let response = response.map(|body| Held {
                        body,
                        _running: running,
                    });
                    Ok::<_, Infallible>(response)
                }
            }
        });
        let mut served = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        // These are looked at only when they have something to say, not on every wake-up.
        let mut asides = FuturesUnordered::new();
        asides.push(self.aside(Aside::Stop));
        asides.push(self.aside(Aside::Look));
        let mut idle_since = Instant::now();
        let mut seen = 0;
        loop {
            tokio::select! {
                biased;
                result = served.as_mut() => {
                    if let Err(error) = result {
                        debug!(%error, "connection ended");
                    }
                    return;
                }
                Some(aside) = asides.next() => match aside {
                    Aside::Stop => served.as_mut().graceful_shutdown(),
                    Aside::Look => {
                        let begun = activity.begun.load(Ordering::Relaxed);
                        let busy = activity.running.load(Ordering::Relaxed) > 0 || begun != seen;
                        if busy {
                            (seen, idle_since) = (begun, Instant::now());
                        } else if idle_since.elapsed() >= self.idle_allowed() {
                            return;
                        }
                        asides.push(self.aside(Aside::Look));
                    }
                },
            }
        }
    }

    async fn aside(&self, aside: Aside) -> Aside {
        match aside {
            Aside::Stop => self.stop.cancelled().await,
            Aside::Look => sleep(CROWDED_IDLE.min(self.limits.idle)).await,
        }
        aside
    }

    /// How long a connection may keep its place without a request.
    fn idle_allowed(&self) -> Duration {
        let crowded = self.served.available_permits() * 4 <= self.limits.served;
        if crowded {
            CROWDED_IDLE
        } else {
            self.limits.idle
        }
    }
}

/// What a connection looks at besides its peer.
enum Aside {
    /// Whether the server stops.
    Stop,
    /// Whether it is idle.
    Look,
}

/// How many requests a connection has had, and has now.
#[derive(Default)]
struct Activity {
    begun: AtomicUsize,
    running: AtomicUsize,
}

struct Running(Arc<Activity>);

/// A body whose request runs until it was sent.
struct Held<B> {
    body: B,
    _running: Running,
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Running {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
