//! The programs that people would write by hand.

mod keyed;
mod pulled;
mod pushed;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use self::keyed::keyed;
pub use self::pulled::pulled;
pub use self::pushed::pushed;
use crate::Failure;

/// POST, publish, wait for the acknowledgement, 202.
pub async fn intake(port: u16, nats: &str, subject: String) -> Result<(), Failure> {
    let js = jetstream::new(async_nats::connect(nats).await?);
    let subject: Arc<str> = subject.into();
    serve(port, move |request| {
        let (js, subject) = (js.clone(), Arc::clone(&subject));
        async move {
            let Ok(body) = request.into_body().collect().await else {
                return (400, String::new());
            };
            let Ok(stored) = js.publish(subject.to_string(), body.to_bytes()).await else {
                return (503, String::new());
            };
            (if stored.await.is_ok() { 202 } else { 503 }, String::new())
        }
    })
    .await
}

/// Answers 204 to every POST after at most `work`; GET tells how many there were.
pub async fn handler(port: u16, work: Duration) -> Result<(), Failure> {
    let count = Arc::new(AtomicU64::new(0));
    serve(port, move |request| {
        let count = Arc::clone(&count);
        async move {
            if request.method() == Method::GET {
                return (200, count.load(Ordering::Relaxed).to_string());
            }
            if request.into_body().collect().await.is_err() {
                return (400, String::new());
            }
            if !work.is_zero() {
                tokio::time::sleep(work.mul_f64(fastrand::f64())).await;
            }
            count.fetch_add(1, Ordering::Relaxed);
            (204, String::new())
        }
    })
    .await
}

async fn serve<F, A>(port: u16, answer: F) -> Result<(), Failure>
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = (u16, String)> + Send,
{
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move {
                    let (status, body) = answered.await;
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                    Ok::<_, Infallible>(response)
                }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A client for calls of the handler.
struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    handler: String,
}

impl Caller {
    fn new(handler: String) -> Arc<Self> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Arc::new(Self { client, handler })
    }

    /// True when the handler took it.
    async fn call(&self, body: Bytes) -> bool {
        let Ok(request) = Request::post(&self.handler).body(Full::new(body)) else {
            return false;
        };
        let Ok(answer) = self.client.request(request).await else {
            return false;
        };
        let taken = answer.status().is_success();
        answer.into_body().collect().await.ok();
        taken
    }
}
