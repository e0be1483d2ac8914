//! Calls of handlers and targets: HTTP/1.1 over kept-alive connections, answers cut at a limit.
//!
//! A call has no deadline of its own: whoever makes it drops the future when the time is over, and
//! that closes the connection. Redirects are not followed.

mod pool;
pub mod request;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use jiff::Timestamp;
use weir_core::config::TargetConfig;
use weir_core::retry;

use crate::egress::{Egress, EgressError, Origin, Trust};
use pool::{Pool, Pooled};

/// Most that is read of an answer that is not kept, before its connection is closed instead.
const DISCARD: usize = 1024 * 1024;

/// Most that is kept of an answer to a single message: what a dead letter shows.
pub const KEEP_SINGLE: usize = weir_core::dead_letter::ANSWER_KEPT;

/// Most that is kept of an answer to a batch: it may name every message.
pub const KEEP_BATCH: usize = 256 * 1024;

/// Who is called.
pub struct Target {
    host: HeaderValue,
    uri: Uri,
    pool: Pool,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, understood.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub body: Bytes,
    /// Whether the body went on.
    pub truncated: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection: nothing was sent.
    #[error(transparent)]
    Connect(#[from] EgressError),
    /// The connection ended, or what came was not HTTP. The request may have been handled.
    #[error("connection lost: {0}")]
    Lost(String),
}

impl Target {
    /// Reads the configuration. No IO.
    pub fn new(config: &TargetConfig, egress: Arc<Egress>) -> Result<Self, EgressError> {
        let (url, trust) = match config {
            TargetConfig::Handler { url, .. } => (url, Trust::Handler),
            TargetConfig::Url { url } => (url, Trust::User),
        };
        let (origin, path) = Origin::parse(url, trust)?;
        let host =
            HeaderValue::from_str(&origin.host_header()).map_err(|_| EgressError::BadUrl {
                url: crate::egress::redact(url),
                why: "its host is not one",
            })?;
        let uri = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
        egress.check(&origin)?;
        let pool = Pool::new(origin, egress);
        Ok(Self { host, uri, pool })
    }

    /// The value of `Host`.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Path and query of the URL.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Opens a connection and closes it: whether anybody listens.
    pub async fn probe(&self) -> Result<(), EgressError> {
        self.pool.probe().await
    }

    /// Makes a call; keeps at most `keep` bytes of the answer.
    pub async fn call(
        &self,
        request: Request<Full<Bytes>>,
        keep: usize,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Answer, CallError> {
        let (response, connection) = self.pool.send(request).await?;
        read(response, connection, keep, now).await
    }
}

async fn read(
    response: Response<Incoming>,
    connection: Pooled<'_>,
    keep: usize,
    now: impl FnOnce() -> Timestamp,
) -> Result<Answer, CallError> {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry::retry_after(value, now()));
    let mut body = response.into_body();
    let mut kept = BytesMut::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CallError::Lost(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        total += data.len();
        let room = keep - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        if total > keep.max(DISCARD) {
            // Too much to read to the end: the connection is closed instead of reused.
            return Ok(Answer {
                status,
                retry_after,
                body: kept.freeze(),
                truncated: true,
            });
        }
    }
    connection.reuse();
    Ok(Answer {
        status,
        retry_after,
        body: kept.freeze(),
        truncated: total > keep,
    })
}
