//! Records: one subject of the queue's stream each, the last message is the record.
//!
//! A work-queue stream keeps what no consumer takes, so older versions are removed after each write.
//! One that stays because its removal failed is removed by the next write, or by its time to live.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::json;

use super::api::{Done, PubAck};
use super::codec::put;
use super::commit::{last, no_stream};
use super::connection::parse;
use super::queue::{Shared, whole_seconds};
use crate::error::BrokerError;
use crate::queue::{Record, RecordName};

impl Shared {
    pub(crate) async fn record(&self, name: RecordName) -> Result<Option<Record>, BrokerError> {
        let (connection, names) = (&self.connection, &self.names);
        let stored = match last(connection, &names.stream, &names.record(name)).await {
            Ok(stored) => stored,
            Err(failure) => return Err(no_stream(connection, &names.stream, failure).await),
        };
        Ok(stored.map(|raw| Record {
            body: raw.body,
            version: raw.sequence,
        }))
    }

    pub(crate) async fn put_record(
        &self,
        name: RecordName,
        expected: u64,
        body: Bytes,
        kept: Duration,
    ) -> Result<Option<u64>, BrokerError> {
        const OPERATION: &str = "write record";
        let (connection, names) = (&self.connection, &self.names);
        let subject = names.record(name);
        let mut headers = HeaderMap::new();
        put(
            &mut headers,
            "Nats-Expected-Last-Subject-Sequence",
            &expected.to_string(),
        )?;
        put(
            &mut headers,
            "Nats-TTL",
            &format!("{}s", whole_seconds(kept)),
        )?;
        let stored = match connection
            .request(OPERATION, &subject, Some(headers), body.clone())
            .await
        {
            Ok(answer) => parse::<PubAck>(OPERATION, &answer.payload),
            Err(failure) => Err(failure),
        };
        let version = match stored {
            Ok(ack) => ack.seq,
            Err(failure) if failure.is_wrong_sequence() => {
                // Ours, where an earlier try was stored and its answer was lost.
                let found = self.record(name).await?;
                let Some(ours) = found.filter(|found| found.body == body) else {
                    return Ok(None);
                };
                ours.version
            }
            Err(failure) => return Err(no_stream(connection, &names.stream, failure).await),
        };
        if expected > 0 {
            let api = format!("STREAM.PURGE.{}", names.stream);
            let older = json!({ "filter": subject, "keep": 1 });
            if let Err(failure) = connection.api::<Done>("purge", &api, &older).await {
                let error = failure.told(&names.shown());
                tracing::debug!(subject, %error, "an older record stays for now");
            }
        }
        Ok(Some(version))
    }
}
