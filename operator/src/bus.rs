//! Which broker an object uses, and how pods and the operator reach it. Pure.

use weir_core::config::BusConfig;
use weir_crds::MessageBusSpec;
use weir_crds::conditions::Reason;
use weir_crds::messagebus::{Nats, RabbitMq, Runtime};

use crate::plan::Rejected;
use crate::world::{Name, Place, World};

/// Name of the bus that objects use which name none.
const DEFAULT: &str = "default";

/// Folder of a bus's credentials in our pods.
const MOUNT_ROOT: &str = "/etc/weir/bus";

/// A broker, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// The `MessageBus`.
    pub name: Name,
    /// How our pods connect.
    pub config: BusConfig,
    /// Secrets that hold what `config` names by path.
    pub secrets: Vec<BusSecret>,
    /// Copies of each stream.
    pub replicas: u32,
    /// The shared runtime of namespaces whose default this is.
    pub runtime: Runtime,
}

/// One key of one Secret, mounted as one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BusSecret {
    /// What it is: `uri`, `credentials` or `ca`; `state-` before it where it is about the state.
    pub role: &'static str,
    /// Name of the Secret, in the namespace of the pods.
    pub secret: String,
    /// Its key.
    pub key: String,
    /// Folder at which it is mounted.
    pub folder: String,
}

impl BusSecret {
    fn new(bus: &Name, role: &'static str, secret: &str, key: &str) -> Self {
        Self {
            role,
            secret: secret.to_owned(),
            key: key.to_owned(),
            folder: format!("{MOUNT_ROOT}/{}.{}/{role}", bus.namespace, bus.name),
        }
    }

    /// The file that it becomes.
    pub fn file(&self) -> String {
        format!("{}/{}", self.folder, self.key)
    }
}

/// The buses that an object of `namespace` may end up with, in the order in which they count.
pub fn candidates(wanted: Option<&str>, namespace: &str, place: &Place) -> Vec<Name> {
    let Place::Cluster(cluster) = place else {
        return Vec::new();
    };
    if let Some(name) = wanted {
        return vec![Name::new(namespace, name)];
    }
    let own = Name::new(namespace, DEFAULT);
    let fallback = cluster.default_bus.clone().filter(|bus| *bus != own);
    std::iter::once(own).chain(fallback).collect()
}

/// Chooses the bus of an object: the one it names, else the namespace's `default`, else the
/// operator's.
pub fn choose(wanted: Option<&str>, namespace: &str, world: &World) -> Result<Bus, Rejected> {
    if let Place::Local(local) = &world.place {
        return Ok(Bus {
            name: Name::new(namespace, wanted.unwrap_or(DEFAULT)),
            config: local.bus.clone(),
            secrets: Vec::new(),
            replicas: local.replicas,
            runtime: Runtime::default(),
        });
    }
    let candidates = candidates(wanted, namespace, &world.place);
    let found = candidates
        .iter()
        .find_map(|name| Some((name, world.buses.get(name)?)));
    match found {
        Some((name, spec)) => of(name, spec),
        None => Err(not_found(wanted, &candidates)),
    }
}

/// The bus that a `MessageBus` describes.
pub fn of(name: &Name, spec: &MessageBusSpec) -> Result<Bus, Rejected> {
    match (&spec.nats, &spec.rabbitmq, &spec.memory) {
        (Some(nats), None, None) => {
            let (config, secrets) = nats_config(name, nats, ["credentials", "ca"]);
            Ok(Bus {
                name: name.clone(),
                config,
                secrets,
                replicas: u32::from(nats.replicas),
                runtime: spec.runtime.clone(),
            })
        }
        (None, Some(rabbitmq), None) => Ok(rabbitmq_bus(name, rabbitmq, spec)),
        (None, None, Some(_)) => Err(Rejected::new(
            Reason::MemoryInCluster,
            format!(
                "MessageBus {name} keeps messages in the memory of one process, which only `weir run` can use; write spec.nats or spec.rabbitmq instead of spec.memory"
            ),
        )),
        _ => Err(Rejected::new(
            Reason::InvalidSpec,
            format!(
                "MessageBus {name}: exactly one of spec.nats, spec.rabbitmq and spec.memory must be set"
            ),
        )),
    }
}

fn nats_config(name: &Name, nats: &Nats, roles: [&'static str; 2]) -> (BusConfig, Vec<BusSecret>) {
    let credentials = nats
        .credentials_secret
        .as_ref()
        .map(|secret| BusSecret::new(name, roles[0], &secret.name, &secret.key));
    let ca = nats
        .tls
        .as_ref()
        .map(|tls| BusSecret::new(name, roles[1], &tls.ca_secret.name, &tls.ca_secret.key));
    let config = BusConfig::Nats {
        servers: nats.servers.clone(),
        credentials_file: credentials.as_ref().map(BusSecret::file),
        ca_file: ca.as_ref().map(BusSecret::file),
    };
    (config, credentials.into_iter().chain(ca).collect())
}

fn rabbitmq_bus(name: &Name, rabbitmq: &RabbitMq, spec: &MessageBusSpec) -> Bus {
    let secret = &rabbitmq.uri_secret;
    let uri = BusSecret::new(name, "uri", &secret.name, &secret.key);
    let ca = rabbitmq
        .tls
        .as_ref()
        .map(|tls| BusSecret::new(name, "ca", &tls.ca_secret.name, &tls.ca_secret.key));
    let (state, state_secrets) = spec
        .state
        .as_ref()
        .map(|state| nats_config(name, &state.nats, ["state-credentials", "state-ca"]))
        .unzip();
    Bus {
        name: name.clone(),
        config: BusConfig::RabbitMq {
            uri_file: uri.file(),
            management_url: rabbitmq.management_url.clone(),
            vhost: rabbitmq.vhost.clone(),
            ca_file: ca.as_ref().map(BusSecret::file),
            state: state.map(Box::new),
        },
        secrets: std::iter::once(uri)
            .chain(ca)
            .chain(state_secrets.into_iter().flatten())
            .collect(),
        replicas: u32::from(rabbitmq.replicas),
        runtime: spec.runtime.clone(),
    }
}

fn not_found(wanted: Option<&str>, candidates: &[Name]) -> Rejected {
    let own = &candidates[0];
    let message = match (wanted, candidates.get(1)) {
        (Some(name), _) => format!(
            "MessageBus {own} not found; create a MessageBus named {name} in namespace {}, or change spec.bus",
            own.namespace
        ),
        (None, Some(fallback)) => format!(
            "MessageBus {own} not found, nor the operator's default {fallback}; create a MessageBus named {DEFAULT} in namespace {}, or name one in spec.bus",
            own.namespace
        ),
        (None, None) => format!(
            "MessageBus {own} not found; create a MessageBus named {DEFAULT} in namespace {}, or name one in spec.bus",
            own.namespace
        ),
    };
    Rejected::new(Reason::BusNotFound, message)
}
