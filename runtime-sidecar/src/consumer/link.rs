//! The broker's side of an engine: opening a consumer, using it, stopping it, trying again later.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use weir_broker::{BrokerError, Consumer, Delivery, WorkQueue};

/// Longest wait for a consumer to say that it has stopped.
const STOPPING: Duration = Duration::from_secs(5);

type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn Consumer>, BrokerError>> + Send>>;

/// See the module.
pub enum Link {
    /// No consumer; the next try is not before this.
    Closed { until: Instant },
    /// The broker is asked.
    Opening(Opening),
    /// Messages may be asked for.
    Open(Box<dyn Consumer>),
    /// Asked to stop; what was on its way still comes.
    Stopping {
        consumer: Box<dyn Consumer>,
        until: Instant,
    },
}

/// What the broker has for an engine.
pub enum Arrival {
    /// A consumer, which makes the link open.
    Consumer(Box<dyn Consumer>),
    /// A message.
    Message(Delivery),
    /// The consumer has stopped.
    End,
}

impl Link {
    /// No consumer, and none is tried before `until`.
    pub fn closed(until: Instant) -> Self {
        Self::Closed { until }
    }

    /// Moves towards a consumer of `wanted`, or towards none.
    pub async fn advance(self, wanted: Option<&Arc<dyn WorkQueue>>) -> Self {
        let now = Instant::now();
        match (self, wanted) {
            (Self::Closed { until }, Some(queue)) if now >= until => {
                let queue = queue.clone();
                Self::Opening(Box::pin(async move { queue.consume().await }))
            }
            (Self::Opening(_), None) => Self::closed(now),
            (Self::Open(mut consumer), None) => {
                // The loop that waits here shows no sign of life, so it must not wait for long.
                let _ = timeout(STOPPING, consumer.stop()).await;
                Self::Stopping {
                    consumer,
                    until: Instant::now() + STOPPING,
                }
            }
            (Self::Stopping { until, .. }, _) if now >= until => Self::closed(now),
            (unchanged, _) => unchanged,
        }
    }

    /// The next thing that the broker has. Cancel safe.
    pub async fn next(&mut self) -> Result<Arrival, BrokerError> {
        match self {
            Self::Closed { .. } => std::future::pending().await,
            Self::Opening(opening) => opening.await.map(Arrival::Consumer),
            Self::Open(consumer) | Self::Stopping { consumer, .. } => Ok(consumer
                .next()
                .await?
                .map_or(Arrival::End, Arrival::Message)),
        }
    }

    /// When [`Link::advance`] has something to do by itself.
    pub fn next_wake(&self) -> Option<Instant> {
        match self {
            Self::Closed { until } | Self::Stopping { until, .. } => {
                Some(*until).filter(|until| *until > Instant::now())
            }
            Self::Opening(_) | Self::Open(_) => None,
        }
    }

    /// Whether messages may be asked for.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Whether nothing comes any more.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}
