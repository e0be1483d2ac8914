//! A handle on one queue, and what all handles on a queue in this process share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::HeaderMap;
use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use weir_core::dead_letter::DeadLetter;
use weir_core::message::Message;

use super::codec::{RESERVE, encode, put};
use super::commit::{Budget, Committer, no_stream};
use super::connection::{Connection, parse};
use super::consume::{Puller, Take};
use super::fifo::Fifo;
use super::group::{Guarded, Outcome};
use super::permit::Permits;
use super::recent::Recent;
use super::redelivery::take_in;
use super::topology::Names;
use crate::clock::Clock;
use crate::error::BrokerError;
use crate::fifo::{FifoQueue, wrong_kind};
use crate::queue::{
    Consumer, Delivery, Depth, Page, Permit, Publication, Published, Record, RecordName,
    StoredDeadLetter, StoredMessage, WorkQueue,
};

/// One stream as this process uses it.
pub(crate) struct Shared {
    pub(crate) connection: Connection,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) names: Names,
    pub(crate) budget: Budget,
    pub(crate) recent: Recent,
    committer: OnceLock<Committer>,
    permits: OnceLock<Permits>,
}

impl Shared {
    pub(crate) fn new(connection: Connection, clock: Arc<dyn Clock>, names: Names) -> Self {
        Self {
            connection,
            clock,
            names,
            budget: Budget::new(),
            recent: Recent::default(),
            committer: OnceLock::new(),
            permits: OnceLock::new(),
        }
    }

    pub(crate) fn committer(&self) -> &Committer {
        self.committer
            .get_or_init(|| Committer::start(self.connection.clone(), self.names.stream.clone()))
    }

    fn permits(&self) -> &Permits {
        self.permits
            .get_or_init(|| Permits::start(self.connection.clone(), self.names.stream.clone()))
    }

    pub(crate) fn full(&self) -> BrokerError {
        BrokerError::Full {
            what: format!("the way to {}", self.names.shown()),
        }
    }

    /// Adds what makes a stored message wait for its time.
    pub(crate) fn schedule(
        &self,
        headers: &mut HeaderMap,
        delay: Duration,
    ) -> Result<(), BrokerError> {
        let due = due(self.clock.now(), delay);
        put(headers, "Nats-Schedule", &format!("@at {due:.3}"))?;
        put(headers, "Nats-Schedule-Target", &self.names.main)
    }

    /// Stores a message, once for each identity inside its window. `address` says on which subject,
    /// and may add headers.
    pub(crate) async fn publish(
        &self,
        message: Message,
        dedup: Option<(String, Duration)>,
        address: impl FnOnce(&mut HeaderMap, &Message) -> Result<String, BrokerError>,
    ) -> Result<Published, BrokerError> {
        if !self.connection.is_up() {
            return Err(self.connection.unreachable());
        }
        let (size, limit) = (message.wire_len(), self.max_message_bytes());
        if size > limit {
            return Err(BrokerError::TooLarge { size, limit });
        }
        let mut headers = encode(&message, 0)?;
        let share = self.budget.take(size).ok_or_else(|| self.full())?;
        let subject = address(&mut headers, &message)?;
        let Some((identity, window)) = dedup else {
            let answer = self.store(&subject, headers, message.body).await;
            drop(share);
            answer?;
            return Ok(Published {
                id: message.id,
                duplicate: false,
            });
        };
        // The mark tells this call from a repeated one that has the same message id.
        let mark = format!("{:016x} {}", fastrand::u64(..), message.id);
        let store = Guarded {
            key: self.names.key(&identity),
            expected: 0,
            mark: mark.into(),
            kept_seconds: whole_seconds(window),
            subject,
            headers,
            body: message.body,
        };
        match self.committer().commit(store, share).await? {
            Outcome::Stored => Ok(Published {
                id: message.id,
                duplicate: false,
            }),
            Outcome::Refused { mark, .. } => {
                let mark = String::from_utf8_lossy(&mark);
                let first = mark.split_once(' ').map_or(mark.as_ref(), |(_, id)| id);
                Ok(Published {
                    id: first.to_owned(),
                    duplicate: true,
                })
            }
        }
    }

    /// Stores one message and waits until it is.
    async fn store(
        &self,
        subject: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(), BrokerError> {
        const OPERATION: &str = "publish";
        let stored = match self
            .connection
            .request(OPERATION, subject, Some(headers), body)
            .await
        {
            Ok(answer) => parse::<super::api::PubAck>(OPERATION, &answer.payload),
            Err(failure) => Err(failure),
        };
        match stored {
            Ok(_) => Ok(()),
            Err(failure) => Err(no_stream(&self.connection, &self.names.stream, failure).await),
        }
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        self.connection
            .client()
            .max_payload()
            .saturating_sub(RESERVE)
    }
}

/// When something is due. Rounded up to the millisecond: never before its time.
pub(crate) fn due(now: Timestamp, delay: Duration) -> Timestamp {
    let span = SignedDuration::try_from(delay.saturating_add(Duration::from_micros(999)));
    now.checked_add(span.unwrap_or(SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

/// A span in whole seconds, rounded up: a key must not go too early.
pub(crate) fn whole_seconds(span: Duration) -> u64 {
    (span.as_secs() + u64::from(span.subsec_nanos() > 0)).max(1)
}

/// A handle on one queue.
pub(crate) struct NatsQueue {
    pub(crate) shared: Arc<Shared>,
    pub(crate) lease: Duration,
    /// Most deliveries that may be out, over all processes.
    pub(crate) outstanding: usize,
    /// How long dead letters are kept.
    pub(crate) kept: Duration,
    /// Present where order is kept.
    pub(crate) fifo: Option<Arc<Fifo>>,
}

#[async_trait]
impl WorkQueue for NatsQueue {
    async fn publish(&self, publication: Publication) -> Result<Published, BrokerError> {
        let Publication {
            message,
            dedup,
            delay,
        } = publication;
        if let Some(fifo) = &self.fifo {
            return fifo.publish(message, dedup, delay).await;
        }
        let shared = &self.shared;
        let address = |headers: &mut HeaderMap, message: &Message| {
            if delay.is_zero() {
                return Ok(shared.names.main.clone());
            }
            shared.schedule(headers, delay)?;
            Ok(shared.names.retry(&message.id))
        };
        shared.publish(message, dedup, address).await
    }

    async fn consume(&self) -> Result<Box<dyn Consumer>, BrokerError> {
        if self.fifo.is_some() {
            return Err(wrong_kind(false));
        }
        let (shared, lease) = (Arc::clone(&self.shared), self.lease);
        let take: Take<Delivery> =
            Box::new(move |message, terms| take_in(&shared, lease, message, terms));
        let mut consumer = Puller::new(Arc::clone(&self.shared), self.outstanding, lease, take);
        consumer.check().await?;
        Ok(Box::new(consumer))
    }

    fn fifo(&self) -> Result<Arc<dyn FifoQueue>, BrokerError> {
        let fifo = self.fifo.clone().ok_or_else(|| wrong_kind(true))?;
        Ok(fifo)
    }

    async fn permit(&self) -> Result<Box<dyn Permit>, BrokerError> {
        if self.fifo.is_some() {
            return Err(wrong_kind(false));
        }
        self.shared.permits().take().await
    }

    async fn depth(&self) -> Result<Depth, BrokerError> {
        match &self.fifo {
            Some(fifo) => Box::pin(fifo.depth()).await,
            None => self.shared.depth().await,
        }
    }

    async fn peek(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredMessage>, BrokerError> {
        match &self.fifo {
            Some(fifo) => fifo.peek(after, limit).await,
            None => self.shared.peek(after, limit).await,
        }
    }

    async fn dead_letters(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredDeadLetter>, BrokerError> {
        self.shared.dead_letters(after, limit).await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<StoredDeadLetter>, BrokerError> {
        self.shared.dead_letter_of(id).await
    }

    async fn remove_dead_letter(&self, position: u64) -> Result<bool, BrokerError> {
        self.shared.remove_dead_letter(position).await
    }

    fn dead_letters_kept(&self) -> Duration {
        self.kept
    }

    async fn last_dead_letter(&self) -> Result<Option<u64>, BrokerError> {
        self.shared.last_dead_letter().await
    }

    async fn store_dead_letter(&self, letter: &DeadLetter) -> Result<bool, BrokerError> {
        self.shared.store_dead_letter(letter).await
    }

    async fn purge_dead_letters(&self, through: u64) -> Result<u64, BrokerError> {
        self.shared.purge_dead_letters(through).await
    }

    async fn record(&self, name: RecordName) -> Result<Option<Record>, BrokerError> {
        self.shared.record(name).await
    }

    async fn put_record(
        &self,
        name: RecordName,
        expected: u64,
        body: Bytes,
        kept: Duration,
    ) -> Result<Option<u64>, BrokerError> {
        self.shared.put_record(name, expected, body, kept).await
    }

    fn max_message_bytes(&self) -> usize {
        self.shared.max_message_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rounded_so_that_nothing_is_early() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_mins(5)), 300);
        assert_eq!(whole_seconds(Duration::from_millis(300_001)), 301);
        let now: Timestamp = "2026-01-01T00:00:00.000900Z".parse().unwrap();
        let shown = format!("{:.3}", due(now, Duration::from_millis(1)));
        assert_eq!(shown, "2026-01-01T00:00:00.002Z");
        assert_eq!(due(now, Duration::MAX), Timestamp::MAX);
    }
}
