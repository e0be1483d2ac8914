//! The state that all replicas share: one small record, replaced by compare-and-set.
//!
//! The store holds one [`Record`] for each breaker. A replica that wants it changed proposes the next
//! one in place of exactly the one it knows; of several that do so at once, one wins and the others
//! see what it wrote. So there is one history, and a record with a greater version is a later one.
//!
//! A probe is let through only when its permit stands in the record, which is how the limit is kept
//! over all replicas. A permit has a lifetime, not a time of day: whoever sees it starts counting when
//! it sees it first, which is never before it was granted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::peers::LONGEST_NAME;
use super::{Moment, State, millis};

/// Longest record, bytes.
pub const LONGEST_RECORD: usize = 64 * 1024;

/// Most permits in a record.
pub const MOST_PERMITS: usize = 100;

/// Longest open time and longest lifetime of a permit: a day.
const LONGEST_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// The shared state of one breaker.
///
/// Ordered by version, then by content, so that the greater of two is the same for everyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Grows with every change. 0: nothing has been stored yet.
    pub version: u64,
    /// Grows with every change of the state; counts of another generation do not count.
    pub generation: u64,
    /// The state.
    pub state: Phase,
    /// How often it has opened since it was closed last.
    #[serde(default)]
    pub opens: u32,
    /// When the state changed last, by the clock of the replica that changed it. 0: never.
    #[serde(default)]
    pub since: Moment,
    /// Why it changed.
    pub reason: Reason,
    /// Probes that are under way. Those that are when it opens again stay, since they still count
    /// against the limit of the next round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permits: Vec<Permit>,
}

/// The state with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open {
        /// For how long, milliseconds from `since`.
        millis: u64,
    },
    /// Probes pass.
    HalfOpen {
        /// Probes that succeeded.
        successes: u32,
    },
}

/// The right to one probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Permit {
    /// Name of the replica that has it.
    pub replica: String,
    /// Which life of that replica.
    pub epoch: u64,
    /// Which of its permits.
    pub number: u64,
    /// The generation of the record in which it was granted.
    pub generation: u64,
    /// How long it is valid after it was asked for, milliseconds.
    pub millis: u64,
}

/// Why the state changed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// It never did.
    New,
    /// `trip.failurePercent` was reached.
    FailureRate,
    /// `trip.slowPercent` was reached.
    SlowRate,
    /// `trip.consecutiveFailures` was reached.
    ConsecutiveFailures,
    /// The open time was over.
    OpenTimeOver,
    /// A probe failed or was slow.
    ProbeFailed,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// A person forced it, or ended that. Never in a record.
    Forced,
}

impl Reason {
    /// The word for events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "New",
            Self::FailureRate => "FailureRate",
            Self::SlowRate => "SlowRate",
            Self::ConsecutiveFailures => "ConsecutiveFailures",
            Self::OpenTimeOver => "OpenTimeOver",
            Self::ProbeFailed => "ProbeFailed",
            Self::ProbesSucceeded => "ProbesSucceeded",
            Self::Forced => "Forced",
        }
    }
}

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is longer than any record.
    #[error(
        "the breaker's record has {0} bytes, more than {LONGEST_RECORD}; delete its key, it is made again"
    )]
    ExceedSize(usize),
    /// It is not JSON, or not of this form.
    #[error("the breaker's record cannot be read; delete its key, it is made again")]
    ReadJson(#[source] serde_json::Error),
    /// A part is outside its bounds.
    #[error("the breaker's record has impossible {0}; delete its key, it is made again")]
    ExceedBounds(&'static str),
}

impl Default for Record {
    /// Closed, and never stored.
    fn default() -> Self {
        Self {
            version: 0,
            generation: 0,
            state: Phase::Closed,
            opens: 0,
            since: Moment::default(),
            reason: Reason::New,
            permits: Vec::new(),
        }
    }
}

impl Record {
    /// What the store holds. One line of JSON, about 110 bytes and 90 for each permit.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("a record is plain data with string keys")
    }

    /// Reads what [`Record::encode`] wrote. Fields that are not known are left out, so that a later
    /// version may add some.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > LONGEST_RECORD {
            return Err(RecordError::ExceedSize(bytes.len()));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(RecordError::ReadJson)?;
        if matches!(record.state, Phase::Open { millis } if millis > LONGEST_MILLIS) {
            return Err(RecordError::ExceedBounds("open time"));
        }
        let possible = record
            .permits
            .iter()
            .all(|permit| permit.millis <= LONGEST_MILLIS && permit.replica.len() <= LONGEST_NAME);
        if record.permits.len() > MOST_PERMITS || !possible {
            return Err(RecordError::ExceedBounds("permits"));
        }
        Ok(record)
    }

    /// The later of two. Commutative, associative and idempotent.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        self.max(other)
    }

    /// The state without what belongs to it.
    pub fn state(&self) -> State {
        match self.state {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// The next state: open for a while.
    pub(crate) fn opened(&self, reason: Reason, open_for: Duration, at: Moment) -> Self {
        let millis = millis(open_for).min(LONGEST_MILLIS);
        let opens = self.opens.saturating_add(1);
        self.changed(Phase::Open { millis }, opens, reason, at)
    }

    /// The next state: probes pass.
    pub(crate) fn half_opened(&self, at: Moment) -> Self {
        let state = Phase::HalfOpen { successes: 0 };
        self.changed(state, self.opens, Reason::OpenTimeOver, at)
    }

    /// The next state: calls pass, probes are calls like any other, and the open time starts again
    /// from the first.
    pub(crate) fn closed(&self, at: Moment) -> Self {
        Self {
            permits: Vec::new(),
            ..self.changed(Phase::Closed, 0, Reason::ProbesSucceeded, at)
        }
    }

    fn changed(&self, state: Phase, opens: u32, reason: Reason, at: Moment) -> Self {
        Self {
            version: self.version,
            generation: self.generation.saturating_add(1),
            state,
            opens,
            since: at,
            reason,
            permits: self.permits.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
