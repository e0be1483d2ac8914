//! References to objects of the same namespace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{KEY, SUBDOMAIN};

/// Names an object of this namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object, in this namespace.
    #[schemars(length(max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// Names a key of a Secret or `ConfigMap` of this namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object, in this namespace.
    #[schemars(length(max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,

    /// Key in its data, for example `user.creds`.
    #[schemars(length(max = 253), regex(pattern = KEY))]
    pub key: String,
}

/// Names a key that may be absent.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OptionalKeyRef {
    /// Name of the object, in this namespace.
    #[schemars(length(max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,

    /// Key in its data.
    #[schemars(length(max = 253), regex(pattern = KEY))]
    pub key: String,

    /// Start without the variable when the object or the key is missing. Default false: the pod waits.
    #[serde(default)]
    pub optional: bool,
}
