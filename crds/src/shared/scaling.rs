//! `scaling`: how many handler pods there are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::rule_at;

/// How many handler pods there are. Only with `handler`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [rule_at(
    ".maxReplicas",
    "self.maxReplicas >= self.minReplicas",
    "`maxReplicas` must be greater than or equal to `minReplicas`",
)]))]
pub struct Scaling {
    /// Fewest pods, 0 to 1000. Default 0: no pod while there is nothing to do. Without KEDA, and
    /// with provider `None`, this many pods run at all times, but at least one.
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: u32,

    /// Most pods, 1 to 1000. Default 5. At least `minReplicas`.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: u32,

    /// Runnable messages for each pod that the scaler aims at, 1 to 100000. Default 10. Smaller
    /// means more pods for the same backlog.
    #[schemars(range(min = 1, max = 100_000))]
    pub target_per_replica: u32,

    /// Seconds without work before the last pod goes, 0 to 86400. Default 300.
    #[schemars(range(min = 0, max = 86_400))]
    pub idle_seconds: u32,

    /// Who counts the work. Default `Auto`: `Push` when KEDA is installed, otherwise `None`. `Push`:
    /// the operator tells KEDA, which wakes pods within about a second. `Builtin`: KEDA asks the
    /// broker itself. `None`: a fixed number of pods.
    pub provider: ScalingProvider,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min_replicas: 0,
            max_replicas: 5,
            target_per_replica: 10,
            idle_seconds: 300,
            provider: ScalingProvider::Auto,
        }
    }
}

/// Who counts the work.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ScalingProvider {
    /// `Push` when KEDA is installed, otherwise `None`.
    #[default]
    Auto,
    /// The operator tells KEDA.
    Push,
    /// KEDA asks the broker.
    Builtin,
    /// A fixed number of pods.
    None,
}
