//! What is changed by hand, and what a deletion leaves behind.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use crate::addresses::{Http, github_signature};
use crate::bus::{messages, streams};
use crate::limits::{consumer, publish};
use crate::manifests::{COUNTER, KEY, OWN_NATS, bus, shared_nats};
use crate::space::{Space, in_space};
use crate::wait::{SOON, until};
use crate::webhook::ready_webhook;

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn what_is_deleted_by_hand_comes_back() {
    in_space("drift", async |space| {
        let url = ready_webhook(space, &shared_nats(), "").await;
        for kind in ["Deployment", "ConfigMap", "Service"] {
            for name in ours(space, kind).await {
                let old =
                    space.get(kind, &name).await.expect("it is there")["metadata"]["uid"].clone();
                space.remove(kind, &name).await;
                until(
                    &format!("{kind} {name} to come back"),
                    SOON,
                    async || match space.get(kind, &name).await {
                        Some(object) if object["metadata"]["uid"] != old => Ok(()),
                        other => Err(format!(
                            "there is {:?}",
                            other.map(|o| o["metadata"].clone())
                        )),
                    },
                )
                .await;
            }
        }
        let (queue, _) = streams(space, "Webhook", "hook");
        let jetstream = space.jetstream().await;
        jetstream.delete_stream(&queue).await.unwrap();
        until("the stream to come back", SOON, async || {
            messages(&jetstream, &queue).await.ok_or("it is missing")
        })
        .await;
        let event = space.event("TopologyDriftRepaired", "hook").await;
        println!("{}", event["message"]);

        // And it all still works together.
        space.ready("Webhook", "hook").await;
        let url = space
            .reachable(&url_in_status(space).await)
            .await
            .unwrap_or(url);
        let signature = github_signature(KEY, b"{}");
        until("a request to be accepted", SOON, async || {
            let reply = Http::new()
                .post(&url, &[("x-hub-signature-256", signature.as_str())], "{}")
                .await?;
            if reply.status == 202 {
                Ok(())
            } else {
                Err(format!("{reply:?}"))
            }
        })
        .await;
        space
            .stats_when("it to be handled", SOON, |s| s.handled().count() == 1)
            .await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn a_deletion_retains_messages_unless_told_otherwise() {
    in_space("deletion", async |space| {
        space.apply(COUNTER).await;
        space.apply(&bus("default", &shared_nats())).await;
        let jetstream = space.jetstream().await;
        for (name, policy) in [
            ("kept", "Retain"),
            ("dropped", "Delete"),
            ("careful", "DeleteIfEmpty"),
        ] {
            space
                .apply(&consumer(
                    name,
                    &format!("{{paused: true, deletionPolicy: {policy}}}")
                        .replace(['{', '}'], "")
                        .replace(", ", "\n  "),
                ))
                .await;
            space
                .condition("QueueConsumer", name, "TopologyReady", |c| {
                    c["status"] == "True"
                })
                .await;
            publish(space, name, (0..3).map(|n| json!({"n": n})).collect()).await;
            let (queue, _) = streams(space, "QueueConsumer", name);
            assert!(
                messages(&jetstream, &queue)
                    .await
                    .is_some_and(|stored| stored >= 3)
            );
            space.remove("QueueConsumer", name).await;
        }
        for name in ["kept", "dropped", "careful"] {
            space.gone("QueueConsumer", name, SOON).await;
        }
        let left = |name| {
            let (queue, _) = streams(space, "QueueConsumer", name);
            let jetstream = &jetstream;
            async move { messages(jetstream, &queue).await }
        };
        assert!(left("kept").await.is_some_and(|stored| stored >= 3));
        assert!(left("careful").await.is_some_and(|stored| stored >= 3));
        assert_eq!(left("dropped").await, None);
        until("their workloads to go", SOON, async || {
            let deployments: Vec<_> = space
                .list("Deployment")
                .await
                .iter()
                .map(|d| d["metadata"]["name"].clone())
                .collect();
            if deployments.iter().all(|d| d == "weir-runtime") {
                Ok(())
            } else {
                Err(format!("there are {deployments:?}"))
            }
        })
        .await;

        // An object of the same name takes over what was kept.
        space
            .apply(&consumer("kept", "deletionPolicy: Delete"))
            .await;
        space
            .stats_when("the kept messages to be handled", SOON, |s| {
                s.handled().count() == 3
            })
            .await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn a_deletion_does_not_wait_for_ever_for_a_dead_broker() {
    in_space("dead-broker", async |space| {
        space.apply(COUNTER).await;
        space.apply(OWN_NATS).await;
        space
            .apply(&bus(
                "default",
                &format!("nats://own-nats.{}.svc:4222", space.name),
            ))
            .await;
        space
            .apply(&consumer("last", "deletionPolicy: Delete"))
            .await;
        space.ready("QueueConsumer", "last").await;
        space.scale("StatefulSet", "own-nats", 0).await;

        let began = tokio::time::Instant::now();
        space.remove("QueueConsumer", "last").await;
        let allowed = deletion_timeout();
        space.gone("QueueConsumer", "last", allowed + SOON).await;
        println!(
            "gone after {} s; the operator gives up after {} s",
            began.elapsed().as_secs(),
            allowed.as_secs()
        );
        assert!(
            began.elapsed() >= allowed / 2,
            "it did not try to reach the broker"
        );
    })
    .await;
}

/// What the chart was installed with.
fn deletion_timeout() -> Duration {
    let seconds = std::env::var("WEIR_E2E_DELETION_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(600))
}

async fn url_in_status(space: &Space) -> String {
    let object = space.get("Webhook", "hook").await.expect("it is there");
    object["status"]["url"]
        .as_str()
        .expect("an address")
        .to_owned()
}

/// Names of the objects of a kind that the operator made here.
async fn ours(space: &Space, kind: &str) -> Vec<String> {
    let labels = ListParams::default().labels("app.kubernetes.io/managed-by=weir");
    let list = space
        .api(kind)
        .list(&labels)
        .await
        .expect("the API answers");
    let names: Vec<_> = list.items.iter().map(ResourceExt::name_any).collect();
    assert!(!names.is_empty(), "no {kind}");
    names
}
