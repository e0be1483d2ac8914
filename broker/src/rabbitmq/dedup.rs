//! Deduplication, with keys in another broker.
//!
//! RabbitMQ cannot store a key and a message together. So the key is claimed first, the message is
//! stored, the key is marked as done. A process that dies between leaves a claim: a repetition of the
//! same message takes it over at once, any other publication of the identity after a pause in which
//! whoever claimed it would have ended. Then the message may be stored twice, with the same id; it is
//! never lost, and while nobody dies exactly one is stored.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::shared::Shared;
use crate::error::BrokerError;
use crate::nats::{Claim, KeyStore};
use crate::queue::{Publication, Published};

/// Above the time after which a publication was stored or failed.
const PATIENCE: Duration = Duration::from_secs(8);
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
const TRIES: usize = 3;

/// The keys of one queue.
pub(crate) struct Keys {
    pub(crate) store: Arc<KeyStore>,
}

/// What a key says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    /// Somebody stores this message now, or died.
    Pending(String),
    /// This message is stored.
    Done(String),
}

impl Mark {
    fn write(&self) -> String {
        match self {
            Self::Pending(id) => format!("pending {:016x} {id}", fastrand::u64(..)),
            Self::Done(id) => format!("done {id}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        match text.split_once(' ')? {
            ("done", id) => Some(Self::Done(id.to_owned())),
            ("pending", rest) => Some(Self::Pending(rest.split_once(' ')?.1.to_owned())),
            _ => None,
        }
    }
}

/// Publishes a message unless its identity is known.
pub(crate) async fn publish_once(
    shared: &Shared,
    keys: &Keys,
    publication: &Publication,
    identity: &str,
    window: Duration,
) -> Result<Published, BrokerError> {
    let mut message = publication.message.clone();
    let store = &keys.store;
    let mut pause = SHORTEST_PAUSE;
    let mut seen: Option<(u64, Instant)> = None;
    let mut expected = 0;
    let sequence = loop {
        let mark = Mark::Pending(message.id.clone()).write();
        let (sequence, text) = match store.claim(identity, expected, &mark, window).await? {
            Claim::Taken(sequence) => break sequence,
            Claim::Refused { sequence, mark } => (sequence, mark),
        };
        expected = 0;
        match Mark::read(&text) {
            Some(Mark::Done(id)) => return Ok(duplicate(id)),
            Some(Mark::Pending(id)) if id == message.id => expected = sequence,
            Some(Mark::Pending(id)) => {
                let (known, since) = *seen.get_or_insert((sequence, Instant::now()));
                if known != sequence {
                    seen = None;
                } else if since.elapsed() > PATIENCE {
                    // Who claimed it died. What it stored, if anything, has this id.
                    message.id = id;
                    expected = sequence;
                }
            }
            // It ended meanwhile.
            None => {}
        }
        if expected == 0 && !text.is_empty() {
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    if let Err(error) = shared.store_message(&message, publication.delay).await {
        // Known not to be stored: the next one need not wait. Otherwise the claim stays.
        if !matches!(
            error,
            BrokerError::TimedOut { .. } | BrokerError::Unreachable { .. }
        ) {
            drop(store.free(identity).await);
        }
        return Err(error);
    }
    let done = Mark::Done(message.id.clone()).write();
    for _ in 0..TRIES {
        match store.claim(identity, sequence, &done, window).await {
            // Taken over, because this took too long, or gone.
            Ok(_) => break,
            Err(error) => {
                tracing::debug!(%error, queue = shared.names.queue, "a key is not marked as done yet");
            }
        }
    }
    Ok(Published {
        id: message.id,
        duplicate: false,
    })
}

fn duplicate(id: String) -> Published {
    Published {
        id,
        duplicate: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_written() {
        for mark in [Mark::Pending("a b".to_owned()), Mark::Done("x".to_owned())] {
            assert_eq!(Mark::read(&mark.write()), Some(mark));
        }
        for text in ["", "done", "pending", "pending x", "other a"] {
            assert_eq!(Mark::read(text), None, "{text:?}");
        }
    }
}
