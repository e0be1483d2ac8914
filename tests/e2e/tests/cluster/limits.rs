//! Limits, overload and dead letters, counted.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::json;
use weir_e2e::Script;

use crate::addresses::Http;
use crate::manifests::{COUNTER, HANDLER, bus, shared_nats};
use crate::space::{Space, in_space};
use crate::wait::{SOON, until};

/// A QueueConsumer with the usual handler.
pub fn consumer(name: &str, more: &str) -> String {
    format!(
        "
apiVersion: weir.dev/v1alpha1
kind: QueueConsumer
metadata: {{name: {name}}}
spec:
  handler: {HANDLER}
  {more}
"
    )
}

/// Publishes JSON bodies, each exactly once; gives their ids in order.
pub async fn publish(space: &Space, name: &str, bodies: Vec<serde_json::Value>) -> Vec<String> {
    let url = space.url("QueueConsumer", name).await;
    let http = Http::new();
    stream::iter(bodies.into_iter().enumerate())
        .map(async |(n, body)| {
            // The key makes it safe to try again, however the last try ended.
            let key = format!("{name}-{n}-{body}");
            until("a message to be accepted", SOON, async || {
                let headers = [
                    ("content-type", "application/json"),
                    ("idempotency-key", key.as_str()),
                ];
                let reply = http.post(&url, &headers, body.to_string()).await?;
                match reply.json()["id"].as_str() {
                    Some(id) if reply.status == 202 => Ok(id.to_owned()),
                    _ => Err(format!("{reply:?}")),
                }
            })
            .await
        })
        .buffered(16)
        .collect()
        .await
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn one_at_a_time_holds_over_four_replicas_and_throttling_is_no_attempt() {
    const MESSAGES: u64 = 2000;
    const POISONED: u64 = MESSAGES / 20;
    in_space("limit", async |space| {
        space.apply(COUNTER).await;
        space.apply(&bus("default", &shared_nats())).await;
        let more = "
  concurrency: {max: 1}
  scaling: {minReplicas: 4, maxReplicas: 4}
  retry: {maxAttempts: 3, initialSeconds: 1, multiplier: 1}
  deduplicate: {by: MessageId, windowSeconds: 300}
  deletionPolicy: Delete";
        space.apply(&consumer("careful", more.trim_start())).await;
        space.ready("QueueConsumer", "careful").await;
        space
            .script(&Script {
                sleep_ms: 3,
                busy_ms: 20_000,
                retry_after_seconds: 1,
                ..Script::default()
            })
            .await;

        let bodies = (0..MESSAGES)
            .map(|n| {
                if n % 20 == 7 {
                    json!({"n": n, "status": 500})
                } else {
                    json!({"n": n})
                }
            })
            .collect();
        let accepted: BTreeSet<_> = publish(space, "careful", bodies)
            .await
            .into_iter()
            .collect();
        assert_eq!(accepted.len() as u64, MESSAGES);

        let stats = space
            .stats_when(
                "everything to be handled or given up",
                Duration::from_mins(5),
                |stats| {
                    stats.handled().count() as u64 == MESSAGES - POISONED
                        && stats.answered(500) as u64 == 3 * POISONED
                        && stats.in_flight == 0
                },
            )
            .await;
        println!(
            "{} calls, {} of them refused with 429; most at once {}",
            stats.calls,
            stats.answered(429),
            stats.most_at_once
        );
        assert_eq!(stats.most_at_once, 1);
        let replicas: BTreeSet<_> = stats
            .messages
            .values()
            .flatten()
            .map(|call| &call.replica)
            .collect();
        assert!(replicas.len() > 1, "only {replicas:?} did something");
        assert!(stats.answered(429) > 0, "the handler was never busy");

        let letters = until("the dead letters", SOON, async || {
            let letters = space.dead_letters("QueueConsumer", "careful").await;
            if letters.len() as u64 == POISONED {
                Ok(letters)
            } else {
                Err(format!("there are {}", letters.len()))
            }
        })
        .await;
        let handled: BTreeSet<_> = stats.handled().map(str::to_owned).collect();
        let mut dead = BTreeSet::new();
        for letter in letters {
            assert_eq!(letter.failure.reason.as_str(), "MaxAttempts");
            assert_eq!(letter.failure.attempts, 3);
            assert_eq!(letter.failure.last_status, Some(500));
            // Being refused did not count: the three attempts are the three answers of 500.
            let calls = &stats.messages[&letter.message.id];
            let counted: Vec<_> = calls
                .iter()
                .filter(|c| c.status == 500)
                .map(|c| c.attempt)
                .collect();
            assert_eq!(counted, [1, 2, 3]);
            dead.insert(letter.message.id);
        }
        assert!(handled.is_disjoint(&dead));
        let ended: BTreeSet<_> = handled.union(&dead).cloned().collect();
        assert_eq!(ended, accepted);
        space
            .condition("QueueConsumer", "careful", "DeadLettersPresent", |c| {
                c["status"] == "True"
            })
            .await;
        space.ready("QueueConsumer", "careful").await;
    })
    .await;
}
