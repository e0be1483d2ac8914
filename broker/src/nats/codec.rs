//! Messages and dead letters as headers and body of a NATS message.
//!
//! Names and values only enter a header through the checked constructors: a value with a line break
//! would otherwise end the process. The sender's headers travel in one JSON header, because NATS
//! clients keep neither the order of header names nor the blanks around a value.

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use weir_core::dead_letter::{DeadLetter, Failure};
use weir_core::message::{Headers, Message};

use crate::error::BrokerError;

pub(crate) const ID: &str = "weir-id";
pub(crate) const ATTEMPTS: &str = "weir-attempts";
/// Which stored copy this was made from.
pub(crate) const COPY: &str = "weir-copy";
const ACCEPTED_AT: &str = "weir-accepted-at";
const HEADERS: &str = "weir-headers";
const FAILURE: &str = "weir-failure";

/// NATS takes 64 KiB of headers; the rest is for what a retry or a dead letter adds.
pub(crate) const MAX_HEADER_BYTES: usize = 52 * 1024;
/// What is kept free of a server's largest payload for the envelope of a dead letter.
pub(crate) const RESERVE: usize = 8 * 1024;

/// Adds a header. What cannot be one is refused; it never panics.
pub(crate) fn put(
    headers: &mut HeaderMap,
    name: &'static str,
    value: &str,
) -> Result<(), BrokerError> {
    let value: HeaderValue = value.parse().map_err(|_| BrokerError::Refused {
        operation: "encode",
        why: format!("header {name} holds a line break"),
    })?;
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

/// Bytes of headers on the wire.
pub(crate) fn header_bytes(headers: &HeaderMap) -> usize {
    let lines = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
        .map(|(name, value)| AsRef::<[u8]>::as_ref(name).len() + value.as_str().len() + 4);
    14 + lines.sum::<usize>()
}

/// The headers of a message of which `attempts` have failed.
pub(crate) fn encode(message: &Message, attempts: u32) -> Result<HeaderMap, BrokerError> {
    let mut headers = HeaderMap::new();
    put(&mut headers, ID, &json(&message.id)?)?;
    put(&mut headers, ACCEPTED_AT, &message.accepted_at.to_string())?;
    if attempts > 0 {
        put(&mut headers, ATTEMPTS, &attempts.to_string())?;
    }
    if !message.headers.is_empty() {
        put(
            &mut headers,
            HEADERS,
            &json(&message.headers.iter().collect::<Vec<_>>())?,
        )?;
    }
    let size = header_bytes(&headers);
    if size > MAX_HEADER_BYTES {
        return Err(BrokerError::TooLarge {
            size,
            limit: MAX_HEADER_BYTES,
        });
    }
    Ok(headers)
}

/// The headers of a dead letter made from the stored copy `copy`.
pub(crate) fn encode_dead(
    message: &Message,
    failure: &Failure,
    copy: &str,
) -> Result<HeaderMap, BrokerError> {
    let mut headers = encode(message, failure.attempts)?;
    put(&mut headers, FAILURE, &json(failure)?)?;
    put(&mut headers, COPY, copy)?;
    Ok(headers)
}

/// A message as it was stored, with its failed attempts.
pub(crate) struct Stored {
    pub(crate) message: Message,
    pub(crate) attempts: u32,
}

/// The first value of a header.
pub(crate) fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// Headers as pairs.
pub(crate) fn pairs(headers: Option<&HeaderMap>) -> Vec<(String, String)> {
    let Some(headers) = headers else {
        return Vec::new();
    };
    headers
        .iter()
        .flat_map(|(name, values)| {
            values
                .iter()
                .map(move |value| (name.to_string(), value.as_str().to_owned()))
        })
        .collect()
}

/// Reads a message. The error says what is wrong with it.
pub(crate) fn decode(headers: &[(String, String)], body: Bytes) -> Result<Stored, String> {
    let required = |name| value(headers, name).ok_or_else(|| format!("it has no header {name}"));
    let wrong = |name: &str, why: &dyn std::fmt::Display| format!("its header {name}: {why}");
    let id: String = serde_json::from_str(required(ID)?).map_err(|e| wrong(ID, &e))?;
    let accepted_at = required(ACCEPTED_AT)?
        .parse()
        .map_err(|e| wrong(ACCEPTED_AT, &e))?;
    let attempts = match value(headers, ATTEMPTS) {
        Some(text) => text.parse().map_err(|e| wrong(ATTEMPTS, &e))?,
        None => 0,
    };
    let sent: Vec<(String, String)> = match value(headers, HEADERS) {
        Some(text) => serde_json::from_str(text).map_err(|e| wrong(HEADERS, &e))?,
        None => Vec::new(),
    };
    let headers = sent.into_iter().collect::<Headers>();
    Ok(Stored {
        message: Message {
            id,
            accepted_at,
            headers,
            body,
        },
        attempts,
    })
}

/// Reads a dead letter.
pub(crate) fn decode_dead(headers: &[(String, String)], body: Bytes) -> Result<DeadLetter, String> {
    let failure = value(headers, FAILURE).ok_or_else(|| format!("it has no header {FAILURE}"))?;
    let failure =
        serde_json::from_str(failure).map_err(|e| format!("its header {FAILURE}: {e}"))?;
    Ok(DeadLetter {
        message: decode(headers, body)?.message,
        failure,
    })
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, BrokerError> {
    serde_json::to_string(value).map_err(|error| BrokerError::Refused {
        operation: "encode",
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use weir_core::dead_letter::Reason;

    use super::*;

    proptest! {
        #[test]
        fn messages_round_trip_whatever_they_hold(
            id in ".{0,40}",
            sent in prop::collection::vec(("[a-z0-9-]{1,20}", "(?s).{0,40}"), 0..8),
            body in prop::collection::vec(any::<u8>(), 0..64),
            attempts in 0u32..9,
        ) {
            let message = Message {
                id,
                accepted_at: Timestamp::from_second(1_700_000_000).unwrap(),
                headers: sent.into_iter().collect(),
                body: body.into(),
            };
            let headers = encode(&message, attempts).unwrap();
            let read = decode(&pairs(Some(&headers)), message.body.clone()).unwrap();
            prop_assert_eq!(&read.message, &message);
            prop_assert_eq!(read.attempts, attempts);

            let failure = Failure {
                reason: Reason::MaxAttempts,
                attempts,
                failed_at: message.accepted_at,
                last_status: Some(500),
                message: "handler\r\nanswered".to_owned(),
                answer: message.id.clone(),
            };
            let headers = encode_dead(&message, &failure, "1-2").unwrap();
            let letter = decode_dead(&pairs(Some(&headers)), message.body.clone()).unwrap();
            prop_assert_eq!(letter, DeadLetter { message, failure });
        }
    }

    #[test]
    fn what_others_wrote_is_malformed_and_says_why() {
        let why = decode(&[], Bytes::new()).err().unwrap();
        assert_eq!(why, "it has no header weir-id");
    }

    #[test]
    fn headers_over_the_limit_of_the_server_are_refused() {
        let mut message = Message {
            id: "a".to_owned(),
            accepted_at: Timestamp::UNIX_EPOCH,
            headers: Headers::new(),
            body: Bytes::new(),
        };
        message.headers.append("x", "y".repeat(MAX_HEADER_BYTES));
        assert_eq!(encode(&message, 0).unwrap_err().reason(), "MessageTooLarge");
    }
}
