//! Asks the data plane what it knows about an object: whether it has loaded it, and what is wrong.
//!
//! The operator may not read tenants' Secrets; the pods that mount them say whether they are there.
//! An answer is bounded in time and size, and is never needed: without one the status says less.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use weir_core::object::ObjectKey;

use crate::pod::ADMIN_PORT;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// Longest answer, bytes.
const LONGEST: usize = 4 * 1024 * 1024;
/// How long an answer is used for other objects of the same process.
const FRESH: Duration = Duration::from_secs(2);

/// What one process says about one object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReport {
    /// Which.
    #[serde(flatten)]
    pub object: ObjectKey,
    /// Which version of it is loaded, if it says.
    #[serde(default)]
    pub generation: Option<i64>,
    /// What is wrong with it.
    #[serde(default)]
    pub problems: Vec<ObjectProblem>,
}

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectProblem {
    /// `SecretMissing`, ...
    pub reason: String,
    /// In the words of the process.
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize)]
struct Reports {
    #[serde(default)]
    objects: Vec<serde_json::Value>,
}

/// Asks processes of the data plane. None is no answer.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// All objects of the process at this address of a pod.
    async fn objects(&self, address: &str) -> Option<Arc<Vec<ObjectReport>>>;
}

/// What was said, and when.
type Answer = (Instant, Arc<Vec<ObjectReport>>);

/// Asks over HTTP.
pub struct HttpProbe {
    client: Client<HttpConnector, Empty<bytes::Bytes>>,
    answers: Mutex<HashMap<String, Answer>>,
}

impl Default for HttpProbe {
    fn default() -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self {
            client,
            answers: Mutex::new(HashMap::new()),
        }
    }
}

#[async_trait]
impl Probe for HttpProbe {
    async fn objects(&self, address: &str) -> Option<Arc<Vec<ObjectReport>>> {
        {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.retain(|_, (when, _)| when.elapsed() < FRESH);
            if let Some((_, answer)) = answers.get(address) {
                return Some(Arc::clone(answer));
            }
        }
        let reports = match timeout(DEADLINE, self.ask(address)).await {
            Ok(Ok(reports)) => Arc::new(reports),
            Ok(Err(error)) => {
                tracing::debug!(address, %error, "no answer about objects");
                return None;
            }
            Err(_) => return None,
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(address.to_owned(), (Instant::now(), Arc::clone(&reports)));
        Some(reports)
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl HttpProbe {
    async fn ask(&self, address: &str) -> Result<Vec<ObjectReport>, AnyError> {
        let host = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        let uri = format!("http://{host}:{ADMIN_PORT}/objects").parse()?;
        let answer = self.client.get(uri).await?;
        if !answer.status().is_success() {
            return Err(format!("status {}", answer.status()).into());
        }
        let body = Limited::new(answer.into_body(), LONGEST)
            .collect()
            .await?
            .to_bytes();
        parse(&body).map_err(Into::into)
    }
}

/// Entries of kinds that this version does not know are left out.
fn parse(body: &[u8]) -> Result<Vec<ObjectReport>, serde_json::Error> {
    let reports: Reports = serde_json::from_slice(body)?;
    Ok(reports
        .objects
        .into_iter()
        .filter_map(|entry| serde_json::from_value(entry).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use weir_core::object::Kind;

    use super::*;

    #[test]
    fn reports_of_other_versions_are_understood_as_far_as_possible() {
        let body = br#"{"objects":[
            {"kind":"Webhook","namespace":"shop","name":"a","problems":[{"reason":"SecretMissing","message":"m"}],"new":1},
            {"kind":"Unheard","namespace":"shop","name":"b"},
            {"kind":"QueueConsumer","namespace":"shop","name":"c","generation":3}
        ]}"#;
        let reports = parse(body).unwrap();
        assert_eq!(reports.len(), 2);
        assert_eq!(
            reports[0].object,
            ObjectKey::new(Kind::Webhook, "shop", "a")
        );
        assert_eq!(reports[0].problems[0].reason, "SecretMissing");
        assert_eq!(reports[1].generation, Some(3));
        assert!(parse(b"nonsense").is_err());
    }
}
