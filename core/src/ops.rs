//! What the ops API says and is told: the JSON of `docs/ops-api.md`.
//!
//! The server (`weir_ops`, inside `weir run` and the operator) and the command line share these types.
//! Unknown fields of a request are refused, so that a typo is not taken for consent.

mod groups;

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dead_letter::{DeadLetter, Failure};
use crate::encoding::{base64, from_base64};
use crate::ids;
use crate::message::{Headers, Message};
use crate::object::{Kind, ObjectKey};
use crate::redrive::{Counts, FASTEST, Filter, MOST_IDS, Redrive, State};
use crate::wire;

pub use groups::{GroupHold, Groups, HeldGroup, Released};

/// Largest JSON document of a request, bytes: an edited body of the largest message, in base64.
pub const LARGEST_REQUEST: usize = 2 * 1024 * 1024;
/// Longest line of an import, bytes.
pub const LONGEST_LINE: usize = 8 * 1024 * 1024;
/// Most items of one page, and how many there are when nobody asks.
pub const MOST_ITEMS: usize = 200;
/// See [`MOST_ITEMS`].
pub const USUAL_ITEMS: usize = 50;
/// Most letters that one request looks at; the answer says where to go on.
pub const MOST_LOOKED_AT: u64 = 5000;
/// Header with the caller's token, where the `authorization` header cannot come through.
pub const CALLER: &str = "weir-authorization";
/// Audience of tokens that are good for this API and nothing else.
pub const AUDIENCE: &str = "weir.dev/ops";
/// Header that `export` begins its answer with: the number of dead letters there are.
pub const TOTAL: &str = "weir-total";

/// Why a request was refused, in every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable word.
    pub error: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// In order of position. May be fewer than asked for, or none, with a `next`.
    pub items: Vec<T>,
    /// Pass it as `after` for the rest; null at the end.
    pub next: Option<u64>,
}

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

fn body(text: Option<String>, base64: Option<&str>) -> Option<Bytes> {
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

/// What letters are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Why they were given up.
    Reason,
    /// Last HTTP status.
    Status,
    /// CloudEvents type.
    Type,
}

impl By {
    /// Finds it by its name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Reason, Self::Status, Self::Type]
            .into_iter()
            .find(|by| by.as_str() == text)
    }

    /// `reason`, `status` or `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reason => "reason",
            Self::Status => "status",
            Self::Type => "type",
        }
    }

    /// What a letter is counted under; `-` where it has none. A filter takes the same words.
    pub fn key(self, letter: &DeadLetter) -> String {
        let none = || "-".to_owned();
        match self {
            Self::Reason => letter.failure.reason.as_str().to_owned(),
            Self::Status => letter
                .failure
                .last_status
                .map_or_else(none, |status| status.to_string()),
            Self::Type => letter
                .message
                .headers
                .get("ce-type")
                .filter(|text| !text.is_empty())
                .map_or_else(none, str::to_owned),
        }
    }
}

/// Letters of one key of a summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// The reason, status or type.
    pub key: String,
    /// How many.
    pub count: u64,
    /// When the first of them was given up.
    pub oldest: Timestamp,
    /// When the last of them was.
    pub newest: Timestamp,
}

/// How many letters there are of each reason, status or type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The largest first.
    pub counts: Vec<Count>,
    /// Letters that were looked at.
    pub looked_at: u64,
    /// Pass it as `after` for the rest, and add up; null at the end.
    pub next: Option<u64>,
}

impl Summary {
    /// Counts one letter.
    pub fn add(&mut self, by: By, letter: &DeadLetter) {
        self.looked_at += 1;
        let died = letter.failure.failed_at;
        self.add_count(Count {
            key: by.key(letter),
            count: 1,
            oldest: died,
            newest: died,
        });
    }

    /// Adds the counts of another part.
    pub fn extend(&mut self, other: Self) {
        self.looked_at += other.looked_at;
        self.next = other.next;
        for count in other.counts {
            self.add_count(count);
        }
    }

    fn add_count(&mut self, mut new: Count) {
        let is_known = self.counts.iter().any(|known| known.key == new.key);
        // A type that every letter has for itself is no type: bounded.
        if !is_known && self.counts.len() >= MOST_KEYS {
            OTHERS.clone_into(&mut new.key);
        }
        match self.counts.iter_mut().find(|known| known.key == new.key) {
            Some(known) => {
                known.count += new.count;
                known.oldest = known.oldest.min(new.oldest);
                known.newest = known.newest.max(new.newest);
            }
            None => self.counts.push(new),
        }
    }

    /// The largest first, equals by name.
    pub fn sort(&mut self) {
        self.counts
            .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
    }
}

/// Most keys of a summary; the rest are counted together.
const MOST_KEYS: usize = 1000;
/// What the rest is called.
const OTHERS: &str = "(others)";

/// What `POST .../redrives` is asked for. An empty object means every letter, as fast as it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StartRedrive {
    /// Only these messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Only what matches.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Most messages a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// To this object of the same namespace, `KIND/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only say what would be moved.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// With `dryRun`: go on behind this position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Another body, for exactly one id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit: Option<Edit>,
}

/// What is changed of a message before it is published again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edit {
    /// The new body, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The new body, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// A [`StartRedrive`] that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRedrive {
    /// Only these messages, each once.
    pub ids: Vec<String>,
    /// Only what matches.
    pub filter: Filter,
    /// Most messages a second.
    pub rate: Option<u32>,
    /// Kind and name of where they go.
    pub to: Option<(Kind, String)>,
    /// Only say what would be moved, behind this position.
    pub dry_run: Option<Option<u64>>,
    /// The body of the only message.
    pub edit: Option<Bytes>,
}

impl StartRedrive {
    /// Checks it. An error says what to write instead.
    pub fn check(self) -> Result<WantedRedrive, String> {
        let filter = parse_filter(self.filter.as_deref())?;
        if self.ids.len() > MOST_IDS {
            return Err(format!(
                "{} ids, at most {MOST_IDS} are taken at once; use `where`, or several redrives",
                self.ids.len()
            ));
        }
        if let Some(id) = self.ids.iter().find(|id| !ids::is_valid(id)) {
            return Err(format!("ids: {id:?} cannot be the id of a message"));
        }
        if let Some(rate) = self.rate.filter(|rate| !(1..=FASTEST).contains(rate)) {
            return Err(format!(
                "rate: {rate} is not 1 to {FASTEST} messages a second; leave it out for as fast as it goes"
            ));
        }
        if self.after.is_some() && !self.dry_run {
            return Err("after: only a dry run goes on behind a position".to_owned());
        }
        let mut ids = self.ids;
        let mut seen = std::collections::BTreeSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        let edit = match self.edit {
            None => None,
            Some(_) if ids.len() != 1 || self.dry_run => {
                return Err("edit: it needs exactly one id, and no dry run".to_owned());
            }
            Some(edit) => {
                let body = body(edit.body, edit.body_base64.as_deref());
                let wanted = "edit: write exactly one of body and bodyBase64 (in base64)";
                Some(body.ok_or_else(|| wanted.to_owned())?)
            }
        };
        Ok(WantedRedrive {
            ids,
            filter,
            rate: self.rate,
            to: self.to.as_deref().map(parse_object).transpose()?,
            dry_run: self.dry_run.then_some(self.after),
            edit,
        })
    }
}

/// Reads a filter, where there is one.
pub fn parse_filter(text: Option<&str>) -> Result<Filter, String> {
    let filter: Result<Filter, _> = text.unwrap_or_default().parse();
    filter.map_err(|error| format!("where: {error}"))
}

fn parse_object(text: &str) -> Result<(Kind, String), String> {
    let kinds = Kind::ALL.map(Kind::lower).join(", ");
    text.split_once('/')
        .and_then(|(kind, name)| Some((Kind::parse(kind)?, name)))
        .filter(|(_, name)| !name.is_empty() && !name.contains('/'))
        .map(|(kind, name)| (kind, name.to_owned()))
        .ok_or_else(|| format!("to: {text:?} is no KIND/NAME; kinds: {kinds}"))
}

/// What a dry run says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Letters that would be moved.
    pub matching: u64,
    /// Letters that were looked at.
    pub looked_at: u64,
    /// The first few of them.
    pub sample: Vec<String>,
    /// Ids that were asked for and have no dead letter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Pass it as `after` for the rest, and add up; null at the end.
    pub next: Option<u64>,
}

/// A redrive as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedriveStatus {
    /// Names it.
    pub id: String,
    /// Whose dead letters.
    pub object: ObjectKey,
    /// Where the messages go, where that is not `object`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ObjectKey>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Which letters, where not all.
    #[serde(
        rename = "where",
        default,
        skip_serializing_if = "Filter::is_everything"
    )]
    pub filter: Filter,
    /// How many ids were asked for, where any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<usize>,
    /// Most messages a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// How it stands.
    pub state: State,
    /// What it has done.
    pub counts: Counts,
    /// Letters that there were to look at when it began.
    pub total: u64,
    /// How many of a hundred it has been through.
    pub percent: u64,
    /// What it waits for, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it began.
    pub started_at: Timestamp,
    /// The last sign of life of whoever runs it.
    pub updated_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

impl From<&Redrive> for RedriveStatus {
    fn from(redrive: &Redrive) -> Self {
        Self {
            id: redrive.id.clone(),
            object: redrive.object.clone(),
            to: redrive.to.clone(),
            by: redrive.by.clone(),
            filter: redrive.filter.clone(),
            ids: Some(redrive.ids.len()).filter(|count| *count > 0),
            rate: redrive.rate,
            state: redrive.state,
            counts: redrive.counts,
            total: redrive.total,
            percent: redrive.percent(),
            message: redrive.message.clone(),
            started_at: redrive.started_at,
            updated_at: redrive.updated_at,
            finished_at: redrive.finished_at,
        }
    }
}

/// The redrives of an object that are remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedriveList {
    /// Newest first.
    pub items: Vec<RedriveStatus>,
}

/// What became of a message that was edited and published at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edited {
    /// Its id, which stays.
    pub id: String,
    /// True when a try before this one had published it already, perhaps with another body.
    pub already_published: bool,
}

/// What `POST .../purge` is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Purge {
    /// Only what matches; everything without it.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Must be true: what is purged is gone.
    pub confirm: bool,
}

/// What a purge did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Purged {
    /// Letters that are gone.
    pub purged: u64,
    /// True when there was more than one request may look at: ask again.
    pub more: bool,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// Letters that were stored.
    pub stored: u64,
    /// Letters that were there already, or of whose message a later one was.
    pub known: u64,
}

/// Numbers of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Numbers {
    /// Waiting for a slot.
    pub ready: u64,
    /// Delivered and not settled.
    pub in_flight: u64,
    /// Waiting for a retry or a delay to pass.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest ready or in-flight message was stored.
    pub oldest: Option<Timestamp>,
}

/// The list of objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectList {
    /// Version of the server.
    pub version: String,
    /// Where it takes messages in, in `weir run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<std::net::SocketAddr>,
    /// Each with kind, namespace and name; what else is there depends on the server.
    pub objects: Vec<BTreeMap<String, serde_json::Value>>,
}

#[cfg(test)]
mod tests;
