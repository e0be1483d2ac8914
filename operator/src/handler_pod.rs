//! The worker of one object: a Deployment whose pods hold the user's handler and our sidecar, with
//! the configuration and the disruption budget that go with it. Pure.
//!
//! The handler is described by a closed struct, never by a pod template, and every pod that is made
//! here passes Pod Security "restricted"; [`crate::pod_security`] checks that once more on the result.

mod container;
mod volumes;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    ConfigMap, LocalObjectReference, PodSpec, PodTemplateSpec, Toleration,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weir_core::config::ObjectConfig;
use weir_crds::conditions::Reason;
use weir_crds::shared::Handler;
use weir_crds::shared::handler::SIDECAR_PORTS;

use crate::bus::Bus;
use crate::identity::Identity;
use crate::plan::{Child, ChildKind, Rejected, child_name, labels, metadata, selector};
use crate::pod;
use crate::world::Cluster;

pub use container::HANDLER;

/// Everything that decides a worker.
pub struct Worker<'a> {
    /// Whose it is.
    pub identity: &'a Identity,
    /// What the user wrote.
    pub handler: &'a Handler,
    /// How many pods.
    pub replicas: u32,
    /// How long a pod may take to end, seconds.
    pub grace_seconds: u32,
    /// Where messages live.
    pub bus: &'a Bus,
    /// What the sidecar is told.
    pub config: &'a ObjectConfig,
    /// What the operator was told.
    pub cluster: &'a Cluster,
}

/// Name of the ConfigMap of a worker.
pub fn config_name(identity: &Identity) -> String {
    format!("{}-config", child_name(&identity.key))
}

/// The Kubernetes objects of a worker.
pub fn children(worker: &Worker<'_>) -> Vec<Child> {
    let mut children = vec![
        Child::new(ChildKind::ConfigMap, &config_map(worker)),
        Child::new(ChildKind::Deployment, &deployment(worker)),
    ];
    if worker.replicas > 1 {
        let budget = PodDisruptionBudget {
            metadata: own_metadata(worker, child_name(&worker.identity.key)),
            spec: Some(disruption_budget(selector(&worker.identity.key))),
            status: None,
        };
        children.push(Child::new(ChildKind::PodDisruptionBudget, &budget));
    }
    children
}

/// One pod at a time may be evicted, and those that do not work at any time.
pub fn disruption_budget(
    selector: std::collections::BTreeMap<String, String>,
) -> PodDisruptionBudgetSpec {
    PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        min_available: None,
        selector: Some(LabelSelector {
            match_labels: Some(selector),
            match_expressions: None,
        }),
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
    }
}

fn own_metadata(worker: &Worker<'_>, name: String) -> ObjectMeta {
    metadata(name, &worker.identity.key, &worker.identity.owner)
}

fn config_map(worker: &Worker<'_>) -> ConfigMap {
    let file = ObjectConfig::file_name(&worker.identity.key);
    ConfigMap {
        metadata: own_metadata(worker, config_name(worker.identity)),
        data: Some([(file, worker.config.to_json())].into()),
        ..ConfigMap::default()
    }
}

fn deployment(worker: &Worker<'_>) -> Deployment {
    let key = &worker.identity.key;
    Deployment {
        metadata: own_metadata(worker, child_name(key)),
        spec: Some(DeploymentSpec {
            replicas: Some(i32::try_from(worker.replicas).unwrap_or(i32::MAX)),
            revision_history_limit: Some(3),
            selector: LabelSelector {
                match_labels: Some(selector(key)),
                match_expressions: None,
            },
            strategy: Some(rolling_update()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(key)),
                    annotations: Some(
                        [(
                            "kubectl.kubernetes.io/default-container".to_owned(),
                            HANDLER.to_owned(),
                        )]
                        .into(),
                    ),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(worker)),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// New pods first: a rollout never takes capacity away.
pub fn rolling_update() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::String("25%".to_owned())),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

fn pod_spec(worker: &Worker<'_>) -> PodSpec {
    let handler = worker.handler;
    let (volumes, mounts) = volumes::of_handler(handler);
    let config = pod::config_map_volume(config_name(worker.identity));
    let (bus_volumes, bus_mounts) = pod::bus_volumes(std::iter::once(worker.bus));
    let drain_token = drain_token(worker.identity);
    PodSpec {
        init_containers: Some(vec![container::sidecar(
            worker.cluster,
            &drain_token,
            bus_mounts,
        )]),
        containers: vec![container::handler(handler, &drain_token, mounts)],
        volumes: Some(
            std::iter::once(config)
                .chain(bus_volumes)
                .chain(volumes)
                .collect(),
        ),
        service_account_name: handler.service_account_name.clone(),
        image_pull_secrets: Some(
            worker
                .cluster
                .image_pull_secrets
                .iter()
                .chain(handler.image_pull_secrets.iter().map(|secret| &secret.name))
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect(),
        ),
        node_selector: (!handler.node_selector.is_empty()).then(|| handler.node_selector.clone()),
        tolerations: Some(handler.tolerations.iter().map(toleration).collect()),
        termination_grace_period_seconds: Some(i64::from(worker.grace_seconds)),
        topology_spread_constraints: Some(pod::spread(&selector(&worker.identity.key))),
        ..pod::base()
    }
}

/// Keeps others in the cluster from draining the pods. Whoever may read pods may end them as well.
fn drain_token(identity: &Identity) -> String {
    weir_core::names::hash(format!("drain {}", identity.uid).as_bytes())
}

fn toleration(from: &weir_crds::shared::Toleration) -> Toleration {
    use weir_crds::shared::pod::{TaintEffect, TolerationOperator};
    Toleration {
        key: from.key.clone(),
        operator: Some(
            match from.operator {
                TolerationOperator::Equal => "Equal",
                TolerationOperator::Exists => "Exists",
            }
            .to_owned(),
        ),
        value: from.value.clone(),
        effect: from.effect.map(|effect| {
            match effect {
                TaintEffect::NoSchedule => "NoSchedule",
                TaintEffect::PreferNoSchedule => "PreferNoSchedule",
                TaintEffect::NoExecute => "NoExecute",
            }
            .to_owned()
        }),
        toleration_seconds: from.toleration_seconds.map(i64::from),
    }
}

/// What the schema refuses as well. An API server that was told not to validate still gets no pod
/// that takes the sidecar's place.
pub fn check(handler: &Handler) -> Result<(), Rejected> {
    let invalid = |message: String| Err(Rejected::new(Reason::InvalidSpec, message));
    if SIDECAR_PORTS.contains(&handler.port) || handler.port == 0 {
        return invalid(format!(
            "spec.handler.port: {} may not be used; ports {} to {} belong to the sidecar in the same pod",
            handler.port,
            SIDECAR_PORTS.start(),
            SIDECAR_PORTS.end()
        ));
    }
    for path in std::iter::once(&handler.path).chain(&handler.readiness_path) {
        if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return invalid(format!(
                "spec.handler: path {path:?} must start with / and have no spaces"
            ));
        }
    }
    let ours = handler
        .env
        .iter()
        .map(|variable| &variable.name)
        .chain(
            handler
                .env_from
                .iter()
                .filter_map(|from| from.prefix.as_ref()),
        )
        .find(|name| name.starts_with("WEIR_"));
    if let Some(name) = ours {
        return invalid(format!(
            "spec.handler: {name} may not be set; variables that start with WEIR_ are set by Weir"
        ));
    }
    volumes::check(&handler.volumes)
}
