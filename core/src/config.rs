//! The runtime configuration: what the operator (or `weir run`) writes and the data plane reads.
//!
//! One [`ObjectConfig`] is one JSON document, one file. A process reads every `*.json` below its
//! configuration folder and serves the objects it finds; it holds everything it needs, so that a
//! process never asks the Kubernetes API. Credentials are never in it, only paths of mounted files.
//!
//! The format is versioned. A reader refuses a version it does not know and keeps what it had.

use serde::{Deserialize, Serialize};

use crate::object::ObjectKey;

/// The version that this build writes and reads.
pub const VERSION: u32 = 1;

/// Everything a process needs to serve one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectConfig {
    /// [`VERSION`].
    pub version: u32,
    /// The object.
    pub object: ObjectKey,
    /// UID of the object; broker topology is owned by it. The local runtime makes one up.
    pub uid: String,
    /// `metadata.generation` that this was made from, for `/config` and logs.
    pub generation: i64,
    /// Where its messages live.
    pub bus: BusConfig,
    /// The queue.
    pub queue: QueueConfig,
    /// Present where this process takes messages in over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intake: Option<IntakeConfig>,
    /// Present where this process delivers messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerConfig>,
}

/// A connection to a broker. Equal values share one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum BusConfig {
    /// NATS JetStream, 2.12 or newer.
    #[serde(rename_all = "camelCase")]
    Nats {
        /// `nats://host:port` or `tls://host:port`.
        servers: Vec<String>,
        /// Mounted `.creds` file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credentials_file: Option<String>,
        /// Mounted CA certificate; the system's roots otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<String>,
    },
    /// RabbitMQ, 4.0 or newer.
    #[serde(rename_all = "camelCase")]
    RabbitMq {
        /// Mounted file that holds `amqp://user:password@host:port/vhost`, or `amqps://...`: one address, or
        /// one for each node of a cluster, separated by white space. Read again before every connection.
        uri_file: String,
        /// `http://host:15672`; by default port 15672 of the host in the URI. Asked with the user of the URI.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        management_url: Option<String>,
        /// Virtual host; by default the one in the URI.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vhost: Option<String>,
        /// Mounted CA certificate; the system's roots otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<String>,
        /// Where keyed state lives, which RabbitMQ has not: always [`BusConfig::Nats`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<Box<BusConfig>>,
    },
    /// Inside this process: `weir run` and tests. Lost when it ends.
    Memory {},
}

impl BusConfig {
    /// The same bus with every path of a mounted file replaced.
    #[must_use]
    pub fn with_files(&self, replace: &dyn Fn(&str) -> String) -> Self {
        let all = |file: &Option<String>| file.as_deref().map(replace);
        match self {
            Self::Nats {
                servers,
                credentials_file,
                ca_file,
            } => Self::Nats {
                servers: servers.clone(),
                credentials_file: all(credentials_file),
                ca_file: all(ca_file),
            },
            Self::RabbitMq {
                uri_file,
                management_url,
                vhost,
                ca_file,
                state,
            } => Self::RabbitMq {
                uri_file: replace(uri_file),
                management_url: management_url.clone(),
                vhost: vhost.clone(),
                ca_file: all(ca_file),
                state: state
                    .as_ref()
                    .map(|state| Box::new(state.with_files(replace))),
            },
            Self::Memory {} => Self::Memory {},
        }
    }

    /// Every mounted file that it names.
    pub fn files(&self) -> Vec<&str> {
        match self {
            Self::Nats {
                credentials_file,
                ca_file,
                ..
            } => [credentials_file, ca_file]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect(),
            Self::RabbitMq {
                uri_file,
                ca_file,
                state,
                ..
            } => std::iter::once(uri_file.as_str())
                .chain(ca_file.as_deref())
                .chain(state.iter().flat_map(|state| state.files()))
                .collect(),
            Self::Memory {} => Vec::new(),
        }
    }

    /// Whether identities can be remembered: RabbitMQ alone has no keyed state.
    pub fn remembers(&self) -> bool {
        !matches!(self, Self::RabbitMq { state: None, .. })
    }
}

/// The queue of one object: what broker topology is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueConfig {
    /// Deliveries outstanding over all replicas; 0 delivers nothing. With batches this counts calls; in a
    /// FIFO queue turns, which is groups at once.
    pub limit: u32,
    /// Most messages of one call; 1 means no batches.
    pub batch_max: u32,
    /// How long a delivery may stay without a sign of life before another process gets it, seconds.
    pub lease_seconds: u32,
    /// Copies of each stream (NATS R).
    pub replicas: u32,
    /// Most messages waiting, after which the intake answers 429.
    pub capacity: u64,
    /// How long dead letters are kept, seconds.
    pub dead_letter_retention_seconds: u64,
    /// Present where order is kept within groups. A queue is one or the other for its whole life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fifo: Option<FifoConfig>,
}

/// What a queue that keeps order needs beside a [`QueueConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FifoConfig {
    /// Shards of the groups, 1 or more, on brokers that keep order by sharding. May be changed at any
    /// time as far as the transport says so; order never depends on it.
    pub partitions: u32,
}

/// How messages come in over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntakeConfig {
    /// HTTP methods that publish, upper case.
    pub methods: Vec<String>,
    /// Largest body, bytes.
    pub max_body_bytes: u64,
    /// Status of an accepted request, 200 to 299.
    pub status: u16,
    /// Signature check over the raw body; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyConfig>,
    /// Deduplication; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<DeduplicateConfig>,
    /// Where the group of a message comes from that its sender gave none; absent: all such messages
    /// are one group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupBy>,
    /// Delay of every message that does not ask for its own, seconds.
    #[serde(default)]
    pub delay_seconds: u32,
    /// Whether CloudEvents (structured, batch) and `weir-*` request headers are honoured: true for
    /// queues, false for webhooks, whose senders are strangers.
    pub publish_api: bool,
}

/// A signature scheme and where its keys are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyConfig {
    /// How the sender signs.
    pub scheme: SignatureScheme,
    /// Folder whose files are the valid keys (a mounted Secret), read again when it changes.
    pub keys_dir: String,
    /// Greatest distance between the signed time and now, seconds.
    pub tolerance_seconds: u32,
    /// Only for [`SignatureScheme::HmacSha256`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<HmacConfig>,
}

/// The schemes of `spec.verify.scheme`, without `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SignatureScheme {
    /// Standard Webhooks: `v1` HMAC-SHA256 and `v1a` ed25519.
    StandardWebhooks,
    /// `x-hub-signature-256`.
    GitHub,
    /// `stripe-signature`.
    Stripe,
    /// `x-slack-signature`, `v0`.
    Slack,
    /// `x-shopify-hmac-sha256`.
    Shopify,
    /// HMAC-SHA256 in a header of the sender's choice.
    HmacSha256,
}

/// Where a plain HMAC-SHA256 signature is and what it covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HmacConfig {
    /// Header that holds the signature, lower case.
    pub header: String,
    /// How it is written.
    pub encoding: HmacEncoding,
    /// Text before it, `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// What is signed.
    #[serde(default)]
    pub payload: HmacPayload,
}

/// Text form of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HmacEncoding {
    /// Hexadecimal, either case.
    Hex,
    /// Standard base64.
    Base64,
}

/// What a plain HMAC covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HmacPayload {
    /// The raw body.
    #[default]
    Body,
    /// The value of a header, a dot, the raw body. The header holds the time, whole seconds since 1970,
    /// and is held against [`VerifyConfig::tolerance_seconds`].
    TimestampDotBody {
        /// Name of the header, lower case.
        header: String,
    },
}

/// What makes two messages the same, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeduplicateConfig {
    /// Where the identity comes from.
    pub by: DeduplicateBy,
    /// Header, lower case; only for [`DeduplicateBy::Header`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// How long an identity is remembered, seconds.
    pub window_seconds: u32,
    /// Where an identity counts.
    #[serde(default, skip_serializing_if = "DeduplicateScope::is_queue")]
    pub scope: DeduplicateScope,
}

/// Where the identity of a message counts (aws-semantics 5.3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeduplicateScope {
    /// In the whole queue: two messages of different groups can be the same.
    #[default]
    Queue,
    /// In the group of the message.
    Group,
}

impl DeduplicateScope {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "called by serde")]
    fn is_queue(&self) -> bool {
        *self == Self::Queue
    }
}

/// Where the group of a message comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum GroupBy {
    /// A header of the sender's choice.
    Header {
        /// Lower case.
        name: String,
    },
    /// A JSONata expression over the event.
    Expression {
        /// Without the delimiters `{%` and `%}`.
        text: String,
    },
}

/// Where a message's identity comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeduplicateBy {
    /// `idempotency-key`, else the CloudEvents `id` with its `source`.
    MessageId,
    /// SHA-256 of the body.
    ContentHash,
    /// A header of the sender's choice.
    Header,
}

/// How messages go out to a handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsumerConfig {
    /// Who gets them.
    pub target: TargetConfig,
    /// How a request is made.
    pub protocol: Protocol,
    /// Longest call, seconds.
    pub timeout_seconds: u32,
    /// Calls at once from this process.
    pub per_replica: u32,
    /// Longest wait for a batch to fill, seconds; only with `queue.batchMax` above 1.
    #[serde(default)]
    pub batch_window_seconds: u32,
    /// Retries and their end.
    pub retry: RetryConfig,
    /// What becomes of a group whose first message is given up; only with ordered queues.
    #[serde(default, skip_serializing_if = "WhenExhausted::is_dead_letter")]
    pub when_exhausted: WhenExhausted,
    /// Nothing is pulled while true.
    #[serde(default)]
    pub paused: bool,
}

/// Who gets the messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum TargetConfig {
    /// A handler beside this process.
    #[serde(rename_all = "camelCase")]
    Handler {
        /// `http://127.0.0.1:8080/`.
        url: String,
        /// Path that answers 2xx when the handler is ready; otherwise an open port is enough.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        readiness_path: Option<String>,
    },
    /// Any HTTP endpoint; checked against the rules for outgoing addresses.
    Url {
        /// `http://` or `https://`.
        url: String,
    },
}

/// How a message becomes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// CloudEvents over HTTP, binary mode; a batch in batched mode.
    CloudEvents,
    /// The original method, path suffix, headers and body.
    #[serde(rename = "HTTP")]
    Http,
}

/// Retries and their end (`kinds.md`, `retry`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryConfig {
    /// Outcomes that may fail, 1 or more; the last one dead-letters.
    pub max_attempts: u32,
    /// Pause after the first failure, seconds.
    pub initial_seconds: u32,
    /// Growth from one pause to the next, 1 or more.
    pub multiplier: u32,
    /// Longest pause, seconds.
    pub max_seconds: u32,
    /// Older messages are dead-lettered instead of tried, seconds from acceptance.
    pub max_age_seconds: u64,
    /// Statuses that dead-letter at once.
    pub permanent_statuses: Vec<u16>,
}

/// What becomes of a group whose first message is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenExhausted {
    /// The message becomes a dead letter and the group goes on, as on AWS.
    #[default]
    DeadLetter,
    /// The message and everything behind it in its group become dead letters.
    DeadLetterGroup,
    /// The group stops, with everything stored, until a human lets it go on.
    BlockGroup,
}

impl WhenExhausted {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "called by serde")]
    fn is_dead_letter(&self) -> bool {
        *self == Self::DeadLetter
    }
}

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ParseConfigError {
    /// Not JSON, or not this shape.
    #[error("not a runtime configuration: {0}")]
    Shape(#[from] serde_json::Error),
    /// Written by another release.
    #[error("runtime configuration has version {found}, this build reads version {VERSION}")]
    Version {
        /// What the document says.
        found: u64,
    },
}

impl ParseConfigError {
    /// A short stable word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Shape(_) => "Shape",
            Self::Version { .. } => "Version",
        }
    }
}

impl ObjectConfig {
    /// Reads one document. The version is looked at first, so that a newer document is named as such
    /// and not as malformed.
    pub fn parse(text: &[u8]) -> Result<Self, ParseConfigError> {
        #[derive(Deserialize)]
        struct OnlyVersion {
            version: u64,
        }
        let OnlyVersion { version } = serde_json::from_slice(text)?;
        if version != u64::from(VERSION) {
            return Err(ParseConfigError::Version { found: version });
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// Writes one document, indented, ending with a newline.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("a configuration has only string keys");
        text.push('\n');
        text
    }

    /// Name of the file (and ConfigMap key) that holds it: `webhook.stripe.json`.
    pub fn file_name(object: &ObjectKey) -> String {
        format!("{}.{}.json", object.kind.lower(), object.name)
    }
}
