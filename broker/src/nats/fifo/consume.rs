//! Taking turns.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::consume::{Puller, Take};
use super::Fifo;
use super::open::take_in;
use crate::error::BrokerError;
use crate::fifo::{Turn, TurnConsumer};
use crate::task;

/// How long a consumer that has nothing to do waits until it looks for what was left behind.
const SWEEP_AFTER: Duration = Duration::from_secs(5);
/// And one that has.
const SWEEP_BY: Duration = Duration::from_mins(1);

/// A consumer of turns.
pub(super) struct NatsTurns {
    fifo: Fifo,
    puller: Puller<Turn>,
    sweep_at: Instant,
    sweep_by: Instant,
    sweeping: Option<AbortOnDropHandle<()>>,
}

impl NatsTurns {
    pub(super) async fn open(fifo: &Fifo) -> Result<Self, BrokerError> {
        let taking = fifo.clone();
        let take: Take<Turn> = Box::new(move |raw, terms| take_in(&taking, &raw, terms));
        let shared = std::sync::Arc::clone(&fifo.shared);
        let mut puller = Puller::new(shared, fifo.limit, fifo.lease, take);
        puller.check().await?;
        Ok(Self {
            fifo: fifo.clone(),
            puller,
            sweep_at: Instant::now() + jittered(SWEEP_AFTER),
            sweep_by: Instant::now() + jittered(SWEEP_BY),
            sweeping: None,
        })
    }

    /// Looks for what was left behind, beside everything else.
    fn sweep(&mut self) {
        let fifo = self.fifo.clone();
        self.sweeping = Some(task::start(async move {
            if let Err(error) = fifo.sweep().await {
                tracing::debug!(%error, "groups without a turn are looked for later");
            }
        }));
        self.sweep_at = Instant::now() + jittered(SWEEP_AFTER);
        self.sweep_by = Instant::now() + jittered(SWEEP_BY);
    }
}

/// Not all processes at once.
fn jittered(span: Duration) -> Duration {
    span.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[async_trait]
impl TurnConsumer for NatsTurns {
    fn want(&mut self, more: usize) {
        self.puller.want(more);
    }

    fn wanted(&self) -> usize {
        self.puller.wanted()
    }

    async fn next(&mut self) -> Result<Option<Turn>, BrokerError> {
        loop {
            let due = self.sweep_at.min(self.sweep_by);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due) => {
                    let busy = self.sweeping.as_ref().is_some_and(|task| !task.is_finished());
                    if busy {
                        self.sweep_at = Instant::now() + jittered(SWEEP_AFTER);
                        self.sweep_by = self.sweep_by.max(self.sweep_at);
                    } else {
                        self.sweep();
                    }
                }
                turn = self.puller.next() => {
                    // Where turns come there is little need to look for them.
                    self.sweep_at = self.sweep_at.max(Instant::now() + jittered(SWEEP_AFTER));
                    return turn;
                }
            }
        }
    }

    async fn stop(&mut self) {
        self.puller.stop().await;
    }
}
