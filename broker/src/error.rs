//! What can go wrong with a broker.

use std::time::Duration;

/// Why a broker did not do what was asked. The message says what, where, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    /// No connection, or it ended. Trying again later is right.
    #[error("broker {servers} is not reachable: {why}")]
    Unreachable {
        /// The servers of the bus.
        servers: String,
        /// What the last try said.
        why: String,
    },
    /// No answer in time; it may or may not have been done. Every operation may be repeated.
    #[error("broker did not answer {operation} within {} ms", after.as_millis())]
    TimedOut {
        /// What was asked.
        operation: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The server is too old or lacks a feature that is needed.
    #[error("{server}: {why}")]
    Unsupported {
        /// Product and version found.
        server: String,
        /// What is missing and what to do.
        why: String,
    },
    /// A stream of this name exists and is somebody else's: it is not touched.
    #[error("{what} belongs to {owner}; rename the object or remove that stream")]
    Conflict {
        /// Which broker object.
        what: String,
        /// What its metadata says.
        owner: String,
    },
    /// Topology that should be there is not.
    #[error("{what} does not exist")]
    Missing {
        /// Which broker object.
        what: String,
    },
    /// The message is larger than the broker takes.
    #[error("message of {size} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// Size with headers.
        size: usize,
        /// Most that is taken.
        limit: usize,
    },
    /// No room: the queue's capacity or the broker's storage is used up.
    #[error("{what} is full")]
    Full {
        /// Which broker object.
        what: String,
    },
    /// The lease ran out before it was settled: the message is somebody else's by now, and nothing
    /// was done. Drop the delivery; do not repeat.
    #[error("the lease on message {id} is over; it is delivered again")]
    LeaseOver {
        /// Id of the message.
        id: String,
    },
    /// Any other refusal of the server.
    #[error("broker refused {operation}: {why}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// What it said.
        why: String,
    },
}

impl BrokerError {
    /// A short stable word for metrics, events and conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "BrokerUnreachable",
            Self::TimedOut { .. } => "BrokerTimeout",
            Self::Unsupported { .. } => "BrokerUnsupported",
            Self::Conflict { .. } => "TopologyConflict",
            Self::Missing { .. } => "TopologyMissing",
            Self::TooLarge { .. } => "MessageTooLarge",
            Self::Full { .. } => "QueueFull",
            Self::LeaseOver { .. } => "LeaseOver",
            Self::Refused { .. } => "BrokerRefused",
        }
    }

    /// Whether the same call may succeed later without a human.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Full { .. }
        )
    }
}
