//! Which object a message, a queue or a configuration belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds whose objects take messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Scalable Webhook.
    Webhook,
    /// Frugal Consumer.
    QueueConsumer,
    /// Order within groups.
    FifoConsumer,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Webhook, Self::QueueConsumer, Self::FifoConsumer];

    /// The name of the kind as users write it, `Webhook`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "Webhook",
            Self::QueueConsumer => "QueueConsumer",
            Self::FifoConsumer => "FifoConsumer",
        }
    }

    /// Lower case, as in broker names and labels: `webhook`.
    pub fn lower(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::QueueConsumer => "queueconsumer",
            Self::FifoConsumer => "fifoconsumer",
        }
    }

    /// The path segment of an address: `webhooks`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Webhook => "webhooks",
            Self::QueueConsumer => "queueconsumers",
            Self::FifoConsumer => "fifoconsumers",
        }
    }

    /// The short name that `kubectl` and `weir` accept: `whk`.
    pub fn short(self) -> &'static str {
        match self {
            Self::Webhook => "whk",
            Self::QueueConsumer => "qc",
            Self::FifoConsumer => "fifo",
        }
    }

    /// Finds a kind by any of its names, ignoring case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            [kind.as_str(), kind.plural(), kind.short()]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Kind, namespace and name: unique in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectKey {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace, a DNS label of at most 63 characters.
    pub namespace: String,
    /// Name, a DNS label of at most 40 characters.
    pub name: String,
}

impl ObjectKey {
    /// Makes a key from its parts.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// `webhook/stripe.shop`, as logs and messages print it.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.kind.lower(), self.name, self.namespace)
    }
}
