//! Finding groups that have messages and no turn: what a process left behind that died between
//! storing the one and the other.

use std::collections::HashMap;

use super::super::apply::{subjects_in, subjects_on};
use super::Fifo;
use super::head::Held;
use crate::error::BrokerError;

impl Fifo {
    /// Looks after every group that has messages and neither a turn nor a time to wait for.
    pub(super) async fn sweep(&self) -> Result<(), BrokerError> {
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
}
