//! Messages and dead letters as headers of NATS messages. What is written is `weir_core::wire`.
//!
//! Names and values only enter a header through the checked constructors: others end the process at
//! a line break. The client keeps headers in a hash map, so the order of different names is lost and
//! they are read in alphabetical order; the values of one name keep theirs.

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use jiff::Timestamp;
use weir_core::dead_letter::{DeadLetter, Failure, MOST_ENVELOPE_BYTES};
use weir_core::ids;
use weir_core::message::Message;
use weir_core::wire::{self, Stored};

use super::api::StoredRaw;
use crate::error::BrokerError;

pub(crate) use weir_core::wire::ATTEMPTS;

/// Which stored copy this was made from.
pub(crate) const COPY: &str = "weir-copy";
/// When a message of a group may be handled, RFC 3339; absent for at once.
pub(crate) const DUE: &str = "weir-due";
/// Most bytes of headers that a server takes.
const SERVER_HEADER_BYTES: usize = 64 * 1024;
/// What is kept free for the envelope of a dead letter and for headers of the transport.
pub(crate) const RESERVE: usize = 8 * 1024;
const _: () = assert!(MOST_ENVELOPE_BYTES + 2048 < RESERVE);

/// Adds a header of the transport. What cannot be one is refused; it never panics.
pub(crate) fn put(
    headers: &mut HeaderMap,
    name: &'static str,
    value: &str,
) -> Result<(), BrokerError> {
    headers.insert(HeaderName::from_static(name), checked(name, value)?);
    Ok(())
}

fn checked(name: &str, value: &str) -> Result<HeaderValue, BrokerError> {
    value.parse().map_err(|_| not_a_header(name))
}

fn not_a_header(name: &str) -> BrokerError {
    BrokerError::Refused {
        operation: "encode",
        why: format!("{name:?} and its value cannot be a header"),
    }
}

fn header_map(pairs: Vec<(String, String)>) -> Result<HeaderMap, BrokerError> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = checked(&name, &value)?;
        let name = HeaderName::try_from(name.as_str()).map_err(|_| not_a_header(&name))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Bytes of headers on the wire.
pub(crate) fn header_bytes(headers: &HeaderMap) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| {
        let name: &[u8] = name.as_ref();
        values
            .iter()
            .map(move |value| name.len() + value.as_str().len() + 4)
    });
    14 + lines.sum::<usize>()
}

/// The headers of a message of which `attempts` have failed.
pub(crate) fn encode(message: &Message, attempts: u32) -> Result<HeaderMap, BrokerError> {
    if !ids::is_valid(&message.id) {
        return Err(BrokerError::Refused {
            operation: "encode",
            why: format!("{:?} cannot be the id of a message", message.id),
        });
    }
    let headers = header_map(wire::encode(message, attempts))?;
    let (size, limit) = (header_bytes(&headers), SERVER_HEADER_BYTES - RESERVE);
    if size > limit {
        return Err(BrokerError::TooLarge { size, limit });
    }
    Ok(headers)
}

/// The headers of a dead letter made from the stored copy `copy`.
pub(crate) fn encode_dead(
    message: &Message,
    failure: &Failure,
    copy: &str,
) -> Result<HeaderMap, BrokerError> {
    let letter = DeadLetter {
        message: message.clone(),
        failure: failure.clone(),
    };
    let mut headers = header_map(wire::encode_dead_letter(&letter))?;
    put(&mut headers, COPY, copy)?;
    Ok(headers)
}

/// A stored message that was read, in whatever way.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) sequence: u64,
    /// When this copy was stored.
    pub(crate) time: Timestamp,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Raw {
    /// Names this copy; differs even if a stream was made anew.
    pub(crate) fn copy(&self) -> String {
        copy(self.sequence, self.time)
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The message. What others wrote gets its position as its id.
    pub(crate) fn message(&self) -> Stored {
        wire::decode(self.pairs(), self.body.clone(), &self.copy(), self.time)
    }

    pub(crate) fn dead_letter(&self) -> DeadLetter {
        wire::decode_dead_letter(self.pairs(), self.body.clone(), &self.copy(), self.time)
    }

    /// The first value of a header.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }
}

impl From<StoredRaw> for Raw {
    fn from(stored: StoredRaw) -> Self {
        let mut headers = stored.headers();
        headers.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self {
            sequence: stored.seq,
            time: stored.time,
            headers,
            body: stored.body().into(),
        }
    }
}

/// The name of a copy, made from its place and time in the stream.
pub(crate) fn copy(sequence: u64, stored_at: Timestamp) -> String {
    format!("{sequence}-{}", stored_at.as_nanosecond())
}

/// The first value of a header.
pub(crate) fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// Headers as pairs, sorted by name.
pub(crate) fn pairs(headers: Option<&HeaderMap>) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = headers
        .into_iter()
        .flat_map(HeaderMap::iter)
        .flat_map(|(name, values)| {
            values
                .iter()
                .map(move |value| (name.to_string(), value.as_str().to_owned()))
        })
        .collect();
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_core::dead_letter::Reason;
    use weir_core::message::Headers;

    use super::*;

    fn raw(headers: &HeaderMap, body: &Bytes) -> Raw {
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        Raw {
            sequence: 7,
            time,
            headers: pairs(Some(headers)),
            body: body.clone(),
        }
    }

    proptest! {
        #[test]
        fn messages_round_trip_through_nats_headers(
            sent in prop::collection::btree_map(
                "[a-z0-9-]{1,20}",
                prop::collection::vec("[\t -~\u{80}-\u{ff}]{0,30}", 1..3),
                0..6,
            ),
            body in prop::collection::vec(any::<u8>(), 0..64),
            attempts in 0u32..9,
            group in prop::option::of(any::<String>()),
        ) {
            let message = Message {
                id: "a.b:c~".to_owned(),
                accepted_at: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
                headers: sent
                    .into_iter()
                    .filter(|(name, _)| !wire::is_reserved(name))
                    .flat_map(|(name, values)| {
                        values.into_iter().map(move |value| (name.clone(), value))
                    })
                    .collect(),
                body: body.into(),
                group,
            };
            let headers = encode(&message, attempts).unwrap();
            prop_assert!(header_bytes(&headers) + message.body.len() <= message.wire_len() + 14);
            let read = raw(&headers, &message.body).message();
            prop_assert_eq!(&read.message, &message);
            prop_assert_eq!(read.attempts, attempts);

            let failure = Failure {
                reason: Reason::MaxAttempts,
                attempts,
                failed_at: message.accepted_at,
                last_status: Some(500),
                message: "handler answered 500".to_owned(),
                answer: "\r\nü\0".to_owned(),
            };
            let headers = encode_dead(&message, &failure, "1-2").unwrap();
            let letter = raw(&headers, &message.body);
            prop_assert_eq!(letter.value(COPY), Some("1-2"));
            prop_assert_eq!(letter.dead_letter(), DeadLetter { message, failure });
        }

        #[test]
        fn no_text_ends_the_process(name in "(?s).{0,12}", text in "(?s).{0,20}") {
            let message = Message {
                id: text.clone(),
                accepted_at: Timestamp::UNIX_EPOCH,
                headers: [(name, text.clone())].into_iter().collect(),
                body: Bytes::new(),
                group: Some(text),
            };
            drop(encode(&message, 0));
            drop(encode(&Message { id: "a".to_owned(), ..message }, 0));
        }
    }

    #[test]
    fn what_others_wrote_is_a_message_named_by_its_position() {
        let body = Bytes::from_static(b"x");
        let read = raw(&HeaderMap::new(), &body).message();
        assert_eq!(read.message.id, "7-1700000000000000000");
        assert!(ids::is_valid(&read.message.id));
        assert_eq!((read.attempts, read.message.body), (0, body));
    }

    #[test]
    fn headers_over_the_limit_of_the_server_are_refused() {
        let mut message = Message {
            id: "a".to_owned(),
            accepted_at: Timestamp::UNIX_EPOCH,
            headers: Headers::new(),
            body: Bytes::new(),
            group: None,
        };
        message
            .headers
            .append("x", "y".repeat(SERVER_HEADER_BYTES - RESERVE));
        assert_eq!(encode(&message, 0).unwrap_err().reason(), "MessageTooLarge");
    }
}
