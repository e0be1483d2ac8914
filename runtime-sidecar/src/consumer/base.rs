//! What every engine has: its configuration, what is known of its handler, its gate.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir_broker::{BrokerError, WorkQueue};
use weir_core::config::TargetConfig;
use weir_core::gate::{Gate, Slot};

use super::readiness::{self, Suspicion};
use super::{Context, Engine, Verdict, jittered};
use crate::call::Target;
use crate::objects::Problem;

/// Longest pause between two tries to consume a queue that cannot be consumed.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// See the module.
pub struct Base {
    pub engine: Engine,
    /// What calls are made with; `None` while the target cannot be used.
    pub context: Option<Arc<Context>>,
    /// Whether the handler is ready.
    pub ready: watch::Receiver<bool>,
    pub gate: Gate,
    /// Looks at the handler.
    pub probe: JoinSet<()>,
    start: Instant,
    failures: u32,
}

impl Base {
    /// With the configuration of now.
    pub fn new(engine: Engine) -> Self {
        let mut base = Self {
            context: None,
            ready: watch::Sender::new(false).subscribe(),
            gate: Gate::new(0),
            probe: JoinSet::new(),
            start: Instant::now(),
            failures: 0,
            engine,
        };
        base.configure();
        base
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

    /// The time of the gate.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether messages may be asked for at all.
    pub fn wants_open(&self) -> bool {
        let Some(context) = &self.context else {
            return false;
        };
        !self.engine.stop.is_cancelled()
            && !context.consumer().paused
            && context.config.queue.limit > 0
            && *self.ready.borrow()
            && self.engine.spec.borrow().queue.is_some()
    }

    /// When the gate opens by itself.
    pub fn next_wake(&self) -> Option<Instant> {
        let open = self.gate.next_wake(self.now())?;
        Some(self.start + open)
    }

    /// The queue, once there was a connection.
    pub fn queue(&self) -> Option<Arc<dyn WorkQueue>> {
        let spec = self.engine.spec.borrow();
        spec.queue.as_ref().map(|queue| queue.handle.clone())
    }

    /// Takes a new configuration. True when its queue is another one.
    pub fn respecify(&mut self) -> bool {
        let before = self.context.as_ref().map(|context| context.config.clone());
        self.configure();
        let after = self.engine.spec.borrow().config.clone();
        !before.is_some_and(|before| {
            before.queue == after.queue && before.bus == after.bus && before.uid == after.uid
        })
    }

    /// How long a lease of the queue lasts.
    pub fn lease(&self) -> Duration {
        let seconds = self.engine.spec.borrow().config.queue.lease_seconds;
        Duration::from_secs(seconds.max(1).into())
    }

    /// Shows what the engine is doing.
    pub fn show(&self, pulling: bool) {
        let state = &self.engine.shared.consumer;
        state.pulling.store(pulling, Ordering::Relaxed);
        state
            .throttled
            .store(self.gate.is_restricted(), Ordering::Relaxed);
        state
            .handler_ready
            .store(*self.ready.borrow(), Ordering::Relaxed);
    }

    /// A call has ended.
    pub fn release(&mut self, slot: Slot, verdict: Verdict) {
        match verdict {
            Verdict::Succeeded => self.gate.succeeded(slot),
            Verdict::Refused { retry_after } => {
                self.gate
                    .refused(slot, self.now(), retry_after, fastrand::f64());
            }
            Verdict::Other => self.gate.other_outcome(slot),
        }
    }

    /// The queue cannot be consumed. When to try again.
    pub fn backed_off(&mut self, error: &BrokerError) -> Instant {
        self.consumable(Some(error));
        self.failures = self.failures.saturating_add(1);
        let pause = Duration::from_millis(250) * 2_u32.saturating_pow(self.failures.min(10));
        Instant::now() + jittered(pause.min(LONGEST_PAUSE))
    }

    /// The queue can be consumed, or cannot.
    pub fn consumable(&mut self, error: Option<&BrokerError>) {
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
