//! The objects of the cluster, with the queues that the operator has a connection to.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};
use weir_core::object::{Kind, ObjectKey};
use weir_core::redrive::Redrive;
use weir_crds::conditions::Event;
use weir_crds::{FifoConsumer, QueueConsumer, Webhook};
use weir_ops::{Directory, Entry, News};

use crate::context::Context;
use crate::fence::Fence;
use crate::reconcile::key_of;
use crate::stores::{Read, Stored};
use crate::world::Name;

/// What the operator knows.
pub(super) struct Known {
    pub(super) context: Arc<Context>,
    pub(super) fence: Fence,
}

#[async_trait]
impl Directory for Known {
    fn all(&self, namespace: Option<&str>) -> Vec<Entry> {
        let mut all = self.of_kind::<Webhook>(namespace);
        all.extend(self.of_kind::<QueueConsumer>(namespace));
        all.extend(self.of_kind::<FifoConsumer>(namespace));
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    fn find(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Option<Entry> {
        let name = Name::new(namespace?, name);
        match kind {
            Kind::Webhook => self.one::<Webhook>(&name),
            Kind::QueueConsumer => self.one::<QueueConsumer>(&name),
            Kind::FifoConsumer => self.one::<FifoConsumer>(&name),
        }
    }

    fn may_change(&self) -> bool {
        self.fence.check().is_ok()
    }

    async fn tell(&self, object: &ObjectKey, news: News) {
        let (event, note) = match news {
            News::Redriven(redrive) => (Event::DeadLettersRedriven, redriven(&redrive)),
            News::Purged { count, by } => {
                let by = by.as_deref().unwrap_or("somebody");
                let note = format!("{count} dead letters were deleted by {by}");
                (Event::DeadLettersPurged, note)
            }
        };
        let name = Name::new(&object.namespace, &object.name);
        match object.kind {
            Kind::Webhook => self.tell_of::<Webhook>(&name, event, note).await,
            Kind::QueueConsumer => self.tell_of::<QueueConsumer>(&name, event, note).await,
            Kind::FifoConsumer => self.tell_of::<FifoConsumer>(&name, event, note).await,
        }
    }
}

/// A redrive that ended, as an Event says it.
fn redriven(redrive: &Redrive) -> String {
    let counts = redrive.counts;
    let by = redrive.by.as_deref().unwrap_or("somebody");
    let to = redrive
        .to
        .as_ref()
        .map_or_else(String::new, |to| format!(" to {to}"));
    let mut note = format!(
        "redrive {} by {by} is {}: {} dead letters were sent{to}",
        redrive.id,
        redrive.state.as_str(),
        counts.moved
    );
    if counts.failed > 0 {
        let _ = write!(note, ", {} could not be", counts.failed);
    }
    if !redrive.message.is_empty() {
        let _ = write!(note, "; {}", redrive.message);
    }
    note
}

impl Known {
    fn of_kind<K: Stored>(&self, namespace: Option<&str>) -> Vec<Entry> {
        let all = self.context.stores.all::<K>(namespace);
        all.iter().filter_map(|read| self.entry(read)).collect()
    }

    async fn tell_of<K: Stored>(&self, name: &Name, event: Event, note: String) {
        let Some(read) = self.context.stores.latest::<K>(name) else {
            return;
        };
        if let Ok(object) = &read.0 {
            self.context.events.tell(object, event, note).await;
        }
    }

    fn one<K: Stored>(&self, name: &Name) -> Option<Entry> {
        self.entry(&*self.context.stores.latest::<K>(name)?)
    }

    fn entry<K: Stored>(&self, read: &Read<K>) -> Option<Entry> {
        let object = read.0.as_ref().ok()?;
        let key = key_of(read);
        let uid = object.uid()?;
        let remembered = self.context.memory.get(&key, &uid);
        let status = serde_json::to_value(object).ok()?["status"].take();
        let mut about = Map::new();
        about.insert("uid".to_owned(), json!(uid));
        about.insert("generation".to_owned(), json!(object.meta().generation));
        for field in [
            "backlog",
            "groups",
            "blockedGroups",
            "deadLetters",
            "inFlight",
            "url",
        ] {
            if let Some(value) = status.get(field).filter(|value| **value != Value::Null) {
                about.insert(field.to_owned(), value.clone());
            }
        }
        Some(Entry {
            key: ObjectKey::new(Kind::parse(K::NAME)?, key.name.namespace, key.name.name),
            uid,
            queue: remembered.queue,
            about,
        })
    }
}
