//! Requests of every mode into messages in binary mode.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::attributes::{REQUIRED, check_name, check_value, from_header, shown, to_header};
use super::json::{Fields, read};
use super::{BATCHED, InvalidEvent, Limits, Parsed, Parts, STRUCTURED, is_json, media_type};
use crate::encoding::from_base64;
use crate::headers::HeadersTooLarge;
use crate::message::Headers;
use crate::trace::{TRACEPARENT, TRACESTATE};

/// Reads a request to the publish API. `headers` are those that may be stored
/// ([`headers::from_http`](crate::headers::from_http)).
///
/// The mode is that of the content type; without one of CloudEvents, any `ce-` header makes it an
/// event in binary mode, which then must be complete. Structured events keep the other headers of
/// the request, except those that describe its body. Events of a batch keep only the trace: any
/// other header, an `idempotency-key` for one, would be the same for all of them.
pub fn parse(headers: Headers, body: Bytes, limits: Limits) -> Result<Parsed, InvalidEvent> {
    let content_type = headers
        .get("content-type")
        .map(media_type)
        .unwrap_or_default();
    if content_type == STRUCTURED {
        let shared = |name: &str| !name.starts_with("ce-") && !describes_the_body(name);
        let fields = read::<Fields<'_>>(&body)?;
        Ok(Parsed::Event(structured(
            &fields,
            &kept(&headers, shared),
            limits,
        )?))
    } else if content_type == BATCHED {
        let events = read::<Vec<&RawValue>>(&body)?;
        if events.len() > limits.events {
            return Err(InvalidEvent::TooManyEvents {
                found: events.len(),
                most: limits.events,
            });
        }
        let shared = kept(&headers, |name| {
            matches!(name, TRACEPARENT | TRACESTATE | "baggage")
        });
        let event = |event: &RawValue| {
            structured(
                &read::<Fields<'_>>(event.get().as_bytes())?,
                &shared,
                limits,
            )
        };
        Ok(Parsed::Batch(events.into_iter().map(event).collect()))
    } else if content_type.starts_with("application/cloudevents") {
        Err(InvalidEvent::UnsupportedFormat {
            found: shown(&content_type),
        })
    } else if headers.iter().any(|(name, _)| name.starts_with("ce-")) {
        check_binary(&headers)?;
        Ok(Parsed::Event(Parts { headers, body }))
    } else {
        Ok(Parsed::Plain(Parts { headers, body }))
    }
}

/// Checks that the `ce-` headers are those of one complete event.
pub(super) fn check_binary(headers: &Headers) -> Result<(), InvalidEvent> {
    let mut seen = Vec::new();
    for (header, value) in headers.iter() {
        let Some(name) = header.strip_prefix("ce-") else {
            continue;
        };
        let name = check_name(name)?;
        let wrong = |why| InvalidEvent::Attribute {
            name: name.to_owned(),
            why,
        };
        if name == "datacontenttype" {
            return Err(wrong("is the header content-type in binary mode"));
        }
        let value =
            from_header(value).ok_or_else(|| wrong("is not text: write UTF-8, percent-encoded"))?;
        check_value(name, &value)?;
        if seen.contains(&name) {
            return Err(wrong("is there more than once"));
        }
        seen.push(name);
    }
    match REQUIRED.into_iter().find(|name| !seen.contains(name)) {
        Some(name) => Err(InvalidEvent::Missing { name }),
        None => Ok(()),
    }
}

/// One event of the JSON format, with `shared` headers behind its own.
fn structured(
    fields: &Fields<'_>,
    shared: &Headers,
    limits: Limits,
) -> Result<Parts, InvalidEvent> {
    let mut headers = Headers::new();
    let (mut data, mut data_base64, mut content_type) = (None, None, None);
    let mut seen = Vec::new();
    for (name, value) in &fields.0 {
        let name = name.as_ref();
        if seen.contains(&name) {
            let why = "is there more than once";
            return Err(InvalidEvent::Attribute {
                name: shown(name),
                why,
            });
        }
        seen.push(name);
        if seen.len() > limits.headers.count {
            let (found, most) = (fields.0.len(), limits.headers.count);
            return Err(HeadersTooLarge::Count { found, most }.into());
        }
        match name {
            "data" => data = Some(*value),
            "data_base64" => data_base64 = Some(*value).filter(|value| value.get() != "null"),
            _ => {
                let name = check_name(name)?;
                let Some(text) = attribute(name, value)? else {
                    continue;
                };
                check_value(name, &text)?;
                if name == "datacontenttype" {
                    content_type = Some(text);
                } else {
                    headers.append(&format!("ce-{name}"), to_header(&text));
                }
            }
        }
    }
    let missing = |name: &&str| {
        !headers
            .iter()
            .any(|(known, _)| known.strip_prefix("ce-") == Some(name))
    };
    if let Some(name) = REQUIRED.into_iter().find(missing) {
        return Err(InvalidEvent::Missing { name });
    }
    if content_type.is_none() && data.is_some() {
        content_type = Some("application/json".to_owned());
    }
    let json = content_type.as_deref().is_none_or(is_json);
    let body = match (data, data_base64) {
        (Some(_), Some(_)) => {
            return Err(InvalidEvent::Data {
                why: "write either data or data_base64",
            });
        }
        (None, None) => Bytes::new(),
        (Some(value), None) if json => Bytes::copy_from_slice(value.get().as_bytes()),
        (Some(value), None) if value.get() == "null" => Bytes::new(),
        (Some(value), None) => {
            let why =
                "with a datacontenttype other than JSON, data must be a string; use data_base64";
            text(value).ok_or(InvalidEvent::Data { why })?.into()
        }
        (None, Some(value)) => {
            let why = "data_base64 must be a string of standard base64";
            text(value)
                .and_then(|text| from_base64(&text))
                .ok_or(InvalidEvent::Data { why })?
                .into()
        }
    };
    if let Some(content_type) = content_type {
        headers.append("content-type", content_type);
    }
    for (name, value) in shared.iter() {
        headers.append(name, value);
    }
    let (count, bytes) = (
        headers.len(),
        headers.iter().map(|(n, v)| n.len() + v.len()).sum(),
    );
    if bytes > limits.headers.bytes {
        return Err(HeadersTooLarge::Bytes {
            found: bytes,
            most: limits.headers.bytes,
        }
        .into());
    }
    if count > limits.headers.count {
        return Err(HeadersTooLarge::Count {
            found: count,
            most: limits.headers.count,
        }
        .into());
    }
    Ok(Parts { headers, body })
}

/// The value of an attribute as text: strings, whole numbers and booleans; `None` for null, which
/// means that it is not set.
fn attribute(name: &str, value: &RawValue) -> Result<Option<String>, InvalidEvent> {
    let raw = value.get();
    match raw {
        "null" => Ok(None),
        "true" | "false" => Ok(Some(raw.to_owned())),
        _ if raw.parse::<i64>().is_ok() => Ok(Some(raw.to_owned())),
        _ => text(value)
            .map(Some)
            .ok_or_else(|| InvalidEvent::Attribute {
                name: name.to_owned(),
                why: "must be a string, a whole number or a boolean",
            }),
    }
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn kept(headers: &Headers, keep: impl Fn(&str) -> bool) -> Headers {
    let mut kept = headers.clone();
    kept.retain(|name, _| keep(name));
    kept
}

/// Headers about the body of the request, which is not that of the message.
fn describes_the_body(name: &str) -> bool {
    name.starts_with("content-") || matches!(name, "digest" | "repr-digest")
}
