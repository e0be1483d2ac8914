//! FIFO queues on RabbitMQ.
//!
//! A queue of RabbitMQ cannot be read by group, has no conditional writes, and puts back what a consumer had
//! in an order that depends on how the consumer ended. A *stream* is different: everybody who reads it sees
//! the same records in the same order. So a FIFO queue is one stream, the log, and everything that happens
//! to it is a record: a message that is stored, a consumer that wants turns, a call that begins, a message that
//! is handled, a lease that nobody extended. What the records do is decided by [`groups`], a function of the
//! log alone, which every process computes for itself with the same result. Whoever writes a record waits
//! until it has read it back, and learns what became of it.
//!
//! Why order holds: the messages of a group stand in the order of their records, and only `groups` gives turns,
//! always from the front. Why there is one turn of a group, and never more than the limit: turns are given
//! one record after the other, by rules that look at all turns that are out. Why a holder that slept past
//! its lease does nothing: each of its records names its turn, and a record that stands behind the end of
//! the turn does nothing. Kills of consumers and of servers change nothing of this, because none of it is in
//! a process or in what a broker knows of its connections.
//!
//! Why no group is forgotten: that a group waits for a turn is not stored, it follows from its messages. Leases:
//! every process that consumes watches all turns by its own steady clock, from when it read them; one that is
//! not extended for `lease_seconds` gets a record that ends it, unless it is extended before that record. A consumer
//! that waits for turns and is not connected any more is found sooner, by a queue that is exclusive to its
//! connection ([`keep`]); a turn that it was given and did not begin goes to others then.
//!
//! The log only grows, so when most of it is of messages that are gone, what is left is copied into the next
//! stream and the old one is deleted ([`log`]).
//!
//! # What this costs, and what is weaker than on NATS
//! - Every process that uses the queue (publishers too) reads the whole log: the bodies go over the network to
//!   each, and each keeps some 50 bytes for every stored message and some 32 MiB of bodies. One log is what one
//!   node can write and each reader can read. Use NATS where a queue has many consumers or a high rate.
//! - A process that starts reads what the log holds before it publishes or takes its first turn: at most the
//!   size at which a log is renewed and three times what is stored.
//! - While a log is copied publishers and settlements wait, for as long as it takes to write what is stored.
//! - Streams are written to the page cache of a quorum of nodes and not flushed for each message: a kill of a
//!   server loses nothing, a power cut of all nodes at once may.
//! - Dead letters are in a stream of their own: who dies between storing one and recording it stores it again, and
//!   the newer one stands for both.
//! - Clocks: when a delay or a deduplication window is over is said by the clock of whoever writes next.
//!
//! There are no partitions: their number changes nothing, and may be any.

mod bodies;
mod book;
mod consume;
mod groups;
mod keep;
mod lease;
pub(crate) mod log;
mod moving;
pub(crate) mod record;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use weir_core::config::QueueConfig;

use self::consume::RabbitTurns;
use self::groups::Entry;
use self::log::Log;
use self::record::{Outcome, Record};
use super::shared::Shared;
use crate::error::BrokerError;
use crate::fifo::{FifoQueue, GroupCounts, HeldGroup, MOST_AHEAD, TurnConsumer, TurnMessage};
use crate::queue::{Depth, Page, Publication, Published, StoredMessage};

/// Most messages of one page.
const MOST_OF_A_PAGE: usize = 1000;

/// One FIFO queue as this process uses it.
pub(crate) struct Fifo {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Arc<Log>,
    pub(crate) lease: Duration,
    batch_max: usize,
}

fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

fn time(milliseconds: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(milliseconds).ok()
}

impl Fifo {
    pub(crate) fn new(shared: &Arc<Shared>, config: &QueueConfig) -> Self {
        Self {
            shared: Arc::clone(shared),
            log: Arc::clone(shared.log()),
            lease: shared.lease,
            batch_max: usize::try_from(config.batch_max.max(1))
                .unwrap_or(usize::MAX)
                .min(MOST_AHEAD),
        }
    }

    /// When a delay is over that begins now, milliseconds since 1970.
    fn due_after(&self, delay: Duration) -> i64 {
        // The time of now is rounded down.
        let now = self.log.now().saturating_add(1);
        now.saturating_add(milliseconds(delay))
    }

    /// Stores a message at the end of its group.
    pub(crate) async fn publish(&self, publication: Publication) -> Result<Published, BrokerError> {
        let Publication {
            message,
            dedup,
            delay,
        } = publication;
        let due = if delay.is_zero() {
            0
        } else {
            self.due_after(delay)
        };
        let (identity, window) = match dedup {
            Some((identity, window)) => (Some(identity), milliseconds(window)),
            None => (None, 0),
        };
        let record = Record::Store {
            due,
            identity,
            window,
        };
        match self.log.write_with(record, &message).await? {
            Outcome::Duplicate(id) => Ok(Published {
                id,
                duplicate: true,
            }),
            Outcome::Full => Err(BrokerError::Full {
                what: self.shared.names.shown(),
            }),
            _ => Ok(Published {
                id: message.id,
                duplicate: false,
            }),
        }
    }

    /// The first messages of a group with their attempts; none where the group has had its share and others
    /// wait.
    async fn first_of(
        &self,
        group: &str,
        share: bool,
    ) -> Result<Vec<(u64, TurnMessage)>, BrokerError> {
        let Some(current) = self.log.current() else {
            return Ok(Vec::new());
        };
        let now = self.log.now();
        let entries = current.tail.read(|book| {
            let groups = &book.groups;
            if (!share && groups.others_wait(group)) || groups.is_redriving(group) {
                return Vec::new();
            }
            groups.first(group, now, self.batch_max)
        });
        self.read(&current, &entries).await
    }

    async fn read(
        &self,
        current: &log::Current,
        entries: &[Entry],
    ) -> Result<Vec<(u64, TurnMessage)>, BrokerError> {
        let found = self.log.messages(current, entries).await?;
        let messages = found.into_iter().map(|(entry, raw)| {
            let message = raw.message().message;
            let held = TurnMessage {
                message,
                attempts: entry.attempts,
                suspect: entry.suspect,
            };
            (entry.number, held)
        });
        Ok(messages.collect())
    }

    /// Takes out of a batch what is not stored any more, and brings the attempts up to date.
    fn recount(&self, group: &str, batch: &mut Vec<(u64, TurnMessage)>) {
        let Some(current) = self.log.current() else {
            return;
        };
        let numbers: Vec<u64> = batch.iter().map(|(number, _)| *number).collect();
        let entries = current.tail.read(|book| book.groups.find(group, &numbers));
        batch.retain_mut(|(number, held)| {
            let entry = entries.iter().find(|entry| entry.number == *number);
            if let Some(entry) = entry {
                held.attempts = entry.attempts;
                held.suspect = entry.suspect;
            }
            entry.is_some()
        });
    }

    pub(crate) async fn depth(&self) -> Result<Depth, BrokerError> {
        let now = self.log.now();
        let (stored, out, (delayed, oldest)) = self
            .log
            .look(|book| {
                let groups = &book.groups;
                let (_, out, _) = groups.counts();
                (groups.stored().0, out, groups.delayed_and_oldest(now))
            })
            .await?;
        let live = self.shared.connection.live()?;
        let in_flight = out.min(stored);
        Ok(Depth {
            ready: stored - in_flight,
            in_flight,
            delayed,
            dead: self.shared.dead(&live).await?,
            oldest: oldest.and_then(time),
        })
    }

    /// How many messages are stored.
    pub(crate) async fn stored(&self) -> Result<u64, BrokerError> {
        self.log.look(|book| book.groups.stored().0).await
    }

    pub(crate) async fn peek(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredMessage>, BrokerError> {
        let limit = limit.min(MOST_OF_A_PAGE);
        let mut entries = self
            .log
            .look(|book| book.groups.page(after, limit + 1))
            .await?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().map(|entry| entry.number).filter(|_| more);
        let Some(current) = self.log.current() else {
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        };
        let now = self.log.now();
        let found = self.log.messages(&current, &entries).await?;
        let items = found.into_iter().map(|(entry, raw)| StoredMessage {
            message: raw.message().message,
            attempts: entry.attempts,
            due: Some(entry.due).filter(|due| *due > now).and_then(time),
            position: entry.number,
        });
        Ok(Page {
            items: items.collect(),
            next,
        })
    }
}

/// The side of consumers and operators.
pub(crate) struct RabbitFifo(pub(crate) Arc<Fifo>);

#[async_trait]
impl FifoQueue for RabbitFifo {
    async fn consume(&self) -> Result<Box<dyn TurnConsumer>, BrokerError> {
        let shared = &self.0.shared;
        let live = shared.connection.live()?;
        live.ready(&shared.names.state)
            .await
            .map_err(|failure| failure.told(&shared.names.shown()))?;
        Ok(Box::new(RabbitTurns::start(Arc::clone(&self.0))))
    }

    async fn groups(&self) -> Result<GroupCounts, BrokerError> {
        let (waiting, in_turn, held) = self.0.log.look(|book| book.groups.counts()).await?;
        Ok(GroupCounts {
            runnable: waiting + in_turn,
            in_turn,
            held,
        })
    }

    async fn held_groups(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HeldGroup>, BrokerError> {
        let limit = limit.min(MOST_OF_A_PAGE);
        let held = self
            .0
            .log
            .look(|book| book.groups.held_after(after, limit))
            .await?;
        let held = held.into_iter().map(|(group, held)| HeldGroup {
            group,
            hold: held.hold(),
            since: held.since,
            message_id: held.message_id,
            failure: held.failure,
        });
        Ok(held.collect())
    }

    async fn release_group(&self, group: &str) -> Result<bool, BrokerError> {
        self.0.release(group).await
    }

    async fn redrive_group(&self, group: &str) -> Result<u64, BrokerError> {
        self.0.redrive(group).await
    }
}
