//! The outcome of a decision: what is to exist, as values.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::Value;
use weir_broker::QueueSpec;
use weir_core::config::ObjectConfig;
use weir_core::object::ObjectKey;
use weir_crds::conditions::Reason;

use crate::bus::Bus;
use crate::identity::Identity;

/// A user's mistake, or something that the object refers to and that is not there. It becomes
/// `Accepted=False` and waits for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// A word of the closed list.
    pub reason: Reason,
    /// What, where, and what to do.
    pub message: String,
}

impl Rejected {
    /// Makes one.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Everything that is to exist for one object.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose plan it is, for kinds that have children.
    pub identity: Option<Identity>,
    /// The broker that has to answer, for every kind.
    pub bus: Bus,
    /// Queues on it.
    pub topology: Vec<QueueSpec>,
    /// What the data plane is told.
    pub config: Config,
    /// Kubernetes objects that belong to this object alone. The shared runtime of the namespace is
    /// planned by [`crate::runtime`], for all objects together.
    pub workloads: Vec<Child>,
    /// What scales the worker.
    pub scaler: Option<Scaler>,
    /// Public routes.
    pub routes: Vec<Route>,
}

/// What the data plane is told about one object.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// For the sidecar beside the handler.
    pub worker: Option<ObjectConfig>,
    /// For the shared runtime of the namespace.
    pub runtime: Option<ObjectConfig>,
}

/// A scaler of a worker. There is none in this release: workers have a fixed number of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scaler {}

/// A public route. There is none in this release: objects are reached inside the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {}

/// The kinds of Kubernetes objects that plans contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChildKind {
    /// `v1` `ConfigMap`.
    ConfigMap,
    /// `v1` `Service`.
    Service,
    /// `apps/v1` `Deployment`.
    Deployment,
    /// `policy/v1` `PodDisruptionBudget`.
    PodDisruptionBudget,
    /// `autoscaling/v2` `HorizontalPodAutoscaler`.
    HorizontalPodAutoscaler,
}

impl ChildKind {
    /// Every kind, in the order in which they are applied.
    pub const ALL: [Self; 5] = [
        Self::ConfigMap,
        Self::Service,
        Self::Deployment,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
    ];

    /// Group, version, kind and plural.
    pub fn api_resource(self) -> kube::core::ApiResource {
        let (group, version, kind, plural) = match self {
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::PodDisruptionBudget => (
                "policy",
                "v1",
                "PodDisruptionBudget",
                "poddisruptionbudgets",
            ),
            Self::HorizontalPodAutoscaler => (
                "autoscaling",
                "v2",
                "HorizontalPodAutoscaler",
                "horizontalpodautoscalers",
            ),
        };
        let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
        kube::core::ApiResource::from_gvk_with_plural(&gvk, plural)
    }

    /// `Deployment`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Service => "Service",
            Self::Deployment => "Deployment",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        }
    }
}

/// One Kubernetes object as it is to be applied: only the fields that we decide.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// What it is.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The whole object as JSON.
    pub object: Value,
}

impl Child {
    /// Makes one from a typed object. `None`s, empty lists and empty maps are left out, so that
    /// server-side apply does not own them.
    pub fn new<T: Serialize>(kind: ChildKind, object: &T) -> Self {
        let mut object = serde_json::to_value(object).expect("Kubernetes objects are JSON");
        remove_empty(&mut object);
        let text = |field: &str| {
            object["metadata"][field]
                .as_str()
                .expect("children are named")
                .to_owned()
        };
        Self {
            kind,
            name: text("name"),
            namespace: text("namespace"),
            object,
        }
    }
}

/// Removes nulls and empty lists. Empty maps stay: `emptyDir: {}` means something.
fn remove_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(remove_empty);
            fields.retain(|_, field| {
                !field.is_null() && field.as_array().is_none_or(|items| !items.is_empty())
            });
        }
        Value::Array(items) => items.iter_mut().for_each(remove_empty),
        _ => {}
    }
}

/// Label that says which kind of object something was made for, `webhook`.
pub const KIND_LABEL: &str = "weir.dev/kind";
/// Label that says which object something was made for, `stripe`.
pub const NAME_LABEL: &str = "weir.dev/name";
/// Label that all our objects carry, with the value [`MANAGER`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`], and first part of every field manager.
pub const MANAGER: &str = "weir";

/// Metadata of a child that belongs to one object.
pub fn metadata(name: String, object: &ObjectKey, owner: &OwnerReference) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(object.namespace.clone()),
        labels: Some(labels(object)),
        owner_references: Some(vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Labels of everything that belongs to one object.
pub fn labels(object: &ObjectKey) -> std::collections::BTreeMap<String, String> {
    [
        (
            "app.kubernetes.io/name".to_owned(),
            "weir-worker".to_owned(),
        ),
        ("app.kubernetes.io/instance".to_owned(), child_name(object)),
        (
            "app.kubernetes.io/component".to_owned(),
            "worker".to_owned(),
        ),
        ("app.kubernetes.io/part-of".to_owned(), object.name.clone()),
        (MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned()),
    ]
    .into_iter()
    .chain(selector(object))
    .collect()
}

/// The labels by which the pods of one object are found. They never change.
pub fn selector(object: &ObjectKey) -> std::collections::BTreeMap<String, String> {
    [
        (KIND_LABEL.to_owned(), object.kind.lower().to_owned()),
        (NAME_LABEL.to_owned(), object.name.clone()),
    ]
    .into()
}

/// Name of an object's Deployment: `stripe-webhook`.
pub fn child_name(object: &ObjectKey) -> String {
    format!("{}-{}", object.name, object.kind.lower())
}
