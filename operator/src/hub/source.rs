//! One source: a list and its watches, turned into keys.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::concerns::Concerns;
use crate::health::Health;
use crate::memory::Key;
use crate::rollout::rollout;
use crate::seen_configs::hash_of;
use crate::stores::{Read, Stored};
use crate::world::Name;

/// What is seen of an object: it counts as changed when this does.
type Mark = u64;
/// Whom a change of an object concerns. The second argument says that the object is gone.
type Concern<O> = Box<dyn Fn(&O, bool) -> Vec<Key> + Send + Sync>;

/// Brings a store up to date.
type Keep<O> = Box<dyn FnMut(&Event<O>) + Send>;

/// Turns events of one kind of object into keys.
pub struct Source<O> {
    mark: fn(&O) -> Mark,
    concern: Concern<O>,
    store: Option<Keep<O>>,
    /// What is there, as it was last seen. Objects are kept to tell whom their end concerns.
    seen: HashMap<Name, (Mark, O)>,
    /// A list that is being read.
    listing: Option<BTreeMap<Name, O>>,
}

/// What every source needs besides.
pub struct Parts {
    /// Its name in signs of life.
    pub name: String,
    /// Where they go.
    pub health: Arc<Health>,
    /// How long one list and its watches are followed.
    pub relist: Duration,
}

/// Follows a kind of object for ever.
pub fn follow<O>(
    api: Api<O>,
    config: watcher::Config,
    mut source: Source<O>,
    parts: Parts,
) -> BoxStream<'static, Vec<Key>>
where
    O: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let Parts {
        name,
        health,
        relist,
    } = parts;
    health.expect(&name);
    stream::repeat_with(move || {
        let end = Box::pin(tokio::time::sleep(relist));
        watcher(api.clone(), config.clone())
            .default_backoff()
            .take_until(end)
    })
    .flatten()
    .map(move |event| match event {
        Ok(event) => {
            if matches!(event, Event::InitDone) {
                health.alive(&name);
            }
            source.event(event)
        }
        Err(error) => {
            tracing::warn!(watch = name, %error, "watch failed; it is tried again");
            Vec::new()
        }
    })
    .boxed()
}

impl<O: Resource<DynamicType = ()> + Clone> Source<O> {
    fn new(mark: fn(&O) -> Mark, concern: Concern<O>) -> Self {
        Self {
            mark,
            concern,
            store: None,
            seen: HashMap::new(),
            listing: None,
        }
    }

    /// Whom an event concerns. The store is brought up to date before anybody learns of it.
    fn event(&mut self, event: Event<O>) -> Vec<Key> {
        if let Some(store) = &mut self.store {
            store(&event);
        }
        match event {
            Event::Init => {
                self.listing = Some(BTreeMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(name_of(object.meta()), object);
                }
                Vec::new()
            }
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let gone: Vec<Name> = self
                    .seen
                    .keys()
                    .filter(|name| !listed.contains_key(name))
                    .cloned()
                    .collect();
                let gone: Vec<Key> = gone.iter().flat_map(|name| self.gone(name)).collect();
                let here = listed
                    .into_iter()
                    .flat_map(|(name, object)| self.here(name, object));
                let here: Vec<Key> = here.collect();
                gone.into_iter().chain(here).collect()
            }
            Event::Apply(object) => self.here(name_of(object.meta()), object),
            Event::Delete(object) => self.gone(&name_of(object.meta())),
        }
    }

    fn here(&mut self, name: Name, object: O) -> Vec<Key> {
        let mark = (self.mark)(&object);
        let before = self.seen.get(&name);
        if before.is_some_and(|(seen, _)| *seen == mark) {
            return Vec::new();
        }
        // Whom it concerned before, and whom it concerns now.
        let mut keys = before
            .map(|(_, before)| (self.concern)(before, false))
            .unwrap_or_default();
        keys.extend((self.concern)(&object, false));
        keys.sort();
        keys.dedup();
        self.seen.insert(name, (mark, object));
        keys
    }

    fn gone(&mut self, name: &Name) -> Vec<Key> {
        self.seen
            .remove(name)
            .map(|(_, object)| (self.concern)(&object, true))
            .unwrap_or_default()
    }
}

impl<K: Stored> Source<Read<K>> {
    /// Our own objects: what their specs say, what users annotated, and that they are being deleted.
    pub fn of_objects(
        concerns: Arc<Concerns>,
        mut writer: Writer<Read<K>>,
        concern: fn(&Concerns, &Read<K>, bool) -> Vec<Key>,
    ) -> Self {
        let concern: Concern<Read<K>> =
            Box::new(move |object, gone| concern(&concerns, object, gone));
        let mut source = Self::new(mark_of_object, concern);
        source.store = Some(Box::new(move |event| writer.apply_watcher_event(event)));
        source
    }
}

fn mark_of_object<K: Stored>(object: &Read<K>) -> Mark {
    let meta = object.meta();
    let deleting = meta.deletion_timestamp.is_some();
    hash_of(&(
        &meta.uid,
        meta.generation,
        deleting,
        &meta.finalizers,
        &meta.annotations,
    ))
}

impl<O: Resource<DynamicType = ()> + Clone + Send + Sync + 'static> Source<O> {
    /// Children of workers, by label: any change concerns their object.
    pub fn of_children(concerns: Arc<Concerns>) -> Self {
        let concern: Concern<O> = Box::new(move |child, _| concerns.child(child.meta()));
        Self::new(
            |child| hash_of(&(&child.meta().uid, &child.meta().resource_version)),
            concern,
        )
    }

    /// Parts of runtimes: one object of the namespace is enough to repair them. Their status changes
    /// often and says nothing.
    pub fn of_runtime_parts(concerns: Arc<Concerns>) -> Self {
        let concern: Concern<O> = Box::new(move |part, _| concerns.runtime_part(part.meta()));
        let mark = |part: &O| {
            let meta = part.meta();
            let version = meta.generation.is_none().then_some(&meta.resource_version);
            hash_of(&(&meta.uid, meta.generation, version, &meta.labels))
        };
        Self::new(mark, concern)
    }
}

impl Source<Deployment> {
    /// Deployments of runtimes: whether they are ready concerns all objects of the namespace.
    pub fn of_runtime_deployments(concerns: Arc<Concerns>) -> Self {
        let mark = |deployment: &Deployment| {
            let (meta, found) = (&deployment.metadata, rollout(deployment, &[]));
            hash_of(&(
                &meta.uid,
                meta.generation,
                found.progress as u8,
                &meta.labels,
            ))
        };
        Self::new(
            mark,
            Box::new(move |deployment, _| concerns.runtime(&deployment.metadata)),
        )
    }
}

impl Source<ConfigMap> {
    /// ConfigMaps of runtimes: a changed entry concerns the object that it configures.
    pub fn of_runtime_configs(concerns: Arc<Concerns>) -> Self {
        let concern: Concern<ConfigMap> = Box::new(move |map, gone| concerns.configured(map, gone));
        Self::new(
            |map| hash_of(&(&map.metadata.uid, &map.metadata.resource_version)),
            concern,
        )
    }
}

fn name_of(meta: &ObjectMeta) -> Name {
    Name::new(
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}
