//! CEL rules and patterns, as values that the schemas carry.
//!
//! A rule becomes an entry of `x-kubernetes-validations`: the API server evaluates it, and
//! [`crate::lint`] evaluates the same text offline. Messages say what to write instead, name fields in
//! back-quotes and start in lower case, because the server prints the path in front of them.

use serde_json::{Value, json};

/// A DNS label, as names of our objects are.
pub const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A DNS subdomain, as names of Secrets, `ConfigMaps` and service accounts are.
pub const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A key of a Secret or `ConfigMap`.
pub const KEY: &str = "^[-._a-zA-Z0-9]+$";
/// The name of an HTTP header (RFC 9110 token).
pub const HEADER: &str = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/// An absolute URL path without query or fragment.
pub const URL_PATH: &str = r"^/[^\s?#]*$";
/// An absolute http or https URL.
pub const HTTP_URL: &str = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$";
/// The value of a label; it may be empty.
pub const LABEL_VALUE: &str = "^([a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?)?$";
/// The key of a label or taint.
pub const LABEL_KEY: &str = "^([-.a-z0-9]+/)?[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$";
/// An amount, as Kubernetes writes it.
pub const QUANTITY: &str =
    r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";
/// A relative path of a file.
pub const FILE: &str = r"^\.?[A-Za-z0-9_@-][A-Za-z0-9._@-]*(/\.?[A-Za-z0-9_@-][A-Za-z0-9._@-]*)*$";
/// An absolute path of a directory, not `/`.
pub const DIRECTORY: &str = r"^(/\.?[A-Za-z0-9_@-][A-Za-z0-9._@-]*)+$";
/// A container image.
pub const IMAGE: &str = r"^[^\s]+$";
/// URL of a NATS server.
pub const SERVER: &str = r"^(nats|tls)://[^\s/?#]+$";
/// Scheme, host and port of an HTTP server.
pub const ORIGIN: &str = r"^https?://[^\s/?#@]+/?$";
/// A host name, with or without a wildcard in front.
pub const HOST: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Where the group of a message comes from: an expression, or `header:` with a name.
pub const GROUP_BY: &str =
    r"^\s*(\{%[\s\S]*\S[\s\S]*%\}|header:\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*$";
/// The name of an environment variable.
pub const VARIABLE: &str = "^[-._a-zA-Z][-._a-zA-Z0-9]*$";

/// Rule on an object: `rule` must hold, otherwise the user reads `message`.
pub fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

/// As [`rule`], reported at `path` below the object (for example `.header`).
pub fn rule_at(path: &str, rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message, "fieldPath": path })
}

/// Rules of every kind, on the whole object.
pub fn object_rules() -> Vec<Value> {
    vec![
        rule(
            "self.metadata.name.size() <= 40",
            "`metadata.name` must be at most 40 characters: the names of what is created for it are longer",
        ),
        rule(
            "!self.metadata.name.contains('.')",
            "`metadata.name` may not contain a dot: write a DNS label such as `orders-eu`",
        ),
    ]
}

/// Rule of a kind that others name in `to`: an object may not name itself.
pub fn not_itself(kind: &str) -> Value {
    rule(
        &format!(
            "!has(self.spec.to) || !has(self.spec.to.kind) || !has(self.spec.to.name) || self.spec.to.kind != '{kind}' || self.spec.to.name != self.metadata.name || has(self.spec.to.__namespace__)"
        ),
        "`spec.to` may not name the object itself: its messages would go round for ever",
    )
}

/// Rules of a spec that handles messages: `handler`, `to`, `concurrency` and `batch` together.
pub fn consumer_rules() -> Vec<Value> {
    vec![
        rule(
            "has(self.handler) != has(self.to)",
            "exactly one of `handler` and `to` must be set: `handler` runs an image, `to` delivers to something that exists",
        ),
        rule_at(
            ".concurrency.perReplica",
            "!has(self.to) || !has(self.concurrency.perReplica)",
            "`concurrency.perReplica` is about the pods of `handler`: with `to` set only `concurrency.max`",
        ),
        rule_at(
            ".concurrency.perReplica",
            "!has(self.handler) || self.handler.protocol != 'Lambda' || !has(self.concurrency.perReplica) || self.concurrency.perReplica == 1",
            "`concurrency.perReplica` must be 1 with protocol `Lambda`, which runs one call a pod: set `concurrency.max` and `scaling.maxReplicas` instead",
        ),
    ]
}

/// What a pattern of ours means, for readers who do not read regular expressions.
pub fn pattern_hint(pattern: &str) -> Option<&'static str> {
    Some(match pattern {
        LABEL => "lower case letters, digits and `-`, as in `orders-eu`",
        SUBDOMAIN => "lower case letters, digits, `-` and `.`, as in `stripe-signing`",
        KEY => "letters, digits, `-`, `_` and `.`, as in `user.creds`",
        HEADER => "the name of an HTTP header, as in `x-request-id`",
        URL_PATH => "a path that begins with `/`, without spaces, `?` and `#`",
        HTTP_URL => "a URL as in `http://audit.billing/in`, without credentials and fragment",
        LABEL_VALUE => "letters, digits, `-`, `_` and `.`, as in `arm64`",
        LABEL_KEY => "letters, digits, `-`, `_` and `.`, as in `example.com/dedicated`",
        QUANTITY => "a number with an optional unit, as in `500m` or `128Mi`",
        FILE => "a relative path without `..`, as in `tls/ca.crt`",
        DIRECTORY => "an absolute path without `..` and without `/` at the end, as in `/var/cache`",
        IMAGE => "an image without spaces, as in `registry.example/acme/billing:1.4`",
        SERVER => "a URL as in `nats://nats.nats:4222` or `tls://nats.example.com:4222`",
        ORIGIN => {
            "the address of a server as in `http://rmq.shop:15672`, without credentials and path"
        }
        HOST => "a host name in lower case, as in `hooks.example.com` or `*.example.com`",
        GROUP_BY => {
            "a JSONata expression as in `{% data.accountId %}`, or the name of a header as in `header: x-group`"
        }
        VARIABLE => {
            "letters, digits, `_`, `-` and `.`, not beginning with a digit, as in `LOG_LEVEL`"
        }
        _ => return None,
    })
}
