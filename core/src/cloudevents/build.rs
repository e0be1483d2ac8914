//! Messages into requests to a handler.

use bytes::Bytes;
use jiff::Timestamp;

use super::attributes::{from_header, to_header};
use super::json::is_value;
use super::parse::check_binary;
use super::{BATCHED, is_json, media_type};
use crate::encoding::base64;
use crate::message::{Headers, Message};
use crate::object::ObjectKey;
use crate::publish::GROUP;
use crate::trace::{TRACEPARENT, TRACESTATE};
use crate::wire::{encode_time, is_reserved};

/// Attribute of every event of a batch that says its `Weir-Id`.
const WEIR_ID: &str = "weirid";
/// Attribute of every event of a batch that says which attempt this is.
const WEIR_ATTEMPT: &str = "weirattempt";

/// Attribute that says the group of a message, in place of what its sender wrote there.
const PARTITION_KEY: &str = "partitionkey";

/// What a handler is told about one call.
#[derive(Clone, Copy, Debug)]
pub struct Contract {
    /// Attempts that have counted, and this one; for a batch the greatest of its messages.
    pub attempt: u32,
    /// `retry.maxAttempts`.
    pub max_attempts: u32,
    /// When the call is given up. Told in milliseconds since 1970, as AWS Lambda does.
    pub deadline: Timestamp,
}

/// The headers of a request for one message in binary mode; its body is that of the message.
///
/// An event has its own attributes. Anything else is wrapped: `ce-id` is the `Weir-Id`, `ce-source`
/// and `ce-type` say which object received it, `ce-time` when. `ce-partitionkey` is the group. What comes as a structured event in
/// the eyes of HTTP (a webhook whose sender sends them, body untouched) gets no `ce-` headers: they
/// would contradict the body.
pub fn event_headers(object: &ObjectKey, message: &Message, contract: &Contract) -> Headers {
    let mut headers = given(message);
    let content_type = headers
        .get("content-type")
        .map(media_type)
        .unwrap_or_default();
    if content_type.starts_with("application/cloudevents") {
        headers.retain(|name, _| !name.starts_with("ce-"));
    } else if !is_event(&headers) {
        headers.retain(|name, _| !name.starts_with("ce-"));
        for (name, value) in wrapping(object, message) {
            headers.append(&format!("ce-{name}"), to_header(&value));
        }
    }
    if let Some(group) = &message.group
        && headers.get("ce-id").is_some()
    {
        headers.set(&format!("ce-{PARTITION_KEY}"), to_header(group));
    }
    append_contract(&mut headers, Some(&message.id), contract);
    headers
}

/// The headers of a request in the protocol HTTP: those that the sender gave, the group as
/// `weir-group`, and the contract.
pub fn plain_headers(message: &Message, contract: &Contract) -> Headers {
    let mut headers = given(message);
    if let Some(group) = &message.group {
        headers.append(GROUP, group.as_str());
    }
    append_contract(&mut headers, Some(&message.id), contract);
    headers
}

/// The headers of a request for a batch. Identity and attempt of each message are in its event.
pub fn batch_headers(contract: &Contract) -> Headers {
    let mut headers = Headers::new();
    headers.append("content-type", BATCHED);
    append_contract(&mut headers, None, contract);
    headers
}

/// The body of a request for a batch: all messages, each with the attempt this is, as one document
/// in the JSON batch format.
///
/// A body that is JSON by its content type and in fact is `data`, as it was written; any other is
/// `data_base64`. Every event carries `weirid` and `weirattempt`, and the trace.
pub fn batch_document<'a>(
    object: &ObjectKey,
    messages: impl IntoIterator<Item = (&'a Message, u32)>,
) -> Bytes {
    let mut out = b"[".to_vec();
    for (message, attempt) in messages {
        if out.len() > 1 {
            out.extend_from_slice(b",\n");
        }
        write_event(&mut out, object, message, attempt);
    }
    out.push(b']');
    out.into()
}

/// The `id` that a handler sees: that of the event, or the `Weir-Id` of what is wrapped.
pub fn event_id(message: &Message) -> String {
    let id = message
        .headers
        .get("ce-id")
        .filter(|_| is_event(&message.headers));
    id.and_then(from_header)
        .unwrap_or_else(|| message.id.clone())
}

/// `source` and `id` of a valid event in binary mode, which are unique together.
pub fn event_identity(headers: &Headers) -> Option<(String, String)> {
    let attribute = |header| headers.get(header).and_then(from_header);
    is_event(headers).then(|| Some((attribute("ce-source")?, attribute("ce-id")?)))?
}

/// Whether the headers are those of a valid event in binary mode.
pub fn is_event(headers: &Headers) -> bool {
    check_binary(headers).is_ok()
}

/// `source` of what `object` wraps: `/webhooks/shop/stripe`.
pub fn wrapped_source(object: &ObjectKey) -> String {
    format!(
        "/{}/{}/{}",
        object.kind.plural(),
        object.namespace,
        object.name
    )
}

/// `type` of what `object` wraps: `weir.webhook.received`.
pub fn wrapped_type(object: &ObjectKey) -> String {
    format!("weir.{}.received", object.kind.lower())
}

/// The attributes of the event that a message is, or is wrapped into.
pub(crate) fn attributes_of(object: &ObjectKey, message: &Message) -> Vec<(String, String)> {
    if !is_event(&message.headers) {
        return wrapping(object, message);
    }
    let attribute = |(name, value): (&str, &str)| {
        let name = name.strip_prefix("ce-")?;
        Some((name.to_owned(), from_header(value)?))
    };
    message.headers.iter().filter_map(attribute).collect()
}

fn wrapping(object: &ObjectKey, message: &Message) -> Vec<(String, String)> {
    let attributes = [
        ("specversion", "1.0".to_owned()),
        ("id", message.id.clone()),
        ("source", wrapped_source(object)),
        ("type", wrapped_type(object)),
        ("time", encode_time(message.accepted_at)),
    ];
    attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn given(message: &Message) -> Headers {
    let mut headers = message.headers.clone();
    headers.retain(|name, _| !is_reserved(name));
    headers
}

fn append_contract(headers: &mut Headers, id: Option<&str>, contract: &Contract) {
    if let Some(id) = id {
        headers.append("weir-id", id);
    }
    headers.append("weir-attempt", contract.attempt.to_string());
    headers.append("weir-max-attempts", contract.max_attempts.to_string());
    headers.append(
        "weir-deadline-ms",
        contract.deadline.as_millisecond().to_string(),
    );
}

fn write_event(out: &mut Vec<u8>, object: &ObjectKey, message: &Message, attempt: u32) {
    let headers = &message.headers;
    let mut attributes = attributes_of(object, message);
    let group = message.group.as_ref();
    attributes.retain(|(name, _)| {
        name != WEIR_ID && name != WEIR_ATTEMPT && (group.is_none() || name != PARTITION_KEY)
    });
    attributes.extend(group.map(|group| (PARTITION_KEY.to_owned(), group.clone())));
    for name in [TRACEPARENT, TRACESTATE] {
        if let Some(value) = headers.get(name)
            && !attributes.iter().any(|(known, _)| known == name)
        {
            attributes.push((name.to_owned(), value.to_owned()));
        }
    }
    let content_type = headers.get("content-type");
    if let Some(value) = content_type {
        attributes.push(("datacontenttype".to_owned(), value.to_owned()));
    }
    attributes.push((WEIR_ID.to_owned(), message.id.clone()));

    out.push(b'{');
    for (name, value) in attributes {
        write_string(out, &name);
        out.push(b':');
        write_string(out, &value);
        out.push(b',');
    }
    out.extend_from_slice(format!("\"{WEIR_ATTEMPT}\":{attempt}").as_bytes());
    if content_type.is_some_and(is_json) && is_value(&message.body) {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(&message.body);
    } else if !message.body.is_empty() {
        out.extend_from_slice(b",\"data_base64\":");
        write_string(out, &base64(&message.body));
    }
    out.push(b'}');
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON, and a vector takes all bytes");
}
