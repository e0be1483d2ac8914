//! What to do after a handler was called: the outcome table of the handler contract, as one function.
//!
//! | the handler answers | decision |
//! |---|---|
//! | 2xx | [`Decision::Ack`], whatever else the answer says |
//! | 429 or 503; any other 5xx with `Retry-After` | [`Decision::GiveBack`]: not an attempt |
//! | one of `retry.permanentStatuses` | [`Decision::DeadLetter`], [`Reason::PermanentStatus`] |
//! | any other status, redirects included | [`Decision::Retry`], or the end of the message |
//! | nothing, too late, or `batchItemFailures` | the same |
//!
//! 429 and 503 are give-backs even when they are listed as permanent: a full handler says nothing
//! about the message. Any other status that is listed is permanent, with or without `Retry-After`.
//!
//! The age limit is checked against the *next* attempt (aws-semantics 2.6): a message whose retry
//! would be due at `accepted_at + maxAgeSeconds` or later is dead-lettered now, with what is known
//! now, instead of waiting for an attempt that will not be made.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::RetryConfig;
use crate::dead_letter::{Failure, Reason, kept_answer, one_line};
use crate::retry;

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
///
/// `max_attempts` of 0 is read as 1: a message that was tried once has had its attempt.
pub fn decide(attempt: Attempt, outcome: &Outcome, policy: &RetryConfig) -> Decision {
    if let Outcome::Answered {
        status,
        retry_after,
        ..
    } = outcome
    {
        match status {
            200..=299 => return Decision::Ack,
            429 | 503 => {
                return Decision::GiveBack {
                    retry_after: *retry_after,
                };
            }
            _ if policy.permanent_statuses.contains(status) => {
                return fail(
                    attempt,
                    outcome,
                    Reason::PermanentStatus,
                    &describe(outcome),
                );
            }
            500..=599 if retry_after.is_some() => {
                return Decision::GiveBack {
                    retry_after: *retry_after,
                };
            }
            _ => {}
        }
    }
    let attempts = attempt.attempts_before.saturating_add(1);
    if attempts >= policy.max_attempts {
        return fail(attempt, outcome, Reason::MaxAttempts, &describe(outcome));
    }
    let delay = retry::delay(policy, attempts, attempt.random);
    let due = age(attempt.accepted_at, attempt.now).saturating_add(delay);
    if due >= Duration::from_secs(policy.max_age_seconds) {
        let message = format!(
            "{}; the next attempt would be past maxAgeSeconds ({} s)",
            describe(outcome),
            policy.max_age_seconds
        );
        return fail(attempt, outcome, Reason::MaxAge, &message);
    }
    Decision::Retry { delay, attempts }
}

/// Whether a message must be given up before its handler is called, and why.
///
/// [`Reason::MaxAge`] when it is as old as `maxAgeSeconds` (it waited, or was given back, too long);
/// [`Reason::NoOutcome`] when `maxAttempts` attempts were counted and none of them ended, because the
/// processes that had the message died. The handler is not called in either case.
pub fn before_call(
    attempts_before: u32,
    accepted_at: Timestamp,
    now: Timestamp,
    policy: &RetryConfig,
) -> Option<Failure> {
    let (reason, message) = if attempts_before >= policy.max_attempts.max(1) {
        (
            Reason::NoOutcome,
            format!("{attempts_before} attempts ended without an outcome"),
        )
    } else if age(accepted_at, now) >= Duration::from_secs(policy.max_age_seconds) {
        (
            Reason::MaxAge,
            format!("older than maxAgeSeconds ({} s)", policy.max_age_seconds),
        )
    } else {
        return None;
    };
    Some(Failure {
        reason,
        attempts: attempts_before,
        failed_at: now,
        last_status: None,
        message,
        answer: String::new(),
    })
}

/// Time since acceptance; zero where the clock that accepted runs ahead of ours.
fn age(accepted_at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(accepted_at)).unwrap_or_default()
}

fn fail(attempt: Attempt, outcome: &Outcome, reason: Reason, message: &str) -> Decision {
    let (last_status, answer) = match outcome {
        Outcome::Answered { status, answer, .. } => (Some(*status), kept_answer(answer)),
        _ => (None, ""),
    };
    Decision::DeadLetter(Failure {
        reason,
        attempts: attempt.attempts_before.saturating_add(1),
        failed_at: attempt.now,
        last_status,
        message: one_line(message),
        answer: answer.to_owned(),
    })
}

/// One line for people.
fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered { status, .. } => format!("handler answered {status}"),
        Outcome::FailedInBatch { why } => format!("failed in a batch: {why}"),
        Outcome::TimedOut { after } if after.subsec_nanos() == 0 => {
            format!("no answer within {} s", after.as_secs())
        }
        Outcome::TimedOut { after } => format!("no answer within {} ms", after.as_millis()),
        Outcome::Unreachable { why } => format!("handler could not be reached: {why}"),
    }
}

#[cfg(test)]
mod tests;
