//! The loop of one consumer of a queue that keeps order: which turns may call, and when to ask for more.
//!
//! As [`engine`](super::engine), with turns of groups in place of messages. A turn is a task that calls its
//! handler again and again: with the next messages of its group, or with the same ones after a pause.
//! For each call it asks here for a slot, and it has none while it pauses, so that a group that
//! fails takes no call of this process from another.

mod turn;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use weir_broker::BrokerError;
use weir_broker::fifo::Turn;
use weir_core::gate::Slot;

use super::base::Base;
use super::link::{Arrival, Link, Turns};
use super::{Context, Engine, Verdict};
use crate::supervise::{RunError, TICK, panicked};

/// Turns of one round: others want to run, too.
const MOST_IN_A_ROUND: usize = 64;

/// Turns that this process holds at once for each call that it may make: those that pause hold no slot,
/// but their messages are in memory.
const HELD_FOR_A_CALL: usize = 8;

/// Fewest turns that may be held.
const LEAST_HELD: usize = 64;

/// A call that has ended and what it said.
type Done = (Slot, Verdict);

/// What a turn asks its engine for.
pub struct Ask {
    /// The call before this.
    done: Option<Done>,
    /// Where to send a slot for the next one. Dropped when there is to be none.
    reply: Option<oneshot::Sender<Go>>,
}

/// The right to make one call.
pub struct Go {
    slot: Slot,
    context: Arc<Context>,
}

/// What has happened.
enum Event {
    Spec,
    Stop,
    Ready,
    Link(Result<Arrival<Turns, Turn>, BrokerError>),
    Ended(Result<Option<Done>, JoinError>),
    Probe(Result<(), JoinError>),
    Ask(Ask),
    Wake,
}

/// Runs an engine until it is told to stop and every turn has ended.
pub async fn run(engine: Engine) -> Result<(), RunError> {
    let heart = engine.hearts.add(format!("consumer {}", engine.shared.key));
    let shared = engine.shared.clone();
    let stop = engine.stop.clone();
    let mut work = Work::new(engine);
    loop {
        work.advance().await;
        if stop.is_cancelled() && work.is_done() {
            break;
        }
        heart.beat();
        let event = work.event().await;
        work.take_in(event)?;
        work.take_in_all()?;
    }
    shared.consumer.pulling.store(false, Ordering::Relaxed);
    Ok(())
}

struct Work {
    base: Base,
    link: Link<Turns>,
    running: JoinSet<Option<Done>>,
    asks: mpsc::UnboundedReceiver<Ask>,
    /// Each turn has one question at most, so this is as bounded as the turns are.
    ask: mpsc::UnboundedSender<Ask>,
    /// Turns that wait for a slot, in the order in which they asked.
    waiting: VecDeque<oneshot::Sender<Go>>,
    stop_seen: bool,
    /// The open consumer is of a queue that was replaced.
    stale: bool,
}

impl Work {
    fn new(engine: Engine) -> Self {
        let (ask, asks) = mpsc::unbounded_channel();
        Self {
            base: Base::new(engine),
            link: Link::closed(Instant::now()),
            running: JoinSet::new(),
            asks,
            ask,
            waiting: VecDeque::new(),
            stop_seen: false,
            stale: false,
        }
    }

    fn is_done(&self) -> bool {
        self.running.is_empty() && self.link.is_closed()
    }

    /// Does what follows from what has happened.
    async fn advance(&mut self) {
        let queue = self.base.queue();
        let wants_open = self.base.wants_open();
        // An open consumer of a queue that was replaced is stopped first.
        let stale = std::mem::take(&mut self.stale) && self.link.is_open();
        let wanted = queue.as_ref().filter(|_| wants_open && !stale);
        let link = std::mem::replace(&mut self.link, Link::closed(Instant::now()));
        self.link = link.advance(wanted).await;
        self.admit(wants_open);
        self.want();
        self.base.show(self.link.is_open());
    }

    /// Gives slots to turns that wait for one. When no call may be made, they end instead.
    fn admit(&mut self, wants_open: bool) {
        let Some(context) = self.base.context.clone().filter(|_| wants_open) else {
            self.waiting.clear();
            return;
        };
        self.waiting.retain(|reply| !reply.is_closed());
        while !self.waiting.is_empty()
            && let Some(slot) = self.base.gate.start(self.base.now())
            && let Some(reply) = self.waiting.pop_front()
        {
            let context = context.clone();
            if let Err(Go { slot, .. }) = reply.send(Go { slot, context }) {
                self.base.gate.other_outcome(slot);
            }
        }
    }

    /// Asks for as many turns as can be started at once.
    fn want(&mut self) {
        let allowance = self.base.gate.allowance(self.base.now());
        let Some(context) = &self.base.context else {
            return;
        };
        let most = context.consumer().per_replica as usize;
        let most = most.saturating_mul(HELD_FOR_A_CALL).max(LEAST_HELD);
        let Link::Open(Turns(consumer)) = &mut self.link else {
            return;
        };
        let room = most.saturating_sub(self.running.len());
        let free = allowance.min(room).saturating_sub(consumer.wanted());
        if free > 0 && self.waiting.is_empty() {
            consumer.want(free);
        }
    }

    /// Waits for something to happen.
    async fn event(&mut self) -> Event {
        let mut wake = Instant::now() + TICK;
        if let Some(open) = self.base.next_wake() {
            wake = wake.min(open);
        }
        if let Some(link) = self.link.next_wake() {
            wake = wake.min(link);
        }
        tokio::select! {
            arrival = self.link.next() => Event::Link(arrival),
            Some(ended) = self.running.join_next() => Event::Ended(ended),
            Some(ask) = self.asks.recv() => Event::Ask(ask),
            Ok(()) = self.base.engine.spec.changed() => Event::Spec,
            Ok(()) = self.base.ready.changed() => Event::Ready,
            Some(ended) = self.base.probe.join_next() => Event::Probe(ended),
            () = self.base.engine.stop.cancelled(), if !self.stop_seen => Event::Stop,
            () = sleep_until(wake) => Event::Wake,
        }
    }

    /// Takes in everything else that is there already, so that one round serves many turns.
    fn take_in_all(&mut self) -> Result<(), RunError> {
        while let Some(ended) = self.running.try_join_next() {
            self.take_in(Event::Ended(ended))?;
        }
        for _ in 0..MOST_IN_A_ROUND {
            let Ok(ask) = self.asks.try_recv() else { break };
            self.take_in(Event::Ask(ask))?;
        }
        for _ in 0..MOST_IN_A_ROUND {
            let Some(arrival) = self.link.next().now_or_never() else {
                break;
            };
            self.take_in(Event::Link(arrival))?;
        }
        Ok(())
    }

    fn take_in(&mut self, event: Event) -> Result<(), RunError> {
        match event {
            Event::Stop => self.stop_seen = true,
            Event::Spec => self.respecify(),
            Event::Link(Ok(Arrival::Consumer(consumer))) => {
                self.base.consumable(None);
                self.link = Link::Open(consumer);
            }
            Event::Link(Ok(Arrival::Item(turn))) => self.start(turn),
            Event::Link(Ok(Arrival::End)) => self.link = Link::closed(Instant::now()),
            Event::Link(Err(error)) => self.link = Link::closed(self.base.backed_off(&error)),
            Event::Ask(Ask { done, reply }) => {
                self.release(done);
                self.waiting.extend(reply);
            }
            Event::Ended(Ok(done)) => self.release(done),
            Event::Ended(Err(error)) => {
                let turn = format!("turn of {}", self.base.engine.shared.key);
                return Err(panicked(&turn, error));
            }
            Event::Probe(Err(error)) if error.is_panic() => {
                return Err(panicked("readiness", error));
            }
            // `advance` looks at what these say. A probe that has ended was called off.
            Event::Ready | Event::Wake | Event::Probe(_) => {}
        }
        Ok(())
    }

    /// A new configuration: the consumer is replaced only when its queue is another one.
    fn respecify(&mut self) {
        if !self.base.respecify() {
            return;
        }
        match self.link {
            Link::Opening(_) => self.link = Link::closed(Instant::now()),
            Link::Open(_) => self.stale = true,
            Link::Closed { .. } | Link::Stopping { .. } => {}
        }
    }

    /// Starts a turn, or lets it go when there is no slot for it any more.
    fn start(&mut self, turn: Turn) {
        let received = Instant::now();
        self.base
            .engine
            .shared
            .traffic
            .store(true, Ordering::Relaxed);
        // What has happened since the last round counts: a handler that has just crashed, a stop.
        let open = self.link.is_open() && self.base.wants_open();
        if open
            && let Some(context) = self.base.context.clone()
            && let Some(slot) = self.base.gate.start(self.base.now())
        {
            let go = Go { slot, context };
            let ask = self.ask.clone();
            self.running.spawn(turn::work_off(ask, go, turn, received));
            return;
        }
        let shared = self.base.engine.shared.clone();
        let lease = self.base.lease();
        self.running.spawn(async move {
            turn::let_go(shared, lease, turn, received).await;
            None
        });
    }

    fn release(&mut self, done: Option<Done>) {
        if let Some((slot, verdict)) = done {
            self.base.release(slot, verdict);
        }
    }
}
