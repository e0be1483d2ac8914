//! What is served.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use weir_broker::WorkQueue;
use weir_core::object::{Kind, ObjectKey};
use weir_core::redrive::Redrive;

/// One object.
#[derive(Clone)]
pub struct Entry {
    /// Which.
    pub key: ObjectKey,
    /// Its UID: an object of the same name that was made later is another one.
    pub uid: String,
    /// Its queue; absent while there was no connection to its broker yet.
    pub queue: Option<Arc<dyn WorkQueue>>,
    /// What is told about it beside kind, namespace and name.
    pub about: Map<String, Value>,
}

/// What others may want to know of an object's dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A redrive ended, as its record says.
    Redriven(Box<Redrive>),
    /// Letters were thrown away.
    Purged {
        /// How many.
        count: u64,
        /// By whom.
        by: Option<String>,
    },
}

/// The objects of a process.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// All of them, or all of one namespace.
    fn all(&self, namespace: Option<&str>) -> Vec<Entry>;

    /// One of them. Without a namespace, the first of its kind and name.
    fn find(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Option<Entry> {
        self.all(namespace)
            .into_iter()
            .find(|entry| entry.key.kind == kind && entry.key.name == name)
    }

    /// Where this process takes messages in, where it does.
    fn listen(&self) -> Option<SocketAddr> {
        None
    }

    /// Whether this process may change anything now: it is not one of two that take turns.
    fn may_change(&self) -> bool {
        true
    }

    /// Tells about an object, best effort.
    async fn tell(&self, object: &ObjectKey, news: News) {
        let _ = (object, news);
    }
}
