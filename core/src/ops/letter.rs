//! Messages and dead letters as JSON.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dead_letter::{DeadLetter, Failure};
use crate::encoding::{base64, from_base64};
use crate::ids;
use crate::message::{Headers, Message};
use crate::wire;

/// A dead letter. Also one line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Letter {
    /// Id of the message.
    pub id: String,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Its group, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Pairs, because a name may repeat.
    pub headers: Vec<(String, String)>,
    /// The body where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64 where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Why it was given up.
    pub failure: Failure,
    /// Where it is; not part of what is imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

/// Why a line of an import is no letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLetter {
    /// Not JSON, or not this shape.
    #[error("not a dead letter as `export` writes it: {0}")]
    Shape(String),
    /// An id that no message can have.
    #[error("{0:?} cannot be the id of a message: 1 to 128 letters, digits and -_.:~")]
    Id(String),
    /// No body, two, or one that is no base64.
    #[error("exactly one of body and bodyBase64 must be there, the latter in base64")]
    Body,
    /// A header that no message can have.
    #[error("header {0:?} cannot be that of a message")]
    Header(String),
}

impl Letter {
    /// A letter as it is told.
    pub fn of(letter: &DeadLetter, position: u64) -> Self {
        let message = &letter.message;
        let (body, body_base64) = text_or_base64(&message.body);
        Self {
            id: message.id.clone(),
            accepted_at: message.accepted_at,
            group: message.group.clone(),
            headers: owned(&message.headers),
            body,
            body_base64,
            failure: letter.failure.clone(),
            position: Some(position),
        }
    }

    /// Reads one line of an export.
    pub fn parse(line: &[u8]) -> Result<DeadLetter, BadLetter> {
        let letter: Self =
            serde_json::from_slice(line).map_err(|error| BadLetter::Shape(error.to_string()))?;
        letter.into_dead_letter()
    }

    /// The letter, if it can be one.
    pub fn into_dead_letter(self) -> Result<DeadLetter, BadLetter> {
        if !ids::is_valid(&self.id) {
            return Err(BadLetter::Id(self.id));
        }
        let body = body(self.body, self.body_base64.as_deref()).ok_or(BadLetter::Body)?;
        let bad = self.headers.iter().find(|(name, value)| {
            !wire::is_header(name, value)
                || wire::is_reserved(name) && ![wire::METHOD, wire::PATH].contains(&name.as_str())
        });
        if let Some((name, _)) = bad {
            return Err(BadLetter::Header(name.clone()));
        }
        let message = Message {
            id: self.id,
            accepted_at: self.accepted_at,
            headers: self.headers.into_iter().collect(),
            group: self.group,
            body,
        };
        let mut failure = self.failure;
        failure.message = crate::dead_letter::one_line(&failure.message);
        failure.answer = crate::dead_letter::kept_answer(&failure.answer).to_owned();
        Ok(DeadLetter { message, failure })
    }
}

fn owned(headers: &Headers) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A body as text where it is UTF-8, as base64 where it is not.
pub fn text_or_base64(body: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(body) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(base64(body))),
    }
}

pub(super) fn body(text: Option<String>, base64: Option<&str>) -> Option<Bytes> {
    match (text, base64) {
        (Some(text), None) => Some(text.into()),
        (None, Some(encoded)) => from_base64(encoded).map(Bytes::from),
        _ => None,
    }
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Its id.
    pub id: String,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Its group, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Pairs, because a name may repeat.
    pub headers: Vec<(String, String)>,
    /// The body where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64 where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Attempts that counted so far.
    pub attempts: u32,
    /// When it becomes deliverable; null for one that is ready or in flight.
    pub due: Option<Timestamp>,
    /// Where it is.
    pub position: u64,
}

impl Waiting {
    /// A message as it is told.
    pub fn of(message: &Message, attempts: u32, due: Option<Timestamp>, position: u64) -> Self {
        let (body, body_base64) = text_or_base64(&message.body);
        Self {
            id: message.id.clone(),
            accepted_at: message.accepted_at,
            group: message.group.clone(),
            headers: owned(&message.headers),
            body,
            body_base64,
            attempts,
            due,
            position,
        }
    }
}
