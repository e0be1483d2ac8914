//! The operator as a whole, without a cluster: it converges whatever fails once, is then silent, and
//! repairs what others change.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test program"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::api::{Api, Logged};
use support::operator::{Memory, Operator, bus, condition, queue, quick, webhook};
use weir_broker::Publication;
use weir_core::message::{Headers, Message};
use weir_core::object::{Kind, ObjectKey};
use weir_operator::probe::ObjectProblem;
use weir_operator::run::Ended;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_becomes_ready_and_the_second_reconcile_writes_nothing() {
    let operator = Operator::alone();
    operator.api.put(&webhook("stripe"));
    operator.api.put(&queue("audit", &json!({})));
    for (plural, name) in [
        ("messagebuses", "default"),
        ("webhooks", "stripe"),
        ("queueconsumers", "audit"),
    ] {
        operator.until(plural, name, "Ready", "True").await;
    }
    let stripe = operator.api.get("webhooks", "stripe").unwrap();
    assert_eq!(
        stripe["status"]["url"],
        "http://weir-runtime.shop.svc/webhooks/stripe"
    );
    assert_eq!(stripe["status"]["address"]["url"], stripe["status"]["url"]);
    assert_eq!(stripe["status"]["observedGeneration"], 1);
    assert_eq!(
        stripe["metadata"]["finalizers"],
        json!(["weir.dev/topology"])
    );
    assert!(condition(&stripe, "Reconciling").is_null() && condition(&stripe, "Stalled").is_null());
    operator
        .api
        .until("numbers are there", |api| {
            api.get("webhooks", "stripe").unwrap()["status"]["replicas"] == 3
        })
        .await;

    let looks = |api: &Api| {
        let of_webhook = |request: &Logged| {
            request.path.ends_with("/deployments")
                && request.query.contains("webhook")
                && !request.query.contains("watch=true")
        };
        api.log()
            .iter()
            .filter(|request| of_webhook(request))
            .count()
    };
    // What is under way may end; after that nothing is written any more.
    let settled = looks(&operator.api) + 2;
    operator
        .api
        .until("it is looked at again", |api| looks(api) >= settled)
        .await;
    let before = operator.api.log().len();
    operator
        .api
        .until("and again", |api| looks(api) >= settled + 3)
        .await;
    let writes: Vec<Logged> = operator
        .api
        .log()
        .split_off(before)
        .into_iter()
        .filter(Logged::is_write)
        .collect();
    assert_eq!(writes, [], "nothing has changed");
    assert_eq!(operator.events("stripe"), ["TopologyCreated"]);
    operator.stop().await.unwrap();
}

/// Fails each kind of request once, in each way, and expects the same end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_at_any_step_is_made_good() {
    let steps = [
        ("GET", "/webhooks"),
        ("GET", "/messagebuses"),
        ("GET", "/deployments"),
        ("GET", "/configmaps"),
        ("GET", "/configmaps/weir-runtime"),
        ("GET", "/services"),
        ("GET", "/pods"),
        ("PATCH", "/webhooks/stripe"),
        ("PATCH", "/webhooks/stripe/status"),
        ("PATCH", "/configmaps/stripe-webhook-config"),
        ("PATCH", "/configmaps/weir-runtime"),
        ("PATCH", "/deployments/stripe-webhook"),
        ("PATCH", "/deployments/weir-runtime"),
        ("PATCH", "/poddisruptionbudgets"),
        ("PATCH", "/horizontalpodautoscalers"),
        ("PATCH", "/services"),
        ("PATCH", "/pods"),
        ("PATCH", "/messagebuses/default/status"),
        ("POST", "/events"),
        ("POST", "/leases"),
        ("PUT", "/leases"),
    ];
    let mut runs = tokio::task::JoinSet::new();
    for (method, path) in steps {
        for code in [404, 409, 500] {
            runs.spawn(async move {
                let api = Api::default();
                api.put(&bus("default", "nats://a:4222"));
                api.put(&webhook("stripe"));
                api.fail(method, path, code, 2);
                let operator = Operator::start(&api, &Arc::default(), &quick());
                operator.until("webhooks", "stripe", "Ready", "True").await;
                operator
                    .until("messagebuses", "default", "Ready", "True")
                    .await;
                for (plural, count) in [("deployments", 2), ("services", 1), ("configmaps", 2)] {
                    assert_eq!(
                        api.all(plural).len(),
                        count,
                        "{method} {path} {code}: {plural}"
                    );
                }
                operator.stop().await.unwrap();
            });
        }
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_change_or_delete_is_put_right() {
    let operator = Operator::alone();
    operator.api.put(&webhook("stripe"));
    operator.until("webhooks", "stripe", "Ready", "True").await;
    let api = &operator.api;

    api.edit("deployments", "stripe-webhook", |it| {
        it["spec"]["replicas"] = json!(9);
    });
    api.until("replicas", |api| {
        api.get("deployments", "stripe-webhook").unwrap()["spec"]["replicas"] == 3
    })
    .await;
    api.edit("configmaps", "stripe-webhook-config", |it| {
        it["data"]["webhook.stripe.json"] = json!("");
    });
    api.until("configuration", |api| {
        api.get("configmaps", "stripe-webhook-config").unwrap()["data"]["webhook.stripe.json"] != ""
    })
    .await;
    let shard = api
        .all("configmaps")
        .into_iter()
        .find(|it| it["metadata"]["labels"]["weir.dev/kind"] == "runtime");
    let shard = shard.unwrap()["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    api.edit("configmaps", &shard, |it| {
        it["data"] = json!({ "webhook.other.json": "theirs" });
    });
    api.until("the runtime's configuration", |api| {
        let data = &api.get("configmaps", &shard).unwrap()["data"];
        data["webhook.stripe.json"].is_string() && data["webhook.other.json"] == "theirs"
    })
    .await;
    for (plural, name) in [
        ("deployments", "stripe-webhook"),
        ("deployments", "weir-runtime"),
        ("services", "weir-runtime"),
        ("poddisruptionbudgets", "stripe-webhook"),
        ("configmaps", "stripe-webhook-config"),
        ("configmaps", shard.as_str()),
    ] {
        let uid = api.get(plural, name).unwrap()["metadata"]["uid"].clone();
        api.delete(plural, name);
        api.until(&format!("{plural}/{name} is back"), |api| {
            api.get(plural, name)
                .is_some_and(|it| it["metadata"]["uid"] != uid)
        })
        .await;
    }
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_is_no_longer_wanted_goes() {
    let operator = Operator::alone();
    operator.api.put(&webhook("stripe"));
    operator.until("webhooks", "stripe", "Ready", "True").await;
    operator.api.edit("webhooks", "stripe", |it| {
        it["spec"]["handler"] = Value::Null;
        it["spec"]["to"] = json!({ "url": "http://elsewhere" });
    });
    operator
        .api
        .until("the worker is gone", |api| {
            api.get("deployments", "stripe-webhook").is_none()
                && api.get("configmaps", "stripe-webhook-config").is_none()
                && api.get("poddisruptionbudgets", "stripe-webhook").is_none()
        })
        .await;
    operator.until("webhooks", "stripe", "Ready", "True").await;
    assert!(operator.api.get("deployments", "weir-runtime").is_some());
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_others_is_taken_over_or_deleted() {
    let operator = Operator::alone();
    let theirs = |name: &str, labels: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": name, "namespace": "shop", "labels": labels },
            "spec": { "replicas": 7 },
        })
    };
    let labels = json!({ "app.kubernetes.io/managed-by": "weir", "weir.dev/kind": "webhook", "weir.dev/name": "stripe" });
    operator.api.put(&theirs("stripe-webhook", json!({})));
    operator.api.put(&theirs("labelled", labels));
    operator.api.put(&webhook("stripe"));
    operator
        .until_reason("webhooks", "stripe", "HandlerReady", "NameConflict")
        .await;
    operator
        .until("webhooks", "stripe", "Stalled", "True")
        .await;
    for name in ["stripe-webhook", "labelled"] {
        assert_eq!(
            operator.api.get("deployments", name).unwrap()["spec"]["replicas"],
            7
        );
    }
    operator.api.delete("deployments", "stripe-webhook");
    operator.until("webhooks", "stripe", "Ready", "True").await;
    assert!(operator.api.get("deployments", "labelled").is_some());
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_said_and_noticed_when_it_appears() {
    let api = Api::default();
    let operator = Operator::start(&api, &Arc::default(), &quick());
    api.put(&webhook("stripe"));
    api.put(&queue(
        "sender",
        &json!({ "to": { "kind": "QueueConsumer", "name": "ledger" } }),
    ));
    operator
        .until_reason("webhooks", "stripe", "Accepted", "BusNotFound")
        .await;
    let stripe = api.get("webhooks", "stripe").unwrap();
    assert_eq!(
        condition(&stripe, "Reconciling")["status"],
        "True",
        "it may still appear"
    );
    assert!(api.all("deployments").is_empty());

    api.put(&bus("default", "nats://a:4222"));
    operator.until("webhooks", "stripe", "Ready", "True").await;
    operator
        .until_reason("queueconsumers", "sender", "Accepted", "TargetNotFound")
        .await;
    api.put(&queue("ledger", &json!({})));
    operator
        .until("queueconsumers", "sender", "Ready", "True")
        .await;

    let key = ObjectKey::new(Kind::Webhook, "shop", "stripe");
    let problem = ObjectProblem {
        reason: "SecretMissing".to_owned(),
        message: String::new(),
    };
    operator
        .probe
        .problems
        .lock()
        .unwrap()
        .insert(key.clone(), vec![problem]);
    operator
        .until_reason("webhooks", "stripe", "Accepted", "SecretNotFound")
        .await;
    let message = condition(&api.get("webhooks", "stripe").unwrap(), "Ready")["message"].clone();
    let words =
        "secret shop/stripe-signing not found or empty; create it or change spec.verify.secretRef";
    assert_eq!(message, words);
    operator.probe.problems.lock().unwrap().remove(&key);
    operator.until("webhooks", "stripe", "Ready", "True").await;
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_that_cannot_be_stored_are_told_while_messages_are_held() {
    let memory: Arc<Memory> = Arc::default();
    let api = Api::default();
    api.put(&bus("default", "nats://a:4222"));
    api.put(&webhook("stripe"));
    // Nothing but messages in flight gives a reason to look again.
    let settings = weir_operator::settings::Settings {
        resync: Duration::from_secs(300),
        ..quick()
    };
    let operator = Operator::start(&api, &memory, &settings);
    operator.until("webhooks", "stripe", "Ready", "True").await;

    let key = ObjectKey::new(Kind::Webhook, "shop", "stripe");
    let stored = api.get("webhooks", "stripe").unwrap();
    let uid = stored["metadata"]["uid"].as_str().unwrap();
    let queue = memory.queue("nats://a:4222", key.clone(), uid);
    let message = Message {
        id: "id-1".to_owned(),
        accepted_at: jiff::Timestamp::UNIX_EPOCH,
        headers: Headers::new(),
        body: "body".into(),
        group: None,
    };
    let publication = Publication {
        message,
        dedup: None,
        delay: Duration::ZERO,
    };
    queue.publish(publication).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    consumer.want(1);
    let held = consumer.next().await.unwrap().unwrap();

    let words = "a dead letter could not be stored, its message is held: no room";
    let problem = ObjectProblem {
        reason: "DeadLettersBlocked".to_owned(),
        message: words.to_owned(),
    };
    let problems = &operator.probe.problems;
    problems.lock().unwrap().insert(key.clone(), vec![problem]);
    operator
        .until_reason("webhooks", "stripe", "TopologyReady", "DeadLettersBlocked")
        .await;
    let message = condition(&api.get("webhooks", "stripe").unwrap(), "Ready")["message"].clone();
    assert!(message.as_str().unwrap().contains(words), "{message}");
    problems.lock().unwrap().remove(&key);
    operator.until("webhooks", "stripe", "Ready", "True").await;
    drop(held);
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_object_that_cannot_be_read_does_not_stop_the_others() {
    let operator = Operator::alone();
    let mut broken = webhook("broken");
    broken["spec"]["maxBodyBytes"] = json!({ "not": "a number" });
    operator.api.put(&broken);
    operator.api.put(&webhook("stripe"));
    operator.until("webhooks", "stripe", "Ready", "True").await;
    operator
        .until_reason("webhooks", "broken", "Accepted", "InvalidSpec")
        .await;
    let message =
        condition(&operator.api.get("webhooks", "broken").unwrap(), "Ready")["message"].clone();
    assert!(
        message.as_str().unwrap().contains("cannot be read"),
        "{message}"
    );
    operator.api.put(&webhook("broken"));
    operator.until("webhooks", "broken", "Ready", "True").await;
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_change_leaves_what_runs() {
    let operator = Operator::alone();
    operator.api.put(&webhook("stripe"));
    operator.until("webhooks", "stripe", "Ready", "True").await;
    let before = operator.api.get("deployments", "stripe-webhook").unwrap();
    operator.api.edit("webhooks", "stripe", |it| {
        it["spec"]["circuitBreaker"] = json!("payments");
    });
    operator
        .until_reason("webhooks", "stripe", "Accepted", "Unsupported")
        .await;
    operator
        .until("webhooks", "stripe", "Stalled", "True")
        .await;
    let stripe = operator.api.get("webhooks", "stripe").unwrap();
    assert_eq!(stripe["status"]["observedGeneration"], 2);
    assert_eq!(
        stripe["status"]["url"],
        "http://weir-runtime.shop.svc/webhooks/stripe"
    );
    assert_eq!(condition(&stripe, "HandlerReady")["status"], "True");
    assert_eq!(
        operator.api.get("deployments", "stripe-webhook").unwrap(),
        before
    );
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_broker_is_told_at_once_and_changes_conditions_after_its_grace() {
    let api = Api::default();
    api.put(&bus("default", "nats://a:4222"));
    api.put(&webhook("stripe"));
    let memory: Arc<Memory> = Arc::default();
    let broker = memory.at("nats://a:4222");
    let settings = weir_operator::settings::Settings {
        broker_grace: Duration::from_secs(4),
        ..quick()
    };
    let operator = Operator::start(&api, &memory, &settings);
    operator.until("webhooks", "stripe", "Ready", "True").await;
    broker.set_reachable(false);
    api.until("an event", |_| {
        operator
            .events("stripe")
            .contains(&"BrokerUnreachable".to_owned())
    })
    .await;
    let stripe = api.get("webhooks", "stripe").unwrap();
    assert_eq!(
        condition(&stripe, "Ready")["status"],
        "True",
        "nothing flips at once"
    );
    operator
        .until_reason("webhooks", "stripe", "TopologyReady", "BrokerUnreachable")
        .await;
    let stripe = api.get("webhooks", "stripe").unwrap();
    assert_eq!(condition(&stripe, "TopologyReady")["status"], "Unknown");
    assert_eq!(condition(&stripe, "Ready")["status"], "Unknown");
    // What belongs to Kubernetes is looked after meanwhile.
    api.delete("deployments", "stripe-webhook");
    api.until("the worker is back", |api| {
        api.get("deployments", "stripe-webhook").is_some()
    })
    .await;
    broker.set_reachable(true);
    operator.until("webhooks", "stripe", "Ready", "True").await;
    assert!(
        operator
            .events("stripe")
            .contains(&"BrokerReconnected".to_owned())
    );
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_ends_when_somebody_takes_its_lease() {
    let operator = Operator::alone();
    operator.api.put(&webhook("stripe"));
    operator.until("webhooks", "stripe", "Ready", "True").await;
    operator.api.edit("leases", "weir-operator", |it| {
        it["spec"]["holderIdentity"] = json!("thief");
    });
    let api = operator.api.clone();
    let ended = operator.ended().await;
    assert!(matches!(ended, Err(Ended::Lease(_))), "{ended:?}");
    let before = api.log().len();
    api.edit("deployments", "stripe-webhook", |it| {
        it["spec"]["replicas"] = json!(9);
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(api.log().len(), before, "nobody asks or writes any more");
}
