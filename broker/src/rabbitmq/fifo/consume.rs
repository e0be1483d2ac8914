//! A consumer of turns: says how many it wants, and hands out those that the log gives it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Fifo;
use super::groups::Right;
use super::keep::keep;
use super::lease::RabbitTurn;
use super::log::Current;
use super::record::Record;
use crate::error::BrokerError;
use crate::fifo::{Turn, TurnConsumer};
use crate::task;

/// After this is looked again without a reason.
const LOOK: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);
/// How long a consumer that was dropped tries to say so.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a consumer and its keeper share.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<Slip>,
    /// The wants changed.
    pub(super) asked: Notify,
    /// There is an error to tell.
    told: Notify,
}

#[derive(Default)]
pub(super) struct Slip {
    /// Turns that were asked for and not handed out.
    pub(super) wanted: u64,
    /// The first turn that was not handed out.
    pub(super) next: u64,
    pub(super) stopped: bool,
    /// The topology is gone.
    missing: Option<BrokerError>,
    told_missing: bool,
}

impl Desk {
    pub(super) fn slip(&self) -> MutexGuard<'_, Slip> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells once that the topology is gone.
    pub(super) fn tell_missing(&self, error: BrokerError) {
        let mut slip = self.slip();
        if !std::mem::replace(&mut slip.told_missing, true) {
            slip.missing = Some(error);
            self.told.notify_one();
        }
    }

    pub(super) fn is_there(&self) {
        self.slip().told_missing = false;
    }
}

/// A consumer of turns.
pub(crate) struct RabbitTurns {
    fifo: Arc<Fifo>,
    consumer: u64,
    desk: Arc<Desk>,
    /// It was recorded that nothing more is wanted.
    gone: bool,
    _keeper: AbortOnDropHandle<()>,
}

impl RabbitTurns {
    pub(super) fn start(fifo: Arc<Fifo>) -> Self {
        let consumer = fastrand::u64(..);
        let desk = Arc::new(Desk::default());
        let keeper = task::start(keep(Arc::clone(&fifo), consumer, Arc::clone(&desk)));
        Self {
            fifo,
            consumer,
            desk,
            gone: false,
            _keeper: keeper,
        }
    }

    fn granted(&self, current: &Current) -> Option<(u64, Right)> {
        let next = self.desk.slip().next;
        let consumer = self.consumer;
        current
            .tail
            .read(|book| book.groups.granted(consumer, next))
    }

    /// Reads the messages of a turn. `None` where it has none any more.
    async fn open(
        &self,
        current: &Current,
        turn: u64,
        right: Right,
    ) -> Result<Option<Turn>, BrokerError> {
        let until = Instant::now() + self.fifo.lease;
        let now = self.fifo.log.now();
        let most = self.fifo.batch_max;
        let entries = current.tail.read(|book| {
            let due = book.groups.first(&right.group, now, most);
            if due.is_empty() {
                // Its time has come by the clock of whoever wrote last.
                book.groups.first(&right.group, i64::MAX, 1)
            } else {
                due
            }
        });
        let batch = self.fifo.read(current, &entries).await?;
        if batch.is_empty() {
            self.fifo.log.write(Record::End { turn }).await?;
            self.desk.slip().next = turn + 1;
            self.desk.asked.notify_one();
            return Ok(None);
        }
        {
            let mut slip = self.desk.slip();
            slip.wanted = slip.wanted.saturating_sub(1);
            slip.next = turn + 1;
        }
        let messages = batch.iter().map(|(_, held)| held.clone()).collect();
        let group = right.group.clone();
        let lease = RabbitTurn::new(Arc::clone(&self.fifo), group, turn, batch, until);
        Ok(Some(Turn {
            group: right.group,
            messages,
            redelivered: right.again,
            lease: Arc::new(lease),
        }))
    }
}

#[async_trait]
impl TurnConsumer for RabbitTurns {
    fn want(&mut self, more: usize) {
        let mut slip = self.desk.slip();
        if !slip.stopped && more > 0 {
            slip.wanted = slip.wanted.saturating_add(more as u64);
            drop(slip);
            self.desk.asked.notify_one();
        }
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.desk.slip().wanted).unwrap_or(usize::MAX)
    }

    async fn next(&mut self) -> Result<Option<Turn>, BrokerError> {
        loop {
            if let Some(error) = self.desk.slip().missing.take() {
                return Err(error);
            }
            let mut control = self.fifo.log.control().changes();
            let Some(current) = self.fifo.log.current() else {
                if self.desk.slip().stopped {
                    return Ok(None);
                }
                tokio::select! {
                    () = control.next() => {}
                    () = self.desk.told.notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
                continue;
            };
            let mut changes = current.tail.changes();
            if let Some((turn, right)) = self.granted(&current) {
                match self.open(&current, turn, right).await {
                    Ok(Some(turn)) => return Ok(Some(turn)),
                    Ok(None) => continue,
                    Err(error) => {
                        tracing::debug!(%error, "a turn is read again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            if self.desk.slip().stopped {
                if self.gone {
                    return Ok(None);
                }
                let consumer = self.consumer;
                if let Err(error) = self.fifo.log.write(Record::Gone { consumer }).await {
                    // What it is given meanwhile comes to others after the lease.
                    tracing::debug!(%error, "a consumer stops without a word");
                    return Ok(None);
                }
                self.gone = true;
                continue;
            }
            tokio::select! {
                () = changes.next() => {}
                () = control.next() => {}
                () = self.desk.told.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn stop(&mut self) {
        let mut slip = self.desk.slip();
        slip.stopped = true;
        slip.wanted = 0;
    }
}

impl Drop for RabbitTurns {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let next = {
            let mut slip = self.desk.slip();
            slip.stopped = true;
            slip.next
        };
        let (fifo, consumer, gone) = (Arc::clone(&self.fifo), self.consumer, self.gone);
        // What nobody took goes to others at once instead of after its lease.
        let farewell = async move {
            if !gone {
                fifo.log.write(Record::Gone { consumer }).await?;
            }
            let mut next = next;
            while let Some(current) = fifo.log.current()
                && let Some((turn, _)) = current
                    .tail
                    .read(|book| book.groups.granted(consumer, next))
            {
                fifo.log.write(Record::End { turn }).await?;
                next = turn + 1;
            }
            fifo.log.forget(consumer).await
        };
        task::start(tokio::time::timeout(FAREWELL, farewell)).detach();
    }
}
