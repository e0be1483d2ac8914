//! The lease on one delivery, and its four ends.
//!
//! A server accepts an acknowledgement from whoever held a message once, so the lease is also kept
//! by our own clock: when it is over, nothing but `ack` is sent any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use weir_core::dead_letter::Failure;
use weir_core::message::Message;

use super::api::PubAck;
use super::apply::purge;
use super::codec::{COPY, encode, encode_dead, put};
use super::commit::{last, no_stream};
use super::connection::parse;
use super::group::{Guarded, Outcome};
use super::queue::{Shared, whole_seconds};
use super::receipt::Receipt;
use super::tries::{Record, Source};
use crate::error::BrokerError;
use crate::queue::Lease;

/// How long counts of unfinished calls are kept when nothing removes them.
const COUNTS_KEPT: Duration = Duration::from_hours(7 * 24);
/// How often a write is repeated that somebody else got ahead of.
const TRIES: usize = 4;

/// What is written on the subject of the copy, as far as is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// Sequence of the last record; 0 for none.
    pub(crate) sequence: u64,
    /// Unfinished calls before this delivery.
    pub(crate) unfinished: u32,
}

/// The right to handle one delivery.
pub(crate) struct NatsLease {
    receipt: Receipt,
    message: Message,
    copy: String,
    span: Duration,
    until: Mutex<Instant>,
    written: Mutex<Written>,
    /// Calls are counted: this is not known to be the first delivery.
    counted: AtomicBool,
    begun: AtomicBool,
}

impl NatsLease {
    pub(crate) fn new(
        receipt: Receipt,
        message: Message,
        copy: String,
        span: Duration,
        until: Instant,
    ) -> Self {
        Self {
            counted: AtomicBool::new(receipt.source().delivered > 1),
            receipt,
            message,
            copy,
            span,
            until: Mutex::new(until),
            written: Mutex::new(Written::default()),
            begun: AtomicBool::new(false),
        }
    }

    fn shared(&self) -> &Shared {
        self.receipt.shared()
    }

    /// Notes what was found on the subject of the copy.
    pub(crate) fn found(&self, written: Written) {
        self.counted.store(true, Ordering::Release);
        *self.written() = written;
    }

    pub(crate) fn copy(&self) -> &str {
        &self.copy
    }

    pub(crate) fn source(&self) -> &Source {
        self.receipt.source()
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), BrokerError> {
        if self.is_over() {
            return Err(BrokerError::LeaseOver {
                id: self.message.id.clone(),
            });
        }
        Ok(())
    }

    /// Replaces the record of the copy. Where somebody else was faster, theirs is replaced.
    async fn write(&self, record: Record) -> Result<(), BrokerError> {
        const OPERATION: &str = "count call";
        let subject = self.shared().names.tries(self.source().sequence);
        let connection = &self.shared().connection;
        for _ in 0..TRIES {
            let expected = self.written().sequence;
            let mut headers = HeaderMap::new();
            put(
                &mut headers,
                "Nats-Expected-Last-Subject-Sequence",
                &expected.to_string(),
            )?;
            put(
                &mut headers,
                "Nats-TTL",
                &format!("{}s", COUNTS_KEPT.as_secs()),
            )?;
            let body = Bytes::from(record.write());
            let stored = match connection
                .request(OPERATION, &subject, Some(headers), body)
                .await
            {
                Ok(answer) => parse::<PubAck>(OPERATION, &answer.payload),
                Err(failure) => Err(failure),
            };
            match stored {
                Ok(ack) => {
                    self.written().sequence = ack.seq;
                    return Ok(());
                }
                Err(failure) if failure.is_wrong_sequence() => self.read_again(&subject).await?,
                Err(failure) => {
                    return Err(no_stream(connection, &self.shared().names.stream, failure).await);
                }
            }
        }
        Err(connection.unavailable("the message is being changed by others"))
    }

    async fn read_again(&self, subject: &str) -> Result<(), BrokerError> {
        let names = &self.shared().names;
        let now = last(&self.shared().connection, &names.stream, subject)
            .await
            .map_err(|failure| failure.told(&names.shown()))?;
        self.written().sequence = now.map_or(0, |record| record.sequence);
        Ok(())
    }

    /// Acknowledges, then removes the count that is not needed any more.
    async fn remove(&self) -> Result<(), BrokerError> {
        self.receipt.acknowledge().await?;
        if self.written().sequence > 0 {
            let names = &self.shared().names;
            let subject = names.tries(self.source().sequence);
            // What stays goes with its time to live.
            if let Err(error) = purge(&self.shared().connection, &names.stream, &subject).await {
                tracing::debug!(id = self.message.id, %error, "a count was left to expire");
            }
        }
        Ok(())
    }

    /// Stores the schedule together with the mark that the copy has moved, once.
    async fn store_retry(&self, delay: Duration, attempts: u32) -> Result<(), BrokerError> {
        let names = &self.shared().names;
        let moved = Record::Moved(attempts);
        let mut headers = encode(&self.message, attempts)?;
        put(&mut headers, COPY, &self.copy)?;
        self.shared().schedule(&mut headers, delay)?;
        for _ in 0..TRIES {
            let store = Guarded {
                key: names.tries(self.source().sequence),
                expected: self.written().sequence,
                mark: moved.write().into(),
                // Long enough for the redelivery that a missing acknowledgement causes.
                kept_seconds: whole_seconds((self.span * 4).max(Duration::from_mins(5))),
                subject: names.retry(&self.message.id),
                headers: headers.clone(),
                body: self.message.body.clone(),
            };
            let share = self
                .shared()
                .budget
                .take(store.size())
                .ok_or_else(|| self.shared().full())?;
            match self.shared().committer().commit(store, share).await? {
                Outcome::Stored => return Ok(()),
                Outcome::Refused { sequence, mark } => {
                    if matches!(Record::read(&mark), Some(Record::Moved(_))) {
                        return Ok(());
                    }
                    self.written().sequence = sequence;
                }
            }
        }
        Err(self
            .shared()
            .connection
            .unavailable("the message is being changed by others"))
    }
}

/// Stores the dead letter of a message, once for each stored copy; one of an earlier copy is replaced.
pub(crate) async fn store_dead(
    shared: &Shared,
    message: &Message,
    copy: &str,
    failure: &Failure,
) -> Result<(), BrokerError> {
    const OPERATION: &str = "store dead letter";
    let (names, connection) = (&shared.names, &shared.connection);
    let subject = names.dead(&message.id);
    let headers = encode_dead(message, failure, copy)?;
    let mut expected = 0;
    for _ in 0..TRIES {
        let mut headers = headers.clone();
        put(
            &mut headers,
            "Nats-Expected-Last-Subject-Sequence",
            &expected.to_string(),
        )?;
        let body = message.body.clone();
        let stored = match connection
            .request(OPERATION, &subject, Some(headers), body)
            .await
        {
            Ok(answer) => parse::<PubAck>(OPERATION, &answer.payload),
            Err(failure) => Err(failure),
        };
        match stored {
            Ok(_) => return Ok(()),
            Err(failure) if failure.is_wrong_sequence() => {
                let known = last(connection, &names.dead_stream, &subject)
                    .await
                    .map_err(|failure| failure.told(&names.dead_stream))?;
                match known {
                    Some(letter) if letter.value(COPY) == Some(copy) => return Ok(()),
                    Some(letter) => expected = letter.sequence,
                    None => expected = 0,
                }
            }
            Err(failure) => {
                return Err(no_stream(connection, &names.dead_stream, failure).await);
            }
        }
    }
    Err(connection.unavailable("the dead letter is being changed by others"))
}

#[async_trait]
impl Lease for NatsLease {
    async fn begin(&self) -> Result<(), BrokerError> {
        self.check()?;
        if !self.counted.load(Ordering::Acquire) || self.begun.load(Ordering::Acquire) {
            return Ok(());
        }
        let calls = self.written().unfinished.saturating_add(1);
        self.write(Record::Unfinished(calls)).await?;
        self.begun.store(true, Ordering::Release);
        Ok(())
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        self.check()?;
        let until = Instant::now() + self.span;
        self.receipt.say("extend lease", "+WPI").await?;
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        Ok(())
    }

    async fn ack(&self) -> Result<(), BrokerError> {
        self.remove().await
    }

    async fn retry(&self, delay: Duration, attempts: u32) -> Result<(), BrokerError> {
        self.check()?;
        self.store_retry(delay, attempts).await?;
        // The record says "moved" and stays until no redelivery can come any more.
        self.receipt.acknowledge().await
    }

    async fn dead_letter(&self, failure: &Failure) -> Result<(), BrokerError> {
        self.check()?;
        store_dead(self.shared(), &self.message, &self.copy, failure).await?;
        self.remove().await
    }

    async fn give_back(&self) -> Result<(), BrokerError> {
        self.check()?;
        if self.begun.load(Ordering::Acquire) {
            let unfinished = self.written().unfinished;
            self.write(Record::Unfinished(unfinished)).await?;
            self.begun.store(false, Ordering::Release);
        }
        // What the server has forgotten is deliverable already.
        self.receipt
            .say_if_known("give back", "-NAK")
            .await
            .map(|_| ())
    }
}
