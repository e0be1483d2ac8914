//! Reading the first messages of a group.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use weir_core::message::Message;

use super::super::api::{MessageAnswer, NO_MESSAGE};
use super::super::codec::{DUE, Raw, pairs, value};
use super::Fifo;
use super::note::Note;
use crate::error::BrokerError;
use crate::fifo::TurnMessage;

/// Bytes of bodies that one read takes before it stops; the first message comes in any case.
const MOST_BYTES: usize = 512 * 1024;

/// A message of a group as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) sequence: u64,
    pub(crate) copy: String,
    pub(crate) message: Message,
    pub(crate) attempts: u32,
    /// It was in a call of several that failed as a whole.
    pub(crate) suspect: bool,
    /// When it may be handed out.
    pub(crate) due: Option<Timestamp>,
}

impl Held {
    pub(crate) fn read(raw: &Raw, note: &Note) -> Self {
        let stored = raw.message();
        Self {
            sequence: raw.sequence,
            copy: raw.copy(),
            attempts: stored
                .attempts
                .saturating_add(note.attempts_of(raw.sequence)),
            message: stored.message,
            suspect: note.suspects(raw.sequence),
            due: due_of(raw, note),
        }
    }

    pub(crate) fn as_turn_message(&self) -> TurnMessage {
        TurnMessage {
            message: self.message.clone(),
            attempts: self.attempts,
            suspect: self.suspect,
        }
    }
}

/// When a message of a group of which this is known may be handed out.
pub(crate) fn due_of(raw: &Raw, note: &Note) -> Option<Timestamp> {
    let due = raw.value(DUE).and_then(|due| due.parse().ok());
    note.due(raw.sequence, due)
}

impl Fifo {
    /// The first message of a subject from a sequence on, as the leader knows it.
    pub(super) async fn first_of(
        &self,
        subject: &str,
        from: u64,
    ) -> Result<Option<Raw>, BrokerError> {
        let api = format!("STREAM.MSG.GET.{}", self.shared.names.stream);
        let body = json!({ "seq": from, "next_by_subj": subject });
        match self
            .shared
            .connection
            .api::<MessageAnswer>("read message", &api, &body)
            .await
        {
            Ok(answer) => Ok(Some(answer.message.into())),
            Err(failure) if failure.code() == NO_MESSAGE => Ok(None),
            Err(failure) => Err(self.told(failure).await),
        }
    }

    /// At most `most` first messages of a subject from a sequence on. With `exact` none of them is
    /// removed already, and the first is there if there is one.
    pub(super) async fn head(
        &self,
        subject: &str,
        from: u64,
        most: usize,
        exact: bool,
    ) -> Result<Vec<Raw>, BrokerError> {
        let stream = &self.shared.names.stream;
        if !self.replicated || !exact {
            if most == 1 {
                let body = json!({ "seq": from, "next_by_subj": subject });
                return Ok(self.direct("", Some(body)).await?.into_iter().collect());
            }
            let (found, _) = self
                .shared
                .read_once(stream, subject, from, most, MOST_BYTES)
                .await?;
            return Ok(found);
        }
        let Some(first) = self.first_of(subject, from).await? else {
            return Ok(Vec::new());
        };
        let mut head = vec![first];
        if most > 1 {
            // Messages are only removed from the front, so those behind the first are all there.
            let from = head[0].sequence + 1;
            let (rest, _) = self
                .shared
                .read_once(stream, subject, from, most - 1, MOST_BYTES)
                .await?;
            head.extend(rest);
        }
        Ok(head)
    }

    /// What is known of a group at the beginning of a turn.
    pub(super) async fn note_at_start(&self, name: &str) -> Result<(Note, u64), BrokerError> {
        if self.replicated {
            return self.note(name).await;
        }
        let subject = format!(".{}", self.shared.names.note(name));
        let stored = self.direct(&subject, None).await?;
        Ok(stored.map_or_else(Default::default, |raw| {
            (Note::read(&raw.body), raw.sequence)
        }))
    }

    /// Whether a turn is the only one of its group, as the leader knows it.
    pub(super) async fn is_alone(&self, name: &str, sequence: u64) -> Result<bool, BrokerError> {
        let subject = self.shared.names.turn(name);
        let newest = self.last_of(&subject).await?;
        if newest.is_none_or(|newest| newest.sequence != sequence) {
            return Ok(false);
        }
        let oldest = self.first_of(&subject, 1).await?;
        Ok(oldest.is_some_and(|oldest| oldest.sequence == sequence))
    }

    /// One direct read, which the stream's own server answers without its API.
    async fn direct(
        &self,
        subject: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Option<Raw>, BrokerError> {
        const OPERATION: &str = "read message";
        let names = &self.shared.names;
        let api = format!("$JS.API.DIRECT.GET.{}{subject}", names.stream);
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let connection = &self.shared.connection;
        let answer = match connection.request(OPERATION, &api, None, body).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.told(failure).await),
        };
        match answer.status.map(|status| status.as_u16()) {
            None => {}
            Some(404) => return Ok(None),
            Some(status) => {
                return Err(BrokerError::Refused {
                    operation: OPERATION,
                    why: format!("{}: status {status}", names.shown()),
                });
            }
        }
        let headers = pairs(answer.headers.as_ref());
        let sequence = value(&headers, "Nats-Sequence").and_then(|text| text.parse().ok());
        let time = value(&headers, "Nats-Time-Stamp").and_then(|text| text.parse().ok());
        let (Some(sequence), Some(time)) = (sequence, time) else {
            return Err(BrokerError::Refused {
                operation: OPERATION,
                why: format!("{}: the answer has no sequence", names.shown()),
            });
        };
        Ok(Some(Raw {
            sequence,
            time,
            headers,
            body: answer.payload,
        }))
    }
}
