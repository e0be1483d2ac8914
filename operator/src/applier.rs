//! Kubernetes objects as wanted, with as few writes as possible.
//!
//! An object is read before it is written, and written only if it differs in a field that we decide.
//! What is not ours is never taken over, changed or deleted, whatever its name or labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client};
use serde_json::Value;
use weir_crds::conditions::Reason;

use crate::error::Error;
use crate::matches::{APPLIED_HASH, is_as_wanted, stamp};
use crate::metrics::Metrics;
use crate::plan::{Child, ChildKind, KIND_LABEL, MANAGED_BY_LABEL, MANAGER, Rejected};

/// Whose children are handled.
#[derive(Clone, Debug)]
pub enum Owner {
    /// One object, by UID: it is the controller of its children.
    Object(String),
    /// The shared runtime of a namespace, by label.
    Runtime,
}

/// Why an object is not as wanted.
#[derive(Debug)]
pub enum NotApplied {
    /// A human has to do something.
    Refused(Rejected),
    /// It is tried again.
    Failed(Error),
}

impl From<Error> for NotApplied {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads and writes children.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    metrics: Arc<Metrics>,
}

/// What is there of a set of children, by kind and name.
pub type Live = BTreeMap<(ChildKind, String), Value>;

impl Applier {
    /// Works through `client`.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics }
    }

    fn api(&self, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.api_resource())
    }

    /// Children of these kinds that carry all these labels.
    pub async fn live(
        &self,
        kinds: &[ChildKind],
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Live, Error> {
        let selector: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let parameters = ListParams::default().labels(&selector.join(","));
        let mut live = Live::new();
        for kind in kinds {
            let list = self.api(*kind, namespace).list(&parameters).await;
            let list = list.map_err(|error| {
                Error::kube("list", format!("{} in {namespace}", kind.as_str()), error)
            })?;
            for object in list {
                let name = object.metadata.name.clone().unwrap_or_default();
                live.insert((*kind, name), to_value(*kind, &object));
            }
        }
        Ok(live)
    }

    /// Makes one child as wanted and returns it as it is then.
    pub async fn ensure(
        &self,
        child: &Child,
        manager: &str,
        owner: &Owner,
        live: &Live,
    ) -> Result<Value, NotApplied> {
        let mut wanted = child.object.clone();
        stamp(&mut wanted);
        let found = match live.get(&(child.kind, child.name.clone())) {
            Some(found) => Some(found.clone()),
            // Not among those with our labels, which says nothing about its name.
            None => self.get(child.kind, &child.namespace, &child.name).await?,
        };
        if let Some(found) = found {
            if is_former(child, &found, owner) {
                let what = describe(child.kind, &child.namespace, &child.name);
                return Err(Error::Former { what }.into());
            }
            if !is_owned(&found, owner) {
                return Err(foreign(child.kind, &child.namespace, &child.name));
            }
            if is_as_wanted(&wanted, &found) {
                return Ok(found);
            }
            tracing::info!(
                child = child.kind.as_str(),
                namespace = child.namespace,
                name = child.name,
                drifted = wanted["metadata"]["annotations"][APPLIED_HASH]
                    == found["metadata"]["annotations"][APPLIED_HASH],
                "changing it",
            );
        }
        self.apply(child.kind, &child.namespace, &child.name, manager, &wanted)
            .await
    }

    /// One object, if it is there.
    pub async fn get(
        &self,
        kind: ChildKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Error> {
        let found = self.api(kind, namespace).get_opt(name).await;
        let found =
            found.map_err(|error| Error::kube("read", describe(kind, namespace, name), error))?;
        Ok(found.map(|object| to_value(kind, &object)))
    }

    /// Server-side apply.
    pub async fn apply(
        &self,
        kind: ChildKind,
        namespace: &str,
        name: &str,
        manager: &str,
        wanted: &Value,
    ) -> Result<Value, NotApplied> {
        let parameters = PatchParams::apply(manager).force();
        let applied = self
            .api(kind, namespace)
            .patch(name, &parameters, &Patch::Apply(wanted))
            .await;
        match applied {
            Ok(object) => {
                self.metrics.wrote(kind.as_str());
                Ok(to_value(kind, &object))
            }
            Err(kube::Error::Api(status)) if is_refusal(&status) => {
                Err(NotApplied::Refused(refusal(kind, namespace, name, &status)))
            }
            Err(error) => Err(Error::kube("apply", describe(kind, namespace, name), error).into()),
        }
    }

    /// Deletes one child, if it is there and ours.
    pub async fn delete(
        &self,
        kind: ChildKind,
        namespace: &str,
        name: &str,
        live: &Value,
        owner: &Owner,
    ) -> Result<(), Error> {
        if !is_owned(live, owner) {
            return Ok(());
        }
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: live["metadata"]["uid"].as_str().map(str::to_owned),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        match self.api(kind, namespace).delete(name, &parameters).await {
            Ok(_) => {
                self.metrics.wrote(kind.as_str());
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            Err(error) => Err(Error::kube(
                "delete",
                describe(kind, namespace, name),
                error,
            )),
        }
    }

    /// Deletes what is there and not wanted.
    pub async fn prune(
        &self,
        namespace: &str,
        wanted: &[Child],
        live: &Live,
        owner: &Owner,
    ) -> Result<(), Error> {
        for ((kind, name), object) in live {
            if !wanted
                .iter()
                .any(|child| child.kind == *kind && child.name == *name)
            {
                self.delete(*kind, namespace, name, object, owner).await?;
            }
        }
        Ok(())
    }
}

fn describe(kind: ChildKind, namespace: &str, name: &str) -> String {
    format!("{} {namespace}/{name}", kind.as_str())
}

/// Items of lists come without their type.
fn to_value(kind: ChildKind, object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).expect("an object is JSON");
    let resource = kind.api_resource();
    value["apiVersion"] = Value::String(resource.api_version);
    value["kind"] = Value::String(resource.kind);
    value
}

/// Owned by us, and not just named or labelled as if it were.
fn is_owned(object: &Value, owner: &Owner) -> bool {
    let metadata: ObjectMeta =
        serde_json::from_value(object["metadata"].clone()).unwrap_or_default();
    match owner {
        Owner::Object(uid) => metadata
            .owner_references
            .iter()
            .flatten()
            .any(|reference| reference.uid == *uid && reference.controller == Some(true)),
        Owner::Runtime => {
            let labels = metadata.labels.unwrap_or_default();
            labels
                .get(MANAGED_BY_LABEL)
                .is_some_and(|value| value == MANAGER)
                && labels
                    .get(KIND_LABEL)
                    .is_some_and(|value| value == "runtime")
        }
    }
}

/// Owned by an object of the same kind and name that was deleted: it is on its way out.
fn is_former(child: &Child, found: &Value, owner: &Owner) -> bool {
    let Owner::Object(uid) = owner else {
        return false;
    };
    let controller = |object: &Value| {
        let references = object["metadata"]["ownerReferences"].as_array().cloned();
        references
            .into_iter()
            .flatten()
            .find(|reference| reference["controller"] == true)
    };
    match (controller(&child.object), controller(found)) {
        (Some(ours), Some(theirs)) => {
            ["apiVersion", "kind", "name"]
                .iter()
                .all(|field| ours[field] == theirs[field])
                && theirs["uid"] != uid.as_str()
        }
        _ => false,
    }
}

fn foreign(kind: ChildKind, namespace: &str, name: &str) -> NotApplied {
    let what = describe(kind, namespace, name);
    NotApplied::Refused(Rejected::new(
        Reason::NameConflict,
        format!("{what} exists and is not Weir's; rename it, or this object"),
    ))
}

/// Refuses an object that has the name of a part of the runtime and is none.
pub fn refuse_foreign(
    found: &Value,
    kind: ChildKind,
    namespace: &str,
    name: &str,
) -> Result<(), NotApplied> {
    if is_owned(found, &Owner::Runtime) {
        Ok(())
    } else {
        Err(foreign(kind, namespace, name))
    }
}

/// The object itself is not taken, as opposed to a server that cannot answer.
fn is_refusal(status: &Status) -> bool {
    let terminating = status.message.contains("being terminated");
    (status.is_forbidden() || status.is_invalid() || status.code == 400) && !terminating
}

fn refusal(kind: ChildKind, namespace: &str, name: &str, status: &Status) -> Rejected {
    let what = describe(kind, namespace, name);
    let message = &status.message;
    let reason = match () {
        () if message.contains("exceeded quota") => Reason::QuotaExceeded,
        () if message.contains("cannot patch resource")
            || message.contains("cannot create resource") =>
        {
            Reason::Forbidden
        }
        () => Reason::ApiServerRefused,
    };
    Rejected::new(reason, format!("the API server refuses {what}: {message}"))
}
