//! Dead letters that come from outside, and the end of many at once.

use bytes::Bytes;
use serde_json::{Value, json};
use weir_core::dead_letter::DeadLetter;

use super::api::{PubAck, Purged, StreamInfo};
use super::codec::{encode, encode_dead, put};
use super::commit::{last, no_stream};
use super::connection::parse;
use super::queue::Shared;
use crate::error::BrokerError;

/// How often a write is repeated that somebody else got ahead of.
const TRIES: usize = 4;
/// The copy that a letter from outside was made from: none of ours, whose names have digits.
const OUTSIDE: &str = "imported";

impl Shared {
    pub(crate) async fn last_dead_letter(&self) -> Result<Option<u64>, BrokerError> {
        let name = &self.names.dead_stream;
        let info: StreamInfo = self
            .connection
            .api("read stream", &format!("STREAM.INFO.{name}"), &Value::Null)
            .await
            .map_err(|failure| failure.told(&format!("stream {name}")))?;
        Ok(Some(info.state.last_seq).filter(|last| *last > 0))
    }

    pub(crate) async fn store_dead_letter(&self, letter: &DeadLetter) -> Result<bool, BrokerError> {
        const OPERATION: &str = "store dead letter";
        let (connection, names) = (&self.connection, &self.names);
        let (size, limit) = (letter.message.wire_len(), self.max_message_bytes());
        if size > limit {
            return Err(BrokerError::TooLarge { size, limit });
        }
        let subject = names.dead(&letter.message.id);
        // Checks the id and the size of the headers, which came from outside.
        drop(encode(&letter.message, letter.failure.attempts)?);
        let headers = encode_dead(&letter.message, &letter.failure, OUTSIDE)?;
        for _ in 0..TRIES {
            let known = match last(connection, &names.dead_stream, &subject).await {
                Ok(known) => known,
                Err(failure) => {
                    return Err(no_stream(connection, &names.dead_stream, failure).await);
                }
            };
            let expected = known.as_ref().map_or(0, |known| known.sequence);
            if let Some(known) = known {
                let known = known.dead_letter();
                if known.failure.failed_at >= letter.failure.failed_at {
                    return Ok(false);
                }
            }
            let mut headers = headers.clone();
            put(
                &mut headers,
                "Nats-Expected-Last-Subject-Sequence",
                &expected.to_string(),
            )?;
            let body = Bytes::clone(&letter.message.body);
            let stored = match connection
                .request(OPERATION, &subject, Some(headers), body)
                .await
            {
                Ok(answer) => parse::<PubAck>(OPERATION, &answer.payload),
                Err(failure) => Err(failure),
            };
            match stored {
                Ok(_) => return Ok(true),
                Err(failure) if failure.is_wrong_sequence() => {}
                Err(failure) => {
                    return Err(no_stream(connection, &names.dead_stream, failure).await);
                }
            }
        }
        Err(connection.unavailable("the dead letter is being changed by others"))
    }

    pub(crate) async fn purge_dead_letters(&self, through: u64) -> Result<u64, BrokerError> {
        let name = &self.names.dead_stream;
        let api = format!("STREAM.PURGE.{name}");
        // The sequence is the first that stays.
        let body = json!({ "filter": self.names.all("dead"), "seq": through.saturating_add(1) });
        let purged: Purged = self
            .connection
            .api("purge", &api, &body)
            .await
            .map_err(|failure| failure.told(&format!("stream {name}")))?;
        Ok(purged.purged)
    }
}
