//! A closed-loop load: so many connections, each with one request at a time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Failure;

/// What a load saw.
pub struct Seen {
    /// Requests answered 202.
    pub accepted: u64,
    /// Anything else.
    pub other: u64,
    /// Requests a second.
    pub rate: f64,
    /// Sorted latencies, microseconds.
    latencies: Vec<u32>,
}

impl Seen {
    /// The latency below which `share` of the requests were, ms.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share) as usize;
        self.latencies
            .get(at)
            .map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
    }
}

/// Posts 1 KiB bodies to `path`; `dedup` gives every request an id of its own.
pub async fn post(
    port: u16,
    path: &'static str,
    connections: u64,
    time: Duration,
    dedup: bool,
) -> Result<Seen, Failure> {
    let began = Instant::now();
    let until = began + time;
    let run = began.elapsed().as_nanos() as u64 ^ u64::from(std::process::id());
    let mut clients = JoinSet::new();
    for connection in 0..connections {
        clients.spawn(async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            let (mut sender, driver) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let mut drivers = JoinSet::new();
            drivers.spawn(driver);
            let body = Bytes::from(vec![b'x'; 1024]);
            let (mut accepted, mut other, mut latencies) = (0_u64, 0_u64, Vec::new());
            while Instant::now() < until {
                let mut request = Request::post(path).header("host", "127.0.0.1");
                if dedup {
                    let stamp = latencies.len();
                    let id = format!("{run:x}-{port}-{connection}-{stamp}-{:?}", Instant::now());
                    request =
                        request.header("webhook-id", id.replace([' ', '{', '}', ':', ','], ""));
                }
                let request = request.body(Full::new(body.clone()))?;
                let sent = Instant::now();
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                answer.into_body().collect().await?;
                latencies.push(sent.elapsed().as_micros() as u32);
                if status == 202 {
                    accepted += 1;
                } else {
                    other += 1;
                }
            }
            Ok::<_, Failure>((accepted, other, latencies))
        });
    }
    let mut seen = Seen {
        accepted: 0,
        other: 0,
        rate: 0.0,
        latencies: Vec::new(),
    };
    while let Some(client) = clients.join_next().await {
        let (accepted, other, latencies) = client??;
        seen.accepted += accepted;
        seen.other += other;
        seen.latencies.extend(latencies);
    }
    seen.rate = seen.accepted as f64 / began.elapsed().as_secs_f64();
    seen.latencies.sort_unstable();
    Ok(seen)
}
