//! Changes that take effect in running pods.

use std::time::Duration;

use serde_json::json;
use weir_e2e::Script;

use crate::limits::{consumer, publish};
use crate::manifests::{COUNTER, bus, shared_nats};
use crate::space::in_space;
use crate::wait::{SOON, stays, until};

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn limits_retries_and_pauses_change_without_a_restart() {
    in_space("live", async |space| {
        space.apply(COUNTER).await;
        space.apply(&bus("default", &shared_nats())).await;
        space
            .apply(&consumer("live", "concurrency: {max: 1}"))
            .await;
        space.ready("QueueConsumer", "live").await;
        let pods = space.weir_pods().await;
        let patch = async |spec| {
            space
                .patch("QueueConsumer", "live", json!({"spec": spec}))
                .await;
            space.ready("QueueConsumer", "live").await;
        };
        let slow = |from: u64, to: u64| {
            (from..to)
                .map(|n| json!({"n": n, "sleepMs": 300}))
                .collect()
        };

        publish(space, "live", slow(0, 5)).await;
        let stats = space
            .stats_when("five messages", SOON, |s| s.handled().count() == 5)
            .await;
        assert_eq!(stats.most_at_once, 1);

        patch(json!({"concurrency": {"max": 3}})).await;
        until("three calls at once", SOON, async || {
            let before = space.stats().await.handled().count() as u64;
            publish(space, "live", slow(1000 + before, 1012 + before)).await;
            let stats = space.stats().await;
            if stats.most_at_once == 3 {
                Ok(())
            } else {
                Err(format!("at most {}", stats.most_at_once))
            }
        })
        .await;

        patch(json!({"paused": true})).await;
        space
            .condition("QueueConsumer", "live", "Paused", |c| c["status"] == "True")
            .await;
        // The last calls end, then there are none.
        let calls = until("calls to stop", SOON, async || {
            let before = space.stats().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let after = space.stats().await;
            if before.calls == after.calls && after.in_flight == 0 {
                Ok(after.calls)
            } else {
                Err("there are more")
            }
        })
        .await;
        publish(space, "live", vec![json!({"paused": 1})]).await;
        stays("the pause", Duration::from_secs(3), async || {
            let now = space.stats().await.calls;
            if now == calls {
                Ok(())
            } else {
                Err(format!("{} calls were made", now - calls))
            }
        })
        .await;

        patch(json!({"paused": false, "retry": {"maxAttempts": 1}})).await;
        let resumed = space
            .stats_when("the backlog to be handled", SOON, |s| {
                s.in_flight == 0 && s.calls > calls
            })
            .await;
        assert_eq!(resumed.most_at_once, 3);
        let failing = publish(space, "live", vec![json!({"status": 500})]).await;
        let letters = until("a dead letter", SOON, async || {
            let letters = space.dead_letters("QueueConsumer", "live").await;
            if letters.is_empty() {
                Err("there is none")
            } else {
                Ok(letters)
            }
        })
        .await;
        assert_eq!(letters[0].message.id, failing[0]);
        assert_eq!(letters[0].failure.attempts, 1);
        assert_eq!(
            space.weir_pods().await,
            pods,
            "pods were restarted or replaced"
        );
        space.script(&Script::default()).await;
    })
    .await;
}
