//! Taking turns.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::super::consume::{Puller, Take};
use super::Fifo;
use super::open::take_in;
use crate::error::BrokerError;
use crate::fifo::{Turn, TurnConsumer};

/// How long a consumer that has nothing to do waits until it looks for what was left behind.
const SWEEP_AFTER: Duration = Duration::from_secs(5);

/// A consumer of turns.
pub(super) struct NatsTurns {
    fifo: Fifo,
    puller: Puller<Turn>,
    sweep_at: Instant,
}

impl NatsTurns {
    pub(super) async fn open(fifo: &Fifo) -> Result<Self, BrokerError> {
        let taking = fifo.clone();
        let take: Take<Turn> = Box::new(move |raw, suspect| take_in(&taking, &raw, suspect));
        let mut puller = Puller::new(std::sync::Arc::clone(&fifo.shared), fifo.limit, take);
        puller.check().await?;
        Ok(Self {
            fifo: fifo.clone(),
            puller,
            sweep_at: Instant::now() + jittered(),
        })
    }
}

/// Not all processes at once.
fn jittered() -> Duration {
    SWEEP_AFTER.mul_f64(0.5 + fastrand::f64() / 2.0)
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
            let fifo = &self.fifo;
            let sweep_at = self.sweep_at;
            let sweep = async {
                tokio::time::sleep_until(sweep_at).await;
                if let Err(error) = fifo.sweep().await {
                    tracing::debug!(%error, "groups without a turn are looked for later");
                }
            };
            tokio::select! {
                biased;
                turn = self.puller.next() => {
                    // Where turns come there is no need to look for them.
                    self.sweep_at = self.sweep_at.max(Instant::now() + jittered());
                    return turn;
                }
                () = sweep => self.sweep_at = Instant::now() + jittered(),
            }
        }
    }

    async fn stop(&mut self) {
        self.puller.stop().await;
    }
}
