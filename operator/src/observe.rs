//! Reads what a decision depends on, once, into a value.

use weir_core::object::{Kind as CoreKind, ObjectKey};
use weir_crds::{FifoConsumer, MessageBus, QueueConsumer, Webhook};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client, ResourceExt as _};
use weir_crds::messagebus::Runtime;

use crate::bus;
use crate::delivery;
use crate::error::Error;
use crate::kinds::Kind;
use crate::runtime::Member;
use crate::stores::{Stored, Stores};
use crate::world::{Cluster, Name, Receiver, World};

/// Annotation of a service account that handlers may use.
pub const ALLOW_HANDLER: &str = "weir.dev/allow-handler";
/// How many queues in a row are followed.
const LONGEST_CHAIN: usize = 16;

/// Everything that deciding about `object` looks at.
pub async fn observe<K: Kind>(
    object: &K,
    cluster: &Cluster,
    stores: &Stores,
    client: &Client,
) -> Result<World, Error> {
    let mut world = World::cluster(cluster.clone());
    let needs = object.needs(&world.place);
    for name in &needs.buses {
        if let Some(bus) = stores.find::<MessageBus>(name).await? {
            world.buses.insert(name.clone(), bus.spec.clone());
            break;
        }
    }
    let mut next = needs.queue;
    while let Some(key) = next.take()
        && world.queues.len() < LONGEST_CHAIN
        && !world.queues.contains_key(&key)
    {
        if let Some(receiver) = receiver(&key, stores).await? {
            world.queues.insert(key.clone(), receiver);
            next = delivery::next_queue(&key, &world);
        }
    }
    if let Some(name) = needs.service_account
        && let Some(allowed) = service_account(&name, client).await?
    {
        world.service_accounts.insert(name, allowed);
    }
    Ok(world)
}

/// A queue that a target names.
async fn receiver(key: &ObjectKey, stores: &Stores) -> Result<Option<Receiver>, Error> {
    let name = Name::new(&key.namespace, &key.name);
    Ok(match key.kind {
        CoreKind::QueueConsumer => {
            let found = stores.find::<QueueConsumer>(&name).await?;
            found.map(|queue| Receiver::from(&queue.spec))
        }
        CoreKind::FifoConsumer => {
            let found = stores.find::<FifoConsumer>(&name).await?;
            found.map(|queue| Receiver::from(&queue.spec))
        }
        CoreKind::Webhook => None,
    })
}

async fn service_account(name: &Name, client: &Client) -> Result<Option<bool>, Error> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), &name.namespace);
    let found = api
        .get_metadata_opt(&name.name)
        .await
        .map_err(|error| Error::kube("read", format!("service account {name}"), error))?;
    Ok(found.map(|account| {
        account
            .annotations()
            .get(ALLOW_HANDLER)
            .is_some_and(|value| value == "true")
    }))
}

/// The members of a namespace's runtime, and its size.
pub async fn observe_members(
    namespace: &str,
    cluster: &Cluster,
    stores: &Stores,
) -> Result<(Vec<Member>, Runtime), Error> {
    let mut world = World::cluster(cluster.clone());
    for bus in stores.all::<MessageBus>(Some(namespace)) {
        if let Ok(bus) = &bus.0
            && bus.metadata.deletion_timestamp.is_none()
        {
            world
                .buses
                .insert(Name::new(namespace, bus.name_any()), bus.spec.clone());
        }
    }
    if let Some(name) = &cluster.default_bus
        && !world.buses.contains_key(name)
        && let Some(bus) = stores.find::<MessageBus>(name).await?
    {
        world.buses.insert(name.clone(), bus.spec.clone());
    }
    let mut members = members_of::<Webhook>(namespace, stores, &world);
    members.extend(members_of::<QueueConsumer>(namespace, stores, &world));
    members.extend(members_of::<FifoConsumer>(namespace, stores, &world));
    let sizing = bus::choose(None, namespace, &world)
        .ok()
        .or_else(|| {
            members
                .iter()
                .filter_map(|member| member.bus.clone())
                .min_by_key(by_name)
        })
        .map(|bus| bus.runtime)
        .unwrap_or_default();
    Ok((members, sizing))
}

fn by_name(bus: &bus::Bus) -> Name {
    bus.name.clone()
}

fn members_of<K: Stored>(namespace: &str, stores: &Stores, world: &World) -> Vec<Member> {
    let mut members: Vec<Member> = stores
        .all::<K>(Some(namespace))
        .iter()
        .filter_map(|read| read.0.as_ref().ok())
        .filter(|object| object.meta().deletion_timestamp.is_none())
        .filter_map(|object| object.member(world))
        .collect();
    members.sort_by(|left, right| left.key.cmp(&right.key));
    members
}
