//! Messages and dead letters as properties of AMQP messages. What is written is `weir_core::wire`.
//!
//! A table of AMQP holds a name once: the values of a name that repeats are an array. Names that the
//! broker writes itself are moved out of its way.

use bytes::Bytes;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use weir_core::dead_letter::{DeadLetter, Failure, MOST_ENVELOPE_BYTES, Reason};
use weir_core::message::Message;
use weir_core::wire::{self, Stored};
use weir_core::{ids, names};

use crate::error::BrokerError;

/// Which stored copy this is: every publication, retry and dead letter gets a name of its own.
pub(crate) const COPY: &str = "weir-copy";
/// Position of a dead letter that this record takes out of the stream.
pub(crate) const REMOVES: &str = "weir-removes";
/// Position up to which this record takes all dead letters out of the stream.
pub(crate) const REMOVES_THROUGH: &str = "weir-removes-through";
/// Marks a dead letter that was read earlier: it stands only where the message has no newer one.
pub(crate) const RESTORED: &str = "weir-restored";
/// Stands before names that the broker uses.
const MOVED: &str = "weir-sent-";
/// Most bytes of headers: they must fit into one frame with the envelope of a dead letter.
const MOST_HEADER_BYTES: usize = 56 * 1024;
const _: () = assert!(MOST_HEADER_BYTES + MOST_ENVELOPE_BYTES + 4096 < 128 * 1024);
/// Longest name in a table of AMQP.
const LONGEST_NAME: usize = 255;

/// A name for a new copy.
pub(crate) fn new_copy() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// Names that the broker writes, or acts on.
fn is_brokers(name: &str) -> bool {
    const EXACT: [&str; 5] = [
        "x-death",
        "x-delivery-count",
        "x-acquired-count",
        "cc",
        "bcc",
    ];
    const BEGIN: [&str; 4] = ["x-first-death-", "x-last-death-", "x-stream-", "x-opt-"];
    EXACT.contains(&name) || BEGIN.iter().any(|begin| name.starts_with(begin))
}

fn table(pairs: Vec<(String, String)>) -> Result<FieldTable, BrokerError> {
    let mut grouped: Vec<(String, Vec<String>)> = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let name = if is_brokers(&name) {
            format!("{MOVED}{name}")
        } else {
            name
        };
        match grouped.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => grouped.push((name, vec![value])),
        }
    }
    let mut table = FieldTable::default();
    for (name, mut values) in grouped {
        let value = if values.len() == 1 {
            text(values.remove(0))
        } else {
            AMQPValue::FieldArray(FieldArray::from(
                values.into_iter().map(text).collect::<Vec<_>>(),
            ))
        };
        table.insert(checked(&name)?, value);
    }
    Ok(table)
}

fn text(value: String) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn checked(name: &str) -> Result<ShortString, BrokerError> {
    ShortString::try_new(name).map_err(|_| BrokerError::Refused {
        operation: "encode",
        why: format!(
            "a header has a name of {} bytes; at most {LONGEST_NAME} can be stored",
            name.len()
        ),
    })
}

/// Properties of a stored text.
pub(crate) fn properties(pairs: Vec<(String, String)>) -> Result<BasicProperties, BrokerError> {
    let size: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    if size > MOST_HEADER_BYTES + MOST_ENVELOPE_BYTES {
        return Err(BrokerError::TooLarge {
            size,
            limit: MOST_HEADER_BYTES,
        });
    }
    Ok(BasicProperties::default()
        .with_delivery_mode(2)
        .with_app_id("weir".into())
        .with_headers(table(pairs)?))
}

/// The properties of the copy `copy` of a message of which `attempts` have failed.
pub(crate) fn encode(
    message: &Message,
    attempts: u32,
    copy: &str,
) -> Result<BasicProperties, BrokerError> {
    properties(pairs(message, attempts, copy)?)
}

/// The headers of the copy `copy` of a message of which `attempts` have failed.
pub(crate) fn pairs(
    message: &Message,
    attempts: u32,
    copy: &str,
) -> Result<Vec<(String, String)>, BrokerError> {
    if !ids::is_valid(&message.id) {
        return Err(BrokerError::Refused {
            operation: "encode",
            why: format!("{:?} cannot be the id of a message", message.id),
        });
    }
    let mut pairs = wire::encode(message, attempts);
    let size: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    if size > MOST_HEADER_BYTES {
        return Err(BrokerError::TooLarge {
            size,
            limit: MOST_HEADER_BYTES,
        });
    }
    pairs.push((COPY.to_owned(), copy.to_owned()));
    Ok(pairs)
}

/// The properties of a dead letter made from the copy `copy`.
pub(crate) fn encode_dead(
    message: &Message,
    failure: &Failure,
    copy: &str,
) -> Result<BasicProperties, BrokerError> {
    let letter = DeadLetter {
        message: message.clone(),
        failure: failure.clone(),
    };
    let mut pairs = wire::encode_dead_letter(&letter);
    pairs.push((COPY.to_owned(), copy.to_owned()));
    properties(pairs)
}

/// A stored message that was read.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pairs: Vec<(String, String)>,
    /// Why the broker itself moved it here, where it did.
    death: Option<String>,
    body: Bytes,
    fallback_id: String,
    fallback_time: Timestamp,
}

impl Raw {
    /// Reads what the broker delivered. `now` is the time of messages that say none.
    pub(crate) fn new(properties: &BasicProperties, body: Vec<u8>, now: Timestamp) -> Self {
        let body = Bytes::from(body);
        let mut pairs = Vec::new();
        let mut death = None;
        if let Some(headers) = properties.headers() {
            for (name, value) in headers.inner() {
                let name = name.as_str().to_ascii_lowercase();
                if name == "x-first-death-reason" {
                    death = shown(value);
                }
                if is_brokers(&name) {
                    continue;
                }
                let name = match name.strip_prefix(MOVED) {
                    Some(sent) if is_brokers(sent) => sent.to_owned(),
                    _ => name,
                };
                match value {
                    AMQPValue::FieldArray(values) => pairs.extend(
                        values
                            .as_slice()
                            .iter()
                            .filter_map(shown)
                            .map(|value| (name.clone(), value)),
                    ),
                    value => pairs.extend(shown(value).map(|value| (name, value))),
                }
            }
        }
        // What strangers say in properties, we say in headers.
        for (name, value) in [
            ("content-type", properties.content_type()),
            ("content-encoding", properties.content_encoding()),
        ] {
            if let Some(value) = value
                && !pairs.iter().any(|(known, _)| known == name)
            {
                pairs.push((name.to_owned(), value.as_str().to_owned()));
            }
        }
        let said = properties.message_id().as_ref().map(ShortString::as_str);
        let fallback_id = match said {
            Some(id) if ids::is_valid(id) => id.to_owned(),
            _ => format!("amqp-{}", names::hash(&body)),
        };
        let fallback_time = properties
            .timestamp()
            .and_then(|seconds| i64::try_from(seconds).ok())
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .unwrap_or(now);
        Self {
            pairs,
            death,
            body,
            fallback_id,
            fallback_time,
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Bytes of headers and body.
    pub(crate) fn len(&self) -> usize {
        let headers = self.pairs().map(|(name, value)| name.len() + value.len());
        headers.sum::<usize>() + self.body.len()
    }

    /// The first value of a header.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.pairs()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// The name of this copy. What others wrote has one made of its content.
    pub(crate) fn copy(&self) -> String {
        self.value(COPY).unwrap_or(&self.fallback_id).to_owned()
    }

    /// The message, and the attempts that its headers count.
    pub(crate) fn message(&self) -> Stored {
        wire::decode(
            self.pairs(),
            self.body.clone(),
            &self.fallback_id,
            self.fallback_time,
        )
    }

    /// The dead letter. One that the broker moved says why.
    pub(crate) fn dead_letter(&self) -> DeadLetter {
        let mut letter = wire::decode_dead_letter(
            self.pairs(),
            self.body.clone(),
            &self.fallback_id,
            self.fallback_time,
        );
        if let Some(death) = &self.death
            && letter.failure.reason == Reason::Malformed
        {
            letter.failure.reason = Reason::NoOutcome;
            letter.failure.message = format!("RabbitMQ gave it up: {death}");
        }
        letter
    }
}

/// A value as text; tables have none.
fn shown(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::ShortShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortShortUInt(value) => Some(value.to_string()),
        AMQPValue::ShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortUInt(value) => Some(value.to_string()),
        AMQPValue::LongInt(value) => Some(value.to_string()),
        AMQPValue::LongUInt(value) => Some(value.to_string()),
        AMQPValue::LongLongInt(value) => Some(value.to_string()),
        AMQPValue::Float(value) => Some(value.to_string()),
        AMQPValue::Double(value) => Some(value.to_string()),
        AMQPValue::Timestamp(value) => Some(value.to_string()),
        _ => None,
    }
}

/// A number in a header that the broker wrote.
pub(crate) fn number(properties: &BasicProperties, name: &str) -> Option<u64> {
    let value = properties.headers().as_ref()?.inner().get(name)?;
    shown(value)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_core::message::Headers;

    use super::*;

    fn read(properties: &BasicProperties, body: &Bytes) -> Raw {
        Raw::new(properties, body.to_vec(), Timestamp::UNIX_EPOCH)
    }

    proptest! {
        #[test]
        fn messages_round_trip_through_amqp_headers(
            sent in prop::collection::btree_map(
                "[a-z0-9-]{1,20}|x-death|x-delivery-count|bcc|x-stream-offset",
                prop::collection::vec("[\t -~\u{80}-\u{ff}]{0,30}", 1..3),
                0..6,
            ),
            body in prop::collection::vec(any::<u8>(), 0..64),
            attempts in 0u32..9,
            group in prop::option::of("[!-~]{1,128}"),
        ) {
            let message = Message {
                id: "a.b:c~".to_owned(),
                accepted_at: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
                group: group.clone(),
                headers: sent
                    .into_iter()
                    .filter(|(name, _)| !wire::is_reserved(name))
                    .flat_map(|(name, values)| {
                        values.into_iter().map(move |value| (name.clone(), value))
                    })
                    .collect(),
                body: body.into(),
            };
            let properties = encode(&message, attempts, "c1").unwrap();
            let raw = read(&properties, &message.body);
            prop_assert_eq!(raw.copy(), "c1");
            let read_back = raw.message();
            prop_assert_eq!(sorted(&read_back.message), sorted(&message));
            prop_assert_eq!(read_back.attempts, attempts);
            prop_assert_eq!(&read_back.message.group, &group);

            let failure = Failure {
                reason: Reason::MaxAttempts,
                attempts,
                failed_at: message.accepted_at,
                last_status: Some(500),
                message: "handler answered 500".to_owned(),
                answer: "\r\nü\0".to_owned(),
            };
            let properties = encode_dead(&message, &failure, "c2").unwrap();
            let letter = read(&properties, &message.body).dead_letter();
            prop_assert_eq!(sorted(&letter.message), sorted(&message));
            prop_assert_eq!(letter.failure, failure);
        }

        #[test]
        fn no_text_ends_the_process(name in "(?s).{0,300}", text in "(?s).{0,20}") {
            let message = Message {
                id: text.clone(),
                accepted_at: Timestamp::UNIX_EPOCH,
                group: None,
                headers: [(name, text)].into_iter().collect(),
                body: Bytes::new(),
            };
            drop(encode(&message, 0, "c"));
            drop(encode(&Message { id: "a".to_owned(), ..message }, 0, "c"));
        }
    }

    fn sorted(message: &Message) -> (String, Vec<(String, String)>, Bytes) {
        let mut headers: Vec<(String, String)> = message
            .headers
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        headers.sort_by(|(a, _), (b, _)| a.cmp(b));
        (message.id.clone(), headers, message.body.clone())
    }

    #[test]
    fn what_others_wrote_is_a_message_named_by_itself_or_its_content() {
        let body = Bytes::from_static(b"x");
        let plain = read(&BasicProperties::default(), &body).message();
        assert!(plain.message.id.starts_with("amqp-") && ids::is_valid(&plain.message.id));
        let named = BasicProperties::default()
            .with_message_id("order-7".into())
            .with_timestamp(1_700_000_000)
            .with_content_type("text/plain".into());
        let named = read(&named, &body).message().message;
        assert_eq!(named.id, "order-7");
        assert_eq!(named.accepted_at.as_second(), 1_700_000_000);
        assert_eq!(named.headers.get("content-type"), Some("text/plain"));
    }

    #[test]
    fn what_the_broker_gave_up_says_so() {
        let mut headers = FieldTable::default();
        headers.insert(
            "x-first-death-reason".into(),
            text("delivery_limit".to_owned()),
        );
        let properties = BasicProperties::default().with_headers(headers);
        let letter = read(&properties, &Bytes::new()).dead_letter();
        assert_eq!(letter.failure.reason, Reason::NoOutcome);
        assert!(letter.failure.message.contains("delivery_limit"));
    }

    #[test]
    fn headers_over_the_limit_are_refused() {
        let mut message = Message {
            id: "a".to_owned(),
            accepted_at: Timestamp::UNIX_EPOCH,
            group: None,
            headers: Headers::new(),
            body: Bytes::new(),
        };
        message.headers.append("x", "y".repeat(MOST_HEADER_BYTES));
        let error = encode(&message, 0, "c").unwrap_err();
        assert_eq!(error.reason(), "MessageTooLarge");
    }
}
