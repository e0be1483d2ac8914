//! The part of a spec that says how messages reach a handler, the same for every consuming kind.

use super::{Concurrency, DeadLetter, DeletionPolicy, Handler, Retry, Scaling, Target};

/// A borrowed view of the fields that all consuming kinds have, so that one planner serves them.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The `MessageBus`; `None` is the default one.
    pub bus: Option<&'a str>,
    /// Workload run beside a sidecar.
    pub handler: Option<&'a Handler>,
    /// Something that exists.
    pub to: Option<&'a Target>,
    /// Calls at once.
    pub concurrency: &'a Concurrency,
    /// Attempts and back-off.
    pub retry: &'a Retry,
    /// Retention of dead letters.
    pub dead_letter: &'a DeadLetter,
    /// Most messages a call.
    pub batch_max: u32,
    /// Seconds to wait for them.
    pub batch_window_seconds: u32,
    /// Handler pods.
    pub scaling: &'a Scaling,
    /// Name of the breaker that pauses deliveries.
    pub circuit_breaker: Option<&'a str>,
    /// Deliveries stopped by the user.
    pub paused: bool,
    /// Fate of stored messages.
    pub deletion_policy: DeletionPolicy,
}

/// A spec whose messages are delivered to a handler or a target.
pub trait Consumes {
    /// The shared part of the spec.
    fn delivery(&self) -> Delivery<'_>;
}

/// Implements [`Consumes`] for a spec with the common field names.
macro_rules! consumes {
    ($spec:ty) => {
        impl $crate::shared::Consumes for $spec {
            fn delivery(&self) -> $crate::shared::Delivery<'_> {
                $crate::shared::Delivery {
                    bus: self.bus.as_deref(),
                    handler: self.handler.as_ref(),
                    to: self.to.as_ref(),
                    concurrency: &self.concurrency,
                    retry: &self.retry,
                    dead_letter: &self.dead_letter,
                    batch_max: $crate::shared::batch::Batches::most(&self.batch),
                    batch_window_seconds: $crate::shared::batch::Batches::window_seconds(
                        &self.batch,
                    ),
                    scaling: &self.scaling,
                    circuit_breaker: self.circuit_breaker.as_deref(),
                    paused: self.paused,
                    deletion_policy: self.deletion_policy,
                }
            }
        }
    };
}
pub(crate) use consumes;
