//! `env` and `envFrom` of a handler: closed copies of what a pod offers, nothing more.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OptionalKeyRef;
use crate::rules::{SUBDOMAIN, VARIABLE, rule, rule_at};

/// One environment variable.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "!has(self.value) || !has(self.valueFrom)",
        "`value` and `valueFrom` may not both be set",
    ),
    rule_at(
        ".name",
        "!self.name.startsWith('WEIR_')",
        "names that start with `WEIR_` are set by Weir: choose another name",
    ),
]))]
pub struct EnvVar {
    /// Name of the variable. Names that start with `WEIR_` are set by Weir.
    #[schemars(
        length(max = 256),
        regex(pattern = VARIABLE)
    )]
    pub name: String,

    /// Its value. Without `value` and `valueFrom` the variable is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub value: Option<String>,

    /// Where its value comes from, instead of `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

/// Where the value of a variable comes from. Exactly one field is set.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rule(
    "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].filter(x, x).size() == 1",
    "exactly one of `secretKeyRef`, `configMapKeyRef` and `fieldRef` must be set",
)]))]
pub struct EnvSource {
    /// A key of a Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<OptionalKeyRef>,

    /// A key of a `ConfigMap` of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<OptionalKeyRef>,

    /// A field of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
}

/// A field of the pod.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// Path of the field: `metadata.name`, `metadata.namespace`, `metadata.uid`,
    /// `metadata.labels['KEY']`, `metadata.annotations['KEY']`, `spec.nodeName`,
    /// `spec.serviceAccountName`, `status.hostIP`, `status.hostIPs`, `status.podIP` or `status.podIPs`.
    #[schemars(
        length(max = 400),
        regex(
            pattern = r"^(metadata\.(name|namespace|uid|(labels|annotations)\['[-._/a-zA-Z0-9]+'\])|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?))$"
        )
    )]
    pub field_path: String,
}

/// All keys of a `ConfigMap` or Secret as variables. Exactly one of `configMapRef` and `secretRef` is set.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "has(self.configMapRef) != has(self.secretRef)",
        "exactly one of `configMapRef` and `secretRef` must be set",
    ),
    rule_at(
        ".prefix",
        "!has(self.prefix) || !self.prefix.startsWith('WEIR_')",
        "names that start with `WEIR_` are set by Weir: choose another prefix",
    ),
]))]
pub struct EnvFrom {
    /// Text put before each key, for example `DB_`. Unset means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 128),
        regex(pattern = VARIABLE)
    )]
    pub prefix: Option<String>,

    /// A `ConfigMap` of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<OptionalRef>,

    /// A Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<OptionalRef>,
}

/// Names an object of this namespace that may be absent.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OptionalRef {
    /// Name of the object, in this namespace.
    #[schemars(length(max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,

    /// Start without it when it is missing. Default false: the pod waits.
    #[serde(default)]
    pub optional: bool,
}
