//! `to`: deliver to something that exists.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{HTTP_URL, LABEL, rule, rule_at};

/// Something that exists and takes messages: another object, or an HTTP endpoint.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "has(self.url) != (has(self.kind) || has(self.name))",
        "exactly one of `kind` with `name`, and `url` must be set",
    ),
    rule(
        "has(self.url) || has(self.kind) == has(self.name)",
        "`kind` and `name` go together: write both, for example `{kind: QueueConsumer, name: orders}`",
    ),
    rule_at(
        ".namespace",
        "!has(self.url) || !has(self.__namespace__)",
        "`namespace` goes with `kind` and `name`: put the namespace of a `url` into its host, as in `http://audit.billing/in`",
    ),
]))]
pub struct Target {
    /// Kind of the object, with `name`: `Function`, `QueueConsumer`, `FifoConsumer`, `Notifier`,
    /// `Router`, `FanOut`, `Stream` or `StateMachine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TargetKind")]
    pub kind: Option<TargetKind>,

    /// Name of the object, with `kind`. For example `ledger`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = LABEL))]
    pub name: Option<String>,

    /// Namespace of the object. Unset means the same namespace. Another one must allow it there, in
    /// `spec.allowedFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = LABEL))]
    pub namespace: Option<String>,

    /// An HTTP endpoint, called with `POST`, for example `http://audit.billing/in`. Addresses of the
    /// node, link-local and cloud metadata addresses are refused, as are credentials in the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTP_URL))]
    pub url: Option<String>,
}

/// Kinds that take messages.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum TargetKind {
    /// A handler others call.
    Function,
    /// A queue with a handler.
    QueueConsumer,
    /// An ordered queue.
    FifoConsumer,
    /// A topic.
    Notifier,
    /// First match wins.
    Router,
    /// Split, work, join.
    FanOut,
    /// Ordered shards.
    Stream,
    /// States Language.
    StateMachine,
}
