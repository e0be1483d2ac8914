//! The objects that are served, as the intake, the admin server and the ops server see them.
//!
//! An [`Object`] is one configuration at one time and never changes; a new configuration makes a new
//! one. What outlives configurations (counters, what is wrong, what is known of the queue) is in its
//! [`Shared`] part.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use weir_broker::{Depth, WorkQueue};
use weir_core::config::{GroupBy, ObjectConfig, VerifyConfig};
use weir_core::object::{Kind, ObjectKey};

use crate::consumer::Suspicion;
use crate::intake::group::Grouping;
use crate::intake::keys::{self, Keys};
use crate::metrics::ObjectMetrics;

/// Most lines about single messages of one object in [`LINES_PER`].
const LINES: u32 = 20;

/// See [`LINES`].
const LINES_PER: Duration = Duration::from_secs(10);

/// One object with one configuration.
pub struct Object {
    /// As configured.
    pub config: Arc<ObjectConfig>,
    /// Its queue; `None` until there was a connection to its bus.
    pub queue: Option<Queue>,
    /// How messages get their groups, where the object says so.
    pub grouping: Option<Arc<Grouping>>,
    /// What outlives this configuration.
    pub shared: Arc<Shared>,
}

impl Object {
    /// Whether a message that comes in now could be checked and stored, as far as this process knows. True
    /// for an object without an intake.
    pub fn takes_in(&self) -> bool {
        self.config.intake.as_ref().is_none_or(|intake| {
            self.queue.is_some() && (intake.verify.is_none() || !self.shared.keys().is_empty())
        })
    }
}

/// A queue and whether its bus is connected.
#[derive(Clone)]
pub struct Queue {
    /// The queue.
    pub handle: Arc<dyn WorkQueue>,
    /// Whether the bus is connected now.
    pub connected: watch::Receiver<bool>,
}

/// What outlives configurations.
pub struct Shared {
    /// Which object.
    pub key: ObjectKey,
    /// Its series.
    pub metrics: ObjectMetrics,
    keys: RwLock<Arc<Keys>>,
    grouping: Mutex<Option<(GroupBy, Arc<Grouping>)>>,
    /// Its consumer, where there is one.
    pub consumer: ConsumerState,
    /// Set by each request and each delivery, cleared when the depth is looked at.
    pub traffic: AtomicBool,
    /// Whether the intake answers 429.
    pub full: AtomicBool,
    depth: Mutex<Option<Depth>>,
    lines: Mutex<Option<(Instant, u32)>>,
    problems: Mutex<BTreeMap<&'static str, Problem>>,
}

/// Something that a human may have to fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A stable word, as conditions use it.
    pub reason: &'static str,
    /// What is wrong, where, and what to do.
    pub message: String,
}

/// What a consumer is doing, for `/objects` and readiness.
#[derive(Default)]
pub struct ConsumerState {
    /// Deliveries that are held.
    pub in_flight: AtomicUsize,
    /// It asks the broker for messages.
    pub pulling: AtomicBool,
    /// The handler said that it is full, and not all slots are open again.
    pub throttled: AtomicBool,
    /// The handler answers; always true for targets.
    pub handler_ready: AtomicBool,
    /// The way to tell its engine that the handler is about to end.
    pub suspicion: Mutex<Option<Suspicion>>,
}

impl ConsumerState {
    /// Whether the handler is about to end.
    pub fn handler_is_leaving(&self) -> bool {
        let suspicion = self
            .suspicion
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        suspicion.as_ref().is_some_and(Suspicion::is_leaving)
    }

    /// The handler is about to end: it gets no new message until it has come back.
    pub fn handler_leaves(&self) {
        let suspicion = self
            .suspicion
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(suspicion) = &*suspicion {
            suspicion.leave();
        }
    }
}

impl Queue {
    /// Whether the bus is connected now.
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }
}

impl Shared {
    /// Nothing is known yet.
    pub fn new(key: ObjectKey, metrics: ObjectMetrics) -> Self {
        Self {
            key,
            metrics,
            keys: RwLock::default(),
            grouping: Mutex::default(),
            consumer: ConsumerState::default(),
            traffic: AtomicBool::new(true),
            full: AtomicBool::new(false),
            depth: Mutex::default(),
            lines: Mutex::default(),
            problems: Mutex::default(),
        }
    }

    /// What is known of the queue.
    pub fn depth(&self) -> Option<Depth> {
        self.depth
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The broker said this.
    pub fn set_depth(&self, depth: Depth, capacity: u64) {
        let stored = depth.ready + depth.in_flight + depth.delayed;
        self.full.store(stored >= capacity, Ordering::Relaxed);
        *self.depth.lock().unwrap_or_else(PoisonError::into_inner) = Some(depth);
    }

    /// The keys as they were last read.
    pub fn keys(&self) -> Arc<Keys> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads the keys again, where they have changed.
    pub fn read_keys(&self, verify: &VerifyConfig) {
        let Some(keys) = keys::read(Path::new(&verify.keys_dir), verify.scheme, &self.keys())
        else {
            return;
        };
        let problem = keys.problem.clone().map(|message| Problem {
            reason: if keys.is_empty() {
                "SecretMissing"
            } else {
                "SecretMalformed"
            },
            message,
        });
        tracing::info!(object = %self.key, keys = keys.len(), "signing keys were read");
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        self.set_problem("keys", problem);
    }

    /// `groupBy`, read again only where it has changed.
    pub fn grouping(&self, config: Option<&GroupBy>) -> Option<Arc<Grouping>> {
        let mut known = self.grouping.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(config) = config else {
            *known = None;
            return None;
        };
        if let Some((same, grouping)) = &*known
            && same == config
        {
            return Some(grouping.clone());
        }
        let (grouping, why) = Grouping::new(config);
        let grouping = Arc::new(grouping);
        *known = Some((config.clone(), grouping.clone()));
        drop(known);
        let problem = why.map(|message| Problem {
            reason: "GroupByInvalid",
            message,
        });
        self.set_problem("groupBy", problem);
        Some(grouping)
    }

    /// Whether a line about one message may be logged: at most [`LINES`] of them in
    /// [`LINES_PER`], so that a storm does not drown everything else. The series count all.
    pub fn may_log(&self) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match &mut *lines {
            Some((since, logged)) if now.duration_since(*since) < LINES_PER => {
                *logged += 1;
                *logged <= LINES
            }
            other => {
                *other = Some((now, 1));
                true
            }
        }
    }

    /// Sets or clears what is wrong with one `part`. Logged when it changes.
    pub fn set_problem(&self, part: &'static str, problem: Option<Problem>) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.get(part).map(|known| known.reason) != problem.as_ref().map(|new| new.reason) {
            if let Some(problem) = &problem {
                tracing::warn!(object = %self.key, reason = problem.reason, "{}", problem.message);
            } else {
                tracing::info!(object = %self.key, part, "works again");
            }
        }
        match problem {
            Some(problem) => problems.insert(part, problem),
            None => problems.remove(part),
        };
    }

    /// Everything that is wrong.
    pub fn problems(&self) -> Vec<Problem> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.values().cloned().collect()
    }
}

/// All objects at one time.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Every object.
    pub all: BTreeMap<ObjectKey, Arc<Object>>,
    /// By address. The namespace is not part of it: of two objects that differ in nothing else the
    /// first one has the address.
    by_address: HashMap<Kind, HashMap<String, Arc<Object>>>,
}

impl Snapshot {
    /// Gives each object its address.
    pub fn new(all: BTreeMap<ObjectKey, Arc<Object>>) -> Self {
        let mut by_address: HashMap<Kind, HashMap<String, Arc<Object>>> = HashMap::new();
        for (key, object) in &all {
            if object.config.intake.is_none() {
                continue;
            }
            let names = by_address.entry(key.kind).or_default();
            let taken = names
                .get(&key.name)
                .map(|other| other.config.object.namespace.clone());
            let problem = taken.map(|namespace| Problem {
                reason: "AddressTaken",
                message: format!(
                    "the object of the same kind and name in namespace {namespace} has the address \
                     /{}/{}; rename one of them or run them apart",
                    key.kind.plural(),
                    key.name
                ),
            });
            if problem.is_none() {
                names.insert(key.name.clone(), object.clone());
            }
            object.shared.set_problem("address", problem);
        }
        Self { all, by_address }
    }

    /// The object of an address.
    pub fn find(&self, kind: Kind, name: &str) -> Option<&Arc<Object>> {
        self.by_address.get(&kind)?.get(name)
    }
}

/// The current [`Snapshot`], for many readers.
#[derive(Clone, Default)]
pub struct Objects(Arc<RwLock<Arc<Snapshot>>>);

impl Objects {
    /// What is served now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Serves this from now on.
    pub fn replace(&self, snapshot: Snapshot) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}
