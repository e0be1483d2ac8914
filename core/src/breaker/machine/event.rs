//! What the machine takes in and what it asks for.

use std::time::Duration;

use crate::breaker::config::BreakerConfig;
use crate::breaker::counter::Counted;
use crate::breaker::peers::Delta;
use crate::breaker::record::{Reason, Record};
use crate::breaker::{Outcome, State, Ticket};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A call wants to be let through. It is answered by [`Effect::Admit`] or [`Effect::Refuse`], now
    /// or after a later event.
    Call {
        /// The caller's number for it, not used by another one that waits.
        call: u64,
    },
    /// A call ended.
    Ended {
        /// What it was let through with.
        ticket: Ticket,
        /// How it ended.
        outcome: Outcome,
    },
    /// Calls that a [`crate::breaker::Counter`] let through and counted.
    Counted(Counted),
    /// A delta of another replica came.
    Heard(Delta),
    /// The store was read: what it holds, or that it holds nothing. To be sent at the start and after
    /// every interruption; the replica shares the state from then on.
    Stored(Option<Record>),
    /// The store told of a change.
    Changed(Record),
    /// A proposal stands in the store.
    Accepted {
        /// The version that was proposed.
        version: u64,
    },
    /// A proposal was not stored, because the store held something else than was expected.
    Lost {
        /// The version that was proposed.
        version: u64,
        /// What it holds.
        current: Option<Record>,
    },
    /// The store cannot be reached, or did not tell whether it stored a proposal.
    StoreAway,
    /// The rules changed, `force` included. They must be valid.
    Configured(BreakerConfig),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make the call.
    Admit {
        /// Which one.
        call: u64,
        /// To be brought back with the outcome.
        ticket: Ticket,
    },
    /// Answer the call with the fallback.
    Refuse {
        /// Which one.
        call: u64,
        /// For `Retry-After`.
        retry_after: Duration,
    },
    /// Store the record in place of the one of version `expected`, if that is what is stored.
    Propose {
        /// 0: only if nothing is stored.
        expected: u64,
        /// What to store.
        record: Record,
    },
    /// Tell the other replicas. It may get lost.
    Publish(Delta),
    /// The state changed, for events, metrics and whatever waits for it.
    Became {
        /// The new state.
        state: State,
        /// Why.
        reason: Reason,
    },
}
