//! `batch`: several messages in one call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::rule_at;

/// How messages are put together for one call of the handler.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [rule_at(
    ".windowSeconds",
    "self.maxMessages <= 10 || self.windowSeconds >= 1",
    "`windowSeconds` must be at least 1 when `maxMessages` is greater than 10",
)]))]
pub struct Batch {
    /// Most messages in one call, 1 to 10000. Default 1: each message is a call of its own. A call
    /// also starts when the messages together reach 6 MiB. Each call, whatever its size, takes one
    /// of `concurrency.max`. A handler may answer `{"batchItemFailures": [...]}` to retry only some.
    #[schemars(range(min = 1, max = 10000))]
    pub max_messages: u32,

    /// Seconds to wait for a batch to fill, 0 to 300. Default 0: take what is there. Must be at
    /// least 1 when `maxMessages` is greater than 10.
    #[schemars(range(min = 0, max = 300))]
    pub window_seconds: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_messages: 1,
            window_seconds: 0,
        }
    }
}

/// How messages of one group are put together for one call of the handler.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrderedBatch {
    /// Most messages in one call, 1 to 10. Default 1: each message is a call of its own. All of them
    /// are of one group, in its order; a call takes what is there and waits for no more. A handler
    /// may answer `{"batchItemFailures": [...]}`: the group is retried from the first failure on.
    #[schemars(range(min = 1, max = 10))]
    pub max_messages: u32,
}

impl Default for OrderedBatch {
    fn default() -> Self {
        Self { max_messages: 1 }
    }
}

/// What a kind says about batches.
pub trait Batches {
    /// Most messages in one call.
    fn most(&self) -> u32;
    /// Seconds to wait for them.
    fn window_seconds(&self) -> u32;
}

impl Batches for Batch {
    fn most(&self) -> u32 {
        self.max_messages
    }

    fn window_seconds(&self) -> u32 {
        self.window_seconds
    }
}

impl Batches for OrderedBatch {
    fn most(&self) -> u32 {
        self.max_messages
    }

    fn window_seconds(&self) -> u32 {
        0
    }
}
