//! A producer over real HTTP that does not give up: it repeats a request, with the same id, until it is
//! accepted, and writes down what it tried and what it was promised.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, sleep, timeout};

use crate::ledger::{Event, Ledger, sha};

/// One connection pool to an intake.
#[derive(Clone)]
pub struct Producer {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
}

impl Producer {
    /// Posts to `url`.
    pub fn new(url: String) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            url,
        }
    }

    /// One empty POST; true when anything answered.
    pub async fn post_once(&self) -> bool {
        let request = Request::post(&self.url).body(Full::default());
        self.client
            .request(request.expect("the request is well formed"))
            .await
            .is_ok()
    }

    /// Sends one message until it is accepted or `deadline` passes.
    pub async fn send(
        &self,
        ledger: &Ledger,
        n: u64,
        group: Option<u64>,
        body: String,
        deadline: Instant,
    ) {
        ledger.write(&Event::Try {
            n,
            sha: sha(body.as_bytes()),
            group,
        });
        let body = Bytes::from(body);
        while Instant::now() < deadline {
            let request = Request::post(&self.url)
                .header("content-type", "application/json")
                .header("webhook-id", format!("msg-{n}"))
                .header(
                    "x-group",
                    group.map_or(String::new(), |group| format!("g{group}")),
                )
                .body(Full::new(body.clone()))
                .expect("the request is well formed");
            let answer = timeout(Duration::from_secs(15), self.client.request(request)).await;
            if let Ok(Ok(answer)) = answer {
                let status = answer.status();
                let text = answer.into_body().collect().await.map(Collected::to_bytes);
                if status == StatusCode::ACCEPTED {
                    let id = text
                        .ok()
                        .and_then(|text| serde_json::from_slice(&text).ok());
                    let id: serde_json::Value = id.unwrap_or_default();
                    let id = id["id"].as_str().unwrap_or_default().to_owned();
                    ledger.write(&Event::Accepted { n, id });
                    return;
                }
            }
            sleep(Duration::from_millis(50)).await; // the pause of a patient client, not a wait for a state
        }
    }
}
