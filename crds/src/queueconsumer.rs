//! `QueueConsumer`: a queue and the handler that works it off.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definition::{Column, consumer_columns};
use crate::rules::{self, LABEL, rule_at};
use crate::shared::delivery::consumes;
use crate::shared::{
    AllowedFrom, Batch, Concurrency, DeadLetter, Deduplicate, DeletionPolicy, Handler, Retry,
    Scaling, Target,
};
use crate::status::ConsumerStatus;

/// A queue with a handler (Frugal Consumer): messages wait until one of the places of
/// `concurrency.max` is free, are retried after failures, and become dead letters in the end.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "QueueConsumer",
    shortname = "qc",
    category = "weir",
    namespaced,
    status = "ConsumerStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = queue_rules()))]
pub struct QueueConsumerSpec {
    /// Name of a `MessageBus` of this namespace. Unset means the one called `default`, otherwise the
    /// operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = LABEL))]
    pub bus: Option<String>,

    /// A workload that Weir runs for you. Exactly one of `handler` and `to` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<Handler>,

    /// Something that exists. Exactly one of `handler` and `to` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,

    /// Seconds before a new message may be delivered, 0 to 900. Default 0. A sender may ask for
    /// another delay for one message with the header `weir-delay-seconds`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 900))]
    pub delay_seconds: u32,

    /// Seconds a message may wait in the queue, 60 to 1209600 (14 days). Default 345600 (4 days).
    /// After that it becomes a dead letter. The shorter of this and `retry.maxAgeSeconds` counts.
    #[serde(default = "default_retention")]
    #[schemars(range(min = 60, max = 1_209_600))]
    pub retention_seconds: u32,

    /// Accept the same message only once. Unset means that each is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<Deduplicate>,

    /// Who may name this queue in `to` or send to it through Weir.
    #[serde(default)]
    pub allowed_from: AllowedFrom,

    /// How many calls run at once.
    #[serde(default)]
    pub concurrency: Concurrency,

    /// What happens after a failed call.
    #[serde(default)]
    pub retry: Retry,

    /// How long dead letters are kept.
    #[serde(default)]
    pub dead_letter: DeadLetter,

    /// Several messages in one call.
    #[serde(default)]
    pub batch: Batch,

    /// How many handler pods there are. Not used with `to`.
    #[serde(default)]
    pub scaling: Scaling,

    /// Name of a `CircuitBreaker` of this namespace, for example `payments`. While it is open nothing
    /// is delivered, and nothing counts as an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = LABEL))]
    pub circuit_breaker: Option<String>,

    /// Stop deliveries. Default false. Calls in flight finish; messages are still accepted.
    #[serde(default)]
    pub paused: bool,

    /// What happens to stored messages when this object is deleted. Default `Retain`: they stay in the
    /// broker. `Delete`: they are deleted. `DeleteIfEmpty`: as `Delete` if nothing is stored.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

consumes!(QueueConsumerSpec);

fn queue_rules() -> Vec<serde_json::Value> {
    let mut rules = rules::consumer_rules();
    rules.push(rule_at(
        ".batch.maxMessages",
        "!has(self.handler) || self.handler.protocol != 'HTTP' || self.batch.maxMessages == 1",
        "`batch.maxMessages` must be 1 with protocol `HTTP`, which passes on one request: use `CloudEvents` or `Lambda` for batches",
    ));
    rules.push(rule_at(
        ".delaySeconds",
        "self.delaySeconds < self.retentionSeconds",
        "`delaySeconds` must be less than `retentionSeconds`: the messages would expire before they are due",
    ));
    rules
}

fn default_retention() -> u32 {
    345_600
}

impl crate::Kind for QueueConsumer {
    const COLUMNS: &'static [Column] = consumer_columns();

    fn object_rules() -> Vec<serde_json::Value> {
        let mut rules = rules::object_rules();
        rules.push(rules::not_itself("QueueConsumer"));
        rules
    }
}
