//! The shared runtime of a namespace: one Deployment that takes messages in for all its objects and
//! delivers to what has no worker. Pure; planned for all objects of a namespace together.
//!
//! Its configuration is spread over a fixed number of ConfigMaps, all of them optional, so that a new
//! object changes one of them and no pod. Only other Secrets, other brokers or other sizes roll the
//! pods.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
    MetricTarget, ResourceMetricSource,
};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, ContainerPort, LocalObjectReference, PodSpec, PodTemplateSpec,
    ProjectedVolumeSource, Service, ServicePort, ServiceSpec, Volume, VolumeMount,
    VolumeProjection,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weir_core::object::ObjectKey;
use weir_crds::messagebus::Runtime;
use weir_crds::shared::Resources;

use crate::bus::Bus;
use crate::handler_pod::{disruption_budget, rolling_update};
use crate::plan::{Child, ChildKind, KIND_LABEL, MANAGED_BY_LABEL, MANAGER};
use crate::pod;
use crate::world::{Cluster, KEYS_ROOT, RUNTIME};

/// Number of ConfigMaps that the configuration is spread over. Changing it moves objects.
pub const SHARDS: u64 = 8;
/// Port of the intake.
pub const HTTP_PORT: u16 = 8080;
/// Time in which the Service stops sending requests to a pod that ends, seconds.
const DRAIN_DELAY_SECONDS: u32 = 5;
/// Time to end, seconds: the longest call of a target, and what comes around it.
const GRACE_SECONDS: i64 = 60;
/// Most owners of the runtime. Each of them is kept in being by a finalizer until the list has been
/// written without it, so that a part of them is enough, and a thousand objects stay a short list.
const OWNERS: usize = 16;

/// One object that the runtime serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Which.
    pub key: ObjectKey,
    /// Makes it an owner of the runtime.
    pub owner: OwnerReference,
    /// When it was made: the oldest are the owners.
    pub created: Option<Timestamp>,
    /// Secret with its signing keys.
    pub keys_secret: Option<String>,
    /// Its broker, if there is one.
    pub bus: Option<Bus>,
}

/// Name of the ConfigMap that holds an object's configuration.
pub fn shard_name(object: &ObjectKey) -> String {
    format!("{RUNTIME}-{}", shard(object))
}

/// Stable over releases: FNV-1a of `kind/name`.
fn shard(object: &ObjectKey) -> u64 {
    let text = format!("{}/{}", object.kind.lower(), object.name);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash % SHARDS
}

/// Labels of everything that belongs to the runtime.
pub fn labels() -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", RUNTIME),
        ("app.kubernetes.io/component", "runtime"),
        ("app.kubernetes.io/part-of", "weir"),
        (MANAGED_BY_LABEL, MANAGER),
        (KIND_LABEL, "runtime"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The labels by which its pods are found. They never change.
pub fn selector() -> BTreeMap<String, String> {
    [(KIND_LABEL.to_owned(), "runtime".to_owned())].into()
}

/// The objects of the runtime of `namespace`. None for a namespace without members: what is there
/// belongs to the last of them and goes with it. `sizing` is the `runtime` block of the namespace's
/// default bus.
pub fn children(
    namespace: &str,
    members: &[Member],
    sizing: &Runtime,
    cluster: &Cluster,
) -> Vec<Child> {
    if members.is_empty() {
        return Vec::new();
    }
    let metadata = ObjectMeta {
        name: Some(RUNTIME.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels()),
        owner_references: Some(owners(members)),
        ..ObjectMeta::default()
    };
    let autoscaled = sizing.max_replicas > sizing.min_replicas;
    let mut children = vec![
        Child::new(ChildKind::Service, &service(metadata.clone())),
        Child::new(
            ChildKind::Deployment,
            &Deployment {
                metadata: metadata.clone(),
                spec: Some(DeploymentSpec {
                    replicas: (!autoscaled).then(|| count(sizing.min_replicas)),
                    revision_history_limit: Some(3),
                    selector: LabelSelector {
                        match_labels: Some(selector()),
                        match_expressions: None,
                    },
                    strategy: Some(rolling_update()),
                    template: PodTemplateSpec {
                        metadata: Some(ObjectMeta {
                            labels: Some(labels()),
                            ..ObjectMeta::default()
                        }),
                        spec: Some(pod_spec(members, sizing, cluster)),
                    },
                    ..DeploymentSpec::default()
                }),
                status: None,
            },
        ),
    ];
    if sizing.max_replicas > 1 {
        let budget = PodDisruptionBudget {
            metadata: metadata.clone(),
            spec: Some(disruption_budget(selector())),
            status: None,
        };
        children.push(Child::new(ChildKind::PodDisruptionBudget, &budget));
    }
    if autoscaled {
        let scaler = autoscaler(metadata, sizing);
        children.push(Child::new(ChildKind::HorizontalPodAutoscaler, &scaler));
    }
    children
}

/// The oldest members. None of them is the controller: the runtime goes when all have gone.
fn owners(members: &[Member]) -> Vec<OwnerReference> {
    let mut members: Vec<&Member> = members.iter().collect();
    members.sort_by_key(|member| (member.created, &member.key));
    members
        .into_iter()
        .take(OWNERS)
        .map(|member| OwnerReference {
            controller: None,
            block_owner_deletion: None,
            ..member.owner.clone()
        })
        .collect()
}

fn count(replicas: u32) -> i32 {
    i32::try_from(replicas.max(1)).unwrap_or(i32::MAX)
}

fn service(metadata: ObjectMeta) -> Service {
    Service {
        metadata,
        spec: Some(ServiceSpec {
            selector: Some(selector()),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: 80,
                target_port: Some(IntOrString::String("http".to_owned())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn pod_spec(members: &[Member], sizing: &Runtime, cluster: &Cluster) -> PodSpec {
    let (bus_volumes, bus_mounts) = pod::bus_volumes(members.iter().filter_map(|m| m.bus.as_ref()));
    let (key_volumes, key_mounts) = keys(members);
    let resources: &Resources = if sizing.resources.is_empty() {
        &cluster.runtime_resources
    } else {
        &sizing.resources
    };
    let mounts = bus_mounts.into_iter().chain(key_mounts).collect();
    let mut container: Container = pod::weir_container(RUNTIME, cluster, resources, mounts);
    let delay = [
        "--drain-delay-seconds".to_owned(),
        DRAIN_DELAY_SECONDS.to_string(),
    ];
    container.args.get_or_insert_default().extend(delay);
    container.ports.get_or_insert_default().push(ContainerPort {
        name: Some("http".to_owned()),
        container_port: i32::from(HTTP_PORT),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    });
    PodSpec {
        containers: vec![container],
        volumes: Some(
            std::iter::once(config_volume())
                .chain(bus_volumes)
                .chain(key_volumes)
                .collect(),
        ),
        image_pull_secrets: Some(
            cluster
                .image_pull_secrets
                .iter()
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect(),
        ),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        topology_spread_constraints: Some(pod::spread(&selector())),
        ..pod::base()
    }
}

fn config_volume() -> Volume {
    let sources = (0..SHARDS)
        .map(|shard| VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: format!("{RUNTIME}-{shard}"),
                optional: Some(true),
                items: None,
            }),
            ..VolumeProjection::default()
        })
        .collect();
    Volume {
        name: pod::CONFIG_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(sources),
            default_mode: None,
        }),
        ..Volume::default()
    }
}

/// The signing keys of each member, in a folder of its own.
fn keys(members: &[Member]) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut secrets: Vec<(&ObjectKey, &String)> = members
        .iter()
        .filter_map(|member| Some((&member.key, member.keys_secret.as_ref()?)))
        .collect();
    secrets.sort();
    secrets
        .into_iter()
        .map(|(key, secret)| {
            let name = format!("keys-{}-{}", key.kind.lower(), key.name);
            let mount = VolumeMount {
                name: name.clone(),
                mount_path: format!("{KEYS_ROOT}/{}.{}", key.kind.lower(), key.name),
                read_only: Some(true),
                ..VolumeMount::default()
            };
            (pod::secret_volume(name, secret, None), mount)
        })
        .unzip()
}

fn autoscaler(metadata: ObjectMeta, sizing: &Runtime) -> HorizontalPodAutoscaler {
    HorizontalPodAutoscaler {
        metadata,
        spec: Some(HorizontalPodAutoscalerSpec {
            min_replicas: Some(count(sizing.min_replicas)),
            max_replicas: count(sizing.max_replicas),
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: RUNTIME.to_owned(),
            },
            metrics: Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".to_owned(),
                    target: MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(count(sizing.target_cpu_percent)),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]),
            behavior: None,
        }),
        status: None,
    }
}
