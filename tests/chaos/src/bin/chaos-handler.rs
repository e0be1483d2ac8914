//! A handler that writes down every call and fails where the message says so.
//!
//! `chaos-handler PORT LEDGER`. Bodies are `{"n": 7, "mood": "fine" | "flaky" | "poison"}`: `flaky` answers
//! 500 to the first attempt, `poison` to every one. `POST /busy?ms=20000` answers 429 for so long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use weir_chaos::ledger::{Event, Ledger, now, sha};

struct State {
    ledger: Ledger,
    busy_until: AtomicU64,
    work: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, ledger, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: chaos-handler PORT LEDGER [WORK_MS]");
        std::process::exit(2);
    };
    let work = rest.first().and_then(|ms| ms.parse().ok()).unwrap_or(1);
    let state = Arc::new(State {
        ledger: Ledger::open(Path::new(ledger))?,
        busy_until: AtomicU64::new(0),
        work: Duration::from_millis(work),
    });
    let port: u16 = port.parse().map_err(std::io::Error::other)?;
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let connection = hyper::server::conn::http1::Builder::new();
            connection
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/busy" {
        let ms = request
            .uri()
            .query()
            .and_then(|q| q.strip_prefix("ms="))
            .and_then(|n| n.parse().ok());
        state
            .busy_until
            .store(now() + ms.unwrap_or(0_u64) * 1_000_000, Ordering::Relaxed);
        return Ok(status(204));
    }
    let started = now();
    let header = |name: &str| {
        let value = request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (id, attempt) = (
        header("weir-id"),
        header("weir-attempt").parse().unwrap_or(0),
    );
    let Ok(body) = request.into_body().collect().await.map(Collected::to_bytes) else {
        return Ok(status(400));
    };
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let n = document["n"].as_u64().unwrap_or(u64::MAX);
    state.ledger.write(&Event::Started {
        n,
        id: id.clone(),
        sha: sha(&body),
        attempt,
        at: started,
    });
    let code = if started < state.busy_until.load(Ordering::Relaxed) {
        429
    } else {
        tokio::time::sleep(state.work).await;
        match document["mood"].as_str() {
            Some("poison") => 500,
            Some("flaky") if attempt <= 1 => 500,
            _ => 204,
        }
    };
    state.ledger.write(&Event::Ended {
        n,
        id,
        status: code,
        started,
        at: now(),
    });
    Ok(status(code))
}

fn status(code: u16) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = hyper::StatusCode::from_u16(code).expect("a status of this file");
    response
}
