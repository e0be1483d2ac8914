//! One message from delivery to settlement.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use weir_broker::{BrokerError, Delivery, Lease};
use weir_core::dead_letter::Failure;
use weir_core::decide::{Attempt, Decision, before_call, decide};

use super::hold::{Hold, Lost, Renew};
use super::{Context, InFlight, Verdict, exchange};
use crate::metrics::Processed;
use crate::objects::{Problem, Shared};

impl Renew for Arc<dyn Lease> {
    fn renew(&self) -> Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send + '_>> {
        self.extend()
    }
}

/// Handles one message that has a slot.
pub async fn deliver(context: Arc<Context>, delivery: Delivery, received: Instant) -> Verdict {
    let in_flight = InFlight::new(&context.shared);
    let mut hold = Hold::new(&delivery.lease, context.lease(), received);
    let verdict = handle(&context, &delivery, &mut hold).await;
    if verdict.is_err() {
        lost(&context.shared, &delivery);
    }
    drop(in_flight);
    verdict.unwrap_or(Verdict::Other)
}

/// Puts a message back that cannot be started now. Best effort: else its lease ends.
pub async fn give_back(
    shared: Arc<Shared>,
    lease: Duration,
    delivery: Delivery,
    received: Instant,
) {
    let in_flight = InFlight::new(&shared);
    let mut hold = Hold::new(&delivery.lease, lease, received);
    if hold.insist(|| delivery.lease.give_back()).await.is_err() {
        lost(&shared, &delivery);
    }
    drop(in_flight);
}

async fn handle(
    context: &Context,
    delivery: &Delivery,
    hold: &mut Hold<'_>,
) -> Result<Verdict, Lost> {
    if context.stop.is_cancelled() {
        settle(
            context,
            delivery,
            hold,
            Decision::GiveBack { retry_after: None },
        )
        .await?;
        return Ok(Verdict::Other);
    }
    let now = context.clock.now();
    let retry = &context.consumer().retry;
    let accepted_at = delivery.message.accepted_at;
    if let Some(failure) = before_call(delivery.attempts, accepted_at, now, retry) {
        settle(context, delivery, hold, Decision::DeadLetter(failure)).await?;
        return Ok(Verdict::Other);
    }
    count_retries(context, hold.insist(|| delivery.lease.begin()).await?);
    let began = Instant::now();
    let outcome = exchange::single(context, &delivery.message, delivery.attempts, hold).await?;
    context.observe(&outcome, began.elapsed());
    let decision = decide(attempt(context, delivery), &outcome, retry);
    let verdict = match &decision {
        Decision::Ack => Verdict::Succeeded,
        Decision::GiveBack { retry_after } => {
            context.shared.metrics.throttled.inc();
            Verdict::Refused {
                retry_after: *retry_after,
            }
        }
        Decision::Retry { .. } | Decision::DeadLetter(_) => Verdict::Other,
    };
    settle(context, delivery, hold, decision).await?;
    Ok(verdict)
}

/// The state of a message at the end of its call.
pub fn attempt(context: &Context, delivery: &Delivery) -> Attempt {
    state(context, delivery.attempts, delivery.message.accepted_at)
}

/// The state of a message now.
pub fn state(context: &Context, attempts_before: u32, accepted_at: Timestamp) -> Attempt {
    Attempt {
        attempts_before,
        accepted_at,
        now: context.clock.now(),
        random: fastrand::f64(),
    }
}

/// Does what was decided, as often as it takes.
pub async fn settle(
    context: &Context,
    delivery: &Delivery,
    hold: &mut Hold<'_>,
    decision: Decision,
) -> Result<(), Lost> {
    let lease = &delivery.lease;
    let (failures, processed) = match &decision {
        Decision::Ack => (hold.insist(|| lease.ack()).await?, Some(Processed::Acked)),
        Decision::Retry { delay, attempts } => (
            hold.insist(|| lease.retry(*delay, *attempts)).await?,
            Some(Processed::Retried),
        ),
        Decision::DeadLetter(failure) => {
            let failures = hold
                .insist(|| async {
                    let stored = lease.dead_letter(failure).await;
                    dead_letters(&context.shared, stored.as_ref().err());
                    stored
                })
                .await?;
            tell_given_up(&context.shared, &delivery.message.id, failure);
            (failures, Some(Processed::DeadLettered))
        }
        Decision::GiveBack { .. } => (hold.insist(|| lease.give_back()).await?, None),
    };
    count_retries(context, failures);
    if let Some(processed) = processed {
        context.shared.metrics.processed(processed);
    }
    Ok(())
}

/// Says that a message was given up.
pub fn tell_given_up(shared: &Shared, id: &str, failure: &Failure) {
    if shared.may_log() {
        tracing::warn!(
            object = %shared.key,
            id,
            reason = failure.reason.as_str(),
            attempts = failure.attempts,
            status = failure.last_status,
            "dead letter: {}",
            failure.message
        );
    }
}

pub fn count_retries(context: &Context, failures: u32) {
    if failures > 0 {
        context
            .shared
            .metrics
            .settle_retries
            .inc_by(failures.into());
    }
}

/// While dead letters cannot be stored, their messages are held and nothing is lost; a human should
/// know.
pub fn dead_letters(shared: &Shared, error: Option<&BrokerError>) {
    let error = error.filter(|error| !matches!(error, BrokerError::LeaseOver { .. }));
    let problem = error.map(|error| Problem {
        reason: "DeadLettersBlocked",
        message: format!("a dead letter could not be stored, its message is held: {error}"),
    });
    shared.set_problem("deadLetters", problem);
}

/// Says that a delivery may be somebody else's.
pub fn lost(shared: &Shared, delivery: &Delivery) {
    tell_lost(shared, &delivery.message.id);
}

/// Says that what begins with message `id` may be somebody else's.
pub fn tell_lost(shared: &Shared, id: &str) {
    shared.metrics.leases_lost.inc();
    if shared.may_log() {
        tracing::warn!(
            object = %shared.key,
            id,
            "lease lost: the broker delivers the message again"
        );
    }
}
