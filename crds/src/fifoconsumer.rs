//! `FifoConsumer`: a queue whose groups are handled in order, and the handler that works it off.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definition::{Column, ordered_columns};
use crate::rules::{self, GROUP_BY, LABEL, rule_at};
use crate::shared::delivery::consumes;
use crate::shared::{
    AllowedFrom, Concurrency, DeadLetter, DeletionPolicy, Handler, OrderedBatch,
    OrderedDeduplicate, Retry, Scaling, Target,
};
use crate::status::OrderedStatus;

/// A queue whose messages are handled in order (FIFOer): those of one group one after the other, each
/// only after the one before it was settled, and groups at the same time. A message that cannot be
/// handled holds up its own group and no other.
#[derive(Clone, CustomResource, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "FifoConsumer",
    shortname = "fifo",
    category = "weir",
    namespaced,
    status = "OrderedStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = ordered_rules()))]
pub struct FifoConsumerSpec {
    /// Name of a `MessageBus` of this namespace. Unset means the one called `default`, otherwise the
    /// operator's own. Not every broker can keep order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = LABEL))]
    pub bus: Option<String>,

    /// What the group of a message is: a JSONata expression over the event `{id, source, type, subject,
    /// time, attributes, data}`, for example `{% data.accountId %}`, or the name of a header, for
    /// example `header: x-group`. Unset means one group for all. The result must be a text, number or
    /// boolean of 1 to 128 visible ASCII characters; a message without is answered 400. A sender can
    /// say the group itself in the header `weir-group`, which counts before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096), regex(pattern = GROUP_BY))]
    pub group_by: Option<String>,

    /// A workload that Weir runs for you. Exactly one of `handler` and `to` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<Handler>,

    /// Something that exists. Exactly one of `handler` and `to` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,

    /// Accept the same message only once. Unset means that each is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<OrderedDeduplicate>,

    /// Several messages of one group in one call, in their order.
    #[serde(default)]
    pub batch: OrderedBatch,

    /// How many calls run at once. A group has at most one, so this is the number of groups at once.
    #[serde(default)]
    pub concurrency: Concurrency,

    /// Parts into which the broker divides the groups, 1 to 64. Default 16. Each costs the broker a
    /// little and lets it serve more waiting groups; order and `concurrency.max` do not depend on it.
    #[serde(default = "default_partitions")]
    #[schemars(range(min = 1, max = 64))]
    pub partitions: u32,

    /// What becomes of a group when its first message is given up, for whatever reason. Default
    /// `DeadLetter`: the message becomes a dead letter, the group goes on. `DeadLetterGroup`: the rest
    /// of the group becomes dead letters too. `BlockGroup`: the group stops, with everything stored,
    /// until someone lets it go on. Other groups never notice.
    #[serde(default)]
    pub when_exhausted: WhenExhausted,

    /// What happens after a failed call. The group waits, which from a second on takes none of
    /// `concurrency.max`; other groups go on.
    #[serde(default)]
    pub retry: Retry,

    /// How long dead letters are kept.
    #[serde(default)]
    pub dead_letter: DeadLetter,

    /// Seconds a message may wait in the queue, 60 to 1209600 (14 days). Default 345600 (4 days).
    /// After that it is given up. The shorter of this and `retry.maxAgeSeconds` counts.
    #[serde(default = "default_retention")]
    #[schemars(range(min = 60, max = 1_209_600))]
    pub retention_seconds: u32,

    /// Who may name this queue in `to` or send to it through Weir.
    #[serde(default)]
    pub allowed_from: AllowedFrom,

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

consumes!(FifoConsumerSpec);

impl Default for FifoConsumerSpec {
    fn default() -> Self {
        Self {
            bus: None,
            group_by: None,
            handler: None,
            to: None,
            deduplicate: None,
            batch: OrderedBatch::default(),
            concurrency: Concurrency::default(),
            partitions: default_partitions(),
            when_exhausted: WhenExhausted::default(),
            retry: Retry::default(),
            dead_letter: DeadLetter::default(),
            retention_seconds: default_retention(),
            allowed_from: AllowedFrom::default(),
            scaling: Scaling::default(),
            circuit_breaker: None,
            paused: false,
            deletion_policy: DeletionPolicy::default(),
        }
    }
}

/// What becomes of a group when its first message is given up.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum WhenExhausted {
    /// The message becomes a dead letter, the group goes on.
    #[default]
    DeadLetter,
    /// The message and the rest of its group become dead letters.
    DeadLetterGroup,
    /// The group stops.
    BlockGroup,
}

/// What `groupBy` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GroupBy {
    /// The value of a header, in lower case.
    Header(String),
    /// A JSONata expression, without its delimiters.
    Expression(String),
}

impl GroupBy {
    /// Reads the field. `None` for a text that the schema would not have let through.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(header) = text.strip_prefix("header:") {
            let header = header.trim().to_ascii_lowercase();
            let valid = !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_graphic());
            return valid.then_some(Self::Header(header));
        }
        let expression = text.strip_prefix("{%")?.strip_suffix("%}")?.trim();
        (!expression.is_empty()).then(|| Self::Expression(expression.to_owned()))
    }
}

fn ordered_rules() -> Vec<serde_json::Value> {
    let mut rules = rules::consumer_rules();
    rules.push(rule_at(
        ".batch.maxMessages",
        "!has(self.handler) || self.handler.protocol != 'HTTP' || self.batch.maxMessages == 1",
        "`batch.maxMessages` must be 1 with protocol `HTTP`, which passes on one request: use `CloudEvents` or `Lambda` for batches",
    ));
    rules
}

fn default_partitions() -> u32 {
    16
}

fn default_retention() -> u32 {
    345_600
}

impl crate::Kind for FifoConsumer {
    const COLUMNS: &'static [Column] = ordered_columns();

    fn object_rules() -> Vec<serde_json::Value> {
        let mut rules = rules::object_rules();
        rules.push(rules::not_itself("FifoConsumer"));
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_by_is_an_expression_or_a_header() {
        let header = |name: &str| Some(GroupBy::Header(name.to_owned()));
        let expression = |text: &str| Some(GroupBy::Expression(text.to_owned()));
        assert_eq!(GroupBy::parse("{% data.a %}"), expression("data.a"));
        assert_eq!(GroupBy::parse(" {%\n data.a\n%}\n"), expression("data.a"));
        assert_eq!(GroupBy::parse("{%a%}"), expression("a"));
        assert_eq!(GroupBy::parse("header: X-Group"), header("x-group"));
        assert_eq!(GroupBy::parse("header:x"), header("x"));
        for text in [
            "",
            "data.a",
            "{% %}",
            "{%}",
            "header:",
            "header: a b",
            "{% a",
        ] {
            assert_eq!(GroupBy::parse(text), None, "{text}");
        }
    }
}
