//! What to do after a handler was called: the outcome table of the handler contract, as one function.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::RetryConfig;
use crate::dead_letter::Failure;

/// What happened when a handler was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Answered {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, already turned into a span of time.
        retry_after: Option<Duration>,
        /// The beginning of the answer's body.
        answer: String,
    },
    /// A 2xx answer to a batch that names this message as failed, or that cannot be trusted.
    FailedInBatch {
        /// For people: `named in batchItemFailures`, `answer is not JSON`.
        why: String,
    },
    /// No answer within the time allowed.
    TimedOut {
        /// The time allowed.
        after: Duration,
    },
    /// No connection, or the connection ended before an answer.
    Unreachable {
        /// For people: `connection refused`.
        why: String,
    },
}

/// What is done with the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was handled: remove it.
    Ack,
    /// Store it durably for later; no slot is held.
    Retry {
        /// From now.
        delay: Duration,
        /// Attempts that have counted so far, this one included.
        attempts: u32,
    },
    /// Store it as a dead letter, then remove it.
    DeadLetter(Failure),
    /// Put it back at once; nothing is counted. The replica closes its gate.
    GiveBack {
        /// What the handler asked for.
        retry_after: Option<Duration>,
    },
}

/// The message's state when the call was made.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Attempts that had counted before this call.
    pub attempts_before: u32,
    /// When the message was accepted.
    pub accepted_at: Timestamp,
    /// When the call ended.
    pub now: Timestamp,
    /// Uniform in `0.0..1.0`, for the jitter of a retry.
    pub random: f64,
}

/// Decides. Total: every outcome has one decision.
pub fn decide(_attempt: Attempt, _outcome: &Outcome, _policy: &RetryConfig) -> Decision {
    todo!()
}
