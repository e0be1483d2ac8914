//! One turn of a group, from its first call to its end.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use weir_broker::BrokerError;
use weir_broker::fifo::{Turn, TurnLease, TurnMessage};
use weir_core::config::WhenExhausted;
use weir_core::dead_letter::Failure;
use weir_core::decide::{Attempt, Outcome};
use weir_core::fifo::{Before, Conduct, Pause, Then, after, pause};

use super::{Ask, Done, Go};
use crate::consumer::delivery::{count_retries, dead_letters, state, tell_given_up, tell_lost};
use crate::consumer::hold::{During, Hold, Lost, Renew};
use crate::consumer::{Context, InFlight, Verdict, exchange};
use crate::metrics::Processed;
use crate::objects::Shared;

impl Renew for Arc<dyn TurnLease> {
    fn renew(&self) -> Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send + '_>> {
        self.extend()
    }
}

/// Works a turn off: calls the handler with its messages until the group has no more, has had its
/// share, is given up, or the turn is let go. Hands back the slot of its last call.
pub async fn work_off(
    ask: mpsc::UnboundedSender<Ask>,
    go: Go,
    turn: Turn,
    received: Instant,
) -> Option<Done> {
    let Go { slot, context } = go;
    let lease = turn.lease.clone();
    let mut hold = Hold::new(&lease, context.lease(), received);
    let mut held = Held {
        shared: context.shared.clone(),
        lease: lease.clone(),
        group: turn.group,
        messages: VecDeque::new(),
        conduct: Conduct::default(),
        done: None,
        ask,
    };
    held.receive(turn.messages);
    let first = held.first_id();
    let result = held.run(Go { slot, context }, &mut hold).await;
    if result.is_err() {
        tell_lost(&held.shared, &first);
    }
    held.done.take()
}

/// Lets a turn go that cannot be started now. Best effort: else its lease ends.
pub async fn let_go(shared: Arc<Shared>, lease: Duration, turn: Turn, received: Instant) {
    let mut hold = Hold::new(&turn.lease, lease, received);
    if hold.insist(|| turn.lease.end()).await.is_err() {
        let first = turn.messages.first();
        tell_lost(&shared, first.map_or("", |held| &held.message.id));
    }
}

/// A turn that is held.
struct Held {
    shared: Arc<Shared>,
    lease: Arc<dyn TurnLease>,
    group: String,
    /// Those that are not settled, from the front.
    messages: VecDeque<(TurnMessage, InFlight)>,
    conduct: Conduct,
    /// The last call, not yet told to the engine.
    done: Option<Done>,
    ask: mpsc::UnboundedSender<Ask>,
}

/// How a turn goes on.
enum Next {
    /// At once.
    Now,
    /// After a pause.
    After(Duration),
    /// It has ended.
    Over,
}

impl Held {
    fn receive(&mut self, messages: Vec<TurnMessage>) {
        let failed = messages
            .iter()
            .map(|held| held.attempts > 0 || held.suspect);
        self.conduct = Conduct::of(failed);
        let counted = messages
            .into_iter()
            .map(|held| (held, InFlight::new(&self.shared)));
        self.messages = counted.collect();
    }

    fn first_id(&self) -> String {
        let first = self.messages.front();
        first.map_or_else(String::new, |(held, _)| held.message.id.clone())
    }

    async fn run(&mut self, first: Go, hold: &mut Hold<'_>) -> Result<(), Lost> {
        let mut context = first.context;
        let mut slot = Some(first.slot);
        loop {
            if self.messages.is_empty() {
                let lease = &self.lease;
                let (more, failures) = hold.ask(|| lease.more()).await?;
                count_retries(&context, failures);
                match more {
                    Some(messages) if !messages.is_empty() => self.receive(messages),
                    _ => return self.keep(slot),
                }
            }
            if context.stop.is_cancelled() {
                self.keep(slot)?;
                return self.end(&context, hold).await;
            }
            let next = match self.before(&context) {
                Before::GiveUp(failure) => self.give_up(&context, failure, hold).await?,
                Before::Call(count) => {
                    let own = match slot.take() {
                        Some(slot) => slot,
                        None => match self.slot(hold).await? {
                            Some(go) => {
                                context = go.context;
                                go.slot
                            }
                            None => return self.end(&context, hold).await,
                        },
                    };
                    // Whatever happens now, the slot goes back.
                    self.done = Some((own, Verdict::Other));
                    self.call(&context, count, hold).await?
                }
            };
            match next {
                Next::Now => {}
                Next::Over => return self.keep(slot),
                Next::After(delay) => {
                    self.keep(slot.take())?;
                    self.tell();
                    let stop = context.stop.clone();
                    let pause = async {
                        tokio::select! {
                            () = sleep(delay) => {}
                            () = stop.cancelled() => {}
                        }
                    };
                    if !matches!(hold.during(pause, None).await, During::Done(())) {
                        return Err(Lost);
                    }
                }
            }
        }
    }

    /// A slot that was not used says nothing.
    #[allow(clippy::unnecessary_wraps, reason = "reads well at the end of `run`")]
    fn keep(&mut self, slot: Option<weir_core::gate::Slot>) -> Result<(), Lost> {
        if let Some(slot) = slot {
            self.done = Some((slot, Verdict::Other));
        }
        Ok(())
    }

    /// Tells the engine how the last call ended, which frees its slot.
    fn tell(&mut self) {
        if let Some(done) = self.done.take() {
            let done = Some(done);
            let _ = self.ask.send(Ask { done, reply: None });
        }
    }

    /// Waits for a slot; `None` when no call is to be made any more.
    async fn slot(&mut self, hold: &mut Hold<'_>) -> Result<Option<Go>, Lost> {
        let (reply, mut slot) = oneshot::channel();
        let (done, reply) = (self.done.take(), Some(reply));
        if self.ask.send(Ask { done, reply }).is_err() {
            return Ok(None);
        }
        match hold.during(&mut slot, None).await {
            During::Done(go) => Ok(go.ok()),
            During::Late | During::Lost => {
                // It may have come in the last moment.
                slot.close();
                if let Ok(go) = slot.try_recv() {
                    self.done = Some((go.slot, Verdict::Other));
                }
                Err(Lost)
            }
        }
    }

    fn states(&self, context: &Context) -> VecDeque<Attempt> {
        let states = self
            .messages
            .iter()
            .map(|(held, _)| state(context, held.attempts, held.message.accepted_at));
        states.collect()
    }

    fn before(&self, context: &Context) -> Before {
        self.conduct
            .before(&self.states(context), &context.consumer().retry)
    }

    /// Calls the handler with the first `count` messages and settles what it says about them.
    async fn call(
        &mut self,
        context: &Context,
        count: usize,
        hold: &mut Hold<'_>,
    ) -> Result<Next, Lost> {
        let lease = &self.lease;
        count_retries(context, hold.insist(|| lease.begin()).await?);
        let began = Instant::now();
        let called: Vec<&TurnMessage> = self.messages.iter().take(count).map(|it| &it.0).collect();
        let (outcome, answer) = if context.config.queue.batch_max > 1 {
            let messages: Vec<_> = called
                .iter()
                .map(|held| (&held.message, held.attempts))
                .collect();
            let (outcome, answer) = exchange::batch(context, &messages, hold).await?;
            exchange::judge(&context.shared, answer.as_ref());
            (outcome, answer)
        } else {
            let Some(first) = called.first() else {
                return Ok(Next::Now);
            };
            let outcome = exchange::single(context, &first.message, first.attempts, hold).await?;
            (outcome, None)
        };
        context.observe(&outcome, began.elapsed());
        let states: Vec<(&str, Attempt)> = called
            .iter()
            .map(|held| {
                let message = &held.message;
                let state = state(context, held.attempts, message.accepted_at);
                (message.id.as_str(), state)
            })
            .collect();
        let step = after(
            &states,
            &outcome,
            answer.as_ref(),
            &context.consumer().retry,
        );
        if matches!(
            outcome,
            Outcome::Answered {
                status: 200..=299,
                ..
            }
        ) {
            self.say(Verdict::Succeeded);
        }
        self.handled(context, step.handled, hold).await?;
        match step.then {
            Then::GoOn => Ok(Next::Now),
            Then::Again {
                attempts,
                delay,
                suspects,
            } => {
                self.conduct.suspect(suspects);
                match pause(delay) {
                    Pause::Rest(delay) => {
                        self.rest(context, attempts, delay, hold).await?;
                        Ok(Next::Over)
                    }
                    Pause::InPlace(delay) => {
                        if let Some(attempts) = attempts {
                            self.count(context, attempts, hold).await?;
                        }
                        Ok(Next::After(delay))
                    }
                }
            }
            Then::GiveUp(failure) => self.give_up(context, failure, hold).await,
            Then::LetGo { retry_after } => {
                context.shared.metrics.throttled.inc_by(count as u64);
                // The gate closes before the broker can send the same turn again.
                self.say(Verdict::Refused { retry_after });
                self.tell();
                self.end(context, hold).await?;
                Ok(Next::Over)
            }
        }
    }

    fn say(&mut self, verdict: Verdict) {
        if let Some((_, said)) = &mut self.done {
            *said = verdict;
        }
    }

    async fn handled(
        &mut self,
        context: &Context,
        count: usize,
        hold: &mut Hold<'_>,
    ) -> Result<(), Lost> {
        if count == 0 {
            return Ok(());
        }
        let lease = &self.lease;
        count_retries(context, hold.insist(|| lease.ack(count)).await?);
        for _ in self.messages.drain(..count.min(self.messages.len())) {
            context.shared.metrics.processed(Processed::Acked);
        }
        self.conduct.settled(count);
        Ok(())
    }

    async fn count(
        &mut self,
        context: &Context,
        attempts: u32,
        hold: &mut Hold<'_>,
    ) -> Result<(), Lost> {
        let (lease, counted) = (&self.lease, [attempts]);
        count_retries(context, hold.insist(|| lease.count(&counted)).await?);
        context.shared.metrics.processed(Processed::Retried);
        if let Some((first, _)) = self.messages.front_mut() {
            first.attempts = attempts;
        }
        Ok(())
    }

    /// Ends the turn until the next attempt.
    async fn rest(
        &mut self,
        context: &Context,
        attempts: Option<u32>,
        delay: Duration,
        hold: &mut Hold<'_>,
    ) -> Result<(), Lost> {
        // The slot is free for others while this is made durable.
        self.tell();
        let (lease, counted, suspects) = (
            &self.lease,
            Vec::from_iter(attempts),
            self.conduct.suspects(),
        );
        let rested = hold.insist(|| lease.rest(delay, &counted, suspects));
        count_retries(context, rested.await?);
        if attempts.is_some() {
            context.shared.metrics.processed(Processed::Retried);
        }
        Ok(())
    }

    /// Gives the first message up, and what the object says with it.
    async fn give_up(
        &mut self,
        context: &Context,
        failure: Failure,
        hold: &mut Hold<'_>,
    ) -> Result<Next, Lost> {
        let (shared, lease, id) = (&context.shared, &self.lease, self.first_id());
        let exhausted = context.consumer().when_exhausted;
        let failures = hold
            .insist(|| async {
                let stored = match exhausted {
                    WhenExhausted::DeadLetter => lease.dead_letter(&failure).await,
                    WhenExhausted::DeadLetterGroup => lease.dead_letter_group(&failure).await,
                    WhenExhausted::BlockGroup => lease.block_group(&failure).await,
                };
                dead_letters(shared, stored.as_ref().err());
                stored
            })
            .await?;
        count_retries(context, failures);
        let consequence = match exhausted {
            WhenExhausted::DeadLetter => {
                tell_given_up(shared, &id, &failure);
                shared.metrics.processed(Processed::DeadLettered);
                self.messages.pop_front();
                self.conduct.settled(1);
                return Ok(Next::Now);
            }
            WhenExhausted::DeadLetterGroup => {
                shared.metrics.processed(Processed::DeadLettered);
                "everything of the group becomes dead letters until it is released"
            }
            WhenExhausted::BlockGroup => "the group is blocked until it is released",
        };
        if shared.may_log() {
            tracing::warn!(
                object = %shared.key,
                id,
                group = self.group,
                reason = failure.reason.as_str(),
                "{consequence}: {}",
                failure.message
            );
        }
        Ok(Next::Over)
    }

    async fn end(&mut self, context: &Context, hold: &mut Hold<'_>) -> Result<(), Lost> {
        let lease = &self.lease;
        count_retries(context, hold.insist(|| lease.end()).await?);
        Ok(())
    }
}
