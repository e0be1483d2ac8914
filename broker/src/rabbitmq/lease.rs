//! The right to handle one delivery.
//!
//! What replaces a copy (its retry, its dead letter) is stored, then that the copy is done is noted, then it
//! is acknowledged: acknowledgements are not confirmed, and one that is lost brings the copy back, which
//! is thrown away then. Only who dies between the first and the second step causes one more delivery.
//!
//! RabbitMQ knows no lease: a message is somebody's as long as their connection lasts. The lease is
//! kept here, by the consumer that the message came to, which gives the message back when it ends. It
//! also ends with the connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use weir_core::dead_letter::Failure;
use weir_core::message::Message;

use super::codec::{self, new_copy};
use super::lanes::Settle;
use super::notes::Note;
use super::shared::Shared;
use crate::error::BrokerError;
use crate::queue::Lease;

/// What a consumer is told by its leases and its user.
pub(crate) enum Command {
    /// So many further deliveries are wanted.
    Want(usize),
    /// Nothing more is wanted.
    Stop,
    /// Settle a delivery.
    Settle {
        number: u64,
        how: Settle,
        done: oneshot::Sender<Result<(), BrokerError>>,
        /// Say so when the broker has taken it in, and not when it is on its way.
        surely: bool,
    },
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Held {
        until: Instant,
    },
    /// A settlement is on its way: the lease does not end under it.
    Settling {
        until: Instant,
    },
    Settled,
    Over,
}

/// What a lease and its consumer share.
pub(crate) struct Standing {
    phase: Mutex<Phase>,
}

impl Standing {
    pub(crate) fn new(until: Instant) -> Self {
        Self {
            phase: Mutex::new(Phase::Held { until }),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the lease if its time has come.
    pub(crate) fn expire(&self, now: Instant) -> bool {
        let mut phase = self.phase();
        let over = matches!(*phase, Phase::Held { until } if until <= now);
        if over {
            *phase = Phase::Over;
        }
        over
    }

    /// Ends it whatever its time: the connection is lost.
    pub(crate) fn lose(&self) {
        let mut phase = self.phase();
        if !matches!(*phase, Phase::Settled) {
            *phase = Phase::Over;
        }
    }

    /// Begins a settlement. False where the lease is over, or the message settled.
    fn settling(&self) -> Result<Instant, Phase> {
        let mut phase = self.phase();
        match *phase {
            Phase::Held { until } | Phase::Settling { until } if until > Instant::now() => {
                *phase = Phase::Settling { until };
                Ok(until)
            }
            Phase::Held { .. } | Phase::Settling { .. } => Err(Phase::Over),
            other => Err(other),
        }
    }

    /// Ends a settlement.
    fn settled(&self, well: bool) {
        let mut phase = self.phase();
        if let Phase::Settling { until } = *phase {
            *phase = if well {
                Phase::Settled
            } else {
                Phase::Held { until }
            };
        } else if well {
            *phase = Phase::Settled;
        }
    }
}

/// The lease of one delivery.
pub(crate) struct RabbitLease {
    pub(crate) shared: Arc<Shared>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    /// Keeps the consumer that must settle it.
    pub(crate) _consumer: Arc<AbortOnDropHandle<()>>,
    pub(crate) number: u64,
    pub(crate) message: Message,
    pub(crate) copy: Arc<str>,
    pub(crate) redelivered: bool,
    pub(crate) begun: AtomicBool,
}

impl RabbitLease {
    fn over(&self) -> BrokerError {
        BrokerError::LeaseOver {
            id: self.message.id.clone(),
        }
    }

    /// Settles it at the broker.
    async fn settle(&self, how: Settle, surely: bool) -> Result<(), BrokerError> {
        let (done, settled) = oneshot::channel();
        let command = Command::Settle {
            number: self.number,
            how,
            done,
            surely,
        };
        self.commands.send(command).map_err(|_| self.over())?;
        settled.await.map_err(|_| self.over())?
    }

    /// Does `first`, then settles. The lease does not end meanwhile.
    async fn settle_after(
        &self,
        first: impl Future<Output = Result<(), BrokerError>>,
        how: Settle,
    ) -> Result<(), BrokerError> {
        match self.standing.settling() {
            Ok(_) => {}
            Err(Phase::Settled) => return Ok(()),
            // What replaces it was stored before the connection was lost.
            Err(_) if self.shared.is_done(&self.copy) => {
                self.shared.note(Note::Done, &self.copy).await?;
                self.standing.settled(true);
                return Ok(());
            }
            Err(_) => return Err(self.over()),
        }
        let ended = Ended(&self.standing);
        first.await?;
        let settled = self.settle(how, true).await;
        if settled.is_ok() {
            ended.well();
        }
        settled
    }

    /// What replaces the copy is stored; if its acknowledgement was lost, the copy is done all the
    /// same.
    fn replaced(&self, settled: &Result<(), BrokerError>) {
        if settled.is_err() {
            self.shared.remember_done(&self.copy);
        }
    }
}

/// Ends a settlement, also when it is given up half way.
struct Ended<'a>(&'a Standing);

impl Ended<'_> {
    fn well(self) {
        self.0.settled(true);
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.settled(false);
    }
}

#[async_trait]
impl Lease for RabbitLease {
    async fn begin(&self) -> Result<(), BrokerError> {
        self.standing.settling().map_err(|_| self.over())?;
        let _ended = Ended(&self.standing);
        if !self.redelivered || self.begun.load(Ordering::Acquire) {
            return Ok(());
        }
        self.shared.note(Note::Began, &self.copy).await?;
        self.begun.store(true, Ordering::Release);
        Ok(())
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        let mut phase = self.standing.phase();
        let now = Instant::now();
        let later = now + self.shared.lease;
        *phase = match *phase {
            Phase::Held { until } if until > now => Phase::Held { until: later },
            Phase::Settling { .. } => Phase::Settling { until: later },
            _ => return Err(self.over()),
        };
        Ok(())
    }

    async fn ack(&self) -> Result<(), BrokerError> {
        match self.standing.settling() {
            Ok(_) => {
                let ended = Ended(&self.standing);
                let settled = self.settle(Settle::Ack, false).await;
                if settled.is_ok() {
                    ended.well();
                }
                settled
            }
            Err(Phase::Settled) => Ok(()),
            // It may be in other hands. Whoever gets it next finds that it was handled.
            Err(_) => {
                self.shared.note(Note::Done, &self.copy).await?;
                self.standing.settled(true);
                Ok(())
            }
        }
    }

    async fn retry(&self, delay: Duration, attempts: u32) -> Result<(), BrokerError> {
        let properties = codec::encode(&self.message, attempts, &new_copy())?;
        let mut stored = self.shared.is_done(&self.copy);
        let first = async {
            if stored {
                return self.shared.note(Note::Done, &self.copy).await;
            }
            self.shared
                .store(properties, &self.message.body, delay)
                .await?;
            stored = true;
            self.shared.note(Note::Done, &self.copy).await
        };
        let settled = self.settle_after(first, Settle::Ack).await;
        if stored {
            self.replaced(&settled);
        }
        settled
    }

    async fn dead_letter(&self, failure: &Failure) -> Result<(), BrokerError> {
        let properties = codec::encode_dead(&self.message, failure, &self.copy)?;
        let mut stored = self.shared.is_done(&self.copy);
        let first = async {
            if stored {
                return self.shared.note(Note::Done, &self.copy).await;
            }
            self.shared
                .store_dead(properties, &self.message.body)
                .await?;
            stored = true;
            self.shared.note(Note::Done, &self.copy).await
        };
        let settled = self.settle_after(first, Settle::Ack).await;
        if stored {
            self.replaced(&settled);
        }
        settled
    }

    async fn give_back(&self) -> Result<(), BrokerError> {
        let first = async {
            if self.begun.load(Ordering::Acquire) {
                self.shared.note(Note::Undone, &self.copy).await?;
                self.begun.store(false, Ordering::Release);
            }
            Ok(())
        };
        self.settle_after(first, Settle::Requeue).await
    }
}
