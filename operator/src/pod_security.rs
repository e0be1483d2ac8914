//! Pod Security "restricted", checked on the pods as they were rendered. Pure.
//!
//! The renderer cannot make anything else; this is the second lock. It looks at the result and not
//! at what the user wrote, so that a field added to the API later cannot slip past it.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Lifecycle, LifecycleHandler, PodSpec, Volume};
use weir_crds::conditions::Reason;

use crate::plan::{Child, ChildKind, Rejected};

/// Refuses a plan with a pod that is not restricted.
pub fn check(children: &[Child]) -> Result<(), Rejected> {
    for child in children
        .iter()
        .filter(|child| child.kind == ChildKind::Deployment)
    {
        let deployment: Deployment = serde_json::from_value(child.object.clone())
            .expect("a rendered Deployment is a Deployment");
        let pod = deployment
            .spec
            .and_then(|spec| spec.template.spec)
            .unwrap_or_default();
        if let Some(violation) = violations(&pod).first() {
            return Err(Rejected::new(
                Reason::InvalidSpec,
                format!("spec.handler: the pod would not be restricted: {violation}"),
            ));
        }
    }
    Ok(())
}

/// Everything about a pod that Pod Security "restricted", or our own rules, do not allow.
pub fn violations(pod: &PodSpec) -> Vec<String> {
    let mut found = Vec::new();
    let mut forbid = |is: bool, what: &str| {
        if is {
            found.push(what.to_owned());
        }
    };
    forbid(pod.host_network == Some(true), "hostNetwork");
    forbid(pod.host_pid == Some(true), "hostPID");
    forbid(pod.host_ipc == Some(true), "hostIPC");
    forbid(pod.host_users == Some(true), "hostUsers");
    forbid(pod.ephemeral_containers.is_some(), "ephemeralContainers");
    forbid(
        pod.automount_service_account_token != Some(false),
        "a service account token",
    );
    let context = pod.security_context.clone().unwrap_or_default();
    forbid(
        context.run_as_non_root != Some(true),
        "runAsNonRoot is not set",
    );
    forbid(context.run_as_user == Some(0), "runAsUser 0");
    forbid(context.se_linux_options.is_some(), "seLinuxOptions");
    forbid(context.windows_options.is_some(), "windowsOptions");
    forbid(
        context.sysctls.is_some_and(|sysctls| !sysctls.is_empty()),
        "sysctls",
    );
    forbid(
        context
            .seccomp_profile
            .is_none_or(|profile| profile.type_ != "RuntimeDefault"),
        "seccompProfile is not RuntimeDefault",
    );
    for volume in pod.volumes.iter().flatten() {
        if !is_allowed(volume) {
            found.push(format!(
                "volume {} has a source that is not allowed",
                volume.name
            ));
        }
    }
    let containers: Vec<&Container> = pod
        .init_containers
        .iter()
        .flatten()
        .chain(&pod.containers)
        .collect();
    for (index, container) in containers.iter().enumerate() {
        found.extend(container_violations(container));
        if containers[..index]
            .iter()
            .any(|other| other.name == container.name)
        {
            found.push(format!("two containers are named {}", container.name));
        }
    }
    found
}

fn container_violations(container: &Container) -> Vec<String> {
    let context = container.security_context.clone().unwrap_or_default();
    let capabilities = context.capabilities.unwrap_or_default();
    let checks = [
        (context.privileged == Some(true), "privileged"),
        (
            context.allow_privilege_escalation != Some(false),
            "allowPrivilegeEscalation",
        ),
        (
            context.run_as_non_root == Some(false),
            "runAsNonRoot is false",
        ),
        (context.run_as_user == Some(0), "runAsUser 0"),
        (
            context.proc_mount.is_some_and(|mount| mount != "Default"),
            "procMount",
        ),
        (context.se_linux_options.is_some(), "seLinuxOptions"),
        (context.windows_options.is_some(), "windowsOptions"),
        (
            context
                .seccomp_profile
                .is_some_and(|profile| profile.type_ != "RuntimeDefault"),
            "seccompProfile",
        ),
        (
            !capabilities
                .drop
                .is_some_and(|drop| drop.iter().any(|name| name == "ALL")),
            "capabilities are not dropped",
        ),
        (
            capabilities.add.is_some_and(|add| !add.is_empty()),
            "capabilities are added",
        ),
        (
            container
                .ports
                .iter()
                .flatten()
                .any(|port| port.host_port.is_some_and(|port| port != 0)),
            "hostPort",
        ),
        (container.volume_devices.is_some(), "volumeDevices"),
        (
            container
                .lifecycle
                .as_ref()
                .is_some_and(|lifecycle| !is_drain(lifecycle)),
            "lifecycle",
        ),
        (
            [
                &container.readiness_probe,
                &container.liveness_probe,
                &container.startup_probe,
            ]
            .into_iter()
            .flatten()
            .any(|probe| {
                probe.exec.is_some()
                    || probe
                        .http_get
                        .as_ref()
                        .is_some_and(|get| get.host.is_some())
                    || probe
                        .tcp_socket
                        .as_ref()
                        .is_some_and(|socket| socket.host.is_some())
            }),
            "a probe of something else than the pod",
        ),
        (
            container.volume_mounts.iter().flatten().any(|mount| {
                mount
                    .mount_propagation
                    .as_deref()
                    .is_some_and(|kind| kind != "None")
            }),
            "mountPropagation",
        ),
    ];
    checks
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, what)| format!("container {}: {what}", container.name))
        .collect()
}

/// Nothing but a request to the pod itself before it ends.
fn is_drain(lifecycle: &Lifecycle) -> bool {
    let get = lifecycle
        .pre_stop
        .as_ref()
        .and_then(|hook| hook.http_get.as_ref());
    let only = LifecycleHandler {
        http_get: get.cloned(),
        ..LifecycleHandler::default()
    };
    get.is_some_and(|get| get.host.is_none())
        && *lifecycle
            == Lifecycle {
                pre_stop: Some(only),
                ..Lifecycle::default()
            }
}

/// One of the four sources that handlers have, or a projection of ConfigMaps.
fn is_allowed(volume: &Volume) -> bool {
    let mut sources = serde_json::to_value(volume).expect("a volume is JSON");
    let Some(fields) = sources.as_object_mut() else {
        return false;
    };
    fields.remove("name");
    let allowed = [
        "configMap",
        "secret",
        "emptyDir",
        "persistentVolumeClaim",
        "projected",
    ];
    let only_config_maps = volume.projected.as_ref().is_none_or(|projected| {
        projected
            .sources
            .iter()
            .flatten()
            .all(|from| from.config_map.is_some())
    });
    fields.len() == 1
        && fields.keys().all(|field| allowed.contains(&field.as_str()))
        && only_config_maps
}
