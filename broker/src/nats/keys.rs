//! Deduplication keys of queues that another broker holds: a stream with one message per identity,
//! written by compare-and-set, each gone after its window.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::Value;

use super::api::{Done, Failure, PubAck, StreamInfo};
use super::apply::{purge, read_stream, stream};
use super::codec::put;
use super::commit::last;
use super::connection::{Connection, parse};
use super::queue::whole_seconds;
use super::topology::{Names, is_of, is_orphaned, keys_stream, orphaned};
use crate::error::BrokerError;
use crate::transport::{Applied, QueueSpec};

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is held under this sequence.
    Taken(u64),
    /// Somebody else's is there. Sequence 0 and no mark when it went meanwhile.
    Refused { sequence: u64, mark: String },
}

/// The keys of one queue.
pub(crate) struct KeyStore {
    connection: Connection,
    names: Names,
}

impl KeyStore {
    pub(crate) fn new(connection: Connection, queue: &QueueSpec) -> Self {
        Self {
            connection,
            names: Names::of(queue),
        }
    }

    fn shown(&self) -> String {
        format!("stream {}", self.names.keys_stream)
    }

    /// Makes the stream as wanted.
    pub(crate) async fn apply(
        &self,
        queue: &QueueSpec,
        applied: &mut Applied,
    ) -> Result<(), BrokerError> {
        stream(&self.connection, queue, &keys_stream(queue), applied).await
    }

    /// Removes the stream, if it is this object's.
    pub(crate) async fn remove(&self, queue: &QueueSpec) -> Result<(), BrokerError> {
        let name = &self.names.keys_stream;
        let Some(info) = read_stream(&self.connection, name, None).await? else {
            return Ok(());
        };
        if !is_of(&info.config, queue) {
            return Ok(());
        }
        let subject = format!("STREAM.DELETE.{name}");
        match self
            .connection
            .api::<Done>("delete stream", &subject, &Value::Null)
            .await
        {
            Err(failure) if !failure.is_absent() => Err(failure.told(&self.shown())),
            _ => Ok(()),
        }
    }

    /// Marks the stream as left behind, if it is this object's.
    pub(crate) async fn orphan(&self, queue: &QueueSpec, now: &str) -> Result<(), BrokerError> {
        let name = &self.names.keys_stream;
        let Some(info) = read_stream(&self.connection, name, None).await? else {
            return Ok(());
        };
        if !is_of(&info.config, queue) || is_orphaned(&info.config) {
            return Ok(());
        }
        let subject = format!("STREAM.UPDATE.{name}");
        let marked = orphaned(&info.config, now);
        self.connection
            .api::<StreamInfo>("update stream", &subject, &marked)
            .await
            .map(drop)
            .map_err(|failure| failure.told(&self.shown()))
    }

    /// Writes `mark` for an identity, if what is there has the sequence `expected`; 0 for nothing. It
    /// goes after `window`.
    pub(crate) async fn claim(
        &self,
        identity: &str,
        expected: u64,
        mark: &str,
        window: Duration,
    ) -> Result<Claim, BrokerError> {
        const OPERATION: &str = "store key";
        let subject = self.names.key(identity);
        let mut headers = HeaderMap::new();
        let expected = expected.to_string();
        put(
            &mut headers,
            "Nats-Expected-Last-Subject-Sequence",
            &expected,
        )?;
        put(
            &mut headers,
            "Nats-TTL",
            &format!("{}s", whole_seconds(window)),
        )?;
        let body = Bytes::from(mark.to_owned());
        let answer = self
            .connection
            .request(OPERATION, &subject, Some(headers), body)
            .await
            .and_then(|answer| parse::<PubAck>(OPERATION, &answer.payload));
        match answer {
            Ok(stored) => Ok(Claim::Taken(stored.seq)),
            Err(failure) if failure.is_wrong_sequence() => self.known(&subject).await,
            Err(Failure::NoResponders) => Err(self.no_stream().await),
            Err(failure) => Err(failure.told(&self.shown())),
        }
    }

    /// Nobody took a key: the stream does not exist, or has no leader now.
    async fn no_stream(&self) -> BrokerError {
        match read_stream(&self.connection, &self.names.keys_stream, None).await {
            Ok(None) => BrokerError::Missing { what: self.shown() },
            Ok(Some(_)) => self
                .connection
                .unavailable(format!("nobody takes keys for {}", self.shown())),
            Err(error) => error,
        }
    }

    async fn known(&self, subject: &str) -> Result<Claim, BrokerError> {
        let known = last(&self.connection, &self.names.keys_stream, subject)
            .await
            .map_err(|failure| failure.told(&self.shown()))?;
        Ok(known.map_or(
            Claim::Refused {
                sequence: 0,
                mark: String::new(),
            },
            |raw| Claim::Refused {
                sequence: raw.sequence,
                mark: String::from_utf8_lossy(&raw.body).into_owned(),
            },
        ))
    }

    /// Forgets an identity.
    pub(crate) async fn free(&self, identity: &str) -> Result<(), BrokerError> {
        let subject = self.names.key(identity);
        purge(&self.connection, &self.names.keys_stream, &subject).await
    }
}
