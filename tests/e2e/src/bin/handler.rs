//! The handler of the cluster tests, one static program.
//!
//! It listens on `PORT` (8080). `GET /stats` and `POST /script` are for the tests; every other
//! request is a call. With `FORWARD_TO=http://counter:8080` calls are passed on to that process, which
//! counts and answers for all replicas. `SCRIPT` is the script to begin with.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir_e2e::{Answer, Ledger, Request, Script};

type AnyError = Box<dyn Error + Send + Sync>;

struct Handler {
    ledger: Mutex<Ledger>,
    began: Instant,
    replica: String,
    forward_to: Option<String>,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let port = env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
    let script = env::var("SCRIPT").map_or(Ok(Script::default()), |s| serde_json::from_str(&s))?;
    let handler = Arc::new(Handler {
        ledger: Mutex::new(Ledger::new(script)),
        began: Instant::now(),
        replica: env::var("HOSTNAME").unwrap_or_default(),
        forward_to: env::var("FORWARD_TO").ok(),
        client: Client::builder(TokioExecutor::new()).build_http(),
    });
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    let mut stop = signal(SignalKind::terminate())?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let handler = Arc::clone(&handler);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&handler), request));
                    // A caller that goes away is no error of ours.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
            _ = stop.recv() => return Ok(()),
        }
    }
}

async fn answer(
    handler: Arc<Handler>,
    request: hyper::Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answered = match (request.method(), request.uri().path()) {
        (&Method::GET, "/stats") => handler.stats(),
        (&Method::POST, "/script") => handler.follow(request).await,
        _ if handler.forward_to.is_some() => handler.forward(request).await,
        _ => handler.call(request).await,
    };
    Ok(answered.unwrap_or_else(|error| {
        let mut response = Response::new(Full::from(error.to_string()));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    }))
}

impl Handler {
    fn ledger<T>(&self, with: impl FnOnce(&mut Ledger) -> T) -> T {
        with(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn stats(&self) -> Result<Response<Full<Bytes>>, AnyError> {
        let text = self.ledger(|ledger| serde_json::to_vec(ledger.stats()))?;
        Ok(Response::builder()
            .header("content-type", "application/json")
            .body(Full::from(text))?)
    }

    async fn follow(
        &self,
        request: hyper::Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, AnyError> {
        let script = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
        self.ledger(|ledger| ledger.follow(script));
        Ok(Response::new(Full::default()))
    }

    async fn call(
        self: &Arc<Self>,
        request: hyper::Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, AnyError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let request = Request {
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    (name.as_str().to_owned(), value)
                })
                .collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        let now = self.began.elapsed().as_millis() as u64;
        let answer = self.ledger(|ledger| ledger.begin(request, now));
        let mut running = Running {
            handler: Arc::clone(self),
            answer,
            answered: false,
        };
        tokio::time::sleep(Duration::from_millis(running.answer.sleep_ms)).await;
        running.answered = true;

        let mut response = Response::builder().status(running.answer.status);
        if let Some(seconds) = running.answer.retry_after_seconds {
            response = response.header("retry-after", seconds);
        }
        Ok(response.body(Full::default())?)
    }

    async fn forward(
        &self,
        request: hyper::Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, AnyError> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let base = self.forward_to.as_deref().unwrap_or_default();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("{base}{path}").parse::<Uri>()?;
        parts.headers.remove("host");
        parts
            .headers
            .insert("weir-test-replica", self.replica.parse()?);
        let request = hyper::Request::from_parts(parts, Full::from(body));
        let (parts, body) = self.client.request(request).await?.into_parts();
        Ok(Response::from_parts(
            parts,
            Full::from(body.collect().await?.to_bytes()),
        ))
    }
}

/// A call that has begun; it ends with this value, also when its caller hangs up.
struct Running {
    handler: Arc<Handler>,
    answer: Answer,
    answered: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let status = self.answered.then_some(self.answer.status);
        self.handler
            .ledger(|ledger| ledger.end(&self.answer, status));
    }
}
