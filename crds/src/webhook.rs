//! `Webhook`: takes calls of other systems, verifies them, stores them, answers at once.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definition::{Column, consumer_columns};
use crate::rules::{self, HEADER, HOST, LABEL, rule, rule_at};
use crate::shared::delivery::consumes;
use crate::shared::{
    Batch, Concurrency, DeadLetter, Deduplicate, DeletionPolicy, Handler, LocalRef, Retry, Scaling,
    Target,
};
use crate::status::ConsumerStatus;

/// An HTTP endpoint for other systems (Scalable Webhook): it checks the signature, stores the request
/// in the broker, answers, and delivers to the handler at the pace the handler can take.
#[derive(Clone, CustomResource, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Webhook",
    shortname = "whk",
    category = "weir",
    namespaced,
    status = "ConsumerStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = webhook_rules()))]
pub struct WebhookSpec {
    /// Name of a `MessageBus` of this namespace. Unset means the one called `default`, otherwise the
    /// operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = LABEL))]
    pub bus: Option<String>,

    /// Makes the endpoint public through a Gateway. Unset means reachable in the cluster only, at
    /// `status.url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,

    /// HTTP methods that are taken; others are answered 405. Default `POST`. Of `GET`, `POST`, `PUT`,
    /// `PATCH` and `DELETE`.
    #[serde(default = "default_methods")]
    #[schemars(length(min = 1, max = 5), extend("x-kubernetes-list-type" = "set"))]
    pub methods: Vec<Method>,

    /// How the sender proves itself, checked over the raw bytes before anything else. A request that
    /// fails is answered 401 and nothing is stored. To accept unsigned calls write `{scheme: None}`.
    pub verify: Verify,

    /// Longest body in bytes, 1 to 8388608 (8 MiB). Default 1048576 (1 MiB). A longer one is answered
    /// 413. The broker's own limit also counts.
    #[serde(default = "default_body")]
    #[schemars(range(min = 1, max = 8_388_608))]
    pub max_body_bytes: u32,

    /// The answer to an accepted request.
    #[serde(default)]
    pub respond: Respond,

    /// Accept the same request only once, as senders repeat requests. Unset means that each is
    /// accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<Deduplicate>,

    /// A workload that Weir runs for you. Exactly one of `handler` and `to` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<Handler>,

    /// Something that exists. Exactly one of `handler` and `to` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,

    /// How many calls run at once.
    #[serde(default)]
    pub concurrency: Concurrency,

    /// What happens after a failed call.
    #[serde(default)]
    pub retry: Retry,

    /// How long dead letters are kept.
    #[serde(default)]
    pub dead_letter: DeadLetter,

    /// Several requests in one call; with `handler` only for protocol `CloudEvents`.
    #[serde(default)]
    pub batch: Batch,

    /// How many handler pods there are. Not used with `to`.
    #[serde(default)]
    pub scaling: Scaling,

    /// Name of a `CircuitBreaker` of this namespace, for example `payments`. While it is open nothing
    /// is delivered, and nothing counts as an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = LABEL))]
    pub circuit_breaker: Option<String>,

    /// Stop deliveries. Default false. Calls in flight finish; requests are still accepted.
    #[serde(default)]
    pub paused: bool,

    /// What happens to stored messages when this object is deleted. Default `Retain`: they stay in the
    /// broker. `Delete`: they are deleted. `DeleteIfEmpty`: as `Delete` if nothing is stored.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

consumes!(WebhookSpec);

/// Where the endpoint is on a Gateway.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The Gateway. It must allow routes of this namespace.
    pub gateway_ref: GatewayRef,

    /// Host names, for example `hooks.example.com` or `*.example.com`. Unset means those of the
    /// Gateway's listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(max = 253),
            regex(pattern = HOST)
        ),
        extend(
            "x-kubernetes-list-type" = "set",
            "x-kubernetes-validations" = [rule(
                "!self.exists(h, h.matches('^[0-9.]+$'))",
                "`hostnames` may not contain IP addresses: write a name, or leave it out to take all names of the Gateway",
            )]
        )
    )]
    pub hostnames: Vec<String>,

    /// Path of the endpoint, for example `/stripe`. Requests below it are taken too.
    #[schemars(
        length(max = 1024),
        regex(pattern = r"^/[A-Za-z0-9/._~!$&'()*+,;=:@%-]*$"),
        extend("x-kubernetes-validations" = [rule(
            "!self.contains('//') && !(self + '/').contains('/./') && !(self + '/').contains('/../') && !self.lowerAscii().contains('%2f')",
            "`path` may not contain empty segments, `.`, `..` or an encoded slash: write it as the server would see it, for example `/hooks/stripe`",
        )])
    )]
    pub path: String,
}

/// A Gateway.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// Name of the Gateway.
    #[schemars(length(max = 253), regex(pattern = rules::SUBDOMAIN))]
    pub name: String,

    /// Its namespace. Unset means this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = LABEL))]
    pub namespace: Option<String>,
}

/// HTTP methods a webhook can take.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

/// How the sender proves itself.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule_at(
        ".secretRef",
        "self.scheme == 'None' || has(self.secretRef)",
        "`secretRef` is required: name the Secret that holds the sender's signing secret, or write `scheme: None` to accept unsigned calls",
    ),
    rule_at(
        ".secretRef",
        "self.scheme != 'None' || !has(self.secretRef)",
        "`secretRef` is not used with scheme `None`: write the sender's scheme, or remove `secretRef`",
    ),
    rule_at(
        ".hmac",
        "self.scheme != 'HmacSha256' || has(self.hmac)",
        "`hmac` is required with scheme `HmacSha256`: write at least the `header` that carries the signature",
    ),
    rule_at(
        ".hmac",
        "self.scheme == 'HmacSha256' || !has(self.hmac)",
        "`hmac` is only used with scheme `HmacSha256`: write that, or remove `hmac`",
    ),
]))]
pub struct Verify {
    /// Who signs, and how: `StandardWebhooks`, `GitHub`, `Stripe`, `Slack`, `Shopify`, `HmacSha256`
    /// (described by `hmac`), or `None` to accept unsigned calls.
    pub scheme: Scheme,

    /// Secret of this namespace with the sender's signing secret. Every key in it is valid, so that a
    /// secret can be rotated. Required unless the scheme is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,

    /// Seconds by which the sender's time may differ from ours, 1 to 86400. Default 300. For schemes
    /// that sign a time; older requests are answered 401.
    #[serde(default = "default_tolerance")]
    #[schemars(range(min = 1, max = 86_400))]
    pub tolerance_seconds: u32,

    /// How the signature is made, with scheme `HmacSha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<Hmac>,
}

/// Who signs, and how.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Scheme {
    /// <https://www.standardwebhooks.com>
    StandardWebhooks,
    /// `x-hub-signature-256`
    GitHub,
    /// `stripe-signature`
    Stripe,
    /// `x-slack-signature`
    Slack,
    /// `x-shopify-hmac-sha256`
    Shopify,
    /// Described by `hmac`.
    HmacSha256,
    /// Unsigned.
    None,
}

/// A signature made with HMAC-SHA256.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule_at(
        ".timestampHeader",
        "self.payload == 'Body' || has(self.timestampHeader)",
        "`timestampHeader` is required with `payload: TimestampDotBody`: write the name of the header that carries the time",
    ),
    rule_at(
        ".timestampHeader",
        "self.payload != 'Body' || !has(self.timestampHeader)",
        "`timestampHeader` is only used with `payload: TimestampDotBody`: an unsigned time proves nothing",
    ),
]))]
pub struct Hmac {
    /// Name of the header that carries the signature, in any case, for example `x-signature`.
    #[schemars(length(max = 128), regex(pattern = HEADER))]
    pub header: String,

    /// How the signature is written: `Hex` or `Base64`. Default `Hex`.
    #[serde(default)]
    pub encoding: Encoding,

    /// Text in front of the signature, for example `sha256=`. Default none.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub prefix: String,

    /// What is signed: `Body`, or `TimestampDotBody`, which is the value of `timestampHeader`, a dot
    /// and the body. Default `Body`.
    #[serde(default)]
    pub payload: Payload,

    /// Name of the header with the time in Unix seconds, with `payload: TimestampDotBody`. It is
    /// held against `toleranceSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = HEADER))]
    pub timestamp_header: Option<String>,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Encoding {
    /// Hexadecimal, in any case.
    #[default]
    Hex,
    /// Base64, standard alphabet.
    Base64,
}

/// What is signed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Payload {
    /// The body.
    #[default]
    Body,
    /// The time, a dot, the body.
    TimestampDotBody,
}

/// The answer to an accepted request.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Respond {
    /// Status code, 200 to 299. Default 202. Sent after the broker stored the request.
    #[schemars(range(min = 200, max = 299))]
    pub status: u16,
}

impl Default for Respond {
    fn default() -> Self {
        Self { status: 202 }
    }
}

fn webhook_rules() -> Vec<serde_json::Value> {
    let mut rules = rules::consumer_rules();
    rules.push(rule_at(
        ".batch.maxMessages",
        "!has(self.handler) || self.handler.protocol == 'CloudEvents' || self.batch.maxMessages == 1",
        "`batch.maxMessages` must be 1 with protocols `HTTP` and `Lambda`, which pass on one request: use `CloudEvents` for batches",
    ));
    rules
}

fn default_methods() -> Vec<Method> {
    vec![Method::Post]
}

fn default_body() -> u32 {
    1_048_576
}

fn default_tolerance() -> u32 {
    300
}

impl crate::Kind for Webhook {
    const COLUMNS: &'static [Column] = consumer_columns();

    fn object_rules() -> Vec<serde_json::Value> {
        rules::object_rules()
    }
}
