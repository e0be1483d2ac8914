//! Groups of queues that keep order: how many there are, which of them wait for a human.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dead_letter::Failure;

/// The groups of a queue. Those that get turns are only counted; the others are listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Groups {
    /// Groups that have or could have a turn now.
    pub runnable: u64,
    /// Turns that are held; part of `runnable`.
    pub in_turn: u64,
    /// Groups that wait for a human.
    pub held: u64,
    /// A page of them, by name.
    pub items: Vec<HeldGroup>,
    /// Pass it as `afterGroup` for the rest; null at the end.
    pub next: Option<String>,
}

/// A group that waits for a human.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldGroup {
    /// Its name; empty for the messages that have none.
    pub group: String,
    /// How it is held.
    pub hold: GroupHold,
    /// Since when.
    pub since: Timestamp,
    /// Id of the message that was given up.
    pub message_id: String,
    /// Why.
    pub failure: Failure,
}

/// How a group is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupHold {
    /// Its messages stay stored.
    Blocked,
    /// Its messages become dead letters.
    DeadLettered,
}

impl GroupHold {
    /// The word of the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "Blocked",
            Self::DeadLettered => "DeadLettered",
        }
    }
}

/// A group was let go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// False where it was not held.
    pub released: bool,
    /// Dead letters that were put back in front of it.
    pub put_back: u64,
}
