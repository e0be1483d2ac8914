//! `handler`: a workload that Weir runs, beside its sidecar. A closed struct, never a pod template.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{EnvFrom, EnvVar, LocalRef, Resources, Toleration, Volume};
use crate::rules::{IMAGE, LABEL_VALUE, SUBDOMAIN, URL_PATH, rule_at};

/// Ports of a handler pod that the sidecar uses.
pub const SIDECAR_PORTS: std::ops::RangeInclusive<u16> = 9900..=9909;

/// A workload that Weir runs for you, beside its sidecar. The pods pass Pod Security "restricted":
/// no root, no privileges, no paths of the node.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule_at(
        ".port",
        "self.port < 9900 || self.port > 9909",
        "ports 9900 to 9909 belong to the sidecar in the same pod: choose another `port`",
    ),
    rule_at(
        ".readinessPath",
        "self.protocol != 'Lambda' || !has(self.readinessPath)",
        "`readinessPath` may not be set with protocol `Lambda`: such a handler has no server to ask",
    ),
    rule_at(
        ".env",
        "self.protocol != 'Lambda' || !has(self.env) || !self.env.exists(e, e.name == 'AWS_LAMBDA_RUNTIME_API')",
        "`AWS_LAMBDA_RUNTIME_API` is set by Weir with protocol `Lambda`: remove it",
    ),
]))]
pub struct Handler {
    /// Container image, for example `registry.example/acme/billing:1.4`.
    #[schemars(length(max = 512), regex(pattern = IMAGE))]
    pub image: String,

    /// How the handler is called. Default `CloudEvents`: `POST` of the body with `ce-*` headers.
    /// `HTTP`: the original method, path, headers and body. `Lambda`: an unmodified AWS Lambda image,
    /// for which the sidecar is the Runtime API.
    #[serde(default)]
    pub protocol: Protocol,

    /// Port on which the handler listens, 1 to 65535. Default 8080. Not 9900 to 9909, which the
    /// sidecar uses. Not used with protocol `Lambda`.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,

    /// Path of the handler, for example `/events`. Default `/`. Not used with protocol `Lambda`.
    #[serde(default = "default_path")]
    #[schemars(length(max = 1024), regex(pattern = URL_PATH))]
    pub path: String,

    /// Replaces the entry point of the image. Unset means the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)), extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Vec<String>,

    /// Arguments of the entry point. Unset means the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 4096)), extend("x-kubernetes-list-type" = "atomic"))]
    pub args: Vec<String>,

    /// Environment variables. Names that start with `WEIR_` are set by Weir.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 128),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<EnvVar>,

    /// Environment variables from all keys of a `ConfigMap` or Secret; `env` wins over them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub env_from: Vec<EnvFrom>,

    /// Processor and memory of the handler's container. Unset means what the namespace gives.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,

    /// What is mounted into the handler.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"])
    )]
    pub volumes: Vec<Volume>,

    /// Service account of the pods. It must carry the annotation `weir.dev/allow-handler: "true"`.
    /// Unset means the namespace's default one, without a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = SUBDOMAIN))]
    pub service_account_name: Option<String>,

    /// Secrets with credentials of the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub image_pull_secrets: Vec<LocalRef>,

    /// Labels a node must have, for example `{kubernetes.io/arch: arm64}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = json!({
            "type": "string",
            "maxLength": 63,
            "pattern": LABEL_VALUE,
        })
    ))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,

    /// Seconds one call may take, 1 to 43200 (12 hours). Default 30. After that the call is aborted
    /// and counts as a failed attempt. Pods are given as long to finish when they are stopped.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 43_200))]
    pub timeout_seconds: u32,

    /// Path that answers 2xx when the handler can take calls, for example `/healthz`. Unset means
    /// that an open port is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = URL_PATH))]
    pub readiness_path: Option<String>,
}

/// How a handler is called.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Protocol {
    /// CloudEvents over HTTP, binary mode.
    #[default]
    CloudEvents,
    /// The original request.
    #[serde(rename = "HTTP")]
    Http,
    /// The Lambda Runtime API.
    Lambda,
}

fn default_port() -> u16 {
    8080
}

fn default_path() -> String {
    "/".into()
}

fn default_timeout() -> u32 {
    30
}
