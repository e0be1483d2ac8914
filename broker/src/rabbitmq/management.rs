//! The management API: policies, counts, the version. Asked with the user of the address file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use super::address::{self, Address};
use super::names;
use crate::error::BrokerError;

/// How long an answer may take. A policy is written to all queues that it could be for.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer that is read.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// A client of the API of one virtual host. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Management {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: Arc<str>,
    vhost: Arc<str>,
    uri_file: Arc<str>,
}

impl Management {
    /// Makes a client; asks nothing.
    pub(crate) fn new(
        url: &str,
        vhost: &str,
        uri_file: &str,
        ca_file: Option<&str>,
    ) -> Result<Self, BrokerError> {
        let refused = |why: String| BrokerError::Refused {
            operation: "connect",
            why: format!("the management address {}: {why}", shown(url)),
        };
        let base = url.trim_end_matches('/');
        let uri: Uri = base
            .parse()
            .map_err(|error| refused(format!("{error}; write http://host:15672")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(refused("write http://host:15672".to_owned()));
        }
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(refused(
                "it must hold no password; the user of the address file is used".to_owned(),
            ));
        }
        let tls = tls(ca_file).map_err(refused)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Ok(Self {
            client,
            base: base.into(),
            vhost: address::percent_encoded(vhost).into(),
            uri_file: uri_file.into(),
        })
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> BrokerError {
        BrokerError::Unreachable {
            servers: self.base.to_string(),
            why: format!("management API: {why}"),
        }
    }

    /// Asks. `None` where there is no such thing.
    async fn ask(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Value>, BrokerError> {
        let addresses = Address::read(&self.uri_file).await?;
        let credentials = addresses
            .first()
            .map(Address::credentials)
            .unwrap_or_default();
        let credentials = base64::engine::general_purpose::STANDARD.encode(credentials);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/{path}", self.base))
            .header(AUTHORIZATION, format!("Basic {credentials}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.map(Value::to_string).unwrap_or_default()))
            .map_err(|error| BrokerError::Refused {
                operation,
                why: error.to_string(),
            })?;
        let answer = async {
            let first = self.client.request(request.clone()).await;
            let answer = match first {
                // The server may end a connection that was kept just when it is used. Nothing that is asked here does
                // anything else the second time.
                Err(error) if !error.is_connect() => self.client.request(request).await,
                first => first,
            };
            let answer = answer.map_err(|error| self.unreachable(error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MOST_BYTES)
                .collect()
                .await
                .map_err(|error| self.unreachable(error))?
                .to_bytes();
            Ok::<_, BrokerError>((status, body))
        };
        let (status, body) =
            tokio::time::timeout(TIMEOUT, answer)
                .await
                .map_err(|_| BrokerError::TimedOut {
                    operation,
                    after: TIMEOUT,
                })??;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if status.is_server_error() {
            return Err(self.unreachable(format!("it answered {status}")));
        }
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let text: String = text.chars().take(300).collect();
            return Err(BrokerError::Refused {
                operation,
                why: format!("the management API answered {status}: {text}"),
            });
        }
        if body.is_empty() {
            return Ok(Some(Value::Null));
        }
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| BrokerError::Refused {
                operation,
                why: format!("the answer is not understood: {error}"),
            })
    }

    /// The version of the server, `4.3.6`.
    pub(crate) async fn version(&self) -> Result<String, BrokerError> {
        let answer = self
            .ask("read version", Method::GET, "overview", None)
            .await?;
        let version = answer.and_then(|answer| {
            let version = answer["rabbitmq_version"].as_str()?;
            Some(version.to_owned())
        });
        version.ok_or_else(|| BrokerError::Refused {
            operation: "read version",
            why: "the answer names no version".to_owned(),
        })
    }

    fn policy_path(&self, name: &str) -> String {
        let name = address::percent_encoded(name);
        format!("policies/{}/{name}", self.vhost)
    }

    /// A policy as it is.
    pub(crate) async fn policy(&self, name: &str) -> Result<Option<Value>, BrokerError> {
        let path = self.policy_path(name);
        self.ask("read policy", Method::GET, &path, None).await
    }

    pub(crate) async fn put_policy(&self, name: &str, policy: &Value) -> Result<(), BrokerError> {
        let path = self.policy_path(name);
        self.ask("write policy", Method::PUT, &path, Some(policy))
            .await
            .map(drop)
    }

    pub(crate) async fn delete_policy(&self, name: &str) -> Result<(), BrokerError> {
        let path = self.policy_path(name);
        self.ask("delete policy", Method::DELETE, &path, None)
            .await
            .map(drop)
    }

    /// Names of the queues and streams that begin with `prefix`, and messages of each that are on their way
    /// out by age. The names are of now, the numbers as of the server's last statistics.
    pub(crate) async fn queues(&self, prefix: &str) -> Result<BTreeMap<String, u64>, BrokerError> {
        const PAGE: u64 = 100;
        let pattern = names::exactly(prefix);
        let pattern = address::percent_encoded(pattern.trim_end_matches('$'));
        let mut found = BTreeMap::new();
        let mut page = 1;
        loop {
            let path = format!(
                "queues/{}?page={page}&page_size={PAGE}&name={pattern}&use_regex=true\
                 &columns=name,messages_dlx",
                self.vhost
            );
            let answer = self.ask("list queues", Method::GET, &path, None).await?;
            let answer = answer.unwrap_or_default();
            for queue in answer["items"].as_array().into_iter().flatten() {
                if let Some(name) = queue["name"].as_str() {
                    let leaving = queue["messages_dlx"].as_u64().unwrap_or(0);
                    found.insert(name.to_owned(), leaving);
                }
            }
            if page >= answer["page_count"].as_u64().unwrap_or(1) {
                return Ok(found);
            }
            page += 1;
        }
    }

    /// Messages of a queue that are delivered and not settled, as of the server's last statistics: up
    /// to its interval (5 s by default) old.
    pub(crate) async fn unsettled(&self, queue: &str) -> Result<u64, BrokerError> {
        let name = address::percent_encoded(queue);
        let path = format!("queues/{}/{name}", self.vhost);
        let answer = self.ask("read queue", Method::GET, &path, None).await?;
        Ok(answer
            .and_then(|answer| answer["messages_unacknowledged"].as_u64())
            .unwrap_or(0))
    }
}

fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}{}", &url[..scheme + 3], &url[at + 1..])
        }
        _ => url.to_owned(),
    }
}

fn tls(ca_file: Option<&str>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("CA file {path}: {error}"))?;
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(format!("CA file {path} holds no certificate"));
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
