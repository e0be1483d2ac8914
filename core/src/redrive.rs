//! Publishing dead letters again: which ones, how fast, and where a redrive stands.
//!
//! A redrive goes through the dead letters in the order in which they died, up to the one that was
//! last when it began, so that a letter whose message dies again is not redriven by the same
//! redrive. Its state is a [`Redrive`], kept with the queue and changed by compare-and-set, so that
//! any process can say how far it is, and go on with it when the one that ran it was killed. AWS:
//! aws-semantics 5.2; beyond it are filters, an edit, and ids that stay.
//!
//! Pure. The reading, publishing and removing is `weir_broker::redrive`, which also has the argument
//! why a kill at any point neither loses nor doubles a message.

mod filter;
mod pace;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::dead_letter::DeadLetter;
use crate::object::ObjectKey;

pub use filter::{Filter, ParseFilterError};
pub use pace::Pace;

/// Most letters that are in hand at once: published, and not yet all removed.
pub const MOST_IN_HAND: usize = 16;
/// Most ids that one redrive names.
pub const MOST_IDS: usize = 1000;
/// Redrives of one queue that are remembered.
pub const MOST_KEPT: usize = 10;
/// Fastest rate that can be asked for, messages a second.
pub const FASTEST: u32 = 5000;
/// A process that runs a redrive gives a sign of life at least this often.
pub const SIGN_OF_LIFE: SignedDuration = SignedDuration::from_secs(2);
/// Without a sign of life for so long, another process goes on with a redrive.
pub const ABANDONED_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// How a redrive stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It goes on.
    Running,
    /// It was told to end; what is in hand is finished first.
    Cancelling,
    /// Every letter was looked at.
    Completed,
    /// It was told to end, and has. What was published stays published.
    Cancelled,
    /// It cannot go on; `message` says why.
    Failed,
}

impl State {
    /// The state as the command line prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Cancelling => "Cancelling",
            Self::Completed => "Completed",
            Self::Cancelled => "Cancelled",
            Self::Failed => "Failed",
        }
    }

    /// Whether some process has to do something about it.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Cancelling)
    }
}

/// What a redrive has done. A letter counts once, also when the process was killed in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Published, and removed from the dead letters.
    pub moved: u64,
    /// Looked at and left, because they were not asked for.
    pub passed: u64,
    /// Asked for and left, because the broker does not take them; `message` says why of the last.
    pub failed: u64,
}

impl Counts {
    /// Letters that were looked at.
    pub fn looked_at(self) -> u64 {
        self.moved
            .saturating_add(self.passed)
            .saturating_add(self.failed)
    }
}

/// A redrive, as it is kept with the queue.
///
/// Written by whoever runs it (`owner`), and by whoever cancels it; each write replaces exactly the
/// one that its writer has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redrive {
    /// Names it. Sorts by the time it began.
    pub id: String,
    /// Whose dead letters.
    pub object: ObjectKey,
    /// Where the messages go, where that is not `object`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ObjectKey>,
    /// Who asked for it, as the API knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Which letters; all without it.
    #[serde(default, skip_serializing_if = "Filter::is_everything")]
    pub filter: Filter,
    /// Only these ids; all without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Most messages a second; as many as the broker takes without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// How it stands.
    pub state: State,
    /// What it has done.
    pub counts: Counts,
    /// Letters that there were to look at when it began.
    #[serde(default)]
    pub total: u64,
    /// Position of the last letter when it began.
    pub until: u64,
    /// Everything at or before this position is done.
    pub done: u64,
    /// Positions of the letters that may have been published already; published and removed first
    /// by whoever goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_hand: Vec<u64>,
    /// What it waits for, or why it failed; empty when there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it began.
    pub started_at: Timestamp,
    /// The last sign of life of the process that runs it.
    pub updated_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The process that runs it, empty when it let go. New for every process, so that no two are
    /// taken for one.
    #[serde(default)]
    pub owner: String,
}

impl Redrive {
    /// Whether a letter is to be moved.
    pub fn wants(&self, letter: &DeadLetter) -> bool {
        (self.ids.is_empty() || self.ids.contains(&letter.message.id))
            && self.filter.matches(letter)
    }

    /// Whether `owner` may run it now: it is its own, or the process that ran it let go or is silent.
    pub fn may_be_run_by(&self, owner: &str, now: Timestamp) -> bool {
        let free = self.owner.is_empty() || self.owner == owner;
        self.state.is_active() && (free || self.is_abandoned(now))
    }

    /// Whether the process that runs it has given no sign of life for [`ABANDONED_AFTER`].
    pub fn is_abandoned(&self, now: Timestamp) -> bool {
        self.state.is_active() && now.duration_since(self.updated_at) >= ABANDONED_AFTER
    }

    /// Whether a sign of life is due.
    pub fn is_silent(&self, now: Timestamp) -> bool {
        now.duration_since(self.updated_at).abs() >= SIGN_OF_LIFE
    }

    /// Told to end. False when it has ended already.
    pub fn cancel(&mut self) -> bool {
        if self.state.is_active() {
            self.state = State::Cancelling;
        }
        self.state.is_active()
    }

    /// It ends as `state`.
    pub fn finish(&mut self, state: State, message: impl Into<String>, now: Timestamp) {
        self.state = state;
        self.message = message.into();
        self.finished_at = Some(now);
        self.updated_at = now;
        self.in_hand.clear();
    }

    /// How many letters to take in hand at once: about a second's worth, so that signs of life and
    /// progress do not wait for a slow redrive.
    pub fn hand(&self) -> usize {
        let wanted = self.rate.map_or(MOST_IN_HAND, |rate| rate as usize);
        wanted.clamp(1, MOST_IN_HAND)
    }

    /// The part of the letters that it has been through, 0 to 100.
    pub fn percent(&self) -> u64 {
        let looked_at = self.counts.looked_at().min(self.total);
        if self.state == State::Completed || self.total == 0 {
            return 100;
        }
        (u128::from(looked_at) * 100 / u128::from(self.total)) as u64
    }
}

/// The redrives of one queue, newest first: at most one that is active, and [`MOST_KEPT`] in all.
/// This is what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrives {
    /// Newest first.
    pub redrives: Vec<Redrive>,
}

/// Another redrive of the same dead letters has not ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("redrive {id} of {object} is {}; wait until it has ended, or cancel it", state.as_str())]
pub struct StillActive {
    /// Its id.
    pub id: String,
    /// Whose dead letters.
    pub object: ObjectKey,
    /// How it stands.
    pub state: State,
}

impl Redrives {
    /// The newest.
    pub fn latest(&self) -> Option<&Redrive> {
        self.redrives.first()
    }

    /// One of them.
    pub fn find(&self, id: &str) -> Option<&Redrive> {
        self.redrives.iter().find(|redrive| redrive.id == id)
    }

    /// Adds a redrive, unless one is active. Those that have ended keep no list of ids.
    pub fn begin(&mut self, redrive: Redrive) -> Result<(), StillActive> {
        if let Some(active) = self.latest().filter(|latest| latest.state.is_active()) {
            return Err(StillActive {
                id: active.id.clone(),
                object: active.object.clone(),
                state: active.state,
            });
        }
        for ended in &mut self.redrives {
            ended.ids.clear();
        }
        self.redrives.insert(0, redrive);
        self.redrives.truncate(MOST_KEPT);
        Ok(())
    }
}

/// What a queue remembers so that a dead letter is published once, whichever redrive does it and
/// however often: clients cannot give such an identity ([`crate::dedup::identity`] begins its own
/// with other words). It names the letter, not the redrive, so that a redrive that follows an
/// interrupted one finds what that one has published.
pub fn identity(position: u64, letter: &DeadLetter) -> String {
    let died = letter.failure.failed_at.as_nanosecond();
    format!("redrive:{position}:{died}:{}", letter.message.id)
}

#[cfg(test)]
mod tests;
