//! What is written into the log of a FIFO queue.
//!
//! A record is JSON: in the header [`LOG`] where the record carries a message, in the body otherwise
//! (the header is empty then). What has no such header was written by somebody else and is a message.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_core::dead_letter::Failure;

use super::groups::Base;
use crate::fifo::Hold;

/// Header that marks what Weir wrote.
pub(crate) const LOG: &str = "weir-log";

/// A record, with the time of its writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamped {
    /// Milliseconds since 1970, by the clock of the writer.
    pub(crate) at: i64,
    #[serde(flatten)]
    pub(crate) record: Record,
}

/// One record. Turns and messages are named by numbers that were never used before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "record"
)]
pub(crate) enum Record {
    /// From here on so many turns at once, and so many stored messages.
    Limits { limit: u64, capacity: u64 },
    /// Its message is the last of its group.
    Store {
        /// Not handed out before this, milliseconds since 1970; 0: at once.
        due: i64,
        /// Stored only where this is not known.
        identity: Option<String>,
        /// How long the identity is known, milliseconds.
        window: i64,
    },
    /// A consumer that was given `granted` turns so far wants so many more.
    Want {
        consumer: u64,
        outstanding: u64,
        granted: u64,
    },
    /// A consumer is there.
    Alive { consumer: u64 },
    /// A consumer takes no more turns.
    Gone { consumer: u64 },
    /// Nothing was heard of a consumer since its sign of this number.
    Silent { consumer: u64, signs: u64 },
    /// A call begins, with these messages.
    Begin { turn: u64, messages: Vec<u64> },
    /// The turn is still held.
    Extend { turn: u64 },
    /// These messages are handled, whoever has the turn.
    Ack { group: String, messages: Vec<u64> },
    /// These messages have become dead letters.
    Moved { turn: u64, messages: Vec<u64> },
    /// A call ended: these messages have so many attempts.
    Count {
        turn: u64,
        attempts: Vec<(u64, u32)>,
    },
    /// The group of the turn is held; `letter` has become a dead letter.
    Hold {
        turn: u64,
        letter: Option<u64>,
        held: HeldNote,
    },
    /// The turn is over, the messages have so many attempts, and the group rests until then, milliseconds since
    /// 1970. Of its first messages only these are suspect.
    Rest {
        turn: u64,
        until: i64,
        attempts: Vec<(u64, u32)>,
        suspects: Vec<u64>,
    },
    /// The turn is over.
    End { turn: u64 },
    /// Nothing was heard of the holder of a turn since it was extended for the time of this number.
    Expire { turn: u64, extends: u64 },
    /// A group is not held any more.
    Release { group: String },
    /// Somebody will move the messages of a dead-lettered group.
    Claim { group: String, consumer: u64 },
    /// Somebody will put the dead letters of a group back.
    Redrive { group: String, consumer: u64 },
    /// Its message, from the dead letter at this position, stands before everything that was not put back.
    Front { turn: u64, letter: u64 },
    /// All dead letters of the group are back.
    Redriven { turn: u64 },
    /// Nothing: who reads it back has read everything before it. What is due by now is due.
    Look {},
    /// This log is closed: what follows is void, and goes to the next one.
    Seal {},
    /// A part of the copy that begins a log. One that carries a message has only the piece of that.
    Part {
        copier: u64,
        index: u64,
        pieces: Vec<Piece>,
    },
    /// The copy of this copier is complete.
    Opened { copier: u64, parts: u64 },
}

/// A part of what a log begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Piece {
    /// Everything that is one.
    Base(Base),
    Turn {
        turn: u64,
        of: super::groups::Right,
    },
    Seeker {
        consumer: u64,
        of: super::groups::Seeker,
    },
    Group {
        group: String,
        of: super::groups::Mark,
    },
    Held {
        group: String,
        held: HeldNote,
    },
    Redriving {
        group: String,
        of: super::groups::Redriving,
    },
    Identity {
        identity: String,
        id: String,
        until: i64,
    },
    /// Its message.
    Message {
        number: u64,
        due: i64,
        at: i64,
        attempts: u32,
        suspect: bool,
    },
}

/// How and why a group is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeldNote {
    /// Its messages become dead letters.
    pub(crate) dead: bool,
    pub(crate) since: Timestamp,
    pub(crate) message_id: String,
    pub(crate) failure: Failure,
}

impl HeldNote {
    pub(crate) fn hold(&self) -> Hold {
        if self.dead {
            Hold::DeadLettered
        } else {
            Hold::Blocked
        }
    }
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It took effect.
    Took,
    /// A turn was given.
    Turn(u64),
    /// It changed nothing: the turn is not there any more, or there is nothing to do.
    Refused,
    /// The group has a turn; try again.
    Busy,
    /// The identity is known, with this message.
    Duplicate(String),
    /// No more messages can be stored.
    Full,
    /// The log is closed, or not open yet.
    Closed,
}
