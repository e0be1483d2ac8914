//! Handles on a queue in memory: waiting around the rules of `state`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use weir_core::dead_letter::{DeadLetter, Failure};
use weir_core::names::QueueNames;

use super::state::{Handed, Held, State, over};
use super::{MAX_MESSAGE_BYTES, Shared, Slot};
use crate::error::BrokerError;
use crate::fifo::FifoQueue;
use crate::queue::{
    Consumer, Delivery, Depth, Lease, Page, Permit, Publication, Published, Record, RecordName,
    StoredDeadLetter, StoredMessage, WorkQueue,
};

/// A handle on one queue.
#[derive(Clone)]
pub(super) struct MemoryQueue {
    pub(super) shared: Arc<Shared>,
    pub(super) slot: Arc<Slot>,
    pub(super) names: QueueNames,
    pub(super) fifo: bool,
}

impl MemoryQueue {
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut State, Instant) -> T,
    ) -> Result<T, BrokerError> {
        self.shared.with(&self.slot, &self.names, work)
    }

    /// As [`MemoryQueue::with`], then wakes those who wait for a message or a permit.
    pub(super) fn change<T>(
        &self,
        work: impl FnOnce(&mut State, Instant) -> T,
    ) -> Result<T, BrokerError> {
        let done = self.with(work)?;
        self.slot.changed.notify_waiters();
        Ok(done)
    }

    /// Waits as [`MemoryQueue::wait_for`] for a consumer, which is told once that its topology is gone.
    pub(super) async fn next_of<T>(
        &self,
        told_missing: &mut bool,
        mut attempt: impl FnMut(&mut State, Instant) -> Option<T>,
    ) -> Result<T, BrokerError> {
        loop {
            match self.wait_for(&mut attempt).await {
                Ok(found) => {
                    *told_missing = false;
                    return Ok(found);
                }
                Err(BrokerError::Missing { .. }) if *told_missing => {
                    let changed = self.slot.changed.notified();
                    tokio::pin!(changed);
                    changed.as_mut().enable();
                    if self.slot.lock().is_none() {
                        changed.await;
                    }
                }
                Err(error) => {
                    *told_missing = true;
                    return Err(error);
                }
            }
        }
    }

    /// What a queue is not meant for.
    fn check_kind(&self, fifo: bool) -> Result<(), BrokerError> {
        if self.fifo == fifo {
            return Ok(());
        }
        Err(crate::fifo::wrong_kind(fifo))
    }

    /// Waits until `attempt` finds something. `Missing` is passed on; an outage is waited out.
    async fn wait_for<T>(
        &self,
        mut attempt: impl FnMut(&mut State, Instant) -> Option<T>,
    ) -> Result<T, BrokerError> {
        loop {
            let changed = self.slot.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let wake = match self.with(|state, now| attempt(state, now).ok_or(state.next_wake())) {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(wake)) => wake,
                Err(BrokerError::Unreachable { .. }) => None,
                Err(error) => return Err(error),
            };
            match wake {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }
}

#[async_trait]
impl WorkQueue for MemoryQueue {
    async fn publish(&self, publication: Publication) -> Result<Published, BrokerError> {
        let size = publication.message.wire_len();
        if size > MAX_MESSAGE_BYTES {
            return Err(BrokerError::TooLarge {
                size,
                limit: MAX_MESSAGE_BYTES,
            });
        }
        let wall = self.shared.clock.now();
        self.change(|state, now| state.publish(publication, now, wall))?
            .ok_or_else(|| BrokerError::Full {
                what: format!("stream {}", self.names.queue_stream()),
            })
    }

    fn fifo(&self) -> Result<Arc<dyn FifoQueue>, BrokerError> {
        self.check_kind(true)?;
        Ok(Arc::new(self.clone()))
    }

    async fn consume(&self) -> Result<Box<dyn Consumer>, BrokerError> {
        self.check_kind(false)?;
        self.with(|_, _| ())?;
        Ok(Box::new(MemoryConsumer {
            queue: self.clone(),
            wanted: 0,
            stopped: false,
            told_missing: false,
        }))
    }

    async fn permit(&self) -> Result<Box<dyn Permit>, BrokerError> {
        self.check_kind(false)?;
        self.shared.check()?;
        let number = self.wait_for(State::permit).await?;
        Ok(Box::new(MemoryPermit {
            queue: self.clone(),
            number,
        }))
    }

    async fn depth(&self) -> Result<Depth, BrokerError> {
        self.with(|state, _| state.depth())
    }

    async fn peek(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredMessage>, BrokerError> {
        self.with(|state, _| state.peek(after, limit))
    }

    async fn dead_letters(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredDeadLetter>, BrokerError> {
        self.with(|state, _| state.dead_letters(after, limit))
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<StoredDeadLetter>, BrokerError> {
        self.with(|state, _| state.dead_letter_of(id))
    }

    async fn remove_dead_letter(&self, position: u64) -> Result<bool, BrokerError> {
        self.with(|state, _| state.remove_dead_letter(position))
    }

    fn dead_letters_kept(&self) -> Duration {
        let guard = self.slot.lock();
        let config = guard.as_ref().map(|state| &state.config);
        Duration::from_secs(config.map_or(0, |config| config.dead_letter_retention_seconds))
    }

    async fn last_dead_letter(&self) -> Result<Option<u64>, BrokerError> {
        self.with(|state, _| state.last_dead_letter())
    }

    async fn store_dead_letter(&self, letter: &DeadLetter) -> Result<bool, BrokerError> {
        let size = letter.message.wire_len();
        if size > MAX_MESSAGE_BYTES {
            return Err(BrokerError::TooLarge {
                size,
                limit: MAX_MESSAGE_BYTES,
            });
        }
        self.with(|state, now| state.store_dead_letter(letter, now))
    }

    async fn purge_dead_letters(&self, through: u64) -> Result<u64, BrokerError> {
        self.with(|state, _| state.purge_dead_letters(through))
    }

    async fn record(&self, name: RecordName) -> Result<Option<Record>, BrokerError> {
        self.with(|state, _| state.record(name))
    }

    async fn put_record(
        &self,
        name: RecordName,
        expected: u64,
        body: Bytes,
        _kept: Duration,
    ) -> Result<Option<u64>, BrokerError> {
        self.with(|state, _| state.put_record(name, expected, body))
    }

    fn max_message_bytes(&self) -> usize {
        MAX_MESSAGE_BYTES
    }
}

struct MemoryConsumer {
    queue: MemoryQueue,
    wanted: usize,
    stopped: bool,
    /// The loss of the topology is reported once, then waited out.
    told_missing: bool,
}

#[async_trait]
impl Consumer for MemoryConsumer {
    fn want(&mut self, more: usize) {
        if !self.stopped {
            self.wanted += more;
        }
    }

    fn wanted(&self) -> usize {
        self.wanted
    }

    async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        if self.stopped {
            return Ok(None);
        }
        let wanted = self.wanted > 0;
        let deliver = |state: &mut State, now| {
            if wanted { state.deliver(now) } else { None }
        };
        let handed = self.queue.next_of(&mut self.told_missing, deliver).await?;
        self.wanted -= 1;
        Ok(Some(delivery(&self.queue, handed)))
    }

    async fn stop(&mut self) {
        self.stopped = true;
        self.wanted = 0;
    }
}

fn delivery(queue: &MemoryQueue, handed: Handed) -> Delivery {
    let lease = MemoryLease {
        queue: queue.clone(),
        id: handed.message.id.clone(),
        held: handed.held,
        begun: AtomicBool::new(false),
    };
    Delivery {
        message: handed.message,
        attempts: handed.attempts,
        redelivered: handed.redelivered,
        lease: Arc::new(lease),
    }
}

struct MemoryLease {
    queue: MemoryQueue,
    id: String,
    held: Held,
    begun: AtomicBool,
}

impl MemoryLease {
    fn settled(&self, held: bool) -> Result<(), BrokerError> {
        if held { Ok(()) } else { Err(over(&self.id)) }
    }
}

#[async_trait]
impl Lease for MemoryLease {
    async fn begin(&self) -> Result<(), BrokerError> {
        if self.begun.load(Ordering::Acquire) {
            return Ok(());
        }
        let held = self.queue.with(|state, _| state.begin(self.held))?;
        self.begun.store(held, Ordering::Release);
        self.settled(held)
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        let held = self.queue.with(|state, now| state.extend(self.held, now))?;
        self.settled(held)
    }

    async fn ack(&self) -> Result<(), BrokerError> {
        self.queue.change(|state, _| state.ack(self.held))
    }

    async fn retry(&self, delay: Duration, attempts: u32) -> Result<(), BrokerError> {
        let wall = self.queue.shared.clock.now();
        let held = self
            .queue
            .change(|state, now| state.retry(self.held, delay, attempts, now, wall))?;
        self.settled(held)
    }

    async fn dead_letter(&self, failure: &Failure) -> Result<(), BrokerError> {
        let held = self
            .queue
            .change(|state, now| state.dead_letter(self.held, failure, now))?;
        self.settled(held)
    }

    async fn give_back(&self) -> Result<(), BrokerError> {
        let begun = self.begun.load(Ordering::Acquire);
        let held = self
            .queue
            .change(|state, _| state.give_back(self.held, begun))?;
        self.settled(held)
    }
}

struct MemoryPermit {
    queue: MemoryQueue,
    number: u64,
}

#[async_trait]
impl Permit for MemoryPermit {
    async fn extend(&self) -> Result<(), BrokerError> {
        let held = self
            .queue
            .with(|state, now| state.extend_permit(self.number, now))?;
        if held { Ok(()) } else { Err(over("permit")) }
    }

    async fn release(&self) -> Result<(), BrokerError> {
        self.queue
            .change(|state, _| state.release_permit(self.number))
    }
}
