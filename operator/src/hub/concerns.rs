//! Whom a change concerns. No IO: looks only at what the watches have seen.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use weir_core::object::{Kind as CoreKind, ObjectKey};
use weir_crds::shared::{Consumes, Delivery};
use weir_crds::{FifoConsumer, MessageBus, QueueConsumer, Webhook};

use crate::context::Context;
use crate::delivery::target_queue;
use crate::kinds::Kind;
use crate::memory::Key;
use crate::plan::{KIND_LABEL, NAME_LABEL};
use crate::reconcile::key_of;
use crate::stores::{Read, Stored};
use crate::world::Name;

/// Knows whom a change concerns.
pub struct Concerns {
    context: Arc<Context>,
}

impl Concerns {
    /// Looks things up in the stores of `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// A bus changed: itself, and all that use it or could.
    pub fn bus(&self, read: &Read<MessageBus>, gone: bool) -> Vec<Key> {
        let mut keys = self.itself(read, gone);
        keys.extend(self.users(&key_of(read).name));
        keys
    }

    /// The objects that use a bus, or would if it were there.
    pub fn users(&self, bus: &Name) -> Vec<Key> {
        let is_default = self.context.cluster.default_bus.as_ref() == Some(bus);
        self.consumers(|namespace, delivery| match delivery.bus {
            Some(wanted) => namespace == bus.namespace && wanted == bus.name,
            None => is_default || (namespace == bus.namespace && bus.name == "default"),
        })
    }

    /// A queue changed: itself, and all that send to it.
    pub fn queue(&self, read: &Read<QueueConsumer>, gone: bool) -> Vec<Key> {
        self.receiver(CoreKind::QueueConsumer, read, gone)
    }

    /// An ordered queue changed: itself, and all that send to it.
    pub fn fifo(&self, read: &Read<FifoConsumer>, gone: bool) -> Vec<Key> {
        self.receiver(CoreKind::FifoConsumer, read, gone)
    }

    fn receiver<K: Stored>(&self, kind: CoreKind, read: &Read<K>, gone: bool) -> Vec<Key> {
        let mut keys = self.itself(read, gone);
        let name = key_of(read).name;
        let receiver = ObjectKey::new(kind, name.namespace, name.name);
        keys.extend(self.consumers(|namespace, delivery| {
            delivery
                .to
                .and_then(|to| target_queue(namespace, to))
                .as_ref()
                == Some(&receiver)
        }));
        keys
    }

    /// A webhook changed.
    pub fn webhook(&self, read: &Read<Webhook>, gone: bool) -> Vec<Key> {
        self.itself(read, gone)
    }

    fn itself<K: Stored>(&self, read: &Read<K>, gone: bool) -> Vec<Key> {
        let key = key_of(read);
        if gone {
            self.context.memory.forget(&key);
            self.context.backoff.forget(&key);
            return Vec::new();
        }
        vec![key]
    }

    /// Objects whose spec is as asked for.
    fn consumers(&self, is: impl Fn(&str, &Delivery<'_>) -> bool) -> Vec<Key> {
        let mut keys = self.consumers_of::<Webhook, _>(|object| &object.spec, &is);
        keys.extend(self.consumers_of::<QueueConsumer, _>(|object| &object.spec, &is));
        keys.extend(self.consumers_of::<FifoConsumer, _>(|object| &object.spec, &is));
        keys
    }

    fn consumers_of<K: Stored, S: Consumes>(
        &self,
        spec: fn(&K) -> &S,
        is: &impl Fn(&str, &Delivery<'_>) -> bool,
    ) -> Vec<Key> {
        let all = self.context.stores.all::<K>(None);
        let wanted = |read: &&Arc<Read<K>>| read.0.as_ref().is_ok_and(|o| matches(o, spec(o), is));
        all.iter()
            .filter(wanted)
            .map(|read| key_of(&**read))
            .collect()
    }

    /// A child of a worker changed.
    pub fn child(&self, meta: &ObjectMeta) -> Vec<Key> {
        let labels = meta.labels.as_ref();
        let label = |name: &str| labels.and_then(|labels| labels.get(name));
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        match (
            label(KIND_LABEL).and_then(|kind| kind_named(kind)),
            label(NAME_LABEL),
        ) {
            (Some(kind), Some(name)) => vec![Key {
                kind,
                name: Name::new(namespace, name),
            }],
            _ => Vec::new(),
        }
    }

    /// A runtime is ready, or no longer: all objects of the namespace.
    pub fn runtime(&self, meta: &ObjectMeta) -> Vec<Key> {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        self.context.runtimes.invalidate(namespace);
        self.consumers(|other, _| other == namespace)
    }

    /// A part of a runtime changed: any object of the namespace will do.
    pub fn runtime_part(&self, meta: &ObjectMeta) -> Vec<Key> {
        let mut keys = self.runtime(meta);
        keys.truncate(1);
        keys
    }

    /// A runtime's configuration changed: the objects whose entries did.
    pub fn configured(&self, map: &ConfigMap, gone: bool) -> Vec<Key> {
        let namespace = map.metadata.namespace.as_deref().unwrap_or_default();
        let files = self.context.seen_configs.note(map, gone);
        files
            .iter()
            .filter_map(|file| {
                let (kind, name) = file.strip_suffix(".json")?.split_once('.')?;
                Some(Key {
                    kind: kind_named(kind)?,
                    name: Name::new(namespace, name),
                })
            })
            .collect()
    }
}

fn matches<K: Kind, S: Consumes>(
    object: &K,
    spec: &S,
    is: &impl Fn(&str, &Delivery<'_>) -> bool,
) -> bool {
    is(
        object.namespace().as_deref().unwrap_or_default(),
        &spec.delivery(),
    )
}

/// The kind that labels and file names call `webhook`.
fn kind_named(lower: &str) -> Option<&'static str> {
    [Webhook::NAME, QueueConsumer::NAME, FifoConsumer::NAME]
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(lower))
}
