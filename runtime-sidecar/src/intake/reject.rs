//! Requests that store nothing: what the sender is told. Never anything secret, and nothing of what
//! was sent except names.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::Full;
use weir_broker::BrokerError;

/// Every reason, for metrics.
pub const REASONS: [&str; 18] = [
    NOT_FOUND,
    METHOD,
    TOO_LARGE,
    BODY_LATE,
    BODY_LOST,
    BUSY,
    SIGNATURE,
    SECRET_MISSING,
    IDENTITY_MISSING,
    GROUP_INVALID,
    MALFORMED_EVENT,
    BAD_HEADER,
    FULL,
    UNREACHABLE,
    TIMED_OUT,
    TOPOLOGY_MISSING,
    REFUSED,
    CONFLICT,
];

pub const NOT_FOUND: &str = "NotFound";
pub const METHOD: &str = "MethodNotAllowed";
pub const TOO_LARGE: &str = "MessageTooLarge";
pub const BODY_LATE: &str = "BodyTooSlow";
pub const BODY_LOST: &str = "BodyIncomplete";
pub const BUSY: &str = "OutOfMemory";
pub const SIGNATURE: &str = "SignatureInvalid";
pub const SECRET_MISSING: &str = "SecretMissing";
pub const IDENTITY_MISSING: &str = "IdentityMissing";
pub const GROUP_INVALID: &str = "GroupInvalid";
pub const MALFORMED_EVENT: &str = "MalformedEvent";
pub const BAD_HEADER: &str = "BadHeader";
pub const FULL: &str = "QueueFull";
pub const UNREACHABLE: &str = "BrokerUnreachable";
pub const TIMED_OUT: &str = "BrokerTimeout";
pub const TOPOLOGY_MISSING: &str = "TopologyMissing";
pub const REFUSED: &str = "BrokerRefused";
pub const CONFLICT: &str = "TopologyConflict";

/// An answer that is not an acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// HTTP status.
    pub status: StatusCode,
    /// A stable word: the answer's `error`, and the metrics' `reason`.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: Cow<'static, str>,
    retry_after: Option<u32>,
    allow: Option<String>,
}

impl Rejection {
    /// Says `message`.
    pub fn new(
        status: StatusCode,
        reason: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
            retry_after: None,
            allow: None,
        }
    }

    /// Asks to come again after `seconds`.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Nothing is served at this path.
    pub fn not_found() -> Self {
        let message =
            "no object has this address; write /<plural>/<name>, such as /webhooks/stripe";
        Self::new(StatusCode::NOT_FOUND, NOT_FOUND, message)
    }

    /// The object takes other methods.
    pub fn method(allowed: &[String]) -> Self {
        let allow = allowed.join(", ");
        let mut rejection = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            METHOD,
            format!("send one of: {allow}"),
        );
        rejection.allow = Some(allow);
        rejection
    }

    /// The body is larger than the object, or the broker, takes.
    pub fn too_large(limit: u64) -> Self {
        let message = format!(
            "the message may have at most {limit} bytes; store it elsewhere and send a link"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE, message)
    }

    /// The queue holds as much as it may.
    pub fn full() -> Self {
        let message = "the queue holds as many messages as it may; send again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, FULL, message).retry_after(5)
    }

    /// The broker did not store it. What the broker said is for our log, not for strangers.
    pub fn broker(error: &BrokerError) -> Self {
        let unavailable = |reason, message| {
            Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, message).retry_after(5)
        };
        match error {
            BrokerError::TooLarge { limit, .. } => Self::too_large(*limit as u64),
            BrokerError::Full { .. } => Self::full(),
            BrokerError::Unreachable { .. } => Self::unreachable(),
            BrokerError::TimedOut { .. } => unavailable(
                TIMED_OUT,
                "the broker did not confirm the message in time; it may be stored, send again",
            ),
            BrokerError::Missing { .. } => unavailable(
                TOPOLOGY_MISSING,
                "the queue is not there yet; send again later",
            ),
            BrokerError::Conflict { .. } => unavailable(
                CONFLICT,
                "the queue belongs to another object; the operator must resolve it",
            ),
            BrokerError::Unsupported { .. }
            | BrokerError::Refused { .. }
            | BrokerError::LeaseOver { .. } => unavailable(
                REFUSED,
                "the broker did not take the message; send again later",
            ),
        }
    }

    /// A message before it in its group was not stored, and may be sent again.
    pub fn behind() -> Self {
        let message = "an earlier message of the batch and the same group was not stored; send both again, in their order";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, REFUSED, message).retry_after(5)
    }

    /// Whether the same request can be accepted later.
    pub fn is_transient(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// There is no broker to store it.
    pub fn unreachable() -> Self {
        let message = "the broker is not reachable, nothing was stored; send again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, UNREACHABLE, message).retry_after(5)
    }

    /// The answer as JSON.
    pub fn body(&self) -> serde_json::Value {
        serde_json::json!({"error": self.reason, "message": self.message})
    }

    /// The answer.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let mut response = json(self.status, &self.body());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = self
            .allow
            .as_deref()
            .and_then(|it| HeaderValue::from_str(it).ok())
        {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }
}

/// A JSON answer.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    json_text(status, body.to_string())
}

/// A JSON answer that is written already.
pub fn json_text(status: StatusCode, mut text: String) -> Response<Full<Bytes>> {
    text.push('\n');
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
