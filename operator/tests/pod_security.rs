//! The second lock: whatever rendered a pod, it is not created unless it is restricted.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test program"
)]

mod support;

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};
use support::manifest;
use weir_operator::plan::{Child, ChildKind};
use weir_operator::pod_security::{check, violations};
use weir_operator::world::{Cluster, World};

/// A pod as it is rendered for a handler with everything.
fn rendered() -> Child {
    let input = include_str!("golden/webhook-full/input.yaml");
    let objects = manifest::objects(input);
    let mut world = World::cluster(Cluster::default());
    world.service_accounts = manifest::service_accounts(input);
    for object in &objects {
        object.add_to(&mut world);
    }
    let plan = objects.last().unwrap().decide(&world).unwrap();
    plan.workloads
        .into_iter()
        .find(|child| child.kind == ChildKind::Deployment)
        .unwrap()
}

/// The pod with `value` at `pointer`, whose parents exist.
fn with(pointer: &str, value: Value) -> Child {
    let mut child = rendered();
    let pod = child.object.pointer_mut("/spec/template/spec").unwrap();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = pod
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("no {parent}"));
    match parent {
        Value::Array(items) => items.push(value),
        parent => parent[field] = value,
    }
    child
}

#[test]
fn what_we_render_is_restricted() {
    check(&[rendered()]).unwrap();
}

#[test]
fn every_privilege_is_refused_wherever_it_comes_from() {
    let mut cases = vec![
        ("/hostNetwork", json!(true), "hostNetwork"),
        ("/hostPID", json!(true), "hostPID"),
        ("/hostIPC", json!(true), "hostIPC"),
        (
            "/automountServiceAccountToken",
            json!(true),
            "service account token",
        ),
        ("/securityContext", json!({}), "runAsNonRoot"),
        ("/securityContext/runAsUser", json!(0), "runAsUser 0"),
        (
            "/securityContext/seccompProfile/type",
            json!("Unconfined"),
            "seccompProfile",
        ),
        (
            "/securityContext/sysctls",
            json!([{ "name": "kernel.msgmax", "value": "1" }]),
            "sysctls",
        ),
        (
            "/securityContext/seLinuxOptions",
            json!({ "type": "spc_t" }),
            "seLinuxOptions",
        ),
        (
            "/volumes/-",
            json!({ "name": "v", "hostPath": { "path": "/" } }),
            "volume v",
        ),
        (
            "/volumes/-",
            json!({ "name": "v", "csi": { "driver": "d" } }),
            "volume v",
        ),
        ("/volumes/-", json!({ "name": "v" }), "volume v"),
        (
            "/volumes/-",
            json!({ "name": "v", "projected": { "sources": [{ "serviceAccountToken": { "path": "t" } }] } }),
            "volume v",
        ),
        (
            "/containers/-",
            json!({ "name": "weir-sidecar" }),
            "two containers are named",
        ),
    ];
    cases.push((
        "/containers/0/lifecycle/preStop/httpGet/host",
        json!("10.0.0.1"),
        "lifecycle",
    ));
    for container in ["/containers/0", "/initContainers/0"] {
        for (path, value, words) in [
            ("/securityContext", json!({}), "allowPrivilegeEscalation"),
            ("/securityContext/privileged", json!(true), "privileged"),
            ("/securityContext/runAsUser", json!(0), "runAsUser 0"),
            (
                "/securityContext/runAsNonRoot",
                json!(false),
                "runAsNonRoot",
            ),
            (
                "/securityContext/allowPrivilegeEscalation",
                json!(true),
                "allowPrivilegeEscalation",
            ),
            (
                "/securityContext/capabilities",
                json!({ "add": ["NET_ADMIN"], "drop": ["ALL"] }),
                "added",
            ),
            (
                "/securityContext/capabilities",
                json!({ "drop": ["KILL"] }),
                "not dropped",
            ),
            ("/securityContext/procMount", json!("Unmasked"), "procMount"),
            (
                "/securityContext/seccompProfile/type",
                json!("Localhost"),
                "seccompProfile",
            ),
            ("/ports/0/hostPort", json!(80), "hostPort"),
            (
                "/lifecycle",
                json!({ "preStop": { "exec": { "command": ["x"] } } }),
                "lifecycle",
            ),
            ("/readinessProbe/httpGet/host", json!("10.0.0.1"), "a probe"),
            (
                "/volumeMounts/0/mountPropagation",
                json!("Bidirectional"),
                "mountPropagation",
            ),
        ] {
            cases.push((
                Box::leak(format!("{container}{path}").into_boxed_str()),
                value,
                words,
            ));
        }
    }
    for (pointer, value, words) in cases {
        let child = with(pointer, value.clone());
        let Err(rejected) = check(std::slice::from_ref(&child)) else {
            panic!("{pointer} = {value} was not noticed");
        };
        let pod: PodSpec =
            serde_json::from_value(child.object["spec"]["template"]["spec"].clone()).unwrap();
        let all = violations(&pod).join("; ");
        assert!(all.contains(words), "{pointer}: {all}");
        assert!(rejected.message.contains("would not be restricted"));
    }
}
