//! The loop of one consumer: who may start, and when to ask the broker for more.
//!
//! One round: take in whatever has happened, then ask once for as many messages as there are free
//! slots. What arrives without a slot (the gate closed meanwhile) goes back at once.

use std::sync::atomic::Ordering;

use futures::FutureExt;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use weir_broker::{BrokerError, Delivery};
use weir_core::gate::Slot;

use super::base::Base;
use super::batch::{Collector, Signal};
use super::link::{Arrival, Link, Messages};
use super::{Engine, Verdict, delivery};
use crate::supervise::{RunError, TICK, panicked};

/// Messages of one round: others want to run, too.
const MOST_IN_A_ROUND: usize = 64;

/// What a task of the engine hands back.
type Ended = (Option<Slot>, Verdict);

/// What has happened.
enum Event {
    Spec,
    Stop,
    Ready,
    Link(Result<Arrival<Messages, Delivery>, BrokerError>),
    Ended(Result<Ended, JoinError>),
    Probe(Result<(), JoinError>),
    Batch(Signal),
    Wake,
}

/// Runs an engine until it is told to stop and everything that runs has ended.
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
    link: Link<Messages>,
    running: JoinSet<Ended>,
    collector: Option<Collector>,
    signals: tokio::sync::mpsc::Receiver<Signal>,
    signal: tokio::sync::mpsc::Sender<Signal>,
    stop_seen: bool,
    /// The open consumer is of a queue that was replaced.
    stale: bool,
}

impl Work {
    fn new(engine: Engine) -> Self {
        let (signal, signals) = tokio::sync::mpsc::channel(8);
        Self {
            base: Base::new(engine),
            link: Link::closed(Instant::now()),
            running: JoinSet::new(),
            collector: None,
            signals,
            signal,
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
        if !wants_open || stale {
            self.collector = None;
        }
        let wanted = queue.as_ref().filter(|_| wants_open && !stale);
        let link = std::mem::replace(&mut self.link, Link::closed(Instant::now()));
        self.link = link.advance(wanted).await;
        self.ask();
        self.base.show(self.link.is_open());
    }

    /// Asks for as many messages as can be started at once.
    fn ask(&mut self) {
        let now = self.base.now();
        let allowance = self.base.gate.allowance(now);
        let Some(context) = self.base.context.clone() else {
            self.collector = None;
            return;
        };
        let Link::Open(Messages(consumer)) = &mut self.link else {
            // Dropping it gives back what it has gathered.
            self.collector = None;
            return;
        };
        let batch_max = context.config.queue.batch_max as usize;
        if batch_max <= 1 {
            let free = allowance.saturating_sub(consumer.wanted());
            if free > 0 {
                consumer.want(free);
            }
            return;
        }
        if self.base.gate.next_wake(now).is_some() {
            self.collector = None;
        } else if let Some(collector) = &self.collector {
            let free = collector.wants().saturating_sub(consumer.wanted());
            if free > 0 {
                consumer.want(free);
            }
        } else if allowance > 0
            && let Some(queue) = self.base.queue()
            && let Some(slot) = self.base.gate.start(now)
        {
            let (collector, task) =
                Collector::start(context, queue, batch_max, self.signal.clone());
            self.running.spawn(async move { (Some(slot), task.await) });
            self.collector = Some(collector);
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
            Some(signal) = self.signals.recv() => Event::Batch(signal),
            Ok(()) = self.base.engine.spec.changed() => Event::Spec,
            Ok(()) = self.base.ready.changed() => Event::Ready,
            Some(ended) = self.base.probe.join_next() => Event::Probe(ended),
            () = self.base.engine.stop.cancelled(), if !self.stop_seen => Event::Stop,
            () = sleep_until(wake) => Event::Wake,
        }
    }

    /// Takes in everything else that is there already, so that one round, with one request for all
    /// free slots, serves many messages.
    fn take_in_all(&mut self) -> Result<(), RunError> {
        while let Some(ended) = self.running.try_join_next() {
            self.take_in(Event::Ended(ended))?;
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
            Event::Link(Ok(Arrival::Item(message))) => self.start(message),
            Event::Link(Ok(Arrival::End)) => self.link = Link::closed(Instant::now()),
            Event::Link(Err(error)) => self.link = Link::closed(self.base.backed_off(&error)),
            Event::Ended(Ok((slot, verdict))) => self.release(slot, verdict),
            Event::Ended(Err(error)) => {
                return Err(panicked(
                    &format!("call of {}", self.base.engine.shared.key),
                    error,
                ));
            }
            Event::Probe(Err(error)) if error.is_panic() => {
                return Err(panicked("readiness", error));
            }
            // `advance` looks at what these say. A probe that has ended was called off.
            Event::Ready | Event::Wake | Event::Probe(_) | Event::Batch(Signal::Permitted) => {}
            Event::Batch(Signal::Gathered) => self.collector = None,
            Event::Batch(Signal::Failed(error)) => {
                self.collector = None;
                self.link = Link::closed(self.base.backed_off(&error));
            }
        }
        Ok(())
    }

    /// A new configuration: the consumer is replaced only when its queue is another one.
    fn respecify(&mut self) {
        // A batch that is being gathered has the old configuration.
        self.collector = None;
        if !self.base.respecify() {
            return;
        }
        match self.link {
            Link::Opening(_) => self.link = Link::closed(Instant::now()),
            Link::Open(_) => self.stale = true,
            Link::Closed { .. } | Link::Stopping { .. } => {}
        }
    }

    /// Starts a message, or puts it back when there is no slot for it any more.
    fn start(&mut self, message: Delivery) {
        let received = Instant::now();
        self.base
            .engine
            .shared
            .traffic
            .store(true, Ordering::Relaxed);
        // What has happened since the last round counts: a handler that has just crashed, a stop.
        let open = self.link.is_open() && self.base.wants_open();
        let context = match &self.base.context {
            Some(context) => context.clone(),
            None => return self.give_back(message, received),
        };
        let message = match &mut self.collector {
            Some(collector) if open => match collector.offer(&context, message, received) {
                Ok(()) => return,
                Err(message) => message,
            },
            _ if open && context.config.queue.batch_max <= 1 => {
                if let Some(slot) = self.base.gate.start(self.base.now()) {
                    self.running.spawn(async move {
                        (
                            Some(slot),
                            delivery::deliver(context, message, received).await,
                        )
                    });
                    return;
                }
                message
            }
            _ => message,
        };
        self.give_back(message, received);
    }

    fn give_back(&mut self, message: Delivery, received: Instant) {
        let shared = self.base.engine.shared.clone();
        let lease = self.base.lease();
        self.running.spawn(async move {
            delivery::give_back(shared, lease, message, received).await;
            (None, Verdict::Other)
        });
    }

    fn release(&mut self, slot: Option<Slot>, verdict: Verdict) {
        if let Some(slot) = slot {
            self.base.release(slot, verdict);
        }
    }
}
