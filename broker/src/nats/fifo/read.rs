//! Looking into a FIFO queue without consuming.

use std::collections::{HashMap, HashSet};

use futures::future::{join_all, join5};
use serde_json::Value;

use super::super::api::{ConsumerInfo, StreamInfo};
use super::super::apply::{messages_on, subjects_in};
use super::super::read::page;
use super::super::topology::WORKERS;
use super::head::due_of;
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
        let (groups, fronts) = (names.all("group"), names.all("front"));
        let dead = format!("STREAM.INFO.{}", names.dead_stream);
        let wakes = names.all("wake");
        let (turns, stored, first, delayed, dead) = join5(
            self.turns(),
            messages_on(connection, names, &groups),
            messages_on(connection, names, &fronts),
            subjects_in(connection, names, &wakes),
            connection.api::<StreamInfo>("read stream", &dead, &Value::Null),
        )
        .await;
        let dead =
            dead.map_err(|failure| failure.told(&format!("stream {}", names.dead_stream)))?;
        let oldest = self.first_of(&groups, 1).await?;
        let stored = stored? + first?;
        let in_flight = (turns?.num_ack_pending).min(stored);
        Ok(Depth {
            ready: stored - in_flight,
            in_flight,
            delayed: delayed?,
            dead: dead.state.messages,
            oldest: oldest.map(|raw| raw.time),
        })
    }

    pub(crate) async fn peek(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredMessage>, BrokerError> {
        let (shared, names) = (&self.shared, &self.shared.names);
        let read = async |role| {
            shared
                .read(&names.stream, &names.all(role), after, limit)
                .await
        };
        let mut found = read("group").await?.and(read("front").await?);
        found.items.truncate(limit.saturating_add(1));
        let groups: HashSet<String> = found
            .items
            .iter()
            .map(|raw| weir_core::names::token(group_of(&raw.message().message)))
            .collect();
        let notes = groups.into_iter().map(|name| async move {
            let note = self.note(&name).await;
            note.map(|(note, _)| (name, note))
        });
        let notes: Result<HashMap<_, _>, BrokerError> = join_all(notes).await.into_iter().collect();
        let notes = notes?;
        Ok(page(found, limit, |raw| {
            let stored = raw.message();
            let note = notes.get(&weir_core::names::token(group_of(&stored.message)));
            let counted = note.map_or(0, |note| note.attempts_of(raw.sequence));
            StoredMessage {
                attempts: stored.attempts + counted,
                due: due_of(&raw),
                message: stored.message,
                position: raw.sequence,
            }
        }))
    }
}
