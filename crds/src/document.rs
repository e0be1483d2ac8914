//! One object of a manifest, as a value of its type.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{FifoConsumer, GROUP, MessageBus, QueueConsumer, VERSION, Webhook};

/// An object of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Document {
    /// An ordered queue with a handler.
    FifoConsumer(Box<FifoConsumer>),
    /// A bus.
    MessageBus(Box<MessageBus>),
    /// A queue with a handler.
    QueueConsumer(Box<QueueConsumer>),
    /// An endpoint for other systems.
    Webhook(Box<Webhook>),
    /// An object of another group, such as a Secret, as it was written.
    Other(Box<Value>),
}

/// The kinds that [`Document`] knows, by name.
pub const KINDS: [&str; 4] = ["FifoConsumer", "MessageBus", "QueueConsumer", "Webhook"];

/// Kinds of the group that this version does not have yet.
pub const LATER_KINDS: [&str; 10] = [
    "CircuitBreaker",
    "EventTrigger",
    "FanOut",
    "Function",
    "HttpApi",
    "Notifier",
    "Router",
    "StateMachine",
    "Stream",
    "Subscriber",
];

impl Document {
    /// Reads an object. Defaults are filled in by the types. An object of another group passes as it
    /// is; one of our group must be of a known kind and version.
    pub fn from_value(value: Value) -> Result<Self, serde_json::Error> {
        fn read<T: DeserializeOwned>(value: Value) -> Result<Box<T>, serde_json::Error> {
            serde_json::from_value(value).map(Box::new)
        }
        let text = |field| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let Some(version) = text("apiVersion")
            .strip_prefix(GROUP)
            .and_then(|v| v.strip_prefix('/'))
        else {
            return Ok(Self::Other(Box::new(value)));
        };
        match (version, text("kind")) {
            (VERSION, "FifoConsumer") => read(value).map(Self::FifoConsumer),
            (VERSION, "MessageBus") => read(value).map(Self::MessageBus),
            (VERSION, "QueueConsumer") => read(value).map(Self::QueueConsumer),
            (VERSION, "Webhook") => read(value).map(Self::Webhook),
            (version, kind) => Err(serde::de::Error::custom(format_args!(
                "no matches for kind {kind:?} in version \"{GROUP}/{version}\""
            ))),
        }
    }

    /// The kind, for example `Webhook`.
    pub fn kind(&self) -> &str {
        match self {
            Self::FifoConsumer(_) => "FifoConsumer",
            Self::MessageBus(_) => "MessageBus",
            Self::QueueConsumer(_) => "QueueConsumer",
            Self::Webhook(_) => "Webhook",
            Self::Other(value) => value["kind"].as_str().unwrap_or_default(),
        }
    }

    /// `metadata.name`; empty when it is not set.
    pub fn name(&self) -> &str {
        match self {
            Self::FifoConsumer(object) => object.metadata.name.as_deref().unwrap_or_default(),
            Self::MessageBus(object) => object.metadata.name.as_deref().unwrap_or_default(),
            Self::QueueConsumer(object) => object.metadata.name.as_deref().unwrap_or_default(),
            Self::Webhook(object) => object.metadata.name.as_deref().unwrap_or_default(),
            Self::Other(value) => value["metadata"]["name"].as_str().unwrap_or_default(),
        }
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::FifoConsumer(object) => object.metadata.namespace.as_deref(),
            Self::MessageBus(object) => object.metadata.namespace.as_deref(),
            Self::QueueConsumer(object) => object.metadata.namespace.as_deref(),
            Self::Webhook(object) => object.metadata.namespace.as_deref(),
            Self::Other(value) => value["metadata"]["namespace"].as_str(),
        }
    }
}
