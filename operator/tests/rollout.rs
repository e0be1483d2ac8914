//! What is made of Deployments and pods: the cause is named, in words that stay the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use weir_crds::conditions::Reason;
use weir_operator::rollout::{Progress, rollout};

fn deployment(status: &Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": { "name": "d", "namespace": "shop", "generation": 2 },
        "spec": { "replicas": 2, "selector": {}, "template": {} },
        "status": status,
    }))
    .unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": type_, "status": status, "reason": reason, "message": message })
}

fn pod(name: &str, status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "shop",
            "labels": { "weir.dev/kind": "webhook", "weir.dev/name": "stripe" },
        },
        "spec": { "containers": [{ "name": "handler", "image": "acme/billing:1" }] },
        "status": status,
    }))
    .unwrap()
}

fn waiting(name: &str, reason: &str, message: &str) -> Pod {
    let state = json!({ "waiting": { "reason": reason, "message": message } });
    let last = json!({ "terminated": { "exitCode": 3, "reason": "Error" } });
    let container = json!({
        "name": "handler", "image": "", "imageID": "", "ready": false, "restartCount": 4,
        "state": state, "lastState": last,
    });
    pod(name, &json!({ "containerStatuses": [container] }))
}

fn progress(status: &Value) -> Progress {
    rollout(&deployment(status), &[]).progress
}

#[test]
fn a_rollout_is_complete_updating_starting_unavailable_or_failed() {
    let complete = json!({
        "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
        "conditions": [condition("Available", "True", "", ""),
            condition("Progressing", "True", "NewReplicaSetAvailable", "")],
    });
    assert_eq!(progress(&complete), Progress::Complete);
    let with = |field: &str, value: Value| {
        let mut status = complete.clone();
        status[field] = value;
        status
    };
    assert_eq!(
        progress(&with("observedGeneration", json!(1))),
        Progress::Updating
    );
    assert_eq!(
        progress(&with("updatedReplicas", json!(1))),
        Progress::Updating
    );
    assert_eq!(
        progress(&with("replicas", json!(3))),
        Progress::Updating,
        "an old pod is left"
    );
    assert_eq!(progress(&json!({})), Progress::Starting);
    let conditions = |available: &str, progressing: &str, reason: &str| {
        let mut status = with("availableReplicas", json!(0));
        status["conditions"] = json!([
            condition("Available", available, "", ""),
            condition("Progressing", progressing, reason, ""),
        ]);
        status
    };
    let starting = conditions("False", "True", "ReplicaSetUpdated");
    assert_eq!(progress(&starting), Progress::Starting);
    let crashed = conditions("False", "True", "NewReplicaSetAvailable");
    assert_eq!(progress(&crashed), Progress::Unavailable);
    let late = conditions("True", "False", "ProgressDeadlineExceeded");
    assert_eq!(
        progress(&late),
        Progress::Failed,
        "also while old pods serve"
    );
}

#[test]
fn the_cause_is_named_and_does_not_depend_on_the_pod() {
    let status = json!({ "observedGeneration": 2 });
    for (reason, message, expected, words) in [
        (
            "ImagePullBackOff",
            "Back-off",
            Reason::ImagePullFailed,
            "image acme/billing:1",
        ),
        (
            "ErrImagePull",
            "x",
            Reason::ImagePullFailed,
            "imagePullSecrets",
        ),
        ("CrashLoopBackOff", "x", Reason::CrashLooping, "exit code 3"),
        (
            "CreateContainerConfigError",
            "secret \"db\" not found",
            Reason::SecretNotFound,
            "\"db\"",
        ),
        (
            "CreateContainerConfigError",
            "couldn't find key a in Secret shop/db",
            Reason::SecretKeyNotFound,
            "key a",
        ),
        (
            "CreateContainerConfigError",
            "configmap \"c\" not found",
            Reason::ConfigMapNotFound,
            "\"c\"",
        ),
        (
            "RunContainerError",
            "exec: no such file",
            Reason::PodRejected,
            "no such file",
        ),
    ] {
        let of = |name: &str| {
            rollout(&deployment(&status), &[waiting(name, reason, message)])
                .cause
                .unwrap()
        };
        let (found, text) = of("stripe-webhook-abc");
        assert_eq!(found, expected, "{text}");
        assert!(text.contains(words), "{text}");
        assert_eq!(of("stripe-webhook-xyz").1, text);
        assert!(!text.contains("abc"));
    }
    let fine = rollout(
        &deployment(&status),
        &[waiting("p", "ContainerCreating", "")],
    );
    assert_eq!(fine.cause, None);
    let unschedulable = pod(
        "p",
        &json!({ "conditions": [{ "type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes" }] }),
    );
    let (found, _) = rollout(&deployment(&status), &[unschedulable])
        .cause
        .unwrap();
    assert_eq!(found, Reason::Unschedulable);
}

#[test]
fn a_refused_pod_is_told_without_its_name() {
    let refused = |message: &str| {
        let failure = condition("ReplicaFailure", "True", "FailedCreate", message);
        let status = json!({ "observedGeneration": 2, "conditions": [failure] });
        rollout(&deployment(&status), &[]).cause.unwrap()
    };
    let (reason, words) = refused("pods \"d-5d9f-x7k2p\" is forbidden: exceeded quota: q");
    assert_eq!(reason, Reason::QuotaExceeded);
    assert_eq!(words, "pods is forbidden: exceeded quota: q");
    assert_eq!(
        refused("pods \"d-1\" is forbidden: policy").0,
        Reason::PodRejected
    );
    let long = refused(&"ü\n".repeat(1000)).1;
    assert!(long.len() < 1000 && !long.contains('\n'));
}
