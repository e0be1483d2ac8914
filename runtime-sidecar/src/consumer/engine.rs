//! The loop of one consumer: who may start, and when to ask the broker for more.
//!
//! One round: take in whatever has happened, then ask once for as many messages as there are free
//! slots. What arrives without a slot (the gate closed meanwhile) goes back at once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use weir_broker::{BrokerError, Delivery};
use weir_core::config::TargetConfig;
use weir_core::gate::{Gate, Slot};

use super::batch::{Collector, Signal};
use super::link::{Arrival, Link};
use super::readiness::{self, Suspicion};
use super::{Context, Engine, Verdict, delivery, jittered};
use crate::call::Target;
use crate::objects::Problem;
use crate::supervise::{RunError, TICK, panicked};

/// Longest pause between two tries to consume a queue that cannot be consumed.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Messages of one round: others want to run, too.
const MOST_IN_A_ROUND: usize = 64;

/// What a task of the engine hands back.
type Ended = (Option<Slot>, Verdict);

/// What has happened.
enum Event {
    Spec,
    Stop,
    Ready,
    Link(Result<Arrival, BrokerError>),
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
    engine: Engine,
    context: Option<Arc<Context>>,
    ready: watch::Receiver<bool>,
    gate: Gate,
    start: Instant,
    link: Link,
    failures: u32,
    running: JoinSet<Ended>,
    probe: JoinSet<()>,
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
        let mut work = Self {
            context: None,
            ready: watch::Sender::new(false).subscribe(),
            gate: Gate::new(0),
            start: Instant::now(),
            link: Link::closed(Instant::now()),
            failures: 0,
            running: JoinSet::new(),
            probe: JoinSet::new(),
            collector: None,
            signals,
            signal,
            stop_seen: false,
            stale: false,
            engine,
        };
        work.configure();
        work
    }

    /// Takes a new configuration. Running calls keep theirs.
    fn configure(&mut self) {
        let spec = self.engine.spec.borrow_and_update().clone();
        let shared = &self.engine.shared;
        let consumer = spec
            .config
            .consumer
            .as_ref()
            .expect("only objects with a consumer come here");
        shared.metrics.limit.set(spec.config.queue.limit.into());
        self.gate.set_max(consumer.per_replica as usize);
        let before = self
            .context
            .as_ref()
            .map(|context| &context.consumer().target);
        if before == Some(&consumer.target) {
            let before = self.context.take().expect("compared above");
            self.context = Some(Arc::new(Context {
                shared: shared.clone(),
                config: spec.config,
                target: before.target.clone(),
                clock: before.clock.clone(),
                stop: before.stop.clone(),
                readiness: before.readiness.clone(),
            }));
            return;
        }
        self.probe.abort_all();
        let target = Target::new(&consumer.target, self.engine.egress.clone());
        shared.set_problem(
            "target",
            target.as_ref().err().map(|error| Problem {
                reason: "TargetInvalid",
                message: error.to_string(),
            }),
        );
        let Ok(target) = target else {
            self.context = None;
            return;
        };
        let target = Arc::new(target);
        let readiness = Suspicion::new(consumer);
        self.ready = readiness.subscribe();
        *shared
            .consumer
            .suspicion
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(readiness.clone());
        if matches!(consumer.target, TargetConfig::Handler { .. }) {
            self.probe.spawn(readiness::watch(
                readiness.clone(),
                consumer.target.clone(),
                target.clone(),
                self.engine.clock.clone(),
                self.engine.settings.readiness_interval,
            ));
        }
        self.context = Some(Arc::new(Context {
            shared: shared.clone(),
            config: spec.config,
            target,
            clock: self.engine.clock.clone(),
            stop: self.engine.stop.clone(),
            readiness,
        }));
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether messages may be asked for at all.
    fn wants_open(&self) -> bool {
        let Some(context) = &self.context else {
            return false;
        };
        !self.engine.stop.is_cancelled()
            && !context.consumer().paused
            && context.config.queue.limit > 0
            && *self.ready.borrow()
            && self.engine.spec.borrow().queue.is_some()
    }

    fn is_done(&self) -> bool {
        self.running.is_empty() && self.link.is_closed()
    }

    /// Does what follows from what has happened.
    async fn advance(&mut self) {
        let queue = self.engine.spec.borrow().queue.clone();
        let wants_open = self.wants_open();
        // An open consumer of a queue that was replaced is stopped first.
        let stale = std::mem::take(&mut self.stale) && self.link.is_open();
        if !wants_open || stale {
            self.collector = None;
        }
        let wanted = queue
            .as_ref()
            .filter(|_| wants_open && !stale)
            .map(|queue| &queue.handle);
        let link = std::mem::replace(&mut self.link, Link::closed(Instant::now()));
        self.link = link.advance(wanted).await;
        self.ask();
        let state = &self.engine.shared.consumer;
        state.pulling.store(self.link.is_open(), Ordering::Relaxed);
        state
            .throttled
            .store(self.gate.is_restricted(), Ordering::Relaxed);
        state
            .handler_ready
            .store(*self.ready.borrow(), Ordering::Relaxed);
    }

    /// Asks for as many messages as can be started at once.
    fn ask(&mut self) {
        let now = self.now();
        let allowance = self.gate.allowance(now);
        let Some(context) = self.context.clone() else {
            self.collector = None;
            return;
        };
        let Link::Open(consumer) = &mut self.link else {
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
        if self.gate.next_wake(now).is_some() {
            self.collector = None;
        } else if let Some(collector) = &self.collector {
            let free = collector.wants().saturating_sub(consumer.wanted());
            if free > 0 {
                consumer.want(free);
            }
        } else if allowance > 0
            && let Some(slot) = self.gate.start(now)
            && let Some(queue) = &self.engine.spec.borrow().queue
        {
            let (collector, task) = Collector::start(
                context,
                queue.handle.clone(),
                batch_max,
                self.signal.clone(),
            );
            self.running.spawn(async move { (Some(slot), task.await) });
            self.collector = Some(collector);
        }
    }

    /// Waits for something to happen.
    async fn event(&mut self) -> Event {
        let mut wake = Instant::now() + TICK;
        if let Some(open) = self.gate.next_wake(self.now()) {
            wake = wake.min(self.start + open);
        }
        if let Some(link) = self.link.next_wake() {
            wake = wake.min(link);
        }
        tokio::select! {
            arrival = self.link.next() => Event::Link(arrival),
            Some(ended) = self.running.join_next() => Event::Ended(ended),
            Some(signal) = self.signals.recv() => Event::Batch(signal),
            Ok(()) = self.engine.spec.changed() => Event::Spec,
            Ok(()) = self.ready.changed() => Event::Ready,
            Some(ended) = self.probe.join_next() => Event::Probe(ended),
            () = self.engine.stop.cancelled(), if !self.stop_seen => Event::Stop,
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
                self.consumable(None);
                self.link = Link::Open(consumer);
            }
            Event::Link(Ok(Arrival::Message(message))) => self.start(message),
            Event::Link(Ok(Arrival::End)) => self.link = Link::closed(Instant::now()),
            Event::Link(Err(error)) => self.link = self.backed_off(&error),
            Event::Ended(Ok((slot, verdict))) => self.release(slot, verdict),
            Event::Ended(Err(error)) => {
                return Err(panicked(
                    &format!("call of {}", self.engine.shared.key),
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
                self.link = self.backed_off(&error);
            }
        }
        Ok(())
    }

    /// A new configuration: the consumer is replaced only when its queue is another one.
    fn respecify(&mut self) {
        let before = self.context.as_ref().map(|context| context.config.clone());
        // A batch that is being gathered has the old configuration.
        self.collector = None;
        self.configure();
        let after = self.engine.spec.borrow().config.clone();
        let same_queue = before.is_some_and(|before| {
            before.queue == after.queue && before.bus == after.bus && before.uid == after.uid
        });
        if same_queue {
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
        self.engine.shared.traffic.store(true, Ordering::Relaxed);
        // What has happened since the last round counts: a handler that has just crashed, a stop.
        let open = self.link.is_open() && self.wants_open();
        let context = match &self.context {
            Some(context) => context.clone(),
            None => return self.give_back(message, received),
        };
        let message = match &mut self.collector {
            Some(collector) if open => match collector.offer(&context, message, received) {
                Ok(()) => return,
                Err(message) => message,
            },
            _ if open && context.config.queue.batch_max <= 1 => {
                if let Some(slot) = self.gate.start(self.now()) {
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
        let shared = self.engine.shared.clone();
        let lease = self.engine.spec.borrow().config.queue.lease_seconds;
        let lease = Duration::from_secs(lease.max(1).into());
        self.running.spawn(async move {
            delivery::give_back(shared, lease, message, received).await;
            (None, Verdict::Other)
        });
    }

    fn release(&mut self, slot: Option<Slot>, verdict: Verdict) {
        let Some(slot) = slot else { return };
        match verdict {
            Verdict::Succeeded => self.gate.succeeded(slot),
            Verdict::Refused { retry_after } => {
                self.gate
                    .refused(slot, self.now(), retry_after, fastrand::f64());
            }
            Verdict::Other => self.gate.other_outcome(slot),
        }
    }

    /// The queue cannot be consumed: tries again later.
    fn backed_off(&mut self, error: &BrokerError) -> Link {
        self.consumable(Some(error));
        self.failures = self.failures.saturating_add(1);
        let pause = Duration::from_millis(250) * 2_u32.saturating_pow(self.failures.min(10));
        Link::closed(Instant::now() + jittered(pause.min(LONGEST_PAUSE)))
    }

    fn consumable(&mut self, error: Option<&BrokerError>) {
        if error.is_none() {
            self.failures = 0;
        }
        let problem = error.map(|error| Problem {
            reason: error.reason(),
            message: error.to_string(),
        });
        self.engine.shared.set_problem("consumer", problem);
    }
}
