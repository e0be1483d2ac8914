//! One call of a handler, for one message or for several, while what is leased is kept.

use tokio::time::Instant;
use weir_core::batch::{BatchAnswer, parse_event_answer};
use weir_core::cloudevents::{Contract, event_id};
use weir_core::decide::Outcome;
use weir_core::message::Message;

use super::Context;
use super::hold::{During, Hold, Lost};
use crate::call::{Answer, CallError, KEEP_BATCH, KEEP_SINGLE, request};
use crate::objects::{Problem, Shared};

/// Calls the handler with one message that had so many attempts.
pub async fn single(
    context: &Context,
    message: &Message,
    attempts: u32,
    hold: &mut Hold<'_>,
) -> Result<Outcome, Lost> {
    let timeout = context.timeout();
    let contract = contract(context, attempts);
    let request = request::single(
        &context.target,
        context.consumer().protocol,
        &context.shared.key,
        message,
        &contract,
    );
    let answer = context
        .target
        .call(request, KEEP_SINGLE, || context.clock.now());
    match hold.during(answer, Some(Instant::now() + timeout)).await {
        During::Done(answer) => Ok(outcome(answer)),
        During::Late => Ok(Outcome::TimedOut { after: timeout }),
        During::Lost => Err(Lost),
    }
}

/// Calls the handler with several messages, each with the attempts that it had. Also gives what a 2xx
/// answer says about them.
pub async fn batch(
    context: &Context,
    called: &[(&Message, u32)],
    hold: &mut Hold<'_>,
) -> Result<(Outcome, Option<BatchAnswer>), Lost> {
    let timeout = context.timeout();
    let attempts = called.iter().map(|(_, attempts)| *attempts).max();
    let contract = contract(context, attempts.unwrap_or_default());
    let messages = called
        .iter()
        .map(|(message, attempts)| (*message, attempts.saturating_add(1)));
    let request = request::batch(&context.target, &context.shared.key, messages, &contract);
    let answer = context
        .target
        .call(request, KEEP_BATCH, || context.clock.now());
    Ok(
        match hold.during(answer, Some(Instant::now() + timeout)).await {
            During::Done(answer) => {
                let parsed = parse(&answer, called);
                (outcome(answer), parsed)
            }
            During::Late => (Outcome::TimedOut { after: timeout }, None),
            During::Lost => return Err(Lost),
        },
    )
}

fn contract(context: &Context, attempts: u32) -> Contract {
    let now = context.clock.now();
    Contract {
        attempt: attempts.saturating_add(1),
        max_attempts: context.consumer().retry.max_attempts,
        deadline: now.saturating_add(context.timeout()).unwrap_or(now),
    }
}

/// What a call came to.
fn outcome(answer: Result<Answer, CallError>) -> Outcome {
    match answer {
        Ok(answer) => Outcome::Answered {
            status: answer.status,
            retry_after: answer.retry_after,
            // Nobody reads what came with a success.
            answer: match answer.status {
                200..=299 => String::new(),
                _ => String::from_utf8_lossy(&answer.body).into_owned(),
            },
        },
        Err(error) => Outcome::Unreachable {
            why: error.to_string(),
        },
    }
}

/// What a 2xx answer says about the messages; `None` for any other.
fn parse(answer: &Result<Answer, CallError>, called: &[(&Message, u32)]) -> Option<BatchAnswer> {
    let answer = answer
        .as_ref()
        .ok()
        .filter(|answer| (200..300).contains(&answer.status))?;
    if answer.truncated {
        let why = format!("the answer is longer than {KEEP_BATCH} bytes");
        return Some(BatchAnswer::WholeBatchFailed { why });
    }
    let ids: Vec<(String, String)> = called
        .iter()
        .map(|(message, _)| (message.id.clone(), event_id(message)))
        .collect();
    Some(parse_event_answer(&answer.body, &ids))
}

/// An answer that cannot be understood makes work for nothing until somebody corrects the handler.
pub fn judge(shared: &Shared, answer: Option<&BatchAnswer>) {
    let problem = match answer {
        None => return,
        Some(BatchAnswer::WholeBatchFailed { why }) => Some(Problem {
            reason: "BatchAnswerInvalid",
            message: format!("the whole batch is retried: {why}"),
        }),
        Some(_) => None,
    };
    shared.set_problem("batch", problem);
}
