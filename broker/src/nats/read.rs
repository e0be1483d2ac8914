//! Looking without consuming: pages of messages and dead letters, numbers.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join4;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::api::{ConsumerInfo, Failure, MessageAnswer, NO_MESSAGE, StreamInfo};
use super::apply::scheduled;
use super::codec::{Raw, pairs, value};
use super::commit::{last, no_stream};
use super::connection::{Connection, REQUEST_TIMEOUT};
use super::queue::Shared;
use super::topology::WORKERS;
use crate::error::BrokerError;
use crate::queue::{Depth, Page, StoredDeadLetter, StoredMessage};

/// Most messages that one request reads, and that the first one does: messages may be large.
const MOST_AT_ONCE: usize = 256;
const FIRST: usize = 16;
/// A page ends when it has so many bytes, whatever its limit.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

impl Shared {
    pub(crate) async fn depth(&self) -> Result<Depth, BrokerError> {
        let (connection, names) = (&self.connection, &self.names);
        let consumer = format!("CONSUMER.INFO.{}.{WORKERS}", names.stream);
        let dead = format!("STREAM.INFO.{}", names.dead_stream);
        let (consumer, delayed, dead, oldest) = join4(
            connection.api::<ConsumerInfo>("read consumer", &consumer, &Value::Null),
            scheduled(connection, names),
            connection.api::<StreamInfo>("read stream", &dead, &Value::Null),
            self.oldest(),
        )
        .await;
        let consumer = consumer
            .map_err(|failure| failure.told(&format!("consumer {WORKERS} of {}", names.shown())))?;
        let dead =
            dead.map_err(|failure| failure.told(&format!("stream {}", names.dead_stream)))?;
        Ok(Depth {
            ready: consumer.num_pending,
            in_flight: consumer.num_ack_pending,
            delayed: delayed?,
            dead: dead.state.messages,
            oldest: oldest?,
        })
    }

    /// When the first message that is ready or in flight was stored.
    async fn oldest(&self) -> Result<Option<Timestamp>, BrokerError> {
        let api = format!("STREAM.MSG.GET.{}", self.names.stream);
        let body = json!({ "seq": 1, "next_by_subj": self.names.main });
        match self
            .connection
            .api::<MessageAnswer>("read message", &api, &body)
            .await
        {
            Ok(answer) => Ok(Some(answer.message.time)),
            Err(failure) if failure.code() == NO_MESSAGE => Ok(None),
            Err(failure) => Err(failure.told(&self.names.shown())),
        }
    }

    pub(crate) async fn peek(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredMessage>, BrokerError> {
        let names = &self.names;
        let ready = self.read(&names.stream, &names.main, after, limit).await?;
        let delayed = self
            .read(&names.stream, &names.all("retry"), after, limit)
            .await?;
        Ok(page(ready.and(delayed), limit, |read| {
            let due = read
                .value("Nats-Schedule")
                .and_then(|at| at.strip_prefix("@at ")?.parse().ok());
            let (stored, position) = (read.message(), read.sequence);
            StoredMessage {
                message: stored.message,
                attempts: stored.attempts,
                due,
                position,
            }
        }))
    }

    pub(crate) async fn dead_letters(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredDeadLetter>, BrokerError> {
        let names = &self.names;
        let found = self
            .read(&names.dead_stream, &names.all("dead"), after, limit)
            .await?;
        Ok(page(found, limit, |read| StoredDeadLetter {
            letter: read.dead_letter(),
            position: read.sequence,
        }))
    }

    pub(crate) async fn dead_letter_of(
        &self,
        id: &str,
    ) -> Result<Option<StoredDeadLetter>, BrokerError> {
        let names = &self.names;
        let stored = last(&self.connection, &names.dead_stream, &names.dead(id))
            .await
            .map_err(|failure| failure.told(&format!("stream {}", names.dead_stream)))?;
        Ok(stored.map(|raw| StoredDeadLetter {
            letter: raw.dead_letter(),
            position: raw.sequence,
        }))
    }

    pub(crate) async fn remove_dead_letter(&self, position: u64) -> Result<bool, BrokerError> {
        delete_copy(&self.connection, &self.names.dead_stream, position, None).await
    }

    /// Reads at most `limit` messages of a subject after a position, in order.
    pub(crate) async fn read(
        &self,
        stream: &str,
        subject: &str,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Found, BrokerError> {
        let mut found = Found::default();
        let mut from = after.map_or(1, |position| position + 1);
        let (mut bytes, mut most) = (0, FIRST);
        while found.items.len() < limit {
            let batch = (limit - found.items.len()).min(most);
            let (read, more) = self.read_once(stream, subject, from, batch, 0).await?;
            found.cut = None;
            let Some(last) = read.last().map(|last| last.sequence) else {
                break;
            };
            from = last + 1;
            bytes += read.iter().map(|raw| raw.body.len()).sum::<usize>();
            found.items.extend(read);
            found.cut = more.then_some(last);
            if !more || bytes >= PAGE_BYTES {
                break;
            }
            if bytes < PAGE_BYTES / 8 {
                most = MOST_AT_ONCE;
            }
        }
        Ok(found)
    }

    /// One request, and whether there is more behind it. It stops after `max_bytes`, if that is not 0.
    pub(crate) async fn read_once(
        &self,
        stream: &str,
        subject: &str,
        from: u64,
        batch: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Raw>, bool), BrokerError> {
        const OPERATION: &str = "read messages";
        let shown = format!("stream {stream}");
        let connection = &self.connection;
        if !connection.is_up() {
            return Err(connection.unreachable());
        }
        let inbox = connection.client().new_inbox();
        let mut answers = connection
            .client()
            .subscribe(inbox.clone())
            .await
            .map_err(|error| connection.unavailable(error.to_string()))?;
        let api = format!("$JS.API.DIRECT.GET.{stream}");
        let body = json!({
            "batch": batch, "seq": from, "next_by_subj": subject, "max_bytes": max_bytes,
        });
        let (headers, body) = (HeaderMap::new(), Bytes::from(body.to_string()));
        let sent = connection
            .send(OPERATION, &api, Some(&inbox), headers, body)
            .await;
        if let Err(failure) = sent {
            return Err(no_stream(connection, stream, failure).await);
        }
        let mut found = Vec::new();
        let timed_out = || BrokerError::TimedOut {
            operation: OPERATION,
            after: REQUEST_TIMEOUT,
        };
        loop {
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, answers.next())
                .await
                .map_err(|_| timed_out())?
                .ok_or_else(|| connection.unreachable())?;
            let headers = pairs(answer.headers.as_ref());
            let number = |name| value(&headers, name).and_then(|text| text.parse::<u64>().ok());
            match answer.status.map(|status| status.as_u16()) {
                None => {}
                Some(204) => return Ok((found, number("Nats-Num-Pending").unwrap_or(0) > 0)),
                Some(404) => return Ok((found, false)),
                // Also of a stream that has no leader now.
                Some(503) => return Err(no_stream(connection, stream, Failure::NoResponders).await),
                Some(status) => {
                    return Err(BrokerError::Refused {
                        operation: OPERATION,
                        why: format!("{shown}: status {status}"),
                    });
                }
            }
            let time = value(&headers, "Nats-Time-Stamp").and_then(|text| text.parse().ok());
            let (Some(sequence), Some(time)) = (number("Nats-Sequence"), time) else {
                return Err(timed_out());
            };
            found.push(Raw {
                sequence,
                time,
                headers,
                body: answer.payload,
            });
        }
    }
}

/// Deletes a message, where there is one at this place, of this time. False when there is not.
pub(crate) async fn delete_copy(
    connection: &Connection,
    stream: &str,
    sequence: u64,
    time: Option<Timestamp>,
) -> Result<bool, BrokerError> {
    let shown = format!("stream {stream}");
    // Read before it is deleted: deleting what is not there stalls a replicated stream.
    let get = format!("STREAM.MSG.GET.{stream}");
    let body = json!({ "seq": sequence });
    match connection
        .api::<MessageAnswer>("read message", &get, &body)
        .await
    {
        Ok(answer) if time.is_none_or(|time| answer.message.time == time) => {}
        Ok(_) => return Ok(false),
        Err(failure) if is_gone(&failure) => return Ok(false),
        Err(failure) => return Err(failure.told(&shown)),
    }
    let delete = format!("STREAM.MSG.DELETE.{stream}");
    match connection
        .api::<super::api::Done>("delete message", &delete, &body)
        .await
    {
        Ok(_) => Ok(true),
        Err(failure) if is_gone(&failure) => Ok(false),
        Err(failure) => Err(failure.told(&shown)),
    }
}

pub(crate) fn is_gone(failure: &Failure) -> bool {
    const SEQUENCE_NOT_FOUND: u32 = 10043;
    const DELETE_FAILED: u32 = 10057;
    matches!(
        failure.code(),
        NO_MESSAGE | SEQUENCE_NOT_FOUND | DELETE_FAILED
    )
}

/// What was read, in order.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) items: Vec<Raw>,
    /// The last position that was looked at, where there is more behind it.
    pub(crate) cut: Option<u64>,
}

impl Found {
    /// Both in one order, as far as both were read.
    pub(crate) fn and(mut self, other: Self) -> Self {
        let cut = [self.cut, other.cut].into_iter().flatten().min();
        self.items.extend(other.items);
        self.items.sort_by_key(|read| read.sequence);
        if let Some(cut) = cut {
            self.items.retain(|read| read.sequence <= cut);
        }
        Self {
            items: self.items,
            cut,
        }
    }
}

/// Cuts a page from what was read.
pub(crate) fn page<T>(mut found: Found, limit: usize, read: impl Fn(Raw) -> T) -> Page<T> {
    let more = found.cut.is_some() || found.items.len() > limit;
    found.items.truncate(limit);
    let last = found.items.last().map(|read| read.sequence);
    Page {
        items: found.items.into_iter().map(read).collect(),
        next: last.filter(|_| more),
    }
}
