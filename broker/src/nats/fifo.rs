//! FIFO queues on NATS.
//!
//! The messages of a group lie on a subject of their own, in the order of the stream; no consumer
//! delivers them. What is delivered is the *turn* of a group: one small message that is there while the
//! group has anything to do. Whoever got it reads the first messages of the group, and removes what
//! was handled from the front. So a turn is held under one lease however many messages it covers, the
//! `max_ack_pending` of the one consumer of turns is the exact limit, and a group that fails, waits, is
//! blocked or is very long stands in nobody's way.
//!
//! Why there is never more than one turn of a group: a publisher stores a turn only where there is none
//! (expectation 0). A turn that gives way to others is stored again at the end by replacing exactly the one that
//! is held. A turn that may not be the only one (delivered again, fired by a schedule, doubtful since
//! a server was killed) is used only when it is alone on its subject, read from the leader.
//!
//! Why no group is forgotten: a publisher stores the message first and then makes sure of a turn. A holder
//! that finds nothing more removes its turn first and then looks once more. What a crash between two
//! such steps leaves behind is found by `sweep`.
//!
//! A turn may come twice: who opened one for a group that rests stores its schedule again, and where that is late the
//! first schedule has fired already. Neither of the two is used then. The second is dropped, and the first comes again
//! after its lease: the group is late by a lease, and nothing else happens.
//!
//! A server that is killed may forget that it gave out a turn. Whoever holds turns claims them in the
//! notes of their groups as soon as it is connected again (`claims`), and a turn that may be such a one is left
//! to its holder.
//!
//! What is known of a group beside its messages (attempts, calls that began, blocked, dead-lettered) is
//! one note, written by compare-and-set; idle groups have none.

mod claims;
mod consume;
mod head;
mod hold;
mod lease;
#[cfg(test)]
mod model;
mod note;
mod open;
mod read;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::json;
use weir_core::config::QueueConfig;
use weir_core::message::Message;
use weir_core::names::token;

use self::claims::Claims;
use self::note::Note;
use super::api::{Done, Failure, MessageAnswer, NO_MESSAGE, PubAck};
use super::codec::{DUE, Raw, put};
use super::commit::{last, no_stream};
use super::connection::parse;
use super::queue::{Shared, due};
use super::read::is_gone;
use crate::error::BrokerError;
use crate::queue::Published;

/// After this a cluster is asked again whether it knows a stream.
const CALM: Duration = Duration::from_millis(300);
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// One FIFO queue as this process uses it.
#[derive(Clone)]
pub(crate) struct Fifo {
    shared: Arc<Shared>,
    lease: Duration,
    batch_max: usize,
    /// Most turns that may be out, over all processes.
    limit: usize,
    /// A read that any replica may answer can be late.
    replicated: bool,
    claims: Arc<Claims>,
}

/// The group of a message: an absent one is the group of the empty name.
pub(crate) fn group_of(message: &Message) -> &str {
    message.group.as_deref().unwrap_or_default()
}

impl Fifo {
    pub(crate) fn new(shared: Arc<Shared>, config: &QueueConfig) -> Self {
        let claims = Arc::new(Claims::start(&shared.connection));
        Self {
            shared,
            lease: Duration::from_secs(u64::from(config.lease_seconds.max(1))),
            batch_max: usize::try_from(config.batch_max.max(1)).unwrap_or(usize::MAX),
            limit: usize::try_from(config.limit).unwrap_or(usize::MAX),
            replicated: config.replicas > 1,
            claims,
        }
    }

    /// Stores a message at the end of its group, then makes sure that the group has a turn.
    pub(crate) async fn publish(
        &self,
        message: Message,
        dedup: Option<(String, Duration)>,
        delay: Duration,
    ) -> Result<Published, BrokerError> {
        let group = group_of(&message).to_owned();
        let name = token(&group);
        let address = |headers: &mut HeaderMap, _: &Message| {
            if !delay.is_zero() {
                let due = due(self.shared.clock.now(), delay);
                put(headers, DUE, &format!("{due:.3}"))?;
            }
            Ok(self.shared.names.group(&name))
        };
        let published = self.shared.publish(message, dedup, address).await?;
        // Also for a duplicate: whoever stored the first may have died before this.
        self.ensure_turn(&name, &group).await?;
        Ok(published)
    }

    /// Makes sure that a group has a turn.
    async fn ensure_turn(&self, name: &str, group: &str) -> Result<(), BrokerError> {
        let subject = self.shared.names.turn(name);
        self.store_if(&subject, HeaderMap::new(), group.to_owned().into(), 0)
            .await
            .map(|_| ())
    }

    /// Stores a message where the last one of its subject is `expected`: its sequence, or nothing.
    async fn store_if(
        &self,
        subject: &str,
        mut headers: HeaderMap,
        body: Bytes,
        expected: u64,
    ) -> Result<Option<u64>, BrokerError> {
        const OPERATION: &str = "store turn";
        put(&mut headers, EXPECTED, &expected.to_string())?;
        let connection = &self.shared.connection;
        let stored = match connection
            .request(OPERATION, subject, Some(headers), body)
            .await
        {
            Ok(answer) => parse::<PubAck>(OPERATION, &answer.payload),
            Err(failure) => Err(failure),
        };
        match stored {
            Ok(ack) => Ok(Some(ack.seq)),
            Err(failure) if failure.is_wrong_sequence() => Ok(None),
            Err(failure) => Err(self.told(failure).await),
        }
    }

    /// Removes the messages of a subject before a sequence.
    async fn remove_before(&self, subject: &str, sequence: u64) -> Result<(), BrokerError> {
        let api = format!("STREAM.PURGE.{}", self.shared.names.stream);
        let body = json!({ "filter": subject, "seq": sequence });
        match self
            .shared
            .connection
            .api::<Done>("remove messages", &api, &body)
            .await
        {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.told(failure).await),
        }
    }

    /// Removes one message, which may be gone already.
    async fn remove_one(&self, sequence: u64) -> Result<(), BrokerError> {
        let api = format!("STREAM.MSG.DELETE.{}", self.shared.names.stream);
        // What is erased is also written over.
        let body = json!({ "seq": sequence, "no_erase": true });
        match self
            .shared
            .connection
            .api::<Done>("remove message", &api, &body)
            .await
        {
            Ok(_) => Ok(()),
            Err(failure) if is_gone(&failure) => self.is_removed(sequence).await,
            Err(failure) => Err(self.told(failure).await),
        }
    }

    /// Makes sure that a message is gone: a server that ends refuses to remove one in the same words.
    async fn is_removed(&self, sequence: u64) -> Result<(), BrokerError> {
        let api = format!("STREAM.MSG.GET.{}", self.shared.names.stream);
        let body = json!({ "seq": sequence });
        match self
            .shared
            .connection
            .api::<MessageAnswer>("read message", &api, &body)
            .await
        {
            Ok(_) => Err(self.changed()),
            Err(failure) if failure.code() == NO_MESSAGE => Ok(()),
            Err(failure) => Err(self.told(failure).await),
        }
    }

    /// What is known of a group and where that is written, from the leader.
    async fn note(&self, name: &str) -> Result<(Note, u64), BrokerError> {
        let stored = self.last_of(&self.shared.names.note(name)).await?;
        Ok(stored.map_or_else(Default::default, |raw| {
            (Note::read(&raw.body), raw.sequence)
        }))
    }

    /// Replaces the note that is written at `written`: where it is written now, or nothing when
    /// somebody else was faster.
    async fn write_note(
        &self,
        name: &str,
        note: &Note,
        written: u64,
    ) -> Result<Option<u64>, BrokerError> {
        let mut headers = HeaderMap::new();
        put(&mut headers, "Nats-Rollup", "sub")?;
        let subject = self.shared.names.note(name);
        self.store_if(&subject, headers, note.write().into(), written)
            .await
    }

    /// Removes the note that is written at `written`. One that was written later stays.
    async fn clear_note(&self, name: &str, written: u64) -> Result<(), BrokerError> {
        self.remove_before(&self.shared.names.note(name), written + 1)
            .await
    }

    /// Makes the turn of a group come at the time of its first message.
    async fn wake_at(
        &self,
        name: &str,
        group: &str,
        due: jiff::Timestamp,
    ) -> Result<(), BrokerError> {
        const OPERATION: &str = "store wake";
        let names = &self.shared.names;
        let mut headers = HeaderMap::new();
        put(&mut headers, "Nats-Schedule", &format!("@at {due:.3}"))?;
        put(&mut headers, "Nats-Schedule-Target", &names.turn(name))?;
        let (connection, body) = (&self.shared.connection, Bytes::from(group.to_owned()));
        let stored = match connection
            .request(OPERATION, &names.wake(name), Some(headers), body)
            .await
        {
            Ok(answer) => parse::<PubAck>(OPERATION, &answer.payload),
            Err(failure) => Err(failure),
        };
        match stored {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.told(failure).await),
        }
    }

    /// What a failure to ask the queue's stream means: a server that starts is no missing stream.
    async fn told(&self, failure: Failure) -> BrokerError {
        let (connection, stream) = (&self.shared.connection, &self.shared.names.stream);
        if !failure.is_absent() {
            return no_stream(connection, stream, failure).await;
        }
        // A cluster whose servers just started may not know its streams for a moment.
        tokio::time::sleep(CALM).await;
        no_stream(connection, stream, Failure::NoResponders).await
    }

    /// The last message of a subject, from the leader.
    async fn last_of(&self, subject: &str) -> Result<Option<Raw>, BrokerError> {
        match last(&self.shared.connection, &self.shared.names.stream, subject).await {
            Ok(found) => Ok(found),
            Err(failure) => Err(self.told(failure).await),
        }
    }

    /// A refusal that passes: somebody else changed what is known of a group.
    fn changed(&self) -> BrokerError {
        self.shared
            .connection
            .unavailable("the group is being changed by others")
    }
}
