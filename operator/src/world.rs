//! What a decision may look at: read once, then a plain value.
//!
//! [`World::cluster`] is filled by [`crate::observe`]; [`World::local`] is made by hand, by `weir run`
//! and `weir lint`, which plan the same objects with the same code and no cluster.

use std::collections::BTreeMap;

use weir_core::config::BusConfig;
use weir_core::object::ObjectKey;
use weir_crds::shared::{AllowedFrom, Resources, Target};
use weir_crds::{FifoConsumerSpec, MessageBusSpec, QueueConsumerSpec};

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// Namespace.
    pub namespace: String,
    /// Name in it.
    pub name: String,
}

impl Name {
    /// Makes one from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// `shop/stripe`, as messages print it.
impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Everything a decision about one object looks at.
#[derive(Clone, Debug)]
pub struct World {
    /// Where the plan will be carried out.
    pub place: Place,
    /// Those of the buses in question that exist.
    pub buses: BTreeMap<Name, MessageBusSpec>,
    /// Those of the queues in question that exist: the one that `to` names, and those to which its
    /// messages go on.
    pub queues: BTreeMap<ObjectKey, Receiver>,
    /// Those of the service accounts in question that exist: whether handlers may use them.
    pub service_accounts: BTreeMap<Name, bool>,
}

/// What others must know of an object that they name in `to`.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Who may send to it.
    pub allowed_from: AllowedFrom,
    /// Where its messages go on to.
    pub to: Option<Target>,
}

impl From<&QueueConsumerSpec> for Receiver {
    fn from(spec: &QueueConsumerSpec) -> Self {
        Self {
            allowed_from: spec.allowed_from.clone(),
            to: spec.to.clone(),
        }
    }
}

impl From<&FifoConsumerSpec> for Receiver {
    fn from(spec: &FifoConsumerSpec) -> Self {
        Self {
            allowed_from: spec.allowed_from.clone(),
            to: spec.to.clone(),
        }
    }
}

/// Where a plan will be carried out.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a cluster, by the operator.
    Cluster(Cluster),
    /// On this machine, in one process.
    Local(Local),
}

/// What the operator was told about the cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Image of the sidecar and of the shared runtime.
    pub sidecar_image: String,
    /// `imagePullPolicy` of that image; the cluster's default if absent.
    pub image_pull_policy: Option<String>,
    /// Secrets with credentials of that image's registry, to be found in each namespace.
    pub image_pull_secrets: Vec<String>,
    /// Resources of each sidecar.
    pub sidecar_resources: Resources,
    /// Resources of each pod of a shared runtime whose `MessageBus` says nothing.
    pub runtime_resources: Resources,
    /// The bus of objects that name none, in namespaces without a `default` one.
    pub default_bus: Option<Name>,
}

/// What `weir run` decides for all objects alike.
#[derive(Clone, Debug)]
pub struct Local {
    /// The broker of every bus.
    pub bus: BusConfig,
    /// Copies of each stream on it.
    pub replicas: u32,
    /// `http://127.0.0.1:8080`: objects are reached at `<base_url>/<plural>/<name>`.
    pub base_url: String,
    /// Folder with one folder of keys for each object that verifies signatures.
    pub keys_dir: String,
}

impl World {
    /// A cluster in which nothing has been looked at yet.
    pub fn cluster(cluster: Cluster) -> Self {
        Self::new(Place::Cluster(cluster))
    }

    /// This machine. Every bus is `local.bus`; queues that objects send to must be added to
    /// [`World::queues`].
    pub fn local(local: Local) -> Self {
        Self::new(Place::Local(local))
    }

    fn new(place: Place) -> Self {
        Self {
            place,
            buses: BTreeMap::new(),
            queues: BTreeMap::new(),
            service_accounts: BTreeMap::new(),
        }
    }

    /// The address at which an object takes messages.
    pub fn url(&self, object: &ObjectKey) -> String {
        let (plural, name) = (object.kind.plural(), &object.name);
        match &self.place {
            Place::Cluster(_) => cluster_url(object),
            Place::Local(local) => {
                format!("{}/{plural}/{name}", local.base_url.trim_end_matches('/'))
            }
        }
    }

    /// Folder in which the process that verifies signatures finds an object's keys.
    pub fn keys_dir(&self, object: &ObjectKey) -> String {
        let root = match &self.place {
            Place::Cluster(_) => KEYS_ROOT,
            Place::Local(local) => local.keys_dir.trim_end_matches('/'),
        };
        format!("{root}/{}.{}", object.kind.lower(), object.name)
    }
}

/// Folder of the keys in a runtime pod.
pub const KEYS_ROOT: &str = "/etc/weir/keys";

/// Name of the shared runtime's Deployment and Service in every namespace.
pub const RUNTIME: &str = "weir-runtime";

/// The address of an object in a cluster.
pub fn cluster_url(object: &ObjectKey) -> String {
    let (namespace, plural, name) = (&object.namespace, object.kind.plural(), &object.name);
    format!("http://{RUNTIME}.{namespace}.svc/{plural}/{name}")
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            sidecar_image: "weir-sidecar:latest".to_owned(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            sidecar_resources: resources(&[("cpu", "20m"), ("memory", "32Mi")], "256Mi"),
            runtime_resources: resources(&[("cpu", "100m"), ("memory", "64Mi")], "512Mi"),
            default_bus: None,
        }
    }
}

fn resources(requests: &[(&str, &str)], memory: &str) -> Resources {
    use weir_crds::shared::Quantity;
    Resources {
        requests: requests
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect(),
        limits: [("memory".to_owned(), Quantity(memory.to_owned()))].into(),
    }
}
