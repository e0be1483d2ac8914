//! Answers: JSON, and why there is none.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;
use weir_broker::BrokerError;
use weir_broker::redrive::RecordError;
use weir_core::ops::Problem;

/// The body of an answer; an error in it ends the connection, so that what came is not taken for
/// everything.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Why there is no answer: a status, a stable word, a sentence with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// The answer's `error`.
    pub error: &'static str,
    /// The answer's `message`.
    pub message: String,
}

impl Refusal {
    /// Says `message`.
    pub fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            error,
            message: message.into(),
        }
    }

    /// What was asked for is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// What was asked for cannot be meant.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// The answer.
    pub fn response(&self) -> Response<Body> {
        let problem = Problem {
            error: self.error.to_owned(),
            message: self.message.clone(),
        };
        json(self.status, &problem)
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        let status = match &error {
            BrokerError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BrokerError::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.reason(), error.to_string())
    }
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        let (status, word) = match error {
            RecordError::Broker(error) => return error.into(),
            RecordError::StillActive(_) => (StatusCode::CONFLICT, "RedriveActive"),
            RecordError::NotFound { .. } => (StatusCode::NOT_FOUND, "NotFound"),
            RecordError::Contended => (StatusCode::SERVICE_UNAVAILABLE, "Contended"),
            RecordError::Damaged { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "RecordDamaged"),
        };
        Self::new(status, word, error.to_string())
    }
}

/// An answer that is a JSON document. Never cached, never guessed to be something else.
pub fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    let mut text = serde_json::to_string(document).unwrap_or_else(|_| "{}".to_owned());
    text.push('\n');
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    set_headers(&mut response, "application/json");
    response
}

/// The headers that every answer has.
pub(crate) fn set_headers(response: &mut Response<Body>, content_type: &'static str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
}
