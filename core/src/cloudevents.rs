//! CloudEvents 1.0 over HTTP: reading what comes in, writing what goes out.
//!
//! A stored event is a message in *binary mode*: one `ce-<attribute>` header per attribute, written
//! as the HTTP binding says (percent-encoded), `content-type` for `datacontenttype`, and the data as
//! body. [`parse`](parse()) turns every mode into that; [`event_headers`] and [`batch_document`] make requests
//! of it. A message that is no event is wrapped: the attributes are made up, the body is untouched.
//!
//! No attribute ever reaches a header with a control character: the specification forbids them in
//! attributes, so they are refused, also percent-encoded ones.

use bytes::Bytes;

use crate::headers::{HeadersTooLarge, Limits as HeaderLimits};
use crate::message::Headers;

mod attributes;
mod build;
mod json;
mod parse;

pub(crate) use build::attributes_of;
pub use build::{
    Contract, batch_document, batch_headers, event_headers, event_id, event_identity, is_event,
    plain_headers, wrapped_source, wrapped_type,
};
pub(crate) use json::as_json as body_as_json;
pub use parse::parse;

/// Media type of one event in structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// Media type of a batch.
pub const BATCHED: &str = "application/cloudevents-batch+json";

/// Deepest nesting of JSON that is taken in.
pub const DEEPEST_JSON: usize = 128;

/// What becomes of one message: everything but its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// In binary mode where it is an event.
    pub headers: Headers,
    /// The data, byte for byte.
    pub body: Bytes,
}

/// What a request to the publish API holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not a CloudEvent: as it came.
    Plain(Parts),
    /// One event.
    Event(Parts),
    /// A batch; each event is good or bad for itself.
    Batch(Vec<Result<Parts, InvalidEvent>>),
}

/// Bounds of a request, beside the size of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most events of one batch.
    pub events: usize,
    /// Bounds of the headers of each message.
    pub headers: HeaderLimits,
}

impl Default for Limits {
    /// 100 events, and the default bounds of headers.
    fn default() -> Self {
        Self {
            events: 100,
            headers: HeaderLimits::default(),
        }
    }
}

/// Why something that claims to be a CloudEvent is not one. Says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// A format of CloudEvents that is not read.
    #[error(
        "content-type {found:?} is not read: send {STRUCTURED}, {BATCHED}, or binary mode with ce- \
         headers"
    )]
    UnsupportedFormat {
        /// The media type.
        found: String,
    },
    /// The body is not JSON, or nested too deeply.
    #[error("the body is not a CloudEvent in JSON: {why}")]
    NotJson {
        /// Where and why.
        why: String,
    },
    /// More events than a batch may hold.
    #[error("the batch has {found} events, {most} are allowed: send several batches")]
    TooManyEvents {
        /// Events in the batch.
        found: usize,
        /// [`Limits::events`].
        most: usize,
    },
    /// A required attribute is not there.
    #[error(
        "attribute {name} is missing: an event needs specversion, id, source and type (in binary \
         mode as headers ce-specversion, ce-id, ce-source, ce-type)"
    )]
    Missing {
        /// Name of the attribute.
        name: &'static str,
    },
    /// Another version of the specification.
    #[error("specversion is {found:?}: write 1.0")]
    Version {
        /// What was written.
        found: String,
    },
    /// Not a name of an attribute.
    #[error("{name:?} is no name of an attribute: use 1 to 20 characters of a-z and 0-9")]
    Name {
        /// What was written, shortened.
        name: String,
    },
    /// An attribute has a value it cannot have.
    #[error("attribute {name} {why}")]
    Attribute {
        /// Name of the attribute.
        name: String,
        /// What it must be.
        why: &'static str,
    },
    /// The data does not fit its description.
    #[error("the event's data cannot be read: {why}")]
    Data {
        /// What to write instead.
        why: &'static str,
    },
    /// The attributes do not fit into the headers of a message.
    #[error(transparent)]
    TooLarge(#[from] HeadersTooLarge),
}

impl InvalidEvent {
    /// A short stable word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnsupportedFormat { .. } => "UnsupportedFormat",
            Self::NotJson { .. } => "NotJson",
            Self::TooManyEvents { .. } => "TooManyEvents",
            Self::Missing { .. } => "MissingAttribute",
            Self::Version { .. } => "Version",
            Self::Name { .. } => "AttributeName",
            Self::Attribute { .. } => "Attribute",
            Self::Data { .. } => "Data",
            Self::TooLarge(error) => error.reason(),
        }
    }

    /// The status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::UnsupportedFormat { .. } => 415,
            Self::TooManyEvents { .. } => 413,
            Self::TooLarge(_) => 431,
            _ => 400,
        }
    }
}

/// The media type of a `content-type`, without parameters, in lower case.
fn media_type(content_type: &str) -> String {
    let (media_type, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    media_type.trim().to_ascii_lowercase()
}

/// Whether a `content-type` declares JSON: `*/json` or `*/*+json`.
fn is_json(content_type: &str) -> bool {
    let media_type = media_type(content_type);
    let (_, subtype) = media_type.split_once('/').unwrap_or_default();
    subtype == "json" || subtype.ends_with("+json")
}

#[cfg(test)]
mod tests;
