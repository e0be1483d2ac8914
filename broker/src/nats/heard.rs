//! When a delivery can have been sent at the earliest.
//!
//! The lease of a delivery runs from the moment at which the server sent it. A process that was stopped, or a network
//! that stood still, hands over late what was sent early: by then somebody else may have it. So a lease is counted from
//! the last question that the server has answered, for whatever comes behind an answer was sent after the question.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::api::ConsumerInfo;
use super::queue::Shared;
use super::topology::WORKERS;
use crate::task;

/// Questions in the time of one lease. What passes between two is lost of it.
const IN_A_LEASE: u32 = 20;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The time of the last question that was answered, kept up while this lives.
pub(crate) struct Heard {
    asked: Arc<Mutex<Instant>>,
    _asking: AbortOnDropHandle<()>,
}

impl Heard {
    /// Asks the leader of the consumer from now on.
    pub(crate) fn start(shared: Arc<Shared>, lease: Duration) -> Self {
        let asked = Arc::new(Mutex::new(Instant::now()));
        let known = Arc::clone(&asked);
        let pause = (lease / IN_A_LEASE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let asking = task::start(async move {
            let subject = format!("CONSUMER.INFO.{}.{WORKERS}", shared.names.stream);
            let connection = &shared.connection;
            loop {
                sleep(pause).await;
                let now = Instant::now();
                let answer =
                    connection.api::<ConsumerInfo>("read consumer", &subject, &Value::Null);
                if answer.await.is_ok() {
                    *known.lock().unwrap_or_else(PoisonError::into_inner) = now;
                }
            }
        });
        Self {
            asked,
            _asking: asking,
        }
    }

    /// What comes now was not sent before this.
    pub(crate) fn since(&self) -> Instant {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
