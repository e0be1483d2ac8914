//! What users get wrong, and what they read then.

use std::fmt::Write as _;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::bus::{messages, streams};
use crate::limits::{consumer, publish};
use crate::manifests::{COUNTER, OWN_NATS, bus, shared_nats};
use crate::space::{find_condition, in_space};
use crate::wait::{SOON, until};

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn an_old_server_is_named_as_such() {
    in_space("old-server", async |space| {
        space
            .apply(
                "
apiVersion: v1
kind: Pod
metadata: {name: old, labels: {app: old}}
spec:
  securityContext: {fsGroup: 65532}
  containers:
  - name: nats
    image: weir.test/nats-old:1
    imagePullPolicy: Never
    args: [--jetstream, --store_dir, /data]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: old}
spec: {selector: {app: old}, ports: [{port: 4222}]}
",
            )
            .await;
        space
            .apply(&bus(
                "default",
                &format!("nats://old.{}.svc:4222", space.name),
            ))
            .await;
        let object = space
            .condition("MessageBus", "default", "Ready", |c| {
                c["status"] == "False" && c["reason"] == "BrokerTooOld"
            })
            .await;
        let message = find_condition(&object, "Ready")["message"]
            .as_str()
            .unwrap();
        println!("{message}");
        assert!(
            message.contains("2.10.26") && message.contains("2.12"),
            "{message}"
        );

        space.apply(&consumer("queue", "")).await;
        space
            .condition("QueueConsumer", "queue", "Ready", |c| c["status"] != "True")
            .await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn a_broker_that_is_not_there_is_said_and_waited_for() {
    in_space("late-broker", async |space| {
        space.apply(COUNTER).await;
        space
            .apply(&bus(
                "default",
                &format!("nats://own-nats.{}.svc:4222", space.name),
            ))
            .await;
        space.apply(&consumer("queue", "")).await;
        for (kind, name) in [("MessageBus", "default"), ("QueueConsumer", "queue")] {
            let object = space
                .condition(kind, name, "Ready", |c| {
                    c["status"] != "True" && c["reason"] != "Pending"
                })
                .await;
            println!("{kind}: {}", find_condition(&object, "Ready"));
        }
        space.apply(OWN_NATS).await;
        space.ready("MessageBus", "default").await;
        space.ready("QueueConsumer", "queue").await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn the_namespaces_default_bus_wins_over_the_operators() {
    in_space("default-bus", async |space| {
        space.apply(COUNTER).await;
        let unnamed = |name| consumer(name, "paused: true\n  deletionPolicy: Delete");
        space.apply(&unnamed("first")).await;
        space
            .condition("QueueConsumer", "first", "TopologyReady", |c| {
                c["status"] == "True"
            })
            .await;
        let shared = space.jetstream().await;
        let (first, _) = streams(space, "QueueConsumer", "first");
        assert!(
            messages(&shared, &first).await.is_some(),
            "it is not on the operator's bus"
        );

        space.apply(OWN_NATS).await;
        space
            .apply(&bus(
                "default",
                &format!("nats://own-nats.{}.svc:4222", space.name),
            ))
            .await;
        space.ready("MessageBus", "default").await;
        space.apply(&unnamed("second")).await;
        space
            .condition("QueueConsumer", "second", "TopologyReady", |c| {
                c["status"] == "True"
            })
            .await;
        let own = space.jetstream_at(&space.name, "own-nats").await;
        let (second, _) = streams(space, "QueueConsumer", "second");
        until("the stream on the namespace's bus", SOON, async || {
            messages(&own, &second).await.ok_or("it is missing")
        })
        .await;
        assert_eq!(messages(&shared, &second).await, None);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn an_image_that_cannot_be_had_is_the_reason() {
    in_space("image", async |space| {
        space.apply(&bus("default", &shared_nats())).await;
        space
            .apply(
                &consumer("queue", "").replace("weir.test/handler:1", "weir.test/no-such-image:1"),
            )
            .await;
        let object = space
            .condition("QueueConsumer", "queue", "Ready", |c| {
                c["status"] == "False" && c["reason"] == "ImagePullFailed"
            })
            .await;
        let message = find_condition(&object, "Ready")["message"]
            .as_str()
            .unwrap();
        println!("{message}");
        assert!(message.contains("no-such-image"), "{message}");

        space
            .patch(
                "QueueConsumer",
                "queue",
                json!({"spec": {"handler": {"image": "weir.test/handler:1"}}}),
            )
            .await;
        space.ready("QueueConsumer", "queue").await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn what_this_release_cannot_do_is_refused_by_a_condition() {
    in_space("unsupported", async |space| {
        space.apply(&bus("default", &shared_nats())).await;
        let breaker = consumer("breaker", "circuitBreaker: payments");
        let lambda = consumer("lambda", "").replace("{image:", "{protocol: Lambda, image:");
        let nobody = consumer("nobody", "bus: absent");
        let function = "
apiVersion: weir.dev/v1alpha1
kind: QueueConsumer
metadata: {name: function}
spec: {to: {kind: Function, name: pricing}}
";
        for (name, manifest, words) in [
            ("breaker", breaker.as_str(), "circuitBreaker"),
            ("lambda", lambda.as_str(), "Lambda"),
            ("function", function, "Function"),
            ("nobody", nobody.as_str(), "absent"),
        ] {
            space.apply(manifest).await;
            let object = space
                .condition("QueueConsumer", name, "Accepted", |c| {
                    c["status"] == "False"
                })
                .await;
            let accepted = find_condition(&object, "Accepted");
            println!("{name}: {}: {}", accepted["reason"], accepted["message"]);
            assert!(
                accepted["message"].as_str().unwrap().contains(words),
                "{accepted}"
            );
            let ready = find_condition(&object, "Ready");
            assert_eq!(
                (&ready["status"], &ready["reason"]),
                (&json!("False"), &accepted["reason"])
            );
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn every_field_at_its_limit_still_works() {
    in_space("limits", async |space| {
        space.apply(COUNTER).await;
        space.apply(&bus("default", &shared_nats())).await;
        let name = "a".repeat(40);
        let mut env = String::from("{name: FORWARD_TO, value: 'http://counter:8080'}");
        let mut volumes = String::new();
        let mut tolerations = String::new();
        for n in 1..128 {
            let _ = write!(env, ", {{name: VARIABLE_{n}, value: '{}'}}", "v".repeat(1000));
        }
        for n in 0..32 {
            let _ = write!(volumes, "{{mountPath: /mnt/{n}, emptyDir: {{}}}}, ");
            let _ = write!(tolerations, "{{key: example.com/taint-{n}, operator: Exists}}, ");
        }
        let args = format!("'{}', ", "x".repeat(400)).repeat(256);
        let manifest = format!(
            "
apiVersion: weir.dev/v1alpha1
kind: QueueConsumer
metadata: {{name: {name}}}
spec:
  delaySeconds: 0
  retentionSeconds: 1209600
  deduplicate: {{by: MessageId, windowSeconds: 86400}}
  allowedFrom: {{namespaces: All}}
  concurrency: {{max: 100000, perReplica: 10000}}
  retry: {{maxAttempts: 1000, initialSeconds: 43200, multiplier: 10, maxSeconds: 43200, maxAgeSeconds: 1209600}}
  deadLetter: {{retentionSeconds: 1209600}}
  batch: {{maxMessages: 1, windowSeconds: 0}}
  scaling: {{minReplicas: 1, maxReplicas: 1000, targetPerReplica: 100000, idleSeconds: 86400}}
  deletionPolicy: Delete
  handler:
    image: weir.test/handler:1
    path: /{path}
    env: [{env}]
    args: [{args}]
    volumes: [{volumes}]
    tolerations: [{tolerations}]
    nodeSelector: {{kubernetes.io/os: linux}}
    timeoutSeconds: 43200
",
            path = "p".repeat(1023),
        );
        space.apply(&manifest).await;
        space.ready("QueueConsumer", &name).await;
        publish(space, &name, vec![json!({"n": 1})]).await;
        let stats = space.stats_when("a handled message", SOON, |s| s.handled().count() == 1).await;
        assert_eq!(stats.last.path.len(), 1024);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn an_object_that_cannot_be_read_does_not_stop_the_others() {
    in_space("unreadable", async |space| {
        space.apply(COUNTER).await;
        space.apply(&bus("default", &shared_nats())).await;
        space.apply(&consumer("broken", "")).await;
        space.ready("QueueConsumer", "broken").await;
        // A time that the API server takes and our types do not: more digits than nanoseconds have.
        let status = json!({"status": {"conditions": [{
            "type": "Odd", "status": "True", "reason": "Odd", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00.0000000000001Z"}]}});
        let patched = space
            .api("QueueConsumer")
            .patch_status("broken", &PatchParams::default(), &Patch::Merge(&status))
            .await;
        if let Err(error) = patched {
            println!("skipped: the API server refuses what the operator could not read: {error}");
            return;
        }
        space.apply(&consumer("sound", "")).await;
        space.ready("QueueConsumer", "sound").await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        space
            .patch(
                "QueueConsumer",
                "sound",
                json!({"spec": {"concurrency": {"max": 9}}}),
            )
            .await;
        space.ready("QueueConsumer", "sound").await;
    })
    .await;
}
