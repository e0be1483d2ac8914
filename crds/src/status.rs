//! What the operator reports about an object. Small observed numbers only: counters per call are
//! metrics, not status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;

/// Largest count that every JSON reader keeps exactly.
const COUNT: u64 = 9_007_199_254_740_991;

/// Status of a kind that handles messages.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerStatus {
    /// Generation of the spec that this status is about, at least 0. When it is smaller than
    /// `metadata.generation`, the operator has not seen the last change yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = COUNT))]
    pub observed_generation: Option<i64>,

    /// `Ready` sums up the others. Each type once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,

    /// Address to give to senders: the public one when there is a route, otherwise the address in the
    /// cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub url: Option<String>,

    /// Address in the cluster, in the form other systems look for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,

    /// What handles the messages: an image, `Kind/name`, or a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub handler_ref: Option<String>,

    /// Messages stored and not yet handled, those in flight included, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = COUNT))]
    pub backlog: Option<u64>,

    /// Age of the oldest of them in seconds, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = COUNT))]
    pub oldest_seconds: Option<u64>,

    /// Dead letters stored, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = COUNT))]
    pub dead_letters: Option<u64>,

    /// Calls running at once over all replicas, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = COUNT))]
    pub in_flight: Option<u64>,

    /// Handler pods, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub replicas: Option<u32>,

    /// Handler pods that are ready, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub ready_replicas: Option<u32>,
}

/// Status of a kind that handles messages in order.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderedStatus {
    /// What every kind that handles messages reports.
    #[serde(flatten)]
    pub consumer: ConsumerStatus,

    /// Groups with stored messages, blocked ones included, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = COUNT))]
    pub groups: Option<u64>,

    /// Groups that stopped after a message could not be handled and wait for a human, at least 0: those
    /// that `whenExhausted` blocked or gave up as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = COUNT))]
    pub blocked_groups: Option<u64>,
}

/// Address of an object in the cluster.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The URL, for example `http://weir-runtime.shop.svc/webhooks/stripe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
}

/// Status of a `MessageBus`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageBusStatus {
    /// Generation of the spec that this status is about, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = COUNT))]
    pub observed_generation: Option<i64>,

    /// `Ready` sums up the others. Each type once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,

    /// The server that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<BusServer>,

    /// What this broker can do, for example `WorkQueues`, `Schedules`, `KeyedState`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(max = 64)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub capabilities: Vec<String>,

    /// What a stored message survives, in words, for example `3 replicas, synced to disk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub durability: Option<String>,
}

/// The server behind a bus.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BusServer {
    /// Its version, for example `2.12.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,

    /// `JetStream` API level, 0 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub api_level: Option<u32>,
}
