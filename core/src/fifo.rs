//! What to do with the turn of a group: the outcome table of the handler contract for messages in order.
//!
//! A turn holds the first messages of one group. They are handled from the front, and nothing behind a
//! message is settled before it: whatever a handler says, the messages before the first failure are
//! handled, the first failure is tried again or given up, and what is behind it waits.
//!
//! | the handler answers | [`Step`] |
//! |---|---|
//! | 2xx | all were handled |
//! | 2xx naming failures | those before the first failure were handled; it and all behind it come again |
//! | 429, 503; another 5xx with `Retry-After` | [`Then::LetGo`]: not an attempt, order is kept |
//! | a permanent status | [`Then::GiveUp`] |
//! | anything else | [`Then::Again`] after a pause, at last [`Then::GiveUp`] |
//!
//! The pause holds back everything behind the message. [`pause`] says how it is waited.
//!
//! # Who is to blame
//! A call of several messages that fails as a whole does not say which of them is at fault. Only the
//! first one gets an attempt for it, and then they are called one by one ([`Conduct`]), so that a message is
//! given up only for a call that was about it alone, or that named it. One bad message of a group costs
//! the good ones around it one more call, never their place and never their life.

use std::collections::VecDeque;
use std::time::Duration;

use crate::batch::BatchAnswer;
use crate::config::RetryConfig;
use crate::dead_letter::{Failure, Reason};
use crate::decide::{Attempt, Decision, Outcome, before_call, decide};
use crate::retry;

/// What to do before a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Call the handler with so many messages from the front, at least one.
    Call(usize),
    /// Give the first one up without a call.
    GiveUp(Failure),
}

/// What to do after a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// So many messages from the front were handled: remove them first.
    pub handled: usize,
    /// What is done with the others.
    pub then: Then,
}

/// What is done with the first message that was not handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Go on with what is there.
    GoOn,
    /// Call again after a pause, with nothing handled meanwhile.
    Again {
        /// Attempts of the first message from now on, to be made durable; `None` counts nothing.
        attempts: Option<u32>,
        /// From now.
        delay: Duration,
        /// So many messages from the front are to be called one by one.
        suspects: usize,
    },
    /// Give the first message up, as `whenExhausted` says.
    GiveUp(Failure),
    /// The handler is full: let the turn go, with nothing counted.
    LetGo {
        /// What the handler asked for.
        retry_after: Option<Duration>,
    },
}

/// How a pause between two calls is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Under the turn, which takes one of `concurrency.max`.
    InPlace(Duration),
    /// Without the turn: the group rests.
    Rest(Duration),
}

/// A pause as long as this is waited without the turn. To let a turn go and to take it again costs the
/// broker about ten small requests; a group that keeps its turn for less than this costs the others of a full
/// queue less than that does, and less than a call of a handler that has not answered yet.
pub const REST_FROM: Duration = Duration::from_secs(1);

/// How to wait before the next call, so that a group that fails again and again keeps no turn from another: a FIFO group of
/// SQS takes no concurrency while it waits for its visibility timeout.
pub fn pause(delay: Duration) -> Pause {
    if delay < REST_FROM {
        Pause::InPlace(delay)
    } else {
        Pause::Rest(delay)
    }
}

/// How the messages of a turn are called: several at once, or one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    /// So many messages from the front are called one by one.
    suspects: usize,
}

impl Conduct {
    /// For messages that were just handed out, each with whether it failed before, alone or with others:
    /// those at the front that did are called alone, because nobody knows any more what they failed with.
    pub fn of(failed: impl IntoIterator<Item = bool>) -> Self {
        let suspects = failed.into_iter().take_while(|failed| *failed).count();
        Self { suspects }
    }

    /// So many messages from the front are called one by one.
    pub fn suspects(&self) -> usize {
        self.suspects
    }

    /// Messages from the front were settled.
    pub fn settled(&mut self, count: usize) {
        self.suspects = self.suspects.saturating_sub(count);
    }

    /// The messages at the front failed together.
    pub fn suspect(&mut self, count: usize) {
        self.suspects = self.suspects.max(count);
    }

    /// Decides about the next call. `messages` are those of the turn, never empty; a message in front of
    /// one that is given up is called without it.
    pub fn before(&self, messages: &VecDeque<Attempt>, policy: &RetryConfig) -> Before {
        let over =
            |one: &Attempt| before_call(one.attempts_before, one.accepted_at, one.now, policy);
        if let Some(failure) = messages.front().and_then(over) {
            return Before::GiveUp(failure);
        }
        if self.suspects > 0 {
            return Before::Call(1);
        }
        let live = messages.iter().take_while(|one| over(one).is_none());
        Before::Call(live.count().max(1))
    }
}

/// Decides. `called` are the messages of the call with their `Weir-Id`, in order, never empty; `answer`
/// is what a 2xx answer says about them, for calls in batched mode.
pub fn after(
    called: &[(&str, Attempt)],
    outcome: &Outcome,
    answer: Option<&BatchAnswer>,
    policy: &RetryConfig,
) -> Step {
    let outcome = match answer {
        None => outcome.clone(),
        Some(BatchAnswer::AllSucceeded) => return all(called.len()),
        Some(BatchAnswer::Failed(ids)) => {
            let Some(first) = called.iter().position(|(id, _)| ids.contains(*id)) else {
                return all(called.len());
            };
            let why = "named in batchItemFailures".to_owned();
            let decision = decide(called[first].1, &Outcome::FailedInBatch { why }, policy);
            return Step {
                handled: first,
                then: alone(decision),
            };
        }
        Some(BatchAnswer::WholeBatchFailed { why }) => Outcome::FailedInBatch { why: why.clone() },
    };
    let Some((_, first)) = called.first() else {
        return all(0);
    };
    let decision = decide(*first, &outcome, policy);
    match decision {
        Decision::Ack => all(called.len()),
        decision if called.len() == 1 => Step {
            handled: 0,
            then: alone(decision),
        },
        decision => Step {
            handled: 0,
            then: together(decision, called.len(), first, policy),
        },
    }
}

fn all(count: usize) -> Step {
    Step {
        handled: count,
        then: Then::GoOn,
    }
}

/// The decision was about the first message and no other.
fn alone(decision: Decision) -> Then {
    match decision {
        Decision::Ack => Then::GoOn,
        Decision::Retry { delay, attempts } => Then::Again {
            attempts: Some(attempts),
            delay,
            suspects: 0,
        },
        Decision::DeadLetter(failure) => Then::GiveUp(failure),
        Decision::GiveBack { retry_after } => Then::LetGo { retry_after },
    }
}

/// The decision was made for the first message on what was said of `count` of them.
fn together(decision: Decision, count: usize, first: &Attempt, policy: &RetryConfig) -> Then {
    match decision {
        Decision::Retry { delay, attempts } => Then::Again {
            attempts: Some(attempts),
            delay,
            suspects: count,
        },
        // Its last attempt is one of its own. Nothing is counted, or it would have none.
        Decision::DeadLetter(failure) => Then::Again {
            attempts: None,
            delay: match failure.reason {
                Reason::MaxAttempts => {
                    let attempts = first.attempts_before.saturating_add(1);
                    retry::delay(policy, attempts, first.random)
                }
                _ => Duration::ZERO,
            },
            suspects: count,
        },
        other => alone(other),
    }
}

#[cfg(test)]
mod tests;
