//! Consumers: broker to handler, under limits.
//!
//! One engine per object pulls as many messages as there are free slots, and no message waits
//! in this process. What is done with a message is decided in `weir_core::decide`; here it is called,
//! kept alive and settled. Where order is kept, an engine pulls turns of groups instead, and what is
//! done with a turn is decided in `weir_core::fifo`.

mod base;
mod batch;
mod delivery;
mod engine;
mod exchange;
mod fifo;
mod hold;
mod link;
mod readiness;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_broker::Clock;
use weir_core::config::{ConsumerConfig, ObjectConfig};
use weir_core::decide::Outcome;

use crate::call::Target;
use crate::egress::Egress;
use crate::metrics::ErrorClass;
use crate::objects::{Queue, Shared};
use crate::settings::Settings;
use crate::supervise::{Hearts, RunError};

pub use hold::jittered;
pub use readiness::Suspicion;

/// What one engine works from; replaced when the configuration changes.
#[derive(Clone)]
pub struct Spec {
    /// The object; it has a consumer.
    pub config: Arc<ObjectConfig>,
    /// Its queue, once there was a connection.
    pub queue: Option<Queue>,
}

/// What an engine is given once.
pub struct Engine {
    /// The object.
    pub shared: Arc<Shared>,
    /// Its configuration.
    pub spec: watch::Receiver<Spec>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Where targets may be.
    pub egress: Arc<Egress>,
    /// Times.
    pub settings: Settings,
    /// Stop pulling; end when what runs has ended.
    pub stop: CancellationToken,
    /// Liveness.
    pub hearts: Hearts,
}

impl Engine {
    /// Consumes until it is told to stop.
    ///
    /// An object whose queue keeps order does so for its whole life, so that one look is enough.
    pub async fn run(self) -> Result<(), RunError> {
        let ordered = self.spec.borrow().config.queue.fifo.is_some();
        if ordered {
            fifo::run(self).await
        } else {
            engine::run(self).await
        }
    }
}

/// What every call of one configuration shares.
struct Context {
    shared: Arc<Shared>,
    config: Arc<ObjectConfig>,
    target: Arc<Target>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    readiness: readiness::Suspicion,
}

impl Context {
    fn consumer(&self) -> &ConsumerConfig {
        self.config
            .consumer
            .as_ref()
            .expect("an engine runs only for objects with a consumer")
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(self.config.queue.lease_seconds.max(1).into())
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.consumer().timeout_seconds.max(1).into())
    }

    /// Counts what a call said, and looks at the handler again when it cannot be reached.
    fn observe(&self, outcome: &Outcome, took: Duration) {
        let metrics = &self.shared.metrics;
        metrics.handler_took(took);
        let class = match outcome {
            Outcome::Answered {
                status: 200..=299, ..
            } => return,
            Outcome::Answered {
                status: 300..=399, ..
            } => ErrorClass::Redirect,
            Outcome::Answered {
                status: 400..=499, ..
            } => ErrorClass::Client,
            Outcome::Answered { .. } => ErrorClass::Server,
            Outcome::FailedInBatch { .. } => ErrorClass::Batch,
            Outcome::TimedOut { .. } => ErrorClass::Timeout,
            Outcome::Unreachable { .. } => {
                self.readiness.raise();
                ErrorClass::Unreachable
            }
        };
        metrics.handler_error(class);
    }
}

/// What a call says about how full the handler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Succeeded,
    Refused {
        retry_after: Option<Duration>,
    },
    /// Nothing.
    Other,
}

/// Counts a delivery for as long as it is held.
struct InFlight(Arc<Shared>);

impl InFlight {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.consumer.in_flight.fetch_add(1, Ordering::Relaxed);
        shared.metrics.in_flight.inc();
        Self(shared.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.consumer.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.in_flight.dec();
    }
}
