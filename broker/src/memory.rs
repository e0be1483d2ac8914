//! The broker inside this process: for `weir run` and for tests.
//!
//! It keeps every guarantee of [`crate::queue`] except that it ends with the process. Spans of time
//! use `tokio::time`, so that tests can pause them. It never stores more than the capacity of a
//! queue and never starts a task. The rules are in `state`; the conformance suite runs against it.

mod lanes;
mod queue;
mod state;
mod turns;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use weir_core::config::QueueConfig;
use weir_core::names::QueueNames;
use weir_core::object::ObjectKey;

use self::queue::MemoryQueue;
use self::state::State;
use crate::clock::Clock;
use crate::error::BrokerError;
use crate::queue::WorkQueue;
use crate::transport::{Applied, QueueSpec, Removal, Removed, Server, Transport};

/// As much as a NATS server with default settings takes, so that what fits here fits there.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024 * 1024 - 8 * 1024;

/// A broker in memory. Share it by `Arc`; each process of a test takes a clone.
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    reachable: watch::Sender<bool>,
    slots: Mutex<HashMap<ObjectKey, Arc<Slot>>>,
}

/// One queue that exists, or could.
struct Slot {
    state: Mutex<Option<State>>,
    changed: Notify,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryBroker {
    /// An empty broker.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let (reachable, _) = watch::channel(true);
        let shared = Shared {
            clock,
            reachable,
            slots: Mutex::new(HashMap::new()),
        };
        Arc::new(Self {
            shared: Arc::new(shared),
        })
    }

    /// Simulates an outage: until it is made reachable again every call answers `Unreachable` and
    /// consumers wait. What is stored stays, time goes on.
    pub fn set_reachable(&self, reachable: bool) {
        self.shared.reachable.send_replace(reachable);
        let slots = self
            .shared
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for slot in slots.values() {
            slot.changed.notify_waiters();
        }
    }
}

impl Shared {
    fn check(&self) -> Result<(), BrokerError> {
        if *self.reachable.borrow() {
            return Ok(());
        }
        Err(BrokerError::Unreachable {
            servers: "memory".to_owned(),
            why: "a test made it unreachable".to_owned(),
        })
    }

    fn slot(&self, object: &ObjectKey) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(object.clone()).or_insert_with(|| {
            Arc::new(Slot {
                state: Mutex::new(None),
                changed: Notify::new(),
            })
        });
        Arc::clone(slot)
    }

    /// Runs `work` on the queue as it is now.
    fn with<T>(
        &self,
        slot: &Slot,
        names: &QueueNames,
        work: impl FnOnce(&mut State, Instant) -> T,
    ) -> Result<T, BrokerError> {
        self.check()?;
        let mut guard = slot.lock();
        let Some(state) = guard.as_mut() else {
            return Err(BrokerError::Missing {
                what: format!("stream {}", names.queue_stream()),
            });
        };
        let now = Instant::now();
        state.tick(now, self.clock.now());
        Ok(work(state, now))
    }
}

#[async_trait]
impl Transport for MemoryBroker {
    async fn server(&self) -> Result<Server, BrokerError> {
        self.shared.check()?;
        Ok(Server {
            product: "memory",
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_level: 0,
            max_message_bytes: MAX_MESSAGE_BYTES,
        })
    }

    async fn apply_queue(&self, queue: &QueueSpec) -> Result<Applied, BrokerError> {
        self.shared.check()?;
        let slot = self.shared.slot(&queue.object);
        let stream = QueueNames::of(&queue.object).queue_stream();
        let mut applied = Applied::default();
        {
            let mut guard = slot.lock();
            match guard.as_mut() {
                None => {
                    *guard = Some(State::new(queue.uid.clone(), queue.config.clone()));
                    applied.created.push(stream);
                }
                Some(state) if state.owner != queue.uid && !state.orphaned => {
                    return Err(BrokerError::Conflict {
                        what: format!("stream {stream}"),
                        owner: format!("{} with uid {}", queue.object, state.owner),
                    });
                }
                Some(state) if state.config.fifo.is_some() != queue.config.fifo.is_some() => {
                    return Err(crate::fifo::other_kind(&stream));
                }
                Some(state) => {
                    let mut differing = differing(&state.config, &queue.config);
                    if state.orphaned || state.owner != queue.uid {
                        differing.push("owner");
                    }
                    if !differing.is_empty() {
                        applied
                            .repaired
                            .push(format!("{stream}: {}", differing.join(", ")));
                    }
                    state.owner.clone_from(&queue.uid);
                    state.orphaned = false;
                    state.config = queue.config.clone();
                }
            }
        }
        slot.changed.notify_waiters();
        Ok(applied)
    }

    async fn remove_queue(
        &self,
        queue: &QueueSpec,
        removal: Removal,
    ) -> Result<Removed, BrokerError> {
        self.shared.check()?;
        let slot = self.shared.slot(&queue.object);
        let names = QueueNames::of(&queue.object);
        let mut removed = Removed::default();
        {
            let mut guard = slot.lock();
            let Some(state) = guard.as_mut().filter(|state| state.owner == queue.uid) else {
                return Ok(removed);
            };
            state.tick(Instant::now(), self.shared.clock.now());
            let (waiting, dead) = state.counts();
            let keep = match removal {
                Removal::Retain => true,
                Removal::Delete => false,
                Removal::DeleteIfEmpty => waiting + dead > 0,
            };
            if keep {
                state.orphaned = true;
                removed.retained.push((names.queue_stream(), waiting));
                removed.retained.push((names.dead_stream(), dead));
            } else {
                *guard = None;
                removed
                    .deleted
                    .extend([names.queue_stream(), names.dead_stream()]);
            }
        }
        slot.changed.notify_waiters();
        Ok(removed)
    }

    fn queue(&self, queue: &QueueSpec) -> Arc<dyn WorkQueue> {
        Arc::new(MemoryQueue {
            shared: Arc::clone(&self.shared),
            slot: self.shared.slot(&queue.object),
            names: QueueNames::of(&queue.object),
            fifo: queue.config.fifo.is_some(),
        })
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.shared.reachable.subscribe()
    }
}

/// Names of the fields that differ.
fn differing(have: &QueueConfig, want: &QueueConfig) -> Vec<&'static str> {
    [
        ("limit", have.limit != want.limit),
        ("batchMax", have.batch_max != want.batch_max),
        ("leaseSeconds", have.lease_seconds != want.lease_seconds),
        ("replicas", have.replicas != want.replicas),
        ("capacity", have.capacity != want.capacity),
        (
            "deadLetterRetentionSeconds",
            have.dead_letter_retention_seconds != want.dead_letter_retention_seconds,
        ),
        ("fifo", have.fifo != want.fifo),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}
