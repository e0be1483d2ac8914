//! HTTP to pods and Services, by address: the test process has no cluster DNS everywhere.

use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use sha2::Sha256;
use weir_e2e::{Script, Stats};

use crate::space::Space;
use crate::wait::{SOON, until};

/// Longest that any single request of a test may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A client that keeps its connections.
#[derive(Clone)]
pub struct Http(Client<HttpConnector, Full<Bytes>>);

impl Http {
    pub fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    pub async fn post(
        &self,
        to: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, String> {
        self.send("POST", to, headers, body.into()).await
    }

    pub async fn get(&self, from: &str) -> Result<Reply, String> {
        self.send("GET", from, &[], Bytes::new()).await
    }

    pub async fn send(
        &self,
        method: &str,
        to: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, String> {
        let mut request = Request::builder().method(method).uri(to);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body)).map_err(|e| e.to_string())?;
        let answer = async {
            let (parts, body) = self
                .0
                .request(request)
                .await
                .map_err(|e| format!("{e:?}"))?
                .into_parts();
            let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            Ok(Reply {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            })
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .map_err(|_| format!("{to} did not answer within {PATIENCE:?}"))?
    }
}

/// `sha256=...` over the body, as GitHub signs.
pub fn github_signature(key: &str, body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any length is a key");
    mac.update(body);
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Space {
    /// `host:port` of a Service of some namespace, by its `ClusterIP`.
    pub async fn service(&self, namespace: &str, name: &str) -> Result<String, String> {
        let services = kube::Api::<k8s_openapi::api::core::v1::Service>::namespaced(
            self.client.clone(),
            namespace,
        );
        let service = services.get(name).await.map_err(|e| e.to_string())?;
        let spec = service.spec.ok_or("it has no spec")?;
        let ip = spec.cluster_ip.ok_or("it has no address")?;
        let port = spec
            .ports
            .and_then(|p| p.first().map(|p| p.port))
            .ok_or("it has no port")?;
        Ok(format!("{ip}:{port}"))
    }

    /// Where the object of `status.url` can be reached from here.
    pub async fn url(&self, kind: &str, name: &str) -> String {
        until(&format!("an address of {kind} {name}"), SOON, async || {
            let object = self.get(kind, name).await.ok_or("it is missing")?;
            let url = object["status"]["url"]
                .as_str()
                .ok_or("status.url is empty")?;
            self.reachable(url).await
        })
        .await
    }

    /// Replaces the host of an in-cluster URL, `service.namespace.svc`, by the Service's address.
    pub async fn reachable(&self, url: &str) -> Result<String, String> {
        let uri: Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
        let mut labels = uri.host().unwrap_or_default().split('.');
        let service = labels.next().unwrap_or_default();
        let namespace = labels.next().unwrap_or(&self.name);
        Ok(format!(
            "http://{}{}",
            self.service(namespace, service).await?,
            uri.path()
        ))
    }

    /// Posts until somebody answers, since the rules of a new Service take a moment.
    pub async fn post_when_up(
        &self,
        http: &Http,
        to: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        until(&format!("an answer of {to}"), SOON, async || {
            http.post(to, headers, body.to_owned()).await
        })
        .await
    }

    /// What the counter of this namespace has seen.
    pub async fn stats(&self) -> Stats {
        let http = Http::new();
        until("the counter's figures", SOON, async || {
            let address = self.service(&self.name, "counter").await?;
            let reply = http.get(&format!("http://{address}/stats")).await?;
            serde_json::from_slice(&reply.body).map_err(|e| e.to_string())
        })
        .await
    }

    /// Waits for figures of the counter.
    pub async fn stats_when(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Stats) -> bool,
    ) -> Stats {
        until(what, within, async || {
            let stats = self.stats().await;
            if wanted(&stats) {
                Ok(stats)
            } else {
                Err(format!(
                    "{} calls of {} messages, {} handled, {} in flight",
                    stats.calls,
                    stats.messages.len(),
                    stats.handled().count(),
                    stats.in_flight
                ))
            }
        })
        .await
    }

    /// Gives the counter another script.
    pub async fn script(&self, script: &Script) {
        let address = self
            .service(&self.name, "counter")
            .await
            .expect("the counter's Service");
        let body = serde_json::to_vec(script).unwrap();
        let reply = Http::new()
            .post(&format!("http://{address}/script"), &[], body)
            .await;
        assert_eq!(reply.expect("the counter answers").status, 200);
    }
}
