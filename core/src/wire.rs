//! How a message is written into the headers of a broker, the same in every transport.
//!
//! `weir-id`, `weir-accepted-at`, `weir-attempts` and, where there is one, `weir-group`, then the
//! message's own headers. The body is the
//! broker's payload, byte for byte.
//!
//! Broker headers hold printable ASCII. A value that has anything else, or a space at an end, is
//! written as `%%` and its UTF-8 with everything but visible ASCII percent-encoded; so is one that
//! begins with `%%`. All others are written as they are, so that people who look into the broker can
//! read them.
//!
//! Reading never fails: messages that others wrote without our headers get an identity and a time
//! from the transport, and what an HTTP header could not hold is percent-encoded on the way in.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;

use crate::dead_letter::{DeadLetter, Failure, Reason};
use crate::encoding::{percent_decode, percent_encode};
use crate::ids;
use crate::message::{Headers, Message};

/// Header with [`Message::id`].
pub const ID: &str = "weir-id";
/// Header with [`Message::accepted_at`], RFC 3339 with milliseconds or finer.
pub const ACCEPTED_AT: &str = "weir-accepted-at";
/// Header with the attempts that have counted so far.
pub const ATTEMPTS: &str = "weir-attempts";
/// Header with [`Message::group`], absent where there is none.
pub const GROUP: &str = "weir-group";

/// Header with the HTTP method a message came with, where it was not `POST`. Weir's own, but part of
/// the message: it is kept in [`Message::headers`].
pub const METHOD: &str = "weir-method";
/// Header with path and query behind the object's own path, `/a?b=c`, where there were any. Kept as
/// [`METHOD`] is.
pub const PATH: &str = "weir-path";

/// Most bytes that id, time and attempts take, without the id itself.
pub(crate) const MOST_OWN_BYTES: usize = 96;

/// Bytes that the header of a group takes.
pub(crate) fn group_len(group: &str) -> usize {
    GROUP.len() + encode_value(group).len() + 4
}

/// Begins an encoded value.
const MARK: &str = "%%";

/// A message as it was read from a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The message.
    pub message: Message,
    /// Attempts that have counted so far; 0 where nobody wrote them.
    pub attempts: u32,
}

/// The headers to store `message` with, names in lower case, each `name: value` on one line.
pub fn encode(message: &Message, attempts: u32) -> Vec<(String, String)> {
    let own = [
        (ID, message.id.clone()),
        (ACCEPTED_AT, encode_time(message.accepted_at)),
        (ATTEMPTS, attempts.to_string()),
    ];
    let own = own
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let group = message
        .group
        .iter()
        .map(|group| (GROUP.to_owned(), encode_value(group).into_owned()));
    let given = message
        .headers
        .iter()
        .map(|(name, value)| (name.to_owned(), encode_value(value).into_owned()));
    own.chain(group).chain(given).collect()
}

/// Reads a message from the headers and the payload of a broker.
///
/// `fallback_id` and `fallback_time` are used where there is no usable `weir-id` or
/// `weir-accepted-at`: they must be the same whenever this stored message is read (its position in
/// the stream, the time the broker stored it). Headers that begin with `weir-` or `nats-` are not
/// part of the message, except [`METHOD`] and [`PATH`].
pub fn decode<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: Bytes,
    fallback_id: &str,
    fallback_time: Timestamp,
) -> Stored {
    let (mut id, mut accepted_at, mut attempts, mut group) = (None, None, None, None);
    let mut kept = Headers::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            ID => id = id.or_else(|| ids::is_valid(value).then(|| value.to_owned())),
            ACCEPTED_AT => accepted_at = accepted_at.or_else(|| value.parse().ok()),
            ATTEMPTS => attempts = attempts.or_else(|| value.parse().ok()),
            GROUP => group = group.or_else(|| Some(decode_text(value))),
            METHOD | PATH => kept.append(&name, decode_value(value)),
            _ if is_reserved(&name) || name.is_empty() => {}
            _ => kept.append(&percent_encode(&name, is_token_byte), decode_value(value)),
        }
    }
    let message = Message {
        id: id.unwrap_or_else(|| fallback_id.to_owned()),
        accepted_at: accepted_at.unwrap_or(fallback_time),
        headers: kept,
        body,
        group,
    };
    Stored {
        message,
        attempts: attempts.unwrap_or(0),
    }
}

/// The headers to store a dead letter with: those of its message and of its failure.
pub fn encode_dead_letter(letter: &DeadLetter) -> Vec<(String, String)> {
    let mut headers = encode(&letter.message, letter.failure.attempts);
    headers.extend(
        letter
            .failure
            .to_headers()
            .into_iter()
            .filter(|(name, _)| name != ATTEMPTS),
    );
    headers
}

/// Reads a dead letter. A damaged envelope becomes [`Reason::Malformed`] with the damage as its
/// line for people, so that it can still be listed and removed.
pub fn decode_dead_letter<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)> + Clone,
    body: Bytes,
    fallback_id: &str,
    fallback_time: Timestamp,
) -> DeadLetter {
    let failure = Failure::from_headers(headers.clone());
    let Stored { message, attempts } = decode(headers, body, fallback_id, fallback_time);
    let failure = failure.unwrap_or_else(|damage| Failure {
        reason: Reason::Malformed,
        attempts,
        failed_at: fallback_time,
        last_status: None,
        message: damage.to_string(),
        answer: String::new(),
    });
    DeadLetter { message, failure }
}

/// True for names that never come from outside.
pub fn is_reserved(lower_case_name: &str) -> bool {
    lower_case_name.starts_with("weir-") || lower_case_name.starts_with("nats-")
}

/// Whether a message may have this header as it is: a lower-case name, characters that stand for
/// bytes of an HTTP header.
pub(crate) fn is_header(name: &str, value: &str) -> bool {
    let is_name = |byte: u8| is_token_byte(byte) && !byte.is_ascii_uppercase();
    !name.is_empty() && name.bytes().all(is_name) && value.chars().all(is_header_char)
}

/// RFC 3339 in UTC, with milliseconds, or finer where the time is finer.
pub fn encode_time(time: Timestamp) -> String {
    if time.subsec_nanosecond() % 1_000_000 == 0 {
        format!("{time:.3}")
    } else {
        time.to_string()
    }
}

/// Writes any text as the value of a broker header: printable ASCII without a space at an end.
pub fn encode_value(text: &str) -> Cow<'_, str> {
    let padded = text.starts_with(' ') || text.ends_with(' ');
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !padded && !text.starts_with(MARK) {
        return Cow::Borrowed(text);
    }
    let encoded = percent_encode(text, |byte| byte.is_ascii_graphic() && byte != b'%');
    Cow::Owned(format!("{MARK}{encoded}"))
}

/// Reads what [`encode_value`] wrote; any other text stays as it is.
pub fn decode_text(value: &str) -> String {
    encoded(value).unwrap_or_else(|| value.to_owned())
}

fn encoded(value: &str) -> Option<String> {
    percent_decode(value.strip_prefix(MARK)?)
}

/// Reads the value of a broker header into what [`Headers`] hold: characters up to U+00FF that stand
/// for bytes of an HTTP header. What others wrote keeps its UTF-8 bytes; control characters are
/// percent-encoded, also when somebody hid them behind our mark.
fn decode_value(value: &str) -> String {
    if let Some(text) = encoded(value)
        && text.chars().all(is_header_char)
    {
        return text;
    }
    let safe = percent_encode_controls(value);
    safe.bytes().map(char::from).collect()
}

fn percent_encode_controls(text: &str) -> Cow<'_, str> {
    let control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
    if !text.bytes().any(control) {
        return Cow::Borrowed(text);
    }
    let encode = |c: char| match u8::try_from(c) {
        Ok(byte) if control(byte) => format!("%{byte:02X}"),
        _ => c.to_string(),
    };
    Cow::Owned(text.chars().map(encode).collect())
}

/// Characters that stand for a byte that an HTTP header value may hold (RFC 9110 5.5).
fn is_header_char(c: char) -> bool {
    matches!(c, '\t' | ' '..='~' | '\u{80}'..='\u{ff}')
}

/// Bytes of an HTTP token (RFC 9110 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
