//! Taking in what the server delivered: first deliveries at once, redeliveries (and what might be one)
//! after a look at what became of them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Message as Raw;
use futures::future::join3;
use weir_core::message::Message;

use super::api::Failure;
use super::codec::{ATTEMPTS, COPY, Raw as Stored, pairs};
use super::commit::last;
use super::consume::Terms;
use super::queue::Shared;
use super::receipt::Receipt;
use super::settle::{NatsLease, Written};
use super::tries::{Found, Record, Source, Standing, judge};
use crate::error::BrokerError;
use crate::queue::{Delivery, Lease as _};

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A message that came.
pub(crate) enum Taken<T> {
    /// To be handed out.
    New(T),
    /// To be handed out if this says so.
    Check(Pin<Box<dyn Future<Output = Option<T>> + Send>>),
}

/// Reads a message. Nothing comes of one that cannot be acknowledged.
pub(crate) fn take_in(
    shared: &Arc<Shared>,
    span: Duration,
    raw: Raw,
    terms: Terms,
) -> Option<Taken<Delivery>> {
    let (reply, source) = source_of(&raw)?;
    let redelivered = source.delivered > 1;
    let stored = Stored {
        sequence: source.sequence,
        time: source.stored_at,
        headers: pairs(raw.headers.as_ref()),
        body: raw.payload,
    };
    let (copy, read) = (stored.copy(), stored.message());
    let (message, attempts) = (read.message, read.attempts);
    let receipt = Receipt::new(Arc::clone(shared), reply, source);
    let lease = NatsLease::new(receipt, message.clone(), copy, span, terms.until);
    if redelivered || terms.suspect {
        let shared = Arc::clone(shared);
        return Some(Taken::Check(Box::pin(async move {
            check(&shared, lease, message, attempts).await
        })));
    }
    Some(Taken::New(Delivery {
        message,
        attempts,
        redelivered,
        lease: Arc::new(lease),
    }))
}

/// Where a delivery is acknowledged and where its message is stored.
pub(crate) fn source_of(raw: &Raw) -> Option<(String, Source)> {
    let reply = raw.reply.as_ref().map(|reply| reply.as_str().to_owned());
    let found = reply.and_then(|reply| {
        let source = Source::parse(&reply)?;
        Some((reply, source))
    });
    if found.is_none() {
        tracing::warn!(subject = raw.subject.as_str(), "not a delivery; left alone");
    }
    found
}

/// Looks up what became of a redelivered copy, for as long as its lease lasts.
async fn check(
    shared: &Arc<Shared>,
    lease: NatsLease,
    message: Message,
    attempts: u32,
) -> Option<Delivery> {
    let mut pause = SHORTEST_PAUSE;
    loop {
        match standing(shared, &lease, &message.id, attempts).await {
            Ok(Standing::Open(unfinished)) => {
                return Some(Delivery {
                    message,
                    attempts: attempts.saturating_add(unfinished),
                    redelivered: lease.source().delivered > 1 || unfinished > 0,
                    lease: Arc::new(lease),
                });
            }
            Ok(Standing::Settled) => {
                // Unacknowledged it would come again, and end here again.
                if let Err(error) = lease.ack().await {
                    tracing::debug!(id = message.id, %error, "a settled message comes again");
                }
                return None;
            }
            Err(_) if lease.is_over() => return None,
            Err(error) => {
                tracing::debug!(id = message.id, %error, "a redelivery is looked up again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn standing(
    shared: &Shared,
    lease: &NatsLease,
    id: &str,
    attempts: u32,
) -> Result<Standing, BrokerError> {
    let (connection, names) = (&shared.connection, &shared.names);
    let source = lease.source();
    let (tries, retry, dead) = (
        names.tries(source.sequence),
        names.retry(id),
        names.dead(id),
    );
    let (record, schedule, letter) = join3(
        last(connection, &names.stream, &tries),
        last(connection, &names.stream, &retry),
        last(connection, &names.dead_stream, &dead),
    )
    .await;
    let told = |failure: Failure| failure.told(&names.shown());
    let record = record.map_err(told)?;
    let schedule = schedule.map_err(told)?;
    let letter = match letter {
        Err(failure) if failure.is_absent() => None,
        letter => letter.map_err(told)?,
    };
    let written = record
        .as_ref()
        .map(|record| (record.sequence, Record::read(&record.body)));
    let found = Found {
        record: written.and_then(|(_, record)| record),
        scheduled: schedule.as_ref().map(|stored| {
            stored
                .value(ATTEMPTS)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        }),
        dead: letter.as_ref().and_then(|letter| letter.value(COPY)),
    };
    let standing = judge(lease.copy(), attempts, found);
    if let Standing::Open(unfinished) = standing {
        lease.found(Written {
            sequence: written.map_or(0, |(sequence, _)| sequence),
            unfinished,
        });
    }
    Ok(standing)
}
