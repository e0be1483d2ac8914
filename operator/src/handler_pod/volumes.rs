//! What is mounted into a handler: four sources, never a path of the node.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource,
    SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use weir_crds::conditions::Reason;
use weir_crds::shared;
use weir_crds::shared::Handler;
use weir_crds::shared::volume::Medium;

use crate::plan::Rejected;

/// Folder that belongs to us.
const OURS: &str = "/etc/weir";

/// Volumes of the pod and mounts of the handler.
pub fn of_handler(handler: &Handler) -> (Vec<Volume>, Vec<VolumeMount>) {
    handler
        .volumes
        .iter()
        .enumerate()
        .map(|(index, volume)| {
            let name = format!("handler-{index}");
            (source(name.clone(), volume), mount(name, volume))
        })
        .unzip()
}

fn source(name: String, from: &shared::Volume) -> Volume {
    Volume {
        name,
        config_map: from.config_map.as_ref().map(|map| ConfigMapVolumeSource {
            name: map.name.clone(),
            items: Some(items(&map.items)),
            default_mode: map.default_mode.map(i32::from),
            optional: map.optional.then_some(true),
        }),
        secret: from.secret.as_ref().map(|secret| SecretVolumeSource {
            secret_name: Some(secret.secret_name.clone()),
            items: Some(items(&secret.items)),
            default_mode: secret.default_mode.map(i32::from),
            optional: secret.optional.then_some(true),
        }),
        empty_dir: from.empty_dir.as_ref().map(|dir| EmptyDirVolumeSource {
            medium: match dir.medium {
                Medium::Disk => None,
                Medium::Memory => Some("Memory".to_owned()),
            },
            size_limit: dir.size_limit.as_ref().map(|size| Quantity(size.0.clone())),
        }),
        persistent_volume_claim: from.persistent_volume_claim.as_ref().map(|claim| {
            PersistentVolumeClaimVolumeSource {
                claim_name: claim.claim_name.clone(),
                read_only: from.read_only.then_some(true),
            }
        }),
        ..Volume::default()
    }
}

fn items(from: &[shared::volume::KeyToPath]) -> Vec<KeyToPath> {
    from.iter()
        .map(|item| KeyToPath {
            key: item.key.clone(),
            path: item.path.clone(),
            mode: None,
        })
        .collect()
}

fn mount(name: String, from: &shared::Volume) -> VolumeMount {
    let never_writable = from.config_map.is_some() || from.secret.is_some();
    VolumeMount {
        name,
        mount_path: from.mount_path.clone(),
        sub_path: from.sub_path.clone(),
        read_only: (from.read_only || never_writable).then_some(true),
        ..VolumeMount::default()
    }
}

/// What the schema refuses as well.
pub fn check(volumes: &[shared::Volume]) -> Result<(), Rejected> {
    let invalid = |message: String| Err(Rejected::new(Reason::InvalidSpec, message));
    for (index, volume) in volumes.iter().enumerate() {
        let path = &volume.mount_path;
        let sources = [
            volume.config_map.is_some(),
            volume.secret.is_some(),
            volume.empty_dir.is_some(),
            volume.persistent_volume_claim.is_some(),
        ];
        if sources.into_iter().filter(|source| *source).count() != 1 {
            return invalid(format!(
                "spec.handler.volumes: {path} must have exactly one of configMap, secret, emptyDir and persistentVolumeClaim"
            ));
        }
        let relative = [volume.sub_path.as_deref()]
            .into_iter()
            .flatten()
            .chain(
                volume
                    .config_map
                    .iter()
                    .flat_map(|map| map.items.iter().map(|i| i.path.as_str())),
            )
            .chain(
                volume
                    .secret
                    .iter()
                    .flat_map(|map| map.items.iter().map(|i| i.path.as_str())),
            );
        if !path.starts_with('/') || leaves(path) {
            return invalid(format!(
                "spec.handler.volumes: mountPath {path:?} must be a folder"
            ));
        }
        for inner in relative {
            if inner.starts_with('/') || leaves(inner) {
                return invalid(format!(
                    "spec.handler.volumes: {inner:?} of {path} must be a relative path without `..`"
                ));
            }
        }
        if path == OURS || path.starts_with("/etc/weir/") {
            return invalid(format!(
                "spec.handler.volumes: {path} may not be used; {OURS} belongs to Weir"
            ));
        }
        if volumes[..index]
            .iter()
            .any(|other| other.mount_path == *path)
        {
            return invalid(format!("spec.handler.volumes: {path} is mounted twice"));
        }
    }
    Ok(())
}

/// It is not written as the path that it means.
fn leaves(path: &str) -> bool {
    path.strip_prefix('/')
        .unwrap_or(path)
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
        || path.contains(|c: char| c == ':' || c.is_control())
}
