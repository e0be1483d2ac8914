//! The kinds, each with what only it has. What they share is in the modules beside.

mod consumer_status;
mod fifoconsumer;
mod messagebus;
mod queueconsumer;
mod webhook;

use std::fmt::Debug;

use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use weir_broker::Removal;
use weir_core::object::{Kind as CoreKind, ObjectKey};
use weir_crds::conditions::Condition;
use weir_crds::{FifoConsumer, MessageBus, QueueConsumer, Webhook};

use crate::done::Done;
use crate::identity::Identity;
use crate::plan::{Plan, Rejected};
use crate::pod_security;
use crate::runtime::Member;
use crate::world::{Name, Place, Receiver, World};

pub use fifoconsumer::group_by;
pub use messagebus::ResolvedBus;

/// What of the world an object's plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Buses, in the order in which they count; the first that exists decides.
    pub buses: Vec<Name>,
    /// The queue that messages go on to; those behind it are looked at too.
    pub queue: Option<ObjectKey>,
    /// The service account of the handler.
    pub service_account: Option<Name>,
}

/// What the conditions of an object depend on, besides what was found and done.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    /// Where its messages live.
    pub bus: &'a Name,
    /// It delivers messages.
    pub handles: bool,
    /// The user holds them back.
    pub paused: bool,
    /// Deliveries at once.
    pub limit: u32,
}

/// How an object with topology ends.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Who it is.
    pub identity: Identity,
    /// The bus that it names.
    pub bus: Option<String>,
    /// What becomes of its messages.
    pub removal: Removal,
    /// How long its pods may take to end, seconds.
    pub grace_seconds: u32,
}

/// One kind of object: what it needs to know, what it means, what is to exist for it.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// The object with every default filled in and every reference followed.
    type Resolved: Send + Sync;

    /// The kind as messages print it.
    const NAME: &'static str;

    /// What to look at before deciding.
    fn needs(&self, place: &Place) -> Needs;

    /// Fills in, follows and checks. What a user got wrong is a value.
    fn resolve(&self, world: &World) -> Result<Self::Resolved, Rejected>;

    /// What is to exist. Total: whatever was resolved can be planned.
    fn plan(resolved: &Self::Resolved) -> Plan;

    /// What the shared runtime of its namespace has to know about it, also while it is rejected:
    /// a mistake in one object must not take its keys from pods that serve it as it was before.
    fn member(&self, world: &World) -> Option<Member>;

    /// What of the outcome the conditions are made from.
    fn summary(resolved: &Self::Resolved) -> Summary<'_>;

    /// Its conditions as they are in the cluster.
    fn conditions(&self) -> &[Condition];

    /// Its own fields of the status. Without an outcome they stay as they were.
    fn fields(&self, outcome: Option<(&Self::Resolved, &Done)>) -> Map<String, Value>;

    /// What becomes of its topology when it is deleted; none for kinds that have none.
    fn ending(&self) -> Option<Ending>;
}

/// Resolves and plans one object. The one way from an object to what is created for it: the rendered
/// pods are checked here, whatever rendered them.
pub fn decide<K: Kind>(object: &K, world: &World) -> Result<(K::Resolved, Plan), Rejected> {
    let resolved = object.resolve(world)?;
    let plan = K::plan(&resolved);
    pod_security::check(&plan.workloads)?;
    Ok((resolved, plan))
}

/// The fields of a status.
fn to_map(status: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// An object of any kind, for those who read manifests.
#[derive(Clone, Debug)]
pub enum Object {
    /// An ordered queue and its handler.
    FifoConsumer(FifoConsumer),
    /// Where messages live.
    MessageBus(MessageBus),
    /// A queue and its handler.
    QueueConsumer(QueueConsumer),
    /// An HTTP endpoint and its handler.
    Webhook(Webhook),
}

impl Object {
    /// Resolves and plans it.
    pub fn decide(&self, world: &World) -> Result<Plan, Rejected> {
        match self {
            Self::FifoConsumer(object) => decide(object, world).map(|(_, plan)| plan),
            Self::MessageBus(object) => decide(object, world).map(|(_, plan)| plan),
            Self::QueueConsumer(object) => decide(object, world).map(|(_, plan)| plan),
            Self::Webhook(object) => decide(object, world).map(|(_, plan)| plan),
        }
    }

    /// What the shared runtime has to know about it.
    pub fn member(&self, world: &World) -> Option<Member> {
        match self {
            Self::FifoConsumer(object) => object.member(world),
            Self::MessageBus(object) => object.member(world),
            Self::QueueConsumer(object) => object.member(world),
            Self::Webhook(object) => object.member(world),
        }
    }

    /// Adds it to what the others can see.
    pub fn add_to(&self, world: &mut World) {
        use kube::ResourceExt as _;
        let namespace =
            |namespace: Option<String>| namespace.unwrap_or_else(|| "default".to_owned());
        match self {
            Self::MessageBus(bus) => {
                let name = Name::new(namespace(bus.namespace()), bus.name_any());
                world.buses.insert(name, bus.spec.clone());
            }
            Self::QueueConsumer(queue) => {
                let namespace = namespace(queue.namespace());
                let key = ObjectKey::new(CoreKind::QueueConsumer, namespace, queue.name_any());
                world.queues.insert(key, Receiver::from(&queue.spec));
            }
            Self::FifoConsumer(queue) => {
                let namespace = namespace(queue.namespace());
                let key = ObjectKey::new(CoreKind::FifoConsumer, namespace, queue.name_any());
                world.queues.insert(key, Receiver::from(&queue.spec));
            }
            Self::Webhook(_) => {}
        }
    }
}
