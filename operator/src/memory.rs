//! What is remembered about an object from one reconcile to the next. Losing it loses nothing but
//! time: it is made again by the next reconcile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use weir_broker::WorkQueue;
use weir_crds::conditions::Condition;

use crate::brokers::Broker;
use crate::world::Name;

/// Kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Name of the kind.
    pub kind: &'static str,
    /// Namespace and name.
    pub name: Name,
}

/// `Webhook shop/stripe`, as messages print it.
impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What is remembered about one object.
#[derive(Clone, Default)]
pub struct Remembered {
    /// UID of the object that this is about.
    pub uid: String,
    /// Since when its broker has not answered.
    pub broker_lost: Option<Instant>,
    /// The connection that its topology was last applied through.
    pub broker: Option<Broker>,
    /// Its queue, once the topology exists.
    pub queue: Option<Arc<dyn WorkQueue>>,
    /// Deliveries at once.
    pub limit: u32,
    /// Handler pods, and how many of them are ready.
    pub replicas: Option<(u32, u32)>,
    /// When it was last reconciled.
    pub reconciled: Option<Instant>,
    /// When its numbers were last read.
    pub numbers_read: Option<Instant>,
    /// How often the data plane was found to lack the newest version in a row.
    pub loading: u32,
    /// Since when its signing keys are missing.
    pub keys_missing: Option<Instant>,
    /// It was paused when last looked at.
    pub paused: Option<bool>,
    /// The conditions that were last written, and the version of the object that this made: as long
    /// as a watch shows an older one, it does not show them.
    pub written: Option<(String, Vec<Condition>)>,
}

/// All that is remembered.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<Key, Remembered>>);

impl Memory {
    /// What is remembered about this object, not about one of the same name before it.
    pub fn get(&self, key: &Key, uid: &str) -> Remembered {
        let found = self
            .lock()
            .get(key)
            .filter(|found| found.uid == uid)
            .cloned();
        found.unwrap_or_else(|| Remembered {
            uid: uid.to_owned(),
            ..Remembered::default()
        })
    }

    /// Changes what is remembered.
    pub fn update(&self, key: &Key, uid: &str, change: impl FnOnce(&mut Remembered)) {
        let mut all = self.lock();
        let entry = all.entry(key.clone()).or_default();
        if entry.uid != uid {
            *entry = Remembered {
                uid: uid.to_owned(),
                ..Remembered::default()
            };
        }
        change(entry);
    }

    /// Forgets an object.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
