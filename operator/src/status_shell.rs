//! Writes the status of objects, and only when it says something else.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Map, Value, json};
use weir_crds::conditions::{
    Condition, ConditionStatus, ConditionType, Event, Reason, find, same_conditions,
};

use crate::context::Context;
use crate::error::Error;
use crate::memory::Key;
use crate::plan::{MANAGER, Rejected};
use crate::status::{OURS, Verdict, View, conditions};
use crate::stores::{Read, Stored};

/// The status as it is in the cluster, to the best of our knowledge.
pub struct Current {
    /// Which object.
    pub key: Key,
    /// Its UID.
    pub uid: String,
    /// Conditions that we made.
    pub conditions: Vec<Condition>,
    status: Value,
}

impl Current {
    /// The status of an object. A watch may be behind what we wrote ourselves.
    pub fn of<K: Stored>(object: &K, key: &Key, context: &Context) -> Self {
        let uid = object.uid().unwrap_or_default();
        let version = object.resource_version().unwrap_or_default();
        let written = context.memory.get(key, &uid).written;
        let behind = written
            .filter(|(written, _)| is_older(&version, written))
            .map(|(_, conditions)| conditions);
        let ours = |all: &[Condition]| {
            all.iter()
                .filter(|one| OURS.iter().any(|type_| one.is(*type_)))
                .cloned()
                .collect()
        };
        let status = serde_json::to_value(object).map(|mut object| object["status"].take());
        Self {
            key: key.clone(),
            uid,
            conditions: ours(behind.as_deref().unwrap_or_else(|| object.conditions())),
            status: if behind.is_some() {
                Value::Null
            } else {
                status.unwrap_or_default()
            },
        }
    }
}

/// Whether a version of an object came before another. Versions of one kind can be compared as
/// numbers; where they are none, nothing is known.
fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

impl Current {
    /// A condition is true.
    pub fn is_true(&self, type_: ConditionType) -> bool {
        find(&self.conditions, type_).is_some_and(|old| old.status == ConditionStatus::True)
    }
}

/// Writes the status if it differs from the current one in more than times and order.
pub async fn write<K: Stored>(
    object: &K,
    current: Current,
    verdict: Verdict<'_>,
    lost_for: Option<Duration>,
    fields: Map<String, Value>,
    context: &Context,
) -> Result<(), Error> {
    let generation = object.meta().generation;
    let new = conditions(&View {
        generation,
        old: &current.conditions,
        verdict,
        lost_for,
        now: context.clock.now(),
        settings: &context.settings,
    });
    let mut status = fields;
    status.insert("observedGeneration".to_owned(), json!(generation));
    let same_fields = current.status.is_null()
        || status
            .iter()
            .all(|(field, value)| current.status.get(field) == Some(value));
    if same_fields && same_conditions(&current.conditions, &new) {
        return Ok(());
    }
    tell_handler(object, &current.conditions, &new, context).await;
    status.insert("conditions".to_owned(), json!(new));
    if let Some(version) = patch(object, "status", Value::Object(status), context).await? {
        context.memory.update(&current.key, &current.uid, |entry| {
            entry.written = Some((version, new));
        });
    }
    Ok(())
}

/// Tells when a handler that could be reached no longer can.
async fn tell_handler<K: Stored>(
    object: &K,
    old: &[Condition],
    new: &[Condition],
    context: &Context,
) {
    use weir_crds::conditions::ConditionStatus::{False, True};
    let status = |list, is| {
        find(list, ConditionType::HandlerReady).filter(|condition| condition.status == is)
    };
    if let (Some(_), Some(lost)) = (status(old, True), status(new, False)) {
        context
            .events
            .tell(object, Event::HandlerUnavailable, &lost.message)
            .await;
    }
}

/// Applies a part of a status. An object that is gone needs none. Says which
/// version of the object was made, if that is known.
pub async fn patch<K: Stored>(
    object: &K,
    part: &str,
    status: Value,
    context: &Context,
) -> Result<Option<String>, Error> {
    let name = object.name_any();
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // Never the status of another object of the same name.
        "metadata": { "name": name, "uid": object.uid() },
        "status": status,
    });
    let manager = format!("{MANAGER}/{}/{part}", K::NAME.to_ascii_lowercase());
    let parameters = PatchParams::apply(&manager).force();
    match api
        .patch_status(&name, &parameters, &Patch::Apply(&body))
        .await
    {
        Ok(object) => {
            context.metrics.wrote(K::NAME);
            Ok(object.resource_version())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        // What was written cannot be read back: an unknown field, from another version.
        Err(kube::Error::SerdeError(_)) => Ok(None),
        Err(error) => {
            let what = format!("status of {} {namespace}/{name}", K::NAME);
            Err(Error::kube("write", what, error))
        }
    }
}

/// Says on an object that it cannot be read.
pub async fn write_unreadable<K: Stored>(
    read: &Read<K>,
    error: &str,
    context: &Context,
) -> Result<(), Error> {
    let (namespace, name) = (read.namespace().unwrap_or_default(), read.name_any());
    let api: Api<kube::core::DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &namespace,
        &kube::core::ApiResource::erase::<K>(&()),
    );
    let what = || format!("{} {namespace}/{name}", K::NAME);
    let found = api
        .get_opt(&name)
        .await
        .map_err(|error| Error::kube("read", what(), error))?;
    let Some(found) = found else { return Ok(()) };
    let old: Vec<Condition> = found.data["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|condition| serde_json::from_value(condition.clone()).ok())
        .collect();
    let words = format!(
        "the object cannot be read: {error}; correct it, or see whether the installed definitions are of the operator's version"
    );
    let rejected = Rejected::new(Reason::InvalidSpec, words);
    let new = conditions(&View {
        generation: found.metadata.generation,
        old: &old,
        verdict: Verdict::Rejected(&rejected),
        lost_for: None,
        now: context.clock.now(),
        settings: &context.settings,
    });
    let ours: Vec<Condition> = old
        .into_iter()
        .filter(|one| OURS.iter().any(|type_| one.is(*type_)))
        .collect();
    if same_conditions(&ours, &new) {
        return Ok(());
    }
    tracing::warn!(
        kind = K::NAME,
        namespace,
        name,
        error,
        "an object cannot be read"
    );
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "uid": found.metadata.uid },
        "status": { "observedGeneration": found.metadata.generation, "conditions": new },
    });
    let manager = format!("{MANAGER}/{}/status", K::NAME.to_ascii_lowercase());
    let parameters = PatchParams::apply(&manager).force();
    match api
        .patch_status(&name, &parameters, &Patch::Apply(&body))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(Error::kube("write", format!("status of {}", what()), error)),
    }
}
