//! A queue as a process sees it that is about to be killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use weir_broker::{
    BrokerError, Consumer, Depth, FifoQueue, Page, Permit, Publication, Published, Record,
    RecordName, StoredDeadLetter, StoredMessage, WorkQueue,
};
use weir_core::dead_letter::DeadLetter;

/// When the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// Before its change number so many is asked for.
    Before(usize),
    /// After that change was made, before its answer came.
    After(usize),
}

/// Lets some changes through, then never answers again.
pub struct Fragile {
    inner: Arc<dyn WorkQueue>,
    kill: Kill,
    changes: AtomicUsize,
    killed: CancellationToken,
}

impl Fragile {
    /// A queue that is lost at `kill`.
    pub fn new(inner: Arc<dyn WorkQueue>, kill: Kill) -> Arc<Self> {
        Arc::new(Self {
            inner,
            kill,
            changes: AtomicUsize::new(0),
            killed: CancellationToken::new(),
        })
    }

    /// Returns when the process would be dead.
    pub async fn killed(&self) {
        self.killed.cancelled().await;
    }

    async fn change<T>(
        &self,
        made: impl Future<Output = Result<T, BrokerError>> + Send,
    ) -> Result<T, BrokerError> {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        match self.kill {
            Kill::Before(last) if number >= last => {}
            Kill::After(last) if number >= last => {
                drop(made.await);
            }
            _ => return made.await,
        }
        self.killed.cancel();
        std::future::pending().await
    }
}

#[async_trait]
impl WorkQueue for Fragile {
    async fn publish(&self, publication: Publication) -> Result<Published, BrokerError> {
        self.change(self.inner.publish(publication)).await
    }

    fn fifo(&self) -> Result<Arc<dyn FifoQueue>, BrokerError> {
        self.inner.fifo()
    }

    async fn consume(&self) -> Result<Box<dyn Consumer>, BrokerError> {
        self.inner.consume().await
    }

    async fn permit(&self) -> Result<Box<dyn Permit>, BrokerError> {
        self.inner.permit().await
    }

    async fn depth(&self) -> Result<Depth, BrokerError> {
        self.inner.depth().await
    }

    async fn peek(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredMessage>, BrokerError> {
        self.inner.peek(after, limit).await
    }

    async fn dead_letters(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredDeadLetter>, BrokerError> {
        self.inner.dead_letters(after, limit).await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<StoredDeadLetter>, BrokerError> {
        self.inner.dead_letter(id).await
    }

    async fn remove_dead_letter(&self, position: u64) -> Result<bool, BrokerError> {
        self.change(self.inner.remove_dead_letter(position)).await
    }

    fn dead_letters_kept(&self) -> Duration {
        self.inner.dead_letters_kept()
    }

    async fn last_dead_letter(&self) -> Result<Option<u64>, BrokerError> {
        self.inner.last_dead_letter().await
    }

    async fn store_dead_letter(&self, letter: &DeadLetter) -> Result<bool, BrokerError> {
        self.change(self.inner.store_dead_letter(letter)).await
    }

    async fn purge_dead_letters(&self, through: u64) -> Result<u64, BrokerError> {
        self.change(self.inner.purge_dead_letters(through)).await
    }

    async fn record(&self, name: RecordName) -> Result<Option<Record>, BrokerError> {
        self.inner.record(name).await
    }

    async fn put_record(
        &self,
        name: RecordName,
        expected: u64,
        body: Bytes,
        kept: Duration,
    ) -> Result<Option<u64>, BrokerError> {
        self.change(self.inner.put_record(name, expected, body, kept))
            .await
    }

    fn max_message_bytes(&self) -> usize {
        self.inner.max_message_bytes()
    }
}
