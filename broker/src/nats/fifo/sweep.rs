//! Finding groups that have messages and no turn, or a turn that does not come: what a process left
//! behind that died between storing the one and the other, and what a server forgot that was killed
//! between noting an acknowledgement and removing the message.

use std::collections::HashMap;

use async_nats::HeaderMap;

use weir_core::names::token;

use super::super::apply::{subjects_in, subjects_on};
use super::Fifo;
use super::head::Held;
use crate::error::BrokerError;

/// Turns that one sweep looks at.
const MOST_STUCK: usize = 1000;

impl Fifo {
    /// Looks after every group that has messages and neither a turn nor a time to wait for.
    pub(super) async fn sweep(&self) -> Result<(), BrokerError> {
        self.sweep_stuck_turns().await?;
        let (connection, names) = (&self.shared.connection, &self.shared.names);
        // Cheap while there is nothing to find: an idle queue has no groups at all.
        let mut groups = 0;
        for role in ["group", "front"] {
            groups += subjects_in(connection, names, &names.all(role)).await?;
        }
        let turns = subjects_in(connection, names, &names.all("turn")).await?;
        if groups <= turns {
            return Ok(());
        }
        let mut without: HashMap<String, &str> = HashMap::new();
        for role in ["group", "front"] {
            subjects_on(connection, names, &names.all(role), |subject, _| {
                if let Some((_, name)) = subject.rsplit_once('.') {
                    without.insert(name.to_owned(), role);
                }
            })
            .await?;
        }
        for role in ["turn", "wake"] {
            subjects_on(connection, names, &names.all(role), |subject, _| {
                if let Some((_, name)) = subject.rsplit_once('.') {
                    without.remove(name);
                }
            })
            .await?;
        }
        for (name, role) in without {
            let subject = match role {
                "front" => names.front(&name),
                _ => names.group(&name),
            };
            if let Some(raw) = self.first_of(&subject, 1).await? {
                let first = Held::read(&raw, &super::Note::default());
                let group = super::group_of(&first.message).to_owned();
                self.look_after(&name, &group).await?;
            }
        }
        Ok(())
    }

    /// Stores turns again that nobody has and that do not come: those that the consumer believes to be
    /// acknowledged, and while nothing is out, those that it believes to be delivered.
    async fn sweep_stuck_turns(&self) -> Result<(), BrokerError> {
        let names = &self.shared.names;
        let turns = self.turns().await?;
        let done = if turns.num_ack_pending > 0 {
            turns.ack_floor.stream_seq
        } else {
            turns.delivered.stream_seq
        };
        let mut from = 1;
        for _ in 0..MOST_STUCK {
            let Some(stuck) = self.first_of(&names.all("turn"), from).await? else {
                break;
            };
            if stuck.sequence > done {
                break;
            }
            from = stuck.sequence + 1;
            let subject = names.turn(&token(&String::from_utf8_lossy(&stuck.body)));
            tracing::debug!(subject, "a turn that does not come is stored again");
            let (headers, body) = (HeaderMap::new(), stuck.body);
            self.store_if(&subject, headers, body, stuck.sequence)
                .await?;
            // Where another one is there, that one comes.
            self.remove_before(&subject, from).await?;
        }
        Ok(())
    }
}
