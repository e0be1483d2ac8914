//! Looking into a FIFO queue without consuming.

use std::collections::{HashMap, HashSet};

use futures::future::{join_all, join3};
use serde_json::Value;

use super::super::api::{ConsumerInfo, StreamInfo};
use super::super::apply::{messages_on, subjects_in};
use super::super::read::page;
use super::super::topology::WORKERS;
use super::head::due_of;
use super::note::Note;
use super::{Fifo, group_of};
use crate::error::BrokerError;
use crate::queue::{Depth, Page, StoredMessage};

impl Fifo {
    /// The consumer of turns as it is now.
    pub(super) async fn turns(&self) -> Result<ConsumerInfo, BrokerError> {
        let names = &self.shared.names;
        let api = format!("CONSUMER.INFO.{}.{WORKERS}", names.stream);
        self.shared
            .connection
            .api("read consumer", &api, &Value::Null)
            .await
            .map_err(|failure| failure.told(&format!("consumer {WORKERS} of {}", names.shown())))
    }

    pub(crate) async fn depth(&self) -> Result<Depth, BrokerError> {
        let (connection, names) = (&self.shared.connection, &self.shared.names);
        let groups = names.all("group");
        let stored = Box::pin(async {
            let stored = messages_on(connection, names, &groups).await?;
            let first = messages_on(connection, names, &names.all("front")).await?;
            let oldest = self.first_of(&groups, 1).await?;
            Ok::<_, BrokerError>((stored + first, oldest))
        });
        let dead = Box::pin(async {
            let delayed = subjects_in(connection, names, &names.all("wake")).await?;
            let api = format!("STREAM.INFO.{}", names.dead_stream);
            connection
                .api::<StreamInfo>("read stream", &api, &Value::Null)
                .await
                .map(|info| (delayed, info.state.messages))
                .map_err(|failure| failure.told(&format!("stream {}", names.dead_stream)))
        });
        let (turns, stored, dead) = join3(Box::pin(self.turns()), stored, dead).await;
        let ((stored, oldest), (delayed, dead)) = (stored?, dead?);
        let in_flight = (turns?.num_ack_pending).min(stored);
        Ok(Depth {
            ready: stored - in_flight,
            in_flight,
            delayed,
            dead,
            oldest: oldest.map(|raw| raw.time),
        })
    }

    pub(crate) async fn peek(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredMessage>, BrokerError> {
        let (shared, names) = (&self.shared, &self.shared.names);
        let (group, front) = (names.all("group"), names.all("front"));
        let behind = shared.read(&names.stream, &group, after, limit).await?;
        let before = shared.read(&names.stream, &front, after, limit).await?;
        let found = behind.and(before);
        let groups: HashSet<String> = found
            .items
            .iter()
            .take(limit)
            .map(|raw| weir_core::names::token(group_of(&raw.message().message)))
            .collect();
        let notes = groups.into_iter().map(|name| async move {
            let note = self.note(&name).await;
            note.map(|(note, _)| (name, note))
        });
        let notes: Result<HashMap<_, _>, BrokerError> = join_all(notes).await.into_iter().collect();
        let (notes, nothing) = (notes?, Note::default());
        Ok(page(found, limit, |raw| {
            let stored = raw.message();
            let note = notes.get(&weir_core::names::token(group_of(&stored.message)));
            let note = note.unwrap_or(&nothing);
            StoredMessage {
                attempts: stored.attempts + note.attempts_of(raw.sequence),
                due: due_of(&raw, note),
                message: stored.message,
                position: raw.sequence,
            }
        }))
    }
}
