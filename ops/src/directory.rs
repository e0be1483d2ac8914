//! What is served.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Map, Value};
use weir_broker::WorkQueue;
use weir_core::object::{Kind, ObjectKey};

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

/// The objects of a process.
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
}
