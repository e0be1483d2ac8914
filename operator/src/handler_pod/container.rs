//! The two containers of a worker.

use k8s_openapi::api::core::v1::{
    ConfigMapEnvSource, ConfigMapKeySelector, Container, ContainerPort, EnvFromSource, EnvVar,
    EnvVarSource, HTTPGetAction, HTTPHeader, Lifecycle, LifecycleHandler, ObjectFieldSelector,
    Probe, SecretEnvSource, SecretKeySelector, TCPSocketAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weir_crds::shared::{self, Handler};

use crate::pod;
use crate::world::Cluster;

/// Name of the user's container.
pub const HANDLER: &str = "handler";
/// Name of ours.
pub const SIDECAR: &str = "weir-sidecar";

/// Address at which the handler publishes and calls. Nobody outside the pod reaches it; the handler
/// keeps 8080 for itself.
const LISTEN: &str = "127.0.0.1:9900";

/// Our container. It is an init container that keeps running, so that it starts before the handler
/// and ends after it.
pub fn sidecar(cluster: &Cluster, drain_token: &str, bus_mounts: Vec<VolumeMount>) -> Container {
    let ours = pod::weir_container(SIDECAR, cluster, &cluster.sidecar_resources, bus_mounts);
    let listen = ["--listen".to_owned(), LISTEN.to_owned()];
    Container {
        restart_policy: Some("Always".to_owned()),
        args: Some(ours.args.into_iter().flatten().chain(listen).collect()),
        env: Some(vec![EnvVar {
            name: "WEIR_DRAIN_TOKEN".to_owned(),
            value: Some(drain_token.to_owned()),
            value_from: None,
        }]),
        ..ours
    }
}

/// Before the handler is told to end it gets no more messages, and may finish those it has: the end
/// of a pod costs no attempt.
fn drain(token: &str) -> Lifecycle {
    Lifecycle {
        pre_stop: Some(LifecycleHandler {
            http_get: Some(HTTPGetAction {
                path: Some("/drain".to_owned()),
                port: IntOrString::Int(i32::from(pod::ADMIN_PORT)),
                http_headers: Some(vec![HTTPHeader {
                    name: "weir-drain-token".to_owned(),
                    value: token.to_owned(),
                }]),
                ..HTTPGetAction::default()
            }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    }
}

/// The user's container. It may write to its own file system, unlike ours.
pub fn handler(handler: &Handler, drain_token: &str, mounts: Vec<VolumeMount>) -> Container {
    Container {
        name: HANDLER.to_owned(),
        image: Some(handler.image.clone()),
        command: Some(handler.command.clone()),
        args: Some(handler.args.clone()),
        env: Some(handler.env.iter().map(variable).collect()),
        env_from: Some(handler.env_from.iter().map(variables).collect()),
        ports: Some(vec![ContainerPort {
            name: Some(HANDLER.to_owned()),
            container_port: i32::from(handler.port),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: pod::requirements(&handler.resources),
        readiness_probe: Some(readiness(handler)),
        lifecycle: Some(drain(drain_token)),
        security_context: Some(pod::security_context(false)),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn readiness(handler: &Handler) -> Probe {
    let port = IntOrString::String(HANDLER.to_owned());
    let (http_get, tcp_socket) = match &handler.readiness_path {
        Some(path) => {
            let path = Some(path.clone());
            (
                Some(HTTPGetAction {
                    path,
                    port,
                    ..HTTPGetAction::default()
                }),
                None,
            )
        }
        None => (None, Some(TCPSocketAction { port, host: None })),
    };
    Probe {
        http_get,
        tcp_socket,
        period_seconds: Some(5),
        timeout_seconds: Some(3),
        ..Probe::default()
    }
}

fn variable(from: &shared::EnvVar) -> EnvVar {
    EnvVar {
        name: from.name.clone(),
        value: from.value.clone(),
        value_from: from.value_from.as_ref().map(source),
    }
}

fn source(from: &shared::EnvSource) -> EnvVarSource {
    EnvVarSource {
        secret_key_ref: from.secret_key_ref.as_ref().map(|key| SecretKeySelector {
            name: key.name.clone(),
            key: key.key.clone(),
            optional: key.optional.then_some(true),
        }),
        config_map_key_ref: from
            .config_map_key_ref
            .as_ref()
            .map(|key| ConfigMapKeySelector {
                name: key.name.clone(),
                key: key.key.clone(),
                optional: key.optional.then_some(true),
            }),
        field_ref: from.field_ref.as_ref().map(|field| ObjectFieldSelector {
            api_version: None,
            field_path: field.field_path.clone(),
        }),
        ..EnvVarSource::default()
    }
}

fn variables(from: &shared::EnvFrom) -> EnvFromSource {
    EnvFromSource {
        prefix: from.prefix.clone(),
        config_map_ref: from.config_map_ref.as_ref().map(|map| ConfigMapEnvSource {
            name: map.name.clone(),
            optional: map.optional.then_some(true),
        }),
        secret_ref: from.secret_ref.as_ref().map(|secret| SecretEnvSource {
            name: secret.name.clone(),
            optional: secret.optional.then_some(true),
        }),
    }
}
