//! The broker's side of an engine: opening a consumer, using it, stopping it, trying again later.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};
use weir_broker::fifo::{Turn, TurnConsumer};
use weir_broker::{BrokerError, Consumer, Delivery, WorkQueue};

/// Longest wait for a consumer to say that it has stopped.
const STOPPING: Duration = Duration::from_secs(5);

/// What a queue hands out: messages, or turns of groups.
#[async_trait]
pub trait Pull: Send + Sized + 'static {
    /// What comes.
    type Item: Send;
    /// Starts to consume.
    async fn open(queue: Arc<dyn WorkQueue>) -> Result<Self, BrokerError>;
    /// The next one; `None` once it has stopped. Cancel safe.
    async fn next(&mut self) -> Result<Option<Self::Item>, BrokerError>;
    /// Asks for nothing more.
    async fn stop(&mut self);
}

/// Hands out messages.
pub struct Messages(pub Box<dyn Consumer>);

#[async_trait]
impl Pull for Messages {
    type Item = Delivery;

    async fn open(queue: Arc<dyn WorkQueue>) -> Result<Self, BrokerError> {
        queue.consume().await.map(Self)
    }

    async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        self.0.next().await
    }

    async fn stop(&mut self) {
        self.0.stop().await;
    }
}

/// Hands out turns.
pub struct Turns(pub Box<dyn TurnConsumer>);

#[async_trait]
impl Pull for Turns {
    type Item = Turn;

    async fn open(queue: Arc<dyn WorkQueue>) -> Result<Self, BrokerError> {
        queue.fifo()?.consume().await.map(Self)
    }

    async fn next(&mut self) -> Result<Option<Turn>, BrokerError> {
        self.0.next().await
    }

    async fn stop(&mut self) {
        self.0.stop().await;
    }
}

type Opening<C> = Pin<Box<dyn Future<Output = Result<C, BrokerError>> + Send>>;

/// See the module.
pub enum Link<C> {
    /// No consumer; the next try is not before this.
    Closed { until: Instant },
    /// The broker is asked.
    Opening(Opening<C>),
    /// Messages may be asked for.
    Open(C),
    /// Asked to stop; what was on its way still comes.
    Stopping { consumer: C, until: Instant },
}

/// What the broker has for an engine.
pub enum Arrival<C, T> {
    /// A consumer, which makes the link open.
    Consumer(C),
    /// A message, or a turn.
    Item(T),
    /// The consumer has stopped.
    End,
}

impl<C: Pull> Link<C> {
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
                Self::Opening(Box::pin(C::open(queue)))
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
    pub async fn next(&mut self) -> Result<Arrival<C, C::Item>, BrokerError> {
        match self {
            Self::Closed { .. } => std::future::pending().await,
            Self::Opening(opening) => opening.await.map(Arrival::Consumer),
            Self::Open(consumer) | Self::Stopping { consumer, .. } => {
                Ok(consumer.next().await?.map_or(Arrival::End, Arrival::Item))
            }
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
