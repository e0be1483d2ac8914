//! What the watch has seen of the runtimes' ConfigMaps, as hashes: they are large and shared, and a
//! reconcile that finds its part in place need not read all of it.
//!
//! The watch may be behind. What it hides for that moment comes as a change, and that is reconciled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;

use crate::world::Name;

/// What was seen of all of them.
#[derive(Default)]
pub struct SeenConfigs(Mutex<HashMap<Name, Seen>>);

#[derive(Default)]
struct Seen {
    files: BTreeMap<String, u64>,
    owners: BTreeSet<String>,
}

impl SeenConfigs {
    /// Takes note of a ConfigMap as it is now. Says which files changed.
    pub fn note(&self, map: &ConfigMap, gone: bool) -> BTreeSet<String> {
        let meta = &map.metadata;
        let name = Name::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        );
        let owners = meta.owner_references.iter().flatten();
        let new = Seen {
            files: map
                .data
                .iter()
                .flatten()
                .map(|(file, text)| (file.clone(), hash_of(text)))
                .collect(),
            owners: owners.map(|owner| owner.uid.clone()).collect(),
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = all.remove(&name).unwrap_or_default();
        let changed = old
            .files
            .keys()
            .chain(new.files.keys())
            .filter(|file| gone || old.files.get(*file) != new.files.get(*file))
            .cloned()
            .collect();
        if !gone {
            all.insert(name, new);
        }
        changed
    }

    /// Whether a file was seen with this text, in a ConfigMap that this object owns.
    pub fn has(&self, map: &Name, file: &str, text: &str, owner: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(map).is_some_and(|seen| {
            seen.files.get(file) == Some(&hash_of(text)) && seen.owners.contains(owner)
        })
    }
}

/// A number that differs when the value does.
pub fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
