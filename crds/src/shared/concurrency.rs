//! `concurrency`: how many calls run at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many calls run at once. A message that finds no free place waits in the broker: waiting is
/// never an attempt and never leads to the dead letters.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Concurrency {
    /// Most calls in flight over all replicas, 0 to 100000. Default 5. Exact: 1 means one call at a
    /// time in the whole cluster. 0 stops deliveries; messages are still accepted.
    #[schemars(range(min = 0, max = 100_000))]
    pub max: u32,

    /// Most calls at once in one handler pod, 1 to 10000. Unset means 10, with protocol `Lambda` 1.
    /// Only with `handler`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub per_replica: Option<u32>,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            max: 5,
            per_replica: None,
        }
    }
}
