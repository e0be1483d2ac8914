//! A handle on one queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use weir_core::dead_letter::DeadLetter;
use weir_core::message::Message;

use super::codec::{encode, new_copy};
use super::consume::RabbitConsumer;
use super::dedup::publish_once;
use super::fifo::{Fifo, RabbitFifo};
use super::shared::Shared;
use super::{MAX_MESSAGE_BYTES, unsupported};
use crate::error::BrokerError;
use crate::fifo::{FifoQueue, wrong_kind};
use crate::queue::{
    Consumer, Depth, Page, Permit, Publication, Published, Record, RecordName, StoredDeadLetter,
    StoredMessage, WorkQueue,
};

impl Shared {
    /// Stores a new message.
    pub(crate) async fn store_message(
        &self,
        message: &Message,
        delay: Duration,
    ) -> Result<(), BrokerError> {
        let properties = encode(message, 0, &new_copy())?;
        self.store(properties, &message.body, delay).await
    }
}

pub(crate) struct RabbitQueue {
    pub(crate) shared: Arc<Shared>,
    /// Only of a FIFO queue.
    pub(crate) fifo: Option<Arc<Fifo>>,
}

#[async_trait]
impl WorkQueue for RabbitQueue {
    async fn publish(&self, publication: Publication) -> Result<Published, BrokerError> {
        self.shared.connection.live()?;
        let size = publication.message.wire_len();
        if size > MAX_MESSAGE_BYTES {
            return Err(BrokerError::TooLarge {
                size,
                limit: MAX_MESSAGE_BYTES,
            });
        }
        if let Some(fifo) = &self.fifo {
            return fifo.publish(publication).await;
        }
        let Some((identity, window)) = &publication.dedup else {
            self.shared
                .store_message(&publication.message, publication.delay)
                .await?;
            return Ok(Published {
                id: publication.message.id,
                duplicate: false,
            });
        };
        let Some(keys) = &self.shared.keys else {
            return Err(unsupported(
                "RabbitMQ cannot deduplicate by itself; name a NATS bus as the `state` of this bus, \
                 or do not deduplicate",
            ));
        };
        publish_once(&self.shared, keys, &publication, identity, *window).await
    }

    fn fifo(&self) -> Result<Arc<dyn FifoQueue>, BrokerError> {
        match &self.fifo {
            Some(fifo) => Ok(Arc::new(RabbitFifo(Arc::clone(fifo)))),
            None => Err(wrong_kind(true)),
        }
    }

    async fn consume(&self) -> Result<Box<dyn Consumer>, BrokerError> {
        if self.fifo.is_some() {
            return Err(wrong_kind(false));
        }
        let live = self.shared.connection.live()?;
        live.ready(&self.shared.names.queue)
            .await
            .map_err(|failure| failure.told(&self.shared.names.shown()))?;
        Ok(Box::new(RabbitConsumer::start(Arc::clone(&self.shared))))
    }

    async fn permit(&self) -> Result<Box<dyn Permit>, BrokerError> {
        self.shared.permits().take().await
    }

    async fn depth(&self) -> Result<Depth, BrokerError> {
        match &self.fifo {
            Some(fifo) => fifo.depth().await,
            None => self.shared.depth().await,
        }
    }

    async fn peek(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredMessage>, BrokerError> {
        if let Some(fifo) = &self.fifo {
            return fifo.peek(after, limit).await;
        }
        Err(unsupported(
            "a quorum queue can be read only by taking messages out of it, which changes their order \
             and counts; look at the depth and the dead letters instead",
        ))
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
        self.shared.retention
    }

    async fn last_dead_letter(&self) -> Result<Option<u64>, BrokerError> {
        self.shared.last_dead_letter().await
    }

    async fn store_dead_letter(&self, letter: &DeadLetter) -> Result<bool, BrokerError> {
        self.shared.restore_dead_letter(letter).await
    }

    async fn purge_dead_letters(&self, through: u64) -> Result<u64, BrokerError> {
        self.shared.purge_dead_letters(through).await
    }

    async fn record(&self, name: RecordName) -> Result<Option<Record>, BrokerError> {
        self.shared.document(name.as_str()).await
    }

    async fn put_record(
        &self,
        name: RecordName,
        expected: u64,
        body: Bytes,
        _kept: Duration,
    ) -> Result<Option<u64>, BrokerError> {
        // The stream of what was decided keeps everything.
        self.shared
            .put_document(name.as_str(), expected, &body)
            .await
    }

    fn max_message_bytes(&self) -> usize {
        MAX_MESSAGE_BYTES
    }
}
