//! Order within groups, over several replicas, with one group that fails.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use weir_e2e::Stats;

use crate::addresses::Http;
use crate::manifests::{COUNTER, HANDLER, bus, shared_nats};
use crate::space::{Space, in_space};
use crate::wait::{SOON, until};

const GROUPS: [&str; 6] = ["a", "b", "c", "d", "e", "poisoned"];
const MESSAGES: usize = 30;
const BAD: usize = 4;

fn ordered(name: &str, when_exhausted: &str) -> String {
    format!(
        "
apiVersion: weir.dev/v1alpha1
kind: FifoConsumer
metadata: {{name: {name}}}
spec:
  groupBy: '{{% data.group %}}'
  handler: {HANDLER}
  concurrency: {{max: 20, perReplica: 10}}
  scaling: {{minReplicas: 2, maxReplicas: 2}}
  retry: {{maxAttempts: 3, initialSeconds: 1, multiplier: 1, maxSeconds: 1}}
  deduplicate: {{by: MessageId, windowSeconds: 300}}
  whenExhausted: {when_exhausted}
  deletionPolicy: Delete
"
    )
}

/// Publishes the messages of a group one after the other; gives their ids in order.
async fn publish(space: &Space, url: &str, group: &str) -> Vec<String> {
    let http = Http::new();
    let mut ids = Vec::new();
    for number in 0..MESSAGES {
        let status = if group == "poisoned" && number == BAD {
            500
        } else {
            200
        };
        let body = json!({"group": group, "number": number, "status": status}).to_string();
        // The key makes it safe to try again, however the last try ended.
        let key = format!("{}-{group}-{number}", space.name);
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", key.as_str()),
        ];
        let id = until("a message to be accepted", SOON, async || {
            let reply = http.post(url, &headers, body.clone()).await?;
            match reply.json()["id"].as_str() {
                Some(id) if reply.status == 202 => Ok(id.to_owned()),
                _ => Err(format!("{reply:?}")),
            }
        });
        ids.push(id.await);
    }
    ids
}

/// The calls of a group, repeats of the same message in a row counted once.
fn order(stats: &Stats, group: &str) -> Vec<String> {
    let mut ids = stats.groups.get(group).cloned().unwrap_or_default();
    ids.dedup();
    ids
}

async fn start(space: &Space, name: &str, when_exhausted: &str) -> Vec<Vec<String>> {
    space.apply(COUNTER).await;
    space.apply(&bus("default", &shared_nats())).await;
    space.apply(&ordered(name, when_exhausted)).await;
    space.ready("FifoConsumer", name).await;
    let url = space.url("FifoConsumer", name).await;
    join_all(GROUPS.iter().map(|group| publish(space, &url, group))).await
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn groups_keep_their_order_over_two_replicas_and_a_poisoned_one_stops_no_other() {
    in_space("fifo", async |space| {
        let accepted = start(space, "ledger", "DeadLetter").await;
        let all = GROUPS.len() * MESSAGES;
        let stats = space
            .stats_when(
                "everything to be handled or given up",
                Duration::from_mins(3),
                |stats| stats.handled().count() == all - 1 && stats.in_flight == 0,
            )
            .await;
        assert_eq!(stats.overlaps, 0, "one call of a group at a time");
        for (group, ids) in GROUPS.iter().zip(&accepted) {
            assert_eq!(order(&stats, group), *ids, "group {group}");
        }
        let bad = &accepted[GROUPS.len() - 1][BAD];
        let attempts: Vec<u32> = stats.messages[bad]
            .iter()
            .map(|call| call.attempt)
            .collect();
        assert_eq!(attempts, [1, 2, 3]);
        let replicas: BTreeSet<_> = stats
            .messages
            .values()
            .flatten()
            .map(|call| &call.replica)
            .collect();
        println!(
            "{} calls, most at once {}, {replicas:?}",
            stats.calls, stats.most_at_once
        );

        let letters = until("the dead letter", SOON, async || {
            let letters = space.dead_letters("FifoConsumer", "ledger").await;
            if letters.is_empty() {
                Err("there is none")
            } else {
                Ok(letters)
            }
        })
        .await;
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].message.id, *bad);
        assert_eq!(letters[0].message.group.as_deref(), Some("poisoned"));

        let status = status_when(space, "ledger", "no group to be left", |status| {
            status["groups"] == 0 && status["backlog"] == 0 && status["deadLetters"] == 1
        })
        .await;
        assert_eq!(status["blockedGroups"], 0);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn a_blocked_group_keeps_what_it_has_and_the_others_go_on() {
    in_space("fifo-block", async |space| {
        let accepted = start(space, "strict", "BlockGroup").await;
        let others = (GROUPS.len() - 1) * MESSAGES;
        let stats = space
            .stats_when("all that may be handled", Duration::from_mins(3), |stats| {
                stats.handled().count() == others + BAD && stats.answered(500) == 3
            })
            .await;
        assert_eq!(stats.overlaps, 0, "one call of a group at a time");
        assert_eq!(
            order(&stats, "poisoned"),
            accepted[GROUPS.len() - 1][..=BAD]
        );

        let status = status_when(space, "strict", "the blocked group", |status| {
            status["blockedGroups"] == 1
        })
        .await;
        assert_eq!(status["deadLetters"], 0);
        assert_eq!(status["backlog"], MESSAGES - BAD);
        space.event("GroupBlocked", "strict").await;
        space.ready("FifoConsumer", "strict").await;
    })
    .await;
}

/// Waits for numbers in the status.
async fn status_when(
    space: &Space,
    name: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    until(what, SOON, async || {
        let object = space
            .get("FifoConsumer", name)
            .await
            .ok_or("it is missing")?;
        let status = object["status"].clone();
        if wanted(&status) {
            Ok(status)
        } else {
            Err(format!("its status is {status}"))
        }
    })
    .await
}
