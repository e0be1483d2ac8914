//! `deduplicate`: the same message accepted once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{HEADER, rule_at};

/// Accepts a message once within a window. The second one is answered as the first was, with the
/// same id, and nothing is stored.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = header_rules()))]
pub struct Deduplicate {
    /// What makes two messages the same. Default `MessageId`: the id of the message
    /// (`idempotency-key`, `ce-source` with `ce-id`, or `webhook-id`). `ContentHash`: SHA-256 of the
    /// body. `Header`: the value of `header`.
    pub by: DeduplicateBy,

    /// Name of the header, in any case, for example `x-request-id`. Required with `by: Header`. A
    /// message without it is accepted as new.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = HEADER))]
    pub header: Option<String>,

    /// Seconds for which an accepted message is remembered, 1 to 86400. Default 300. Also after it
    /// was handled.
    #[schemars(range(min = 1, max = 86_400))]
    pub window_seconds: u32,
}

impl Default for Deduplicate {
    fn default() -> Self {
        Self {
            by: DeduplicateBy::MessageId,
            header: None,
            window_seconds: 300,
        }
    }
}

/// What makes two messages the same.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeduplicateBy {
    /// The id of the message.
    #[default]
    MessageId,
    /// SHA-256 of the body; headers do not count.
    ContentHash,
    /// The value of one header.
    Header,
}

/// Accepts a message once within a window, in the whole queue or in its group. The second one is
/// answered as the first was, with the same id, and nothing is stored.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = header_rules()))]
pub struct OrderedDeduplicate {
    /// What makes two messages the same. Default `MessageId`: the id of the message
    /// (`idempotency-key`, or `ce-source` with `ce-id`). `ContentHash`: SHA-256 of the body. `Header`:
    /// the value of `header`.
    pub by: DeduplicateBy,

    /// Name of the header, in any case, for example `x-request-id`. Required with `by: Header`. A
    /// message without it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = HEADER))]
    pub header: Option<String>,

    /// Seconds for which an accepted message is remembered, 1 to 86400. Default 300. Also after it
    /// was handled.
    #[schemars(range(min = 1, max = 86_400))]
    pub window_seconds: u32,

    /// Where a message is looked for. Default `Queue`: two messages can be the same whatever their
    /// groups. `Group`: only inside one group.
    pub scope: DeduplicateScope,
}

impl Default for OrderedDeduplicate {
    fn default() -> Self {
        Self {
            by: DeduplicateBy::MessageId,
            header: None,
            window_seconds: 300,
            scope: DeduplicateScope::Queue,
        }
    }
}

/// Where a message is looked for that was accepted before.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeduplicateScope {
    /// In the whole queue.
    #[default]
    Queue,
    /// In its group.
    Group,
}

fn header_rules() -> Vec<serde_json::Value> {
    vec![
        rule_at(
            ".header",
            "self.by != 'Header' || has(self.header)",
            "`header` is required with `by: Header`: write the name of the header that identifies a message",
        ),
        rule_at(
            ".header",
            "self.by == 'Header' || !has(self.header)",
            "`header` is only used with `by: Header`: write that, or remove `header`",
        ),
    ]
}
