//! `MessageBus`: where messages live. Credentials are given once, here.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{self, ORIGIN, SERVER, rule, rule_at};
use crate::shared::{KeyRef, Resources};
pub use crate::status::{BusServer, MessageBusStatus};

/// Where messages live: NATS or RabbitMQ, with the credentials. The other kinds of the
/// namespace name a bus in `spec.bus`; the one called `default` is used by those that name none.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "MessageBus",
    plural = "messagebuses",
    shortname = "bus",
    category = "weir",
    namespaced,
    status = "MessageBusStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rule(
    "(has(self.nats) ? 1 : 0) + (has(self.rabbitmq) ? 1 : 0) + (has(self.memory) ? 1 : 0) == 1",
    "exactly one of `nats`, `rabbitmq` and `memory` must be set",
), rule_at(
    ".state",
    "!has(self.state) || has(self.rabbitmq)",
    "`state` goes with `rabbitmq`: NATS keeps its own; remove `state`",
)]))]
pub struct MessageBusSpec {
    /// A NATS server or cluster with JetStream, version 2.12 or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<Nats>,

    /// A RabbitMQ server or cluster, version 4.0 or later. It has no keyed state: what needs it, such
    /// as `deduplicate`, asks for `state` as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<RabbitMq>,

    /// Where keyed state lives when messages live in RabbitMQ. Only with `rabbitmq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,

    /// Messages in the memory of one process, for `weir run` only. Write `{}`. A cluster refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,

    /// The shared `weir-runtime` of this namespace, which takes requests and calls targets.
    #[serde(default)]
    pub runtime: Runtime,
}

/// A NATS server or cluster.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rule_at(
    ".replicas",
    "self.replicas % 2 == 1",
    "`replicas` must be 1, 3 or 5: an even number survives no more failures than the odd one below it",
)]))]
pub struct Nats {
    /// URLs of the servers, for example `nats://nats.nats:4222`, or `tls://...` to require TLS. One
    /// is enough; more help when one is down. Credentials go into `credentialsSecret`.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 512), regex(pattern = SERVER)),
        extend(
            "x-kubernetes-list-type" = "set",
            "x-kubernetes-validations" = [rule(
                "!self.exists(s, s.contains('@'))",
                "a URL in `servers` may not contain credentials: put them into a Secret and name it in `credentialsSecret`",
            )]
        )
    )]
    pub servers: Vec<String>,

    /// A NATS credentials file (`.creds`) in a Secret of this namespace. Unset means no credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<KeyRef>,

    /// How the servers' certificates are checked. Unset means by the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BusTls>,

    /// Copies of each message: 1, 3 or 5. Default 3. Not more than the cluster has servers; use 1 for
    /// a single server in development.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u8,
}

/// How certificates of servers are checked.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BusTls {
    /// Certificates of the authority, PEM, in a Secret of this namespace. They replace the public ones.
    pub ca_secret: KeyRef,
}

/// A RabbitMQ server or cluster.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rule_at(
    ".replicas",
    "self.replicas % 2 == 1",
    "`replicas` must be 1, 3 or 5: an even number survives no more failures than the odd one below it",
)]))]
pub struct RabbitMq {
    /// The URI in a Secret of this namespace, because it holds the password:
    /// `amqp://user:password@rmq.shop:5672/vhost`, or `amqps://...` to require TLS. `%2F` is the virtual
    /// host `/`.
    pub uri_secret: KeyRef,

    /// Address of the management API, for example `http://rmq.shop:15672`. The same user must be
    /// allowed to manage the virtual host. Unset means port 15672 of the host in the URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = ORIGIN))]
    pub management_url: Option<String>,

    /// Virtual host. Unset means the one in the URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub vhost: Option<String>,

    /// How the servers' certificates are checked. Unset means by the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BusTls>,

    /// Copies of each queue: 1, 3 or 5. Default 3. Not more than the cluster has servers; use 1 for a
    /// single server in development. Counts for queues that are made later.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u8,
}

/// Keyed state beside RabbitMQ.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct State {
    /// A NATS server or cluster with JetStream, version 2.12 or later.
    pub nats: Nats,
}

/// Messages in memory. It has no fields.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Memory {}

/// The shared runtime of a namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [rule_at(
    ".maxReplicas",
    "self.maxReplicas >= self.minReplicas",
    "`maxReplicas` must be greater than or equal to `minReplicas`",
)]))]
pub struct Runtime {
    /// Fewest pods, 1 to 100. Default 2, so that one may fail.
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: u32,

    /// Most pods, 1 to 100. Default 10. At least `minReplicas`; equal to it means a fixed number.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: u32,

    /// Processor use, in percent of the request, that the autoscaler aims at, 10 to 95. Default 70.
    #[schemars(range(min = 10, max = 95))]
    pub target_cpu_percent: u32,

    /// Processor and memory of each pod. Unset means the chart's values.
    #[serde(skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            min_replicas: 2,
            max_replicas: 10,
            target_cpu_percent: 70,
            resources: Resources::default(),
        }
    }
}

fn default_replicas() -> u8 {
    3
}

impl crate::Kind for MessageBus {
    const COLUMNS: &'static [crate::definition::Column] = &[
        ("Ready", "string", crate::definition::READY, 0),
        ("Server", "string", ".status.server.version", 0),
        ("Durability", "string", ".status.durability", 0),
        ("Reason", "string", crate::definition::REASON, 1),
        ("Message", "string", crate::definition::MESSAGE, 1),
    ];

    fn object_rules() -> Vec<serde_json::Value> {
        rules::object_rules()
    }
}
