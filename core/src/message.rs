//! A message as it travels from intake to handler: identity, headers, body.

use bytes::Bytes;
use jiff::Timestamp;

use crate::wire;

/// Headers in the order they came. Names are lower case; a name may repeat.
///
/// HTTP header values are bytes, broker header values are text. Bytes from 0x80 are kept as the
/// characters U+0080 to U+00FF, which is exact in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of `name` (lower case).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of `name` (lower case).
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Adds a value, keeping those that are there. The name is made lower case.
    pub fn append(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_ascii_lowercase(), value.into()));
    }

    /// Replaces every value of `name` by one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.append(name, value);
    }

    /// Removes every value of `name`.
    pub fn remove(&mut self, name: &str) {
        self.0
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Keeps the headers for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        self.0.retain(|(name, value)| keep(name, value));
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without a single header.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that the headers take on the wire of a broker, `name: value\r\n` each, written as
    /// [`wire::encode_value`] does.
    pub fn wire_len(&self) -> usize {
        let line = |name: &str, value: &str| name.len() + wire::encode_value(value).len() + 4;
        self.0.iter().map(|(name, value)| line(name, value)).sum()
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(iter: T) -> Self {
        let mut headers = Self::new();
        for (name, value) in iter {
            headers.append(&name, value);
        }
        headers
    }
}

/// A message that Weir accepted.
///
/// The body is never changed. `headers` hold what the sender gave (CloudEvents attributes as `ce-*`,
/// `content-type`, `traceparent`, HTTP headers) without hop-by-hop headers and credentials; names
/// that begin with `weir-` or `nats-` never come from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `Weir-Id`: unique, stable over retries, dead letter and redrive.
    pub id: String,
    /// When the intake accepted it; ages count from here.
    pub accepted_at: Timestamp,
    /// What the sender said about the body.
    pub headers: Headers,
    /// What the sender sent, byte for byte.
    pub body: Bytes,
    /// `weir-group`: in a FIFO queue the messages of one group are handled in the order in which they
    /// were stored, one turn at a time. Any text; an absent group is the group of the empty name. Stays
    /// over retries, dead letter and redrive; other queues carry it along and ignore it.
    pub group: Option<String>,
}

impl Message {
    /// Bytes that the message takes in a broker as [`wire::encode`] writes it, at most, without the
    /// broker's own framing.
    pub fn wire_len(&self) -> usize {
        let group = self.group.as_deref().map_or(0, wire::group_len);
        self.body.len() + self.headers.wire_len() + self.id.len() + group + wire::MOST_OWN_BYTES
    }
}
