//! The end of objects: nothing is lost that should stay, nothing stays that should go, and nobody
//! waits for a broker that is gone.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test program"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use support::api::Api;
use support::operator::{Memory, Operator, bus, condition, queue, quick, spec, webhook};
use weir_broker::{Depth, Publication, Transport as _, WorkQueue};
use weir_core::message::{Headers, Message};
use weir_core::object::{Kind, ObjectKey};

const ADDRESS: &str = "nats://a:4222";

fn queue_of(memory: &Memory, uid: &str) -> Arc<dyn WorkQueue> {
    let object = ObjectKey::new(Kind::Webhook, "shop", "stripe");
    memory.queue(ADDRESS, object, uid)
}

fn message() -> Publication {
    let accepted_at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let (id, body) = ("id-1".to_owned(), "body".into());
    let message = Message {
        id,
        accepted_at,
        headers: Headers::new(),
        body,
        group: None,
    };
    Publication {
        message,
        dedup: None,
        delay: Duration::ZERO,
    }
}

/// An operator with one ready webhook, whose queue holds one message.
async fn with_a_message(policy: &str) -> (Operator, String) {
    let operator = Operator::alone();
    let mut object = webhook("stripe");
    object["spec"]["deletionPolicy"] = json!(policy);
    let uid = operator.api.put(&object);
    operator.until("webhooks", "stripe", "Ready", "True").await;
    queue_of(&operator.memory, &uid)
        .publish(message())
        .await
        .unwrap();
    (operator, uid)
}

async fn until_gone(operator: &Operator) {
    operator
        .api
        .until("the object and all that was made for it are gone", |api| {
            api.get("webhooks", "stripe").is_none() && api.all("deployments").is_empty()
        })
        .await;
}

async fn depth(operator: &Operator, uid: &str) -> Option<Depth> {
    queue_of(&operator.memory, uid).depth().await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_messages_are_taken_over_by_an_object_of_the_same_name() {
    let (operator, _) = with_a_message("Retain").await;
    operator.api.delete("webhooks", "stripe");
    until_gone(&operator).await;
    assert!(
        operator.api.all("configmaps").is_empty(),
        "what nobody owns is collected"
    );
    assert!(operator.api.all("services").is_empty());

    let uid = operator.api.put(&webhook("stripe"));
    operator.until("webhooks", "stripe", "Ready", "True").await;
    assert_eq!(depth(&operator, &uid).await.unwrap().ready, 1);
    operator
        .api
        .until("the numbers say so", |api| {
            api.get("webhooks", "stripe").unwrap()["status"]["backlog"] == 1
        })
        .await;
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_messages_are_gone_and_the_pods_before_them() {
    let (operator, uid) = with_a_message("Delete").await;
    operator.api.delete("webhooks", "stripe");
    until_gone(&operator).await;
    let left = depth(&operator, &uid).await;
    assert!(left.is_none_or(|left| left.ready == 0));
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_if_empty_keeps_what_is_not_empty() {
    let (operator, _) = with_a_message("DeleteIfEmpty").await;
    operator.api.delete("webhooks", "stripe");
    until_gone(&operator).await;
    let uid = operator.api.put(&webhook("stripe"));
    operator.until("webhooks", "stripe", "Ready", "True").await;
    assert_eq!(depth(&operator, &uid).await.unwrap().ready, 1);
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_broker_holds_a_deletion_for_its_timeout_and_no_longer() {
    let (operator, _) = with_a_message("Delete").await;
    operator.memory.at(ADDRESS).set_reachable(false);
    operator.api.delete("webhooks", "stripe");
    operator
        .until_reason("webhooks", "stripe", "Stalled", "DeletionBlocked")
        .await;
    let stripe = operator.api.get("webhooks", "stripe").unwrap();
    let message = condition(&stripe, "Ready")["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("in any case"), "{message}");
    until_gone(&operator).await;
    assert!(
        operator
            .events("stripe")
            .contains(&"TopologyOrphaned".to_owned())
    );
    let metrics = operator.metrics.text();
    assert!(
        metrics.contains("weir_orphaned_topology_total{kind=\"Webhook\"} 1"),
        "{metrics}"
    );
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_deleted_in_the_same_breath_keeps_nobody() {
    let (operator, uid) = with_a_message("Delete").await;
    operator.api.delete("messagebuses", "default");
    operator.api.delete("webhooks", "stripe");
    until_gone(&operator).await;
    assert!(
        !operator
            .events("stripe")
            .contains(&"TopologyOrphaned".to_owned())
    );
    assert!(
        depth(&operator, &uid)
            .await
            .is_none_or(|left| left.ready == 0)
    );
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_another_operator_began_is_ended() {
    let (operator, _) = with_a_message("Delete").await;
    let (api, memory) = (operator.api.clone(), Arc::clone(&operator.memory));
    operator.stop().await.unwrap();
    api.delete("webhooks", "stripe");
    assert!(
        api.get("webhooks", "stripe").is_some(),
        "the finalizer holds it"
    );
    let operator = Operator::start(&api, &memory, &quick());
    until_gone(&operator).await;
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_do_not_wait_for_objects_whose_broker_hangs() {
    let operator = Operator::alone();
    operator.api.put(&queue("audit", &json!({})));
    operator
        .until("queueconsumers", "audit", "Ready", "True")
        .await;
    operator.api.put(&bus("slow", "nats://slow:4222"));
    for index in 0..20 {
        operator
            .api
            .put(&queue(&format!("hangs-{index}"), &json!({ "bus": "slow" })));
    }
    operator
        .api
        .until("they hang", |api| {
            let started = api.all("queueconsumers");
            let started = started
                .iter()
                .filter(|it| it["metadata"]["finalizers"].is_array());
            started.count() >= 9
        })
        .await;
    operator.api.delete("queueconsumers", "audit");
    operator
        .api
        .until("gone", |api| api.get("queueconsumers", "audit").is_none())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_cannot_be_read_is_let_go_after_the_timeout() {
    let api = Api::default();
    api.put(&bus("default", ADDRESS));
    let operator = Operator::start(&api, &Arc::default(), &quick());
    api.put(&webhook("stripe"));
    operator.until("webhooks", "stripe", "Ready", "True").await;
    api.edit("webhooks", "stripe", |it| {
        it["spec"]["methods"] = json!("POST");
    });
    operator
        .until_reason("webhooks", "stripe", "Accepted", "InvalidSpec")
        .await;
    api.delete("webhooks", "stripe");
    until_gone(&operator).await;
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runtime_stays_while_anybody_needs_it() {
    let operator = Operator::alone();
    operator.api.put(&webhook("stripe"));
    operator.api.put(&queue("audit", &json!({})));
    operator.until("webhooks", "stripe", "Ready", "True").await;
    operator
        .until("queueconsumers", "audit", "Ready", "True")
        .await;
    operator.api.delete("webhooks", "stripe");
    operator
        .api
        .until("gone", |api| api.get("webhooks", "stripe").is_none())
        .await;
    let runtime = operator.api.get("deployments", "weir-runtime").unwrap();
    let owners = runtime["metadata"]["ownerReferences"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0]["name"], "audit");
    let volumes = runtime["spec"]["template"]["spec"]["volumes"].to_string();
    assert!(
        !volumes.contains("stripe-signing"),
        "keys of deleted objects are not mounted"
    );
    operator.api.delete("queueconsumers", "audit");
    operator
        .api
        .until("the runtime is gone", |api| {
            api.all("deployments").is_empty()
        })
        .await;
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_vanished_is_made_again_and_told() {
    let (operator, uid) = with_a_message("Retain").await;
    let key = ObjectKey::new(Kind::Webhook, "shop", "stripe");
    let spec = spec(key, &uid);
    let removed = operator
        .memory
        .at(ADDRESS)
        .remove_queue(&spec, weir_broker::Removal::Delete)
        .await;
    assert!(!removed.unwrap().deleted.is_empty());
    operator
        .until_reason("webhooks", "stripe", "TopologyReady", "TopologyLost")
        .await;
    let stripe = operator.api.get("webhooks", "stripe").unwrap();
    let told = condition(&stripe, "TopologyReady");
    assert_eq!(told["status"], "True", "it works again");
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("messages in it are lost"),
        "{told}"
    );
    assert!(
        operator
            .events("stripe")
            .contains(&"TopologyDriftRepaired".to_owned())
    );
    assert_eq!(depth(&operator, &uid).await.unwrap().ready, 0);
    operator.stop().await.unwrap();
}
