//! What all our pods have in common: security, spreading, our container, mounted configuration and
//! credentials. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, KeyToPath,
    PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weir_crds::shared::Resources;

use crate::bus::{Bus, BusSecret};
use crate::world::Cluster;

/// User and group of our processes, and of handlers: nobody in particular, and never root.
pub const USER: i64 = 65532;
/// Folder of the configuration in our containers.
pub const CONFIG_DIR: &str = "/etc/weir/config";
/// Port of `/live`, `/ready`, `/metrics` and `/objects`.
pub const ADMIN_PORT: u16 = 9901;
/// Name of [`ADMIN_PORT`].
pub const ADMIN: &str = "admin";
/// Name of the volume with the configuration.
pub const CONFIG_VOLUME: &str = "weir-config";

/// A pod that may do nothing.
///
/// User and group are set for the whole pod, so that images that say nothing run too. Files that an
/// image keeps for its own user may then not be writable; a volume is.
pub fn base() -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// A container that may do nothing.
pub fn security_context(read_only: bool) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: read_only.then_some(true),
        capabilities: Some(Capabilities {
            add: None,
            drop: Some(vec!["ALL".to_owned()]),
        }),
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..SecurityContext::default()
    }
}

/// A container that runs our data plane.
pub fn weir_container(
    name: &str,
    cluster: &Cluster,
    resources: &Resources,
    mounts: Vec<VolumeMount>,
) -> Container {
    let config = VolumeMount {
        name: CONFIG_VOLUME.to_owned(),
        mount_path: CONFIG_DIR.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    Container {
        name: name.to_owned(),
        image: Some(cluster.sidecar_image.clone()),
        image_pull_policy: cluster.image_pull_policy.clone(),
        args: Some(vec!["--config".to_owned(), CONFIG_DIR.to_owned()]),
        ports: Some(vec![ContainerPort {
            name: Some(ADMIN.to_owned()),
            container_port: i32::from(ADMIN_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: requirements(resources),
        // Started means alive, not ready: a sidecar is ready only when its handler is, and the
        // handler starts after the sidecar did.
        startup_probe: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(30),
            ..probe("/live")
        }),
        readiness_probe: Some(Probe {
            period_seconds: Some(5),
            ..probe("/ready")
        }),
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            ..probe("/live")
        }),
        security_context: Some(SecurityContext {
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            ..security_context(true)
        }),
        volume_mounts: Some(std::iter::once(config).chain(mounts).collect()),
        ..Container::default()
    }
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN.to_owned()),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(3),
        ..Probe::default()
    }
}

/// Pods apart, where that is possible: on different nodes, in different zones.
pub fn spread(selector: &BTreeMap<String, String>) -> Vec<TopologySpreadConstraint> {
    ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        .into_iter()
        .map(|key| TopologySpreadConstraint {
            max_skew: 1,
            topology_key: key.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(LabelSelector {
                match_labels: Some(selector.clone()),
                match_expressions: None,
            }),
            ..TopologySpreadConstraint::default()
        })
        .collect()
}

/// The configuration from one ConfigMap.
pub fn config_map_volume(name: String) -> Volume {
    Volume {
        name: CONFIG_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A Secret as files, readable by us alone. A missing one does not keep the pod from starting: the
/// process says what is missing, and gets it when it appears.
pub fn secret_volume(name: String, secret: &str, key: Option<&str>) -> Volume {
    Volume {
        name,
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: key.map(|key| {
                vec![KeyToPath {
                    key: key.to_owned(),
                    path: key.to_owned(),
                    mode: None,
                }]
            }),
            default_mode: Some(0o440),
            optional: Some(true),
        }),
        ..Volume::default()
    }
}

/// Credentials and authorities of some buses, each mounted once.
pub fn bus_volumes<'a>(buses: impl Iterator<Item = &'a Bus>) -> (Vec<Volume>, Vec<VolumeMount>) {
    let secrets: std::collections::BTreeSet<&BusSecret> =
        buses.flat_map(|bus| &bus.secrets).collect();
    secrets
        .into_iter()
        .map(|secret| {
            let name = format!("bus-{}", &short_hash(&secret.folder));
            let mount = VolumeMount {
                name: name.clone(),
                mount_path: secret.folder.clone(),
                read_only: Some(true),
                ..VolumeMount::default()
            };
            (
                secret_volume(name, &secret.secret, Some(&secret.key)),
                mount,
            )
        })
        .unzip()
}

/// Ten characters that stand for a longer text, in names that are bounded.
pub fn short_hash(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(5)
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Requests and limits as a pod has them.
pub fn requirements(from: &Resources) -> Option<ResourceRequirements> {
    let map = |amounts: &BTreeMap<String, weir_crds::shared::Quantity>| {
        (!amounts.is_empty()).then(|| {
            amounts
                .iter()
                .map(|(name, amount)| (name.clone(), Quantity(amount.0.clone())))
                .collect()
        })
    };
    (!from.is_empty()).then(|| ResourceRequirements {
        requests: map(&from.requests),
        limits: map(&from.limits),
        claims: None,
    })
}
