//! The end of an object that has topology: what runs for it ends first, then its topology, then the
//! object is let go.
//!
//! A broker that is gone never keeps an object for longer than the deletion timeout: the topology is
//! then left behind, which is told and counted.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;
use weir_broker::QueueSpec;
use weir_core::config::QueueConfig;
use weir_crds::conditions::Event;

use crate::applier::{NotApplied, Owner};
use crate::brokers::{Broker, NoConnection};
use crate::bus;
use crate::context::Context;
use crate::error::{Error, chain};
use crate::kinds::Ending;
use crate::memory::Key;
use crate::plan::{ChildKind, child_name, selector};
use crate::pod::short_hash;
use crate::runtime;
use crate::runtime_shell::{Asking, pods, set_config, touch_pods};
use crate::status::Verdict;
use crate::status_shell::{self, Current};
use crate::stores::{Read, Stored};
use crate::world::World;

/// The finalizer of objects with topology.
pub const FINALIZER: &str = "weir.dev/topology";
/// How long pods may take to end beyond what they were given.
const POD_SLACK: Duration = Duration::from_secs(30);
/// How often pods that end are looked at.
const POD_INTERVAL: Duration = Duration::from_secs(2);

/// Puts the finalizer on an object, before there is anything to clean up.
pub async fn ensure_finalizer<K: Stored>(object: &K, context: &Context) -> Result<(), Error> {
    if object.ending().is_none() || object.finalizers().iter().any(|name| name == FINALIZER) {
        return Ok(());
    }
    let finalizers = object
        .finalizers()
        .iter()
        .cloned()
        .chain([FINALIZER.to_owned()])
        .collect();
    write_finalizers::<K>(object.meta(), finalizers, context).await
}

/// Replaces the list of finalizers of exactly this version of an object.
async fn write_finalizers<K: Stored>(
    metadata: &ObjectMeta,
    finalizers: Vec<String>,
    context: &Context,
) -> Result<(), Error> {
    let name = metadata.name.clone().unwrap_or_default();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let resource = kube::core::ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &namespace, &resource);
    let patch = json!({ "metadata": {
        "resourceVersion": metadata.resource_version,
        "finalizers": finalizers,
    } });
    match api
        .patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Ok(_) => {
            context.metrics.wrote(K::NAME);
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => {
            let what = format!("finalizers of {} {namespace}/{name}", K::NAME);
            Err(Error::kube("write", what, error))
        }
    }
}

/// Goes on with the deletion of an object.
pub async fn finalize<K: Stored>(
    object: &K,
    key: &Key,
    context: &Context,
) -> Result<Duration, Error> {
    let ours = object.finalizers().iter().any(|name| name == FINALIZER);
    let Some(ending) = object.ending().filter(|_| ours) else {
        context.memory.forget(key);
        return Ok(context.settings.resync);
    };
    match clean_up(&ending, key, context).await {
        Ok(Progress::Done) => release(object, key, context).await,
        Ok(Progress::Waiting) => Ok(POD_INTERVAL),
        Err(why) if is_overdue(object.meta(), context) => {
            orphan(object, &ending, &why, context).await;
            release(object, key, context).await
        }
        Err(why) => {
            let words = format!(
                "stored messages cannot be removed: {why}; the object goes {} s after its deletion in any case",
                context.settings.deletion_timeout.as_secs()
            );
            let current = Current::of(object, key, context);
            let fields = object.fields(None);
            let verdict = Verdict::Blocked(&words);
            status_shell::write(object, current, verdict, None, fields, context).await?;
            // Never so long that the end of the timeout is missed.
            let end = left(object.meta(), context).max(Duration::from_millis(100));
            Ok(context.settings.progress_interval.min(end))
        }
    }
}

/// The deletion of an object that cannot be read: nothing is known of its policy, so everything is
/// kept, once there was time to correct it.
pub async fn finalize_unreadable<K: Stored>(
    read: &Read<K>,
    key: &Key,
    context: &Context,
) -> Result<Duration, Error> {
    if !read.finalizers().iter().any(|name| name == FINALIZER) {
        return Ok(context.settings.resync);
    }
    if !is_overdue(read.meta(), context) {
        return Ok(left(read.meta(), context).max(Duration::from_millis(100)));
    }
    context.metrics.orphaned(K::NAME);
    tracing::warn!(object = %key, "an unreadable object is let go; its topology is left behind");
    let rest = read
        .finalizers()
        .iter()
        .filter(|name| *name != FINALIZER)
        .cloned()
        .collect();
    write_finalizers::<K>(read.meta(), rest, context).await?;
    context.memory.forget(key);
    Ok(context.settings.resync)
}

enum Progress {
    /// Nothing is left.
    Done,
    /// Pods are ending.
    Waiting,
}

/// Ends everything. An error is the words for what keeps it.
async fn clean_up(ending: &Ending, key: &Key, context: &Context) -> Result<Progress, String> {
    end_worker(ending, context)
        .await
        .map_err(|error| chain(&error))?;
    end_delivery(ending, context)
        .await
        .map_err(|not| match not {
            NotApplied::Refused(refused) => refused.message,
            NotApplied::Failed(error) => chain(&error),
        })?;
    if ending.removal != weir_broker::Removal::Retain && pods_remain(ending, context).await? {
        return Ok(Progress::Waiting);
    }
    let broker = broker_of(ending, key, context).await?;
    let queue = QueueSpec {
        object: ending.identity.key.clone(),
        uid: ending.identity.uid.clone(),
        config: any_queue(),
    };
    let removed = broker
        .remove(&queue, ending.removal)
        .await
        .map_err(|error| error.to_string())?;
    tracing::info!(object = %key, deleted = ?removed.deleted, retained = ?removed.retained, "topology ended");
    Ok(Progress::Done)
}

/// A configuration for a queue that is removed, where it does not count.
fn any_queue() -> QueueConfig {
    QueueConfig {
        limit: 0,
        batch_max: 1,
        lease_seconds: 30,
        replicas: 1,
        capacity: 1,
        dead_letter_retention_seconds: 60,
        fifo: None,
    }
}

async fn end_worker(ending: &Ending, context: &Context) -> Result<(), Error> {
    let object = &ending.identity.key;
    let (kind, name) = (ChildKind::Deployment, child_name(object));
    let Some(live) = context.applier.get(kind, &object.namespace, &name).await? else {
        return Ok(());
    };
    let owner = Owner::Object(ending.identity.uid.clone());
    context
        .applier
        .delete(kind, &object.namespace, &name, &live, &owner)
        .await
}

/// Takes the object out of the shared runtime.
async fn end_delivery(ending: &Ending, context: &Context) -> Result<(), NotApplied> {
    let identity = &ending.identity;
    let namespace = &identity.key.namespace;
    let changed = set_config(identity, None, &context.applier, &context.seen_configs).await?;
    context
        .runtimes
        .ensure(
            Asking::Leaving(identity),
            &context.cluster,
            &context.stores,
            &context.applier,
            &context.client,
        )
        .await?;
    if changed {
        let change = format!("{} {}", identity.key, short_hash("removed"));
        touch_pods(namespace, &runtime::selector(), &change, &context.client).await;
    }
    Ok(())
}

/// Pods of the worker still run, and are not overdue.
async fn pods_remain(ending: &Ending, context: &Context) -> Result<bool, String> {
    let object = &ending.identity.key;
    let pods = pods(&object.namespace, &selector(object), &context.client)
        .await
        .map_err(|error| chain(&error))?;
    let patience = Duration::from_secs(u64::from(ending.grace_seconds)) + POD_SLACK;
    let now = context.clock.now();
    Ok(pods.iter().any(|pod| {
        let ended = pod.metadata.deletion_timestamp.as_ref();
        ended.is_none_or(|since| {
            let ran = now.duration_since(since.0);
            ran.as_secs() < i64::try_from(patience.as_secs()).unwrap_or(i64::MAX)
        })
    }))
}

/// The connection that was used last, also when its `MessageBus` is gone, else the one that the
/// object names.
async fn broker_of(ending: &Ending, key: &Key, context: &Context) -> Result<Broker, String> {
    if let Some(broker) = context.memory.get(key, &ending.identity.uid).broker {
        return Ok(broker);
    }
    let mut world = World::cluster(context.cluster.clone());
    let namespace = &ending.identity.key.namespace;
    for name in bus::candidates(ending.bus.as_deref(), namespace, &world.place) {
        let found = context.stores.find::<weir_crds::MessageBus>(&name).await;
        if let Some(found) = found.map_err(|error| chain(&error))? {
            world.buses.insert(name, found.spec.clone());
            break;
        }
    }
    let bus = bus::choose(ending.bus.as_deref(), namespace, &world);
    let bus = bus.map_err(|rejected| rejected.message)?;
    context.brokers.of(&bus).await.map_err(|none| match none {
        NoConnection::Refused(refused) => refused.message,
        NoConnection::Broker(error) => error.to_string(),
        NoConnection::Failed(error) => chain(&error),
    })
}

/// Time until an object is let go in any case.
fn left(metadata: &ObjectMeta, context: &Context) -> Duration {
    let Some(since) = &metadata.deletion_timestamp else {
        return context.settings.deletion_timeout;
    };
    let waited = context.clock.now().duration_since(since.0);
    let waited = Duration::try_from(waited).unwrap_or_default();
    context.settings.deletion_timeout.saturating_sub(waited)
}

fn is_overdue(metadata: &ObjectMeta, context: &Context) -> bool {
    left(metadata, context).is_zero()
}

/// Tells that topology is left behind.
async fn orphan<K: Stored>(object: &K, ending: &Ending, why: &str, context: &Context) {
    context.metrics.orphaned(K::NAME);
    let names = weir_core::names::QueueNames::of(&ending.identity.key);
    let note = format!(
        "{} and {} are left in the broker: {why}; an object of the same name takes them over",
        names.queue_stream(),
        names.dead_stream()
    );
    context
        .events
        .tell(object, Event::TopologyOrphaned, note)
        .await;
}

async fn release<K: Stored>(object: &K, key: &Key, context: &Context) -> Result<Duration, Error> {
    let rest = object
        .finalizers()
        .iter()
        .filter(|name| *name != FINALIZER)
        .cloned()
        .collect();
    write_finalizers::<K>(object.meta(), rest, context).await?;
    context.memory.forget(key);
    Ok(context.settings.resync)
}
