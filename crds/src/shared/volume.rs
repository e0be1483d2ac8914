//! `volumes` of a handler: four sources, each with where it is mounted. Never a path of the node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Quantity;
use crate::rules::{DIRECTORY, FILE, KEY, SUBDOMAIN, rule, rule_at};

/// Something mounted into the handler. Exactly one source is set.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "[has(self.configMap), has(self.secret), has(self.emptyDir), has(self.persistentVolumeClaim)].filter(x, x).size() == 1",
        "exactly one of `configMap`, `secret`, `emptyDir` and `persistentVolumeClaim` must be set",
    ),
    rule_at(
        ".mountPath",
        "self.mountPath != '/etc/weir' && !self.mountPath.startsWith('/etc/weir/')",
        "`/etc/weir` belongs to Weir: choose another path",
    ),
]))]
pub struct Volume {
    /// Directory in the handler, absolute, for example `/var/cache`. Each path once; not below
    /// `/etc/weir`.
    #[schemars(
        length(max = 512),
        regex(pattern = DIRECTORY)
    )]
    pub mount_path: String,

    /// Mount only this file or directory of the source. Unset means all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(pattern = FILE)
    )]
    pub sub_path: Option<String>,

    /// The handler may not write to it. Default false. A `configMap` or `secret` is never writable.
    #[serde(default)]
    pub read_only: bool,

    /// Keys of a `ConfigMap` of this namespace, as files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,

    /// Keys of a Secret of this namespace, as files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,

    /// An empty directory that lives as long as the pod. Write `{}` for the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirVolume>,

    /// A claim of this namespace. Several pods need a claim that several may mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimVolume>,
}

/// Keys of a `ConfigMap`, as files.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapVolume {
    /// Name of the `ConfigMap`.
    #[schemars(length(max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,

    /// Which keys, and under which names. Unset means all keys under their own names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub items: Vec<KeyToPath>,

    /// Permission bits as a decimal number, 0 to 511, for example 493 (octal 0755) for scripts.
    /// Unset means 420 (octal 0644).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub default_mode: Option<u16>,

    /// Start without it when it is missing. Default false: the pod waits.
    #[serde(default)]
    pub optional: bool,
}

/// Keys of a Secret, as files.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolume {
    /// Name of the Secret.
    #[schemars(length(max = 253), regex(pattern = SUBDOMAIN))]
    pub secret_name: String,

    /// Which keys, and under which names. Unset means all keys under their own names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub items: Vec<KeyToPath>,

    /// Permission bits as a decimal number, 0 to 511, for example 256 (octal 0400). Unset means 420
    /// (octal 0644).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub default_mode: Option<u16>,

    /// Start without it when it is missing. Default false: the pod waits.
    #[serde(default)]
    pub optional: bool,
}

/// A key and the file it becomes.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyToPath {
    /// The key, for example `ca.crt`.
    #[schemars(length(max = 253), regex(pattern = KEY))]
    pub key: String,

    /// Relative path of the file, for example `tls/ca.crt`.
    #[schemars(
        length(max = 512),
        regex(pattern = FILE)
    )]
    pub path: String,
}

/// An empty directory.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDirVolume {
    /// Most it may hold, for example `1Gi`. Unset means the limit of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,

    /// `Disk`, or `Memory`, which counts towards the memory limit. Default `Disk`.
    #[serde(default)]
    pub medium: Medium,
}

/// Where an empty directory is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Medium {
    /// On the node's disk.
    #[default]
    Disk,
    /// In memory.
    Memory,
}

/// A persistent volume claim.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimVolume {
    /// Name of the claim.
    #[schemars(length(max = 253), regex(pattern = SUBDOMAIN))]
    pub claim_name: String,
}
