//! Many objects in one namespace.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use support::api::Api;
use support::operator::{Operator, bus, queue, quick};
use weir_operator::settings::Settings;

/// Enough to be more than a page, more than the owners, and more than the places.
const MANY: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_objects_become_ready_and_a_new_one_rolls_nothing() {
    let api = Api::default();
    api.put(&bus("default", "nats://a:4222"));
    for index in 0..MANY {
        api.put(&queue(&format!("q-{index}"), &json!({})));
    }
    let settings = Settings {
        resync: Duration::from_mins(5),
        numbers_interval: Duration::from_mins(5),
        reconcile_timeout: Duration::from_mins(1),
        ..quick()
    };
    let operator = Operator::start(&api, &std::sync::Arc::default(), &settings);
    let is_ready = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array();
        let ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
        conditions.is_some_and(|all| all.iter().any(ready))
    };
    let ready = |api: &Api, count: usize| api.count("queueconsumers", is_ready) == count;
    let began = tokio::time::Instant::now();
    let minute = Duration::from_mins(1);
    api.until_within(minute, "all are ready", |api| ready(api, MANY))
        .await;
    println!(
        "ready after {:?}, {} requests",
        began.elapsed(),
        api.log().len()
    );

    let maps: Vec<_> = api
        .all("configmaps")
        .into_iter()
        .filter(|it| it["metadata"]["labels"]["weir.dev/kind"] == "runtime")
        .collect();
    assert_eq!(maps.len(), 8);
    let files: BTreeSet<String> = maps
        .iter()
        .flat_map(|map| {
            map["data"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(files.len(), MANY);
    for map in &maps {
        assert!(
            map["data"].to_string().len() < 400_000,
            "far from the limit of 1 MiB"
        );
    }
    let runtime = api.get("deployments", "weir-runtime").unwrap();
    assert_eq!(
        runtime["metadata"]["ownerReferences"]
            .as_array()
            .unwrap()
            .len(),
        16
    );

    api.put(&queue("one-more", &json!({})));
    api.until("it is ready too", |api| ready(api, MANY + 1))
        .await;
    let after = api.get("deployments", "weir-runtime").unwrap();
    assert_eq!(after["spec"]["template"], runtime["spec"]["template"]);
    operator.stop().await.unwrap();
}
