//! The circuit breaker: when calls to one target stop, and when they are tried again.
//!
//! [`Breaker`] is the state machine of one replica: events in, effects out, nothing else. It never
//! reads a clock, draws randomness, sends or stores; whoever runs it does that and brings the answers
//! back as events. What the replicas share is one small [`Record`], replaced by compare-and-set, and
//! [`Delta`]s of what each has counted, which may come late, twice, in any order or never.
//!
//! | part | what it is |
//! |---|---|
//! | [`config`] | the rules of one breaker, their bounds and defaults |
//! | [`window`] | what was counted lately |
//! | [`peers`] | what the other replicas counted lately |
//! | [`record`] | the state that all replicas share, and its transitions |
//! | [`machine`] | the state machine |
//! | [`counter`] | counting on the hot path, without the machine |
//!
//! The rules are those of aws-semantics 11.1: failed or slow calls open it; open refuses at once and
//! does not call; after the open time a few probes, counted over all replicas, decide whether it
//! closes or opens again for longer.
//!
//! Tests: beside each part; `fleet` runs whole fleets on a store that reorders, repeats and loses.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub mod config;
pub mod counter;
#[cfg(test)]
mod fleet;
pub mod machine;
pub mod peers;
pub mod record;
pub mod window;

pub use config::{BreakerConfig, ConfigError, Force};
pub use counter::Counter;
pub use machine::{Breaker, Effect, Event};
pub use peers::Delta;
pub use record::{Reason, Record};
pub use window::Tally;

/// A reading of the caller's clock: milliseconds since the Unix epoch.
///
/// A reading may be earlier than the one before it: then no time has passed. A jump forward is time
/// that has passed, so a caller does best to read the wall clock once and to add monotonic time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `duration` later, in whole milliseconds; the last one there is if that is too far.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The time since `earlier`; zero if that is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<Timestamp> for Moment {
    /// A time before 1970 is the epoch.
    fn from(timestamp: Timestamp) -> Self {
        Self(u64::try_from(timestamp.as_millisecond()).unwrap_or_default())
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The target answered, and not with a status that counts as a failure.
    Succeeded,
    /// A status that counts as a failure, no connection, no answer in time.
    Failed,
    /// The caller went away before there was an answer: nothing is known about the target.
    Abandoned,
}

/// A call that was let through; bring it back with the outcome. One that is not brought back is not
/// counted, and its permit, if it is a probe, expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a call whose outcome is not reported is not counted"]
pub struct Ticket {
    /// The term of the breaker in which the call began; in a later one it does not count.
    pub(crate) term: u64,
    /// When it began.
    pub(crate) began: Moment,
    /// The number of its permit, if it is a probe.
    pub(crate) probe: Option<u64>,
}

impl Ticket {
    /// True for a probe: it must end within the breaker's `timeoutSeconds`.
    pub fn is_probe(self) -> bool {
        self.probe.is_some()
    }
}

/// The state that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// A few probes pass.
    HalfOpen,
}

impl State {
    /// The name as it is in the status: `HalfOpen`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::Open => "Open",
            Self::HalfOpen => "HalfOpen",
        }
    }
}

/// Whole milliseconds; too many are the most there are.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
