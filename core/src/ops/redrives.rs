//! What a redrive is asked for and how it is told.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::letter::body;
use crate::ids;
use crate::object::{Kind, ObjectKey};
use crate::redrive::{Counts, FASTEST, Filter, MOST_IDS, Redrive, State};

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
