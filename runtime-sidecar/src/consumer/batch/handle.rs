//! One batch from its first call to the settlement of each message.

use std::future::Future;
use std::pin::Pin;

use futures::future::join_all;
use tokio::time::Instant;
use weir_broker::{BrokerError, Delivery, Permit};
use weir_core::decide::{Decision, Outcome, before_call, decide};

use super::Item;
use crate::consumer::delivery::{self, attempt, count_retries, lost};
use crate::consumer::hold::{During, Hold, Lost, Renew};
use crate::consumer::{Context, Verdict, exchange};

/// A batch that is being handled.
pub struct Batch {
    pub items: Vec<Item>,
    pub permit: Box<dyn Permit>,
}

impl Renew for Batch {
    fn renew(&self) -> Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send + '_>> {
        Box::pin(async {
            let leases = self.items.iter().map(|item| async {
                match item.delivery.lease.extend().await {
                    // One message that is somebody else's (or settled) does not spoil the others.
                    Err(BrokerError::LeaseOver { .. }) => Ok(()),
                    other => other,
                }
            });
            let leases = join_all(leases).await;
            self.permit.extend().await?;
            leases.into_iter().collect()
        })
    }
}

/// Calls the handler once and settles every message.
pub async fn handle(context: &Context, held: &Batch, hold: &mut Hold<'_>) -> Result<Verdict, Lost> {
    let now = context.clock.now();
    let retry = &context.consumer().retry;
    let mut decisions = Vec::with_capacity(held.items.len());
    let mut called = Vec::with_capacity(held.items.len());
    for item in &held.items {
        let accepted_at = item.delivery.message.accepted_at;
        match before_call(item.delivery.attempts, accepted_at, now, retry) {
            Some(failure) => decisions.push((&item.delivery, Decision::DeadLetter(failure))),
            None => called.push(&item.delivery),
        }
    }
    let mut verdict = Verdict::Other;
    if context.stop.is_cancelled() {
        let back = Decision::GiveBack { retry_after: None };
        decisions.extend(called.drain(..).map(|delivery| (delivery, back.clone())));
    }
    if !called.is_empty() {
        begin(context, &called, hold).await?;
        let began = Instant::now();
        let messages: Vec<_> = called
            .iter()
            .map(|delivery| (&delivery.message, delivery.attempts))
            .collect();
        let (outcome, answer) = exchange::batch(context, &messages, hold).await?;
        exchange::judge(&context.shared, answer.as_ref());
        let took = began.elapsed();
        context.observe(&outcome, took);
        for delivery in called {
            let why = answer
                .as_ref()
                .and_then(|answer| answer.why_failed(&delivery.message.id));
            let decision = match why {
                Some(why) => {
                    let outcome = Outcome::FailedInBatch { why };
                    decide(attempt(context, delivery), &outcome, retry)
                }
                None => decide(attempt(context, delivery), &outcome, retry),
            };
            decisions.push((delivery, decision));
        }
        verdict = match outcome {
            Outcome::Answered {
                status: 200..=299, ..
            } => Verdict::Succeeded,
            _ => decisions
                .iter()
                .find_map(|(_, decision)| match decision {
                    Decision::GiveBack { retry_after } => Some(Verdict::Refused {
                        retry_after: *retry_after,
                    }),
                    _ => None,
                })
                .unwrap_or(Verdict::Other),
        };
        if matches!(verdict, Verdict::Refused { .. }) {
            context
                .shared
                .metrics
                .throttled
                .inc_by(decisions.len() as u64);
        }
    }
    settle(context, decisions, hold).await?;
    Ok(verdict)
}

async fn begin(context: &Context, called: &[&Delivery], hold: &mut Hold<'_>) -> Result<(), Lost> {
    let failures = hold
        .insist(|| async {
            let begun = join_all(called.iter().map(|delivery| delivery.lease.begin())).await;
            begun.into_iter().collect()
        })
        .await?;
    count_retries(context, failures);
    Ok(())
}

/// Settles all of them; what cannot be settled does not keep the others.
async fn settle(
    context: &Context,
    decisions: Vec<(&Delivery, Decision)>,
    hold: &mut Hold<'_>,
) -> Result<(), Lost> {
    let settlements = decisions.into_iter().map(|(message, decision)| async move {
        // The batch's heartbeat goes on around all of them, so each has a full lease from here.
        let mut own = Hold::new(&message.lease, context.lease(), Instant::now());
        if delivery::settle(context, message, &mut own, decision)
            .await
            .is_err()
        {
            lost(&context.shared, message);
        }
    });
    match hold.during(join_all(settlements), None).await {
        During::Done(_) => Ok(()),
        During::Late | During::Lost => Err(Lost),
    }
}
