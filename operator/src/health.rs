//! `/live`, `/ready` and `/metrics`.
//!
//! Live means that it makes progress: every watch has listed within a bound. Ready means that the
//! API server answers and the definitions of our kinds are there; who holds the lease is not asked,
//! because a stand-by is a healthy operator.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::metrics::Metrics;

/// Connections at once.
const CONNECTIONS: usize = 64;
/// Longest time for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// Longest connection.
const CONNECTION: Duration = Duration::from_mins(1);

/// Signs of life of this process.
pub struct Health {
    ready: AtomicBool,
    patience: Duration,
    sources: Mutex<BTreeMap<String, Instant>>,
}

impl Health {
    /// Not ready, and expecting nothing yet. A source counts as dead when it gave no sign of life
    /// for `patience`.
    pub fn new(patience: Duration) -> Arc<Self> {
        let (ready, sources) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Self {
            ready,
            patience,
            sources,
        })
    }

    /// From now on a source has to give signs of life.
    pub fn expect(&self, source: &str) {
        self.alive(source);
    }

    /// A source gave a sign of life.
    pub fn alive(&self, source: &str) {
        self.lock().insert(source.to_owned(), Instant::now());
    }

    /// The API server answers and knows our kinds.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Sources that gave no sign of life for too long.
    pub fn dead(&self) -> Vec<String> {
        self.lock()
            .iter()
            .filter(|(_, seen)| seen.elapsed() > self.patience)
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Instant>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/live" => match self.dead() {
                dead if dead.is_empty() => text(StatusCode::OK, "live\n"),
                dead => {
                    let words = format!("no progress: {}\n", dead.join(", "));
                    text(StatusCode::SERVICE_UNAVAILABLE, words)
                }
            },
            "/ready" if self.ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ready\n"),
            "/ready" => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the API server does not answer, or does not know the kinds of weir.dev\n",
            ),
            "/metrics" => {
                let mut response = text(StatusCode::OK, metrics.text());
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                let kind = hyper::header::HeaderValue::from_static(kind);
                response
                    .headers_mut()
                    .insert(hyper::header::CONTENT_TYPE, kind);
                response
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /live, /ready and /metrics\n",
            ),
        }
    }
}

fn text(status: StatusCode, words: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(words.into()));
    *response.status_mut() = status;
    response
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
        connections.spawn(async move {
            let service = service_fn(|request| {
                let response = health.answer(&request, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            timeout(CONNECTION, serving).await.ok();
            drop(place);
        });
    }
}
