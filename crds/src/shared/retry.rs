//! `retry`: what happens after a failed call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{rule, rule_at};

/// What happens after a failed call. Only answers of the handler count as attempts: waiting for a
/// place, an overloaded handler (429, 503), an open circuit breaker and a lost pod do not.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [rule_at(
    ".maxSeconds",
    "self.maxSeconds >= self.initialSeconds",
    "`maxSeconds` must be greater than or equal to `initialSeconds`",
)]))]
pub struct Retry {
    /// Attempts in all, the first one included, 1 to 1000. Default 5. After the last failure the
    /// message becomes a dead letter. 1 means no retry.
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: u32,

    /// Seconds before the first retry, 1 to 43200. Default 1. Waiting holds no place.
    #[schemars(range(min = 1, max = 43_200))]
    pub initial_seconds: u32,

    /// Factor from one wait to the next, 1 to 10. Default 2: 1, 2, 4, 8 seconds. 1 keeps them equal.
    #[schemars(range(min = 1, max = 10))]
    pub multiplier: u32,

    /// Longest wait between attempts in seconds, 1 to 43200. Default 900. At least `initialSeconds`.
    #[schemars(range(min = 1, max = 43_200))]
    pub max_seconds: u32,

    /// Age in seconds, counted from acceptance, after which a message is no longer attempted, 60 to
    /// 1209600 (14 days). Default 345600 (4 days). It becomes a dead letter with reason `MaxAge`.
    #[schemars(range(min = 60, max = 1_209_600))]
    pub max_age_seconds: u32,

    /// Status codes, 300 to 599, that make a message a dead letter at once. Default 400, 410, 413,
    /// 415, 422. Not used with protocol `Lambda`. 429 and 503 mean "later" and may not be listed.
    #[schemars(
        length(max = 32),
        inner(range(min = 300, max = 599)),
        extend(
            "x-kubernetes-list-type" = "set",
            "x-kubernetes-validations" = [rule(
                "!self.exists(s, s == 429 || s == 503)",
                "429 and 503 may not be permanent: with them a handler says that it is overloaded, and the message is given back",
            )]
        )
    )]
    pub permanent_statuses: Vec<u16>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_seconds: 1,
            multiplier: 2,
            max_seconds: 900,
            max_age_seconds: 345_600,
            permanent_statuses: vec![400, 410, 413, 415, 422],
        }
    }
}
