//! At rest the operator writes nothing.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::limits::consumer;
use crate::manifests::{COUNTER, bus, shared_nats, signing_secret};
use crate::restarts::{UNDISTURBED, forwarder};
use crate::space::in_space;
use crate::webhook::webhook;

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
#[expect(
    clippy::disallowed_methods,
    reason = "compared with the times of the audit log"
)]
async fn fifty_objects_at_rest_cause_no_write() {
    const OBJECTS: usize = 50;
    let Ok(log) = std::env::var("WEIR_AUDIT_LOG") else {
        println!("skipped: WEIR_AUDIT_LOG does not name the API server's audit log");
        return;
    };
    let seconds =
        std::env::var("WEIR_E2E_QUIET_SECONDS").map_or(120, |s| s.parse().expect("seconds"));
    let operator = std::env::var("WEIR_E2E_OPERATOR_USER")
        .unwrap_or_else(|_| "system:serviceaccount:weir-system:weir".to_owned());
    in_space("quiet", async |space| {
        space.apply(COUNTER).await;
        space.apply(&signing_secret("signing")).await;
        space.apply(&bus("default", &shared_nats())).await;
        space.apply(&webhook("hook", "")).await;
        space
            .apply(&consumer("worker", "concurrency: {max: 2}"))
            .await;
        for n in 3..OBJECTS {
            space.apply(&forwarder(&format!("queue-{n}"))).await;
        }
        space.ready("Webhook", "hook").await;
        for object in space.list("QueueConsumer").await {
            space
                .ready(
                    "QueueConsumer",
                    object["metadata"]["name"].as_str().expect("a name"),
                )
                .await;
        }
        let _undisturbed = UNDISTURBED.read().await;
        // Figures in the status follow up to 30 seconds after the last change.
        tokio::time::sleep(Duration::from_secs(40)).await;

        let since = Timestamp::now();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let text = tokio::fs::read_to_string(&log)
            .await
            .expect("the audit log can be read");
        let writes: Vec<String> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|entry| {
                let reference = &entry["objectRef"];
                entry["user"]["username"] == operator.as_str()
                    && reference["namespace"] == space.name.as_str()
                    && !["get", "list", "watch"]
                        .iter()
                        .any(|verb| entry["verb"] == *verb)
                    && entry["stageTimestamp"]
                        .as_str()
                        .and_then(|t| t.parse::<Timestamp>().ok())
                        .is_some_and(|t| t > since)
            })
            .map(|entry| {
                let reference = &entry["objectRef"];
                format!(
                    "{} {}/{} {}",
                    entry["verb"],
                    reference["resource"],
                    reference["subresource"],
                    reference["name"]
                )
            })
            .collect();
        println!(
            "{} writes in {seconds} s with {OBJECTS} objects",
            writes.len()
        );
        assert!(writes.is_empty(), "{writes:#?}");
        assert!(
            text.contains(operator.as_str()),
            "the audit log never names {operator}"
        );
    })
    .await;
}
