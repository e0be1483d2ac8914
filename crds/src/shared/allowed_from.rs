//! `allowedFrom`: who may send.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{LABEL, rule_at};

/// From which namespaces messages may come. The object's own namespace may always send.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    rule_at(
        ".names",
        "self.namespaces != 'Listed' || has(self.names)",
        "`names` is required with `namespaces: Listed`",
    ),
    rule_at(
        ".names",
        "self.namespaces == 'Listed' || !has(self.names)",
        "`names` is only used with `namespaces: Listed`: write that, or remove `names`",
    ),
]))]
pub struct AllowedFrom {
    /// `Same`: this namespace only. `All`: every namespace. `Listed`: this one and those of `names`.
    /// Default `Same`.
    pub namespaces: AllowedNamespaces,

    /// Names of namespaces, with `namespaces: Listed`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 256),
        inner(length(max = 63), regex(pattern = LABEL)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub names: Vec<String>,
}

/// From which namespaces messages may come.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AllowedNamespaces {
    /// The object's own.
    #[default]
    Same,
    /// Every one.
    All,
    /// Its own and the listed ones.
    Listed,
}
