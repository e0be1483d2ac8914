//! A work queue: competing consumers under one global limit, durable delayed retry, deduplication
//! and dead letters.
//!
//! # Guarantees
//! Every transport keeps these, and the conformance suite has a test of the same name for each.
//!
//! 1. **Stored before it returns**: [`WorkQueue::publish`] returns after the broker stored the
//!    message as durably as it stores anything.
//! 2. **Exact global limit**: over all consumers of all processes, deliveries that are neither
//!    settled nor past their lease never exceed `limit` (with batches: calls, by [`Permit`]). A
//!    change of the limit takes effect without a restart; lowering it drains.
//! 3. **A limit costs nothing**: a message that waits for a slot is not received, so no count rises.
//! 4. **Give-back costs no attempt** and makes the message deliverable at once.
//! 5. **Retry is durable and holds no slot**: it survives the kill of every process and is delivered
//!    not before its time.
//! 6. **Attempts survive**: `attempts` counts failed outcomes exactly, and unfinished calls
//!    that provably began, over restarts of everything. It never counts a delivery whose handler
//!    was not called. A transport may leave the very first call of a stored message uncounted.
//! 7. **Lease**: without [`Lease::extend`] for `lease_seconds` the message is delivered again.
//! 8. **Dedup is atomic with the publish**: of all publications of one identity inside the window
//!    exactly one is stored, also when the message was settled meanwhile and the broker restarted.
//! 9. **Dead letter before acknowledgement**: the dead letter is stored before the message leaves the
//!    queue, once per message however often the operation is repeated.
//! 10. **Looking does not consume**: [`WorkQueue::peek`] and the dead-letter readers change nothing.
//! 11. **Records change one at a time**: of all [`WorkQueue::put_record`] that expect the same version
//!     exactly one succeeds, and what it wrote survives whatever the messages survive.
//! 12. **A letter is stored once**: [`WorkQueue::store_dead_letter`] may be repeated, and never
//!     replaces a later death of the same message.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use weir_core::dead_letter::{DeadLetter, Failure};
use weir_core::message::Message;

use crate::error::BrokerError;
use crate::fifo::FifoQueue;

/// A message to be stored.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The message.
    pub message: Message,
    /// Identity and window; `None` stores it in any case.
    pub dedup: Option<(String, Duration)>,
    /// Not delivered before this has passed.
    pub delay: Duration,
}

/// What became of a [`Publication`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Id of the stored message: of the first one where this was a duplicate.
    pub id: String,
    /// True when nothing was stored because the identity is known.
    pub duplicate: bool,
}

/// Numbers of one queue, for status and metrics. Each is read from the broker, none is counted here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting for a slot.
    pub ready: u64,
    /// Delivered and not settled.
    pub in_flight: u64,
    /// Waiting for a retry or a delay to pass.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest ready or in-flight message was stored.
    pub oldest: Option<Timestamp>,
}

/// A message seen by [`WorkQueue::peek`].
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// The message.
    pub message: Message,
    /// Attempts counted so far.
    pub attempts: u32,
    /// When a delayed message becomes deliverable; `None` for one that is ready or in flight.
    pub due: Option<Timestamp>,
    /// Position, for the next page.
    pub position: u64,
}

/// A dead letter with its position, for the next page.
#[derive(Clone, Debug)]
pub struct StoredDeadLetter {
    /// The dead letter.
    pub letter: DeadLetter,
    /// Position in the order of arrival.
    pub position: u64,
}

/// A page of a listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// In order of position.
    pub items: Vec<T>,
    /// Pass it as `after` for the next page; `None` at the end.
    pub next: Option<u64>,
}

/// A small document kept beside the messages of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was written.
    pub body: Bytes,
    /// Grows with every write; pass it as `expected` to replace exactly this.
    pub version: u64,
}

/// A work queue. See the module for what is guaranteed.
#[async_trait]
pub trait WorkQueue: Send + Sync + 'static {
    /// Stores a message. May be repeated after an error: give it a dedup identity where a repeat
    /// must not store it twice.
    async fn publish(&self, publication: Publication) -> Result<Published, BrokerError>;

    /// The turns of a queue whose configuration says `fifo`. `Unsupported` on a transport that has none,
    /// `Refused` on a queue that is not a FIFO queue.
    fn fifo(&self) -> Result<Arc<dyn FifoQueue>, BrokerError> {
        Err(BrokerError::Unsupported {
            server: "this transport".to_owned(),
            why: "it has no FIFO queues; use a bus that has them".to_owned(),
        })
    }

    /// Starts to consume. The topology must exist. `Refused` on a FIFO queue, which is consumed by turns.
    async fn consume(&self) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Waits for one of the `limit` permits to make a batched call. Only for queues with
    /// `batch_max` above 1; other queues are limited by deliveries alone.
    async fn permit(&self) -> Result<Box<dyn Permit>, BrokerError>;

    /// Numbers of now.
    async fn depth(&self) -> Result<Depth, BrokerError>;

    /// Messages that are ready, in flight or delayed, after position `after`, at most `limit`.
    async fn peek(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredMessage>, BrokerError>;

    /// Dead letters after position `after`, oldest first, at most `limit`.
    async fn dead_letters(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredDeadLetter>, BrokerError>;

    /// The dead letter of a message.
    async fn dead_letter(&self, id: &str) -> Result<Option<StoredDeadLetter>, BrokerError>;

    /// Removes the dead letter at `position`, after it was handled elsewhere (published again, thrown
    /// away). False when it is not there any more. A letter that the same message left later has a
    /// position of its own and stays.
    async fn remove_dead_letter(&self, position: u64) -> Result<bool, BrokerError>;

    /// How long dead letters are kept.
    fn dead_letters_kept(&self) -> Duration;

    /// Position of the last dead letter, or one behind it; `None` when there never was one.
    async fn last_dead_letter(&self) -> Result<Option<u64>, BrokerError> {
        let (mut after, mut last) = (None, None);
        loop {
            let page = self.dead_letters(after, 100).await?;
            last = page.items.last().map(|item| item.position).or(last);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(last),
            }
        }
    }

    /// Stores a letter that was read earlier, perhaps elsewhere. False, with nothing stored, where
    /// this message has a letter of the same or a later time.
    async fn store_dead_letter(&self, letter: &DeadLetter) -> Result<bool, BrokerError> {
        let _ = letter;
        Err(lacking("storing dead letters again"))
    }

    /// Removes every dead letter at or before `through`. Answers how many there were.
    async fn purge_dead_letters(&self, through: u64) -> Result<u64, BrokerError> {
        let mut purged = 0;
        loop {
            let page = self.dead_letters(None, 100).await?;
            for stored in &page.items {
                if stored.position > through {
                    return Ok(purged);
                }
                purged += u64::from(self.remove_dead_letter(stored.position).await?);
            }
            if page.next.is_none() {
                return Ok(purged);
            }
        }
    }

    /// A record of this queue.
    async fn record(&self, name: RecordName) -> Result<Option<Record>, BrokerError> {
        let _ = name;
        Err(lacking("records"))
    }

    /// Writes a record where its version is `expected` (0: there is none), and answers its new
    /// version; `None`, with nothing written, where it is another. Kept for `kept` after the last
    /// write, at least. May be repeated after an error.
    async fn put_record(
        &self,
        name: RecordName,
        expected: u64,
        body: Bytes,
        kept: Duration,
    ) -> Result<Option<u64>, BrokerError> {
        let _ = (name, expected, body, kept);
        Err(lacking("records"))
    }

    /// Largest [`Message::wire_len`] that can be stored *and* later dead-lettered with its envelope,
    /// bytes. Known after the first connection; before, a safe guess.
    fn max_message_bytes(&self) -> usize;
}

/// The records that a queue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordName {
    /// [`weir_core::redrive::Redrives`] of its dead letters.
    Redrives,
}

impl RecordName {
    /// The name as brokers have it, one token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redrives => "redrives",
        }
    }
}

fn lacking(what: &str) -> BrokerError {
    BrokerError::Unsupported {
        server: "this broker".to_owned(),
        why: format!("it has no {what}; use a NATS bus for what needs them"),
    }
}

/// One consumer of a queue: pulls only what was asked for, buffers nothing that nobody waits for.
///
/// Stop it and take what still comes before dropping it: what a broker delivers to a consumer that is
/// gone holds its slots until the lease ends.
#[async_trait]
pub trait Consumer: Send {
    /// Says that `more` further deliveries can be started at once.
    fn want(&mut self, more: usize);

    /// Deliveries asked for and not yet handed out.
    fn wanted(&self) -> usize;

    /// The next delivery. Cancel safe. Waits for ever while there is none; survives loss of
    /// the broker, of leaders and of heartbeats by asking again. `None` after [`Consumer::stop`],
    /// when everything that was on its way has been handed out.
    ///
    /// An error means that the queue cannot be consumed as it is (its topology is gone); the
    /// consumer stays usable and waits for the topology on the next call.
    async fn next(&mut self) -> Result<Option<Delivery>, BrokerError>;

    /// Asks for nothing more. What is already on its way still comes out of [`Consumer::next`].
    async fn stop(&mut self);
}

/// One message, held under a lease.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Attempts that counted before this delivery.
    pub attempts: u32,
    /// True when the broker had delivered it before without a settlement.
    pub redelivered: bool,
    /// Holds it and settles it.
    pub lease: Arc<dyn Lease>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.message.id)
            .field("attempts", &self.attempts)
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}

/// The right to handle one delivery. Each method may be repeated after a transient error until it
/// succeeds; exactly one of the settlements (`ack`, `retry`, `dead_letter`, `give_back`) is to
/// succeed.
///
/// A lease ends `lease_seconds` after the delivery or the last successful [`Lease::extend`]. After
/// that everything but `ack` answers [`BrokerError::LeaseOver`] and does nothing, because the
/// message may be in other hands; `ack` still removes it, because it was handled. Dropping a lease
/// settles nothing.
#[async_trait]
pub trait Lease: Send + Sync + 'static {
    /// Records, where that is needed to count it, that the handler is about to be called. To be
    /// awaited before every call.
    async fn begin(&self) -> Result<(), BrokerError>;

    /// Keeps the message for another `lease_seconds`. Call it every third of that.
    async fn extend(&self) -> Result<(), BrokerError>;

    /// It was handled. Returns after the broker confirmed the removal.
    async fn ack(&self) -> Result<(), BrokerError>;

    /// Delivers it again after `delay`, with `attempts` counted.
    async fn retry(&self, delay: Duration, attempts: u32) -> Result<(), BrokerError>;

    /// Gives it up: stores the dead letter, then removes it from the queue.
    async fn dead_letter(&self, failure: &Failure) -> Result<(), BrokerError>;

    /// Puts it back at once, with nothing counted.
    async fn give_back(&self) -> Result<(), BrokerError>;
}

/// The right to make one batched call. Not released (process killed), it comes back after
/// `lease_seconds`.
#[async_trait]
pub trait Permit: Send + Sync + 'static {
    /// Keeps it for another `lease_seconds`.
    async fn extend(&self) -> Result<(), BrokerError>;

    /// Gives it back.
    async fn release(&self) -> Result<(), BrokerError>;
}
