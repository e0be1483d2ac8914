//! What the ops API says and is told: the JSON of `docs/ops-api.md`.
//!
//! The server (`weir_ops`, inside `weir run` and the operator) and the command line share these types.
//! Unknown fields of a request are refused, so that a typo is not taken for consent.

mod groups;
mod letter;
mod redrives;
mod summary;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use groups::{GroupHold, Groups, HeldGroup, Released};
pub use letter::{BadLetter, Letter, Waiting, text_or_base64};
pub use redrives::{
    DryRun, Edit, RedriveList, RedriveStatus, StartRedrive, WantedRedrive, parse_filter,
};
pub use summary::{By, Count, Summary};

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
