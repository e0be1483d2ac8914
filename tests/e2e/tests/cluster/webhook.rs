//! A Webhook from the sender's side.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::addresses::{Http, github_signature};
use crate::bus::{messages, streams};
use crate::manifests::{COUNTER, HANDLER, KEY, OWN_NATS, bus, shared_nats, signing_secret};
use crate::space::{Space, in_space};
use crate::wait::{SOON, stays, until};

pub fn webhook(name: &str, more: &str) -> String {
    format!(
        "
apiVersion: weir.dev/v1alpha1
kind: Webhook
metadata: {{name: {name}}}
spec:
  verify: {{scheme: GitHub, secretRef: {{name: signing}}}}
  handler: {HANDLER}
  {more}
"
    )
}

/// A counter, a bus and a Webhook called `hook` that is ready; gives the address of the Webhook.
pub async fn ready_webhook(space: &Space, servers: &str, more: &str) -> String {
    space.apply(COUNTER).await;
    space.apply(&signing_secret("signing")).await;
    space.apply(&bus("default", servers)).await;
    space.apply(&webhook("hook", more)).await;
    space.ready("Webhook", "hook").await;
    space.url("Webhook", "hook").await
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn a_signed_request_is_stored_answered_and_handled() {
    in_space("webhook", async |space| {
        let url = ready_webhook(space, &shared_nats(), "maxBodyBytes: 1024").await;
        let http = Http::new();
        let body = r#"{"hello": "world"}"#;
        let signature = github_signature(KEY, body.as_bytes());
        let signed = [
            ("x-hub-signature-256", signature.as_str()),
            ("content-type", "application/json"),
        ];

        let reply = space.post_when_up(&http, &url, &signed, body).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let id = reply.json()["id"].as_str().expect("an id").to_owned();
        let stats = space
            .stats_when("the message to be handled", SOON, |s| {
                s.handled().any(|handled| handled == id)
            })
            .await;
        assert_eq!(stats.last.body, body);
        assert_eq!(stats.last.headers["ce-type"], "weir.webhook.received");
        assert_eq!(stats.last.headers["content-type"], "application/json");
        assert_eq!(stats.last.headers["weir-attempt"], "1");

        // What was refused is not stored anywhere, nor handled.
        let (queue, _) = streams(space, "Webhook", "hook");
        let jetstream = space.jetstream().await;
        until("an empty queue", SOON, async || {
            match messages(&jetstream, &queue).await {
                Some(0) => Ok(()),
                other => Err(format!("it holds {other:?}")),
            }
        })
        .await;
        let wrong = github_signature("another key", body.as_bytes());
        for headers in [&[("x-hub-signature-256", wrong.as_str())][..], &[]] {
            let reply = http.post(&url, headers, body).await.unwrap();
            assert_eq!(reply.status, 401, "{reply:?}");
        }
        let long = "x".repeat(1025);
        let long_signature = github_signature(KEY, long.as_bytes());
        let reply = http
            .post(&url, &[("x-hub-signature-256", &long_signature)], long)
            .await
            .unwrap();
        assert_eq!(reply.status, 413, "{reply:?}");
        let reply = http
            .post(&format!("{url}-not"), &signed, body)
            .await
            .unwrap();
        assert_eq!(reply.status, 404, "{reply:?}");
        let reply = http.get(&url).await.unwrap();
        assert_eq!(reply.status, 405, "{reply:?}");
        stays(
            "an empty queue",
            Duration::from_secs(2),
            async || match messages(&jetstream, &queue).await {
                Some(0) => Ok(()),
                other => Err(format!("it holds {other:?}")),
            },
        )
        .await;
        assert_eq!(space.stats().await.calls, 1);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn kubectl_shows_what_a_person_looks_for() {
    in_space("columns", async |space| {
        ready_webhook(space, &shared_nats(), "concurrency: {max: 7}").await;
        // Figures are written up to 30 seconds after they change.
        let table = until("figures in the table", SOON, async || {
            let table = kubectl(&["get", "whk", "-n", &space.name]);
            let row = table.lines().nth(1).unwrap_or_default().to_owned();
            let cells: Vec<_> = row.split_whitespace().map(str::to_owned).collect();
            if cells.len() == 7 {
                Ok(table)
            } else {
                Err(format!("it prints\n{table}"))
            }
        })
        .await;
        println!("{table}");
        let mut lines = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(
            lines.next().unwrap(),
            ["NAME", "READY", "BACKLOG", "DEAD", "LIMIT", "URL", "AGE"]
        );
        let row = lines.next().unwrap();
        assert_eq!(row[..5], ["hook", "True", "0", "0", "7"]);
        assert_eq!(
            row[5],
            format!("http://weir-runtime.{}.svc/webhooks/hook", space.name)
        );
        let all = kubectl(&["get", "weir", "-n", &space.name]);
        assert!(
            all.contains("webhook.weir.dev/hook") && all.contains("messagebus.weir.dev/default"),
            "{all}"
        );
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn without_its_broker_a_webhook_answers_503_and_recovers_without_a_restart() {
    in_space("outage", async |space| {
        space.apply(OWN_NATS).await;
        let url = ready_webhook(
            space,
            &format!("nats://own-nats.{}.svc:4222", space.name),
            "",
        )
        .await;
        let http = Http::new();
        let body = "{}";
        let signature = github_signature(KEY, body.as_bytes());
        let signed = [("x-hub-signature-256", signature.as_str())];
        let before = space.post_when_up(&http, &url, &signed, body).await;
        assert_eq!(before.status, 202, "{before:?}");
        space
            .stats_when("the first message", SOON, |s| s.handled().count() == 1)
            .await;
        let pods = space.weir_pods().await;

        space.scale("StatefulSet", "own-nats", 0).await;
        let reply = until("a refusal", SOON, async || {
            let reply = http.post(&url, &signed, body).await?;
            if reply.status == 202 {
                Err("it was accepted".to_owned())
            } else {
                Ok(reply)
            }
        })
        .await;
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
        stays("503", Duration::from_secs(5), async || {
            match http.post(&url, &signed, body).await {
                Ok(reply) if reply.status == 503 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;

        space.scale("StatefulSet", "own-nats", 1).await;
        let id = until("an accepted request", SOON, async || {
            let reply = http.post(&url, &signed, body).await?;
            match reply.json()["id"].as_str() {
                Some(id) if reply.status == 202 => Ok(id.to_owned()),
                _ => Err(format!("{reply:?}")),
            }
        })
        .await;
        space
            .stats_when("the message after the outage", SOON, |s| {
                s.handled().any(|handled| handled == id)
            })
            .await;
        assert_eq!(
            space.weir_pods().await,
            pods,
            "pods were restarted or replaced"
        );
        space.ready("Webhook", "hook").await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn a_secret_that_comes_later_heals_the_webhook() {
    in_space("secret", async |space| {
        space.apply(COUNTER).await;
        space.apply(&bus("default", &shared_nats())).await;
        space.apply(&webhook("hook", "")).await;
        let object = space
            .condition("Webhook", "hook", "Ready", |c| {
                c["status"] == "False"
                    && c["message"].as_str().is_some_and(|m| m.contains("signing"))
            })
            .await;
        println!(
            "{}",
            crate::space::find_condition(&object, "Ready")["message"]
        );

        space.apply(&signing_secret("signing")).await;
        space.ready("Webhook", "hook").await;
        let url = space.url("Webhook", "hook").await;
        let http = Http::new();
        let signature = github_signature(KEY, b"{}");
        until("a signed request to be accepted", SOON, async || {
            let reply = http
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
            .stats_when("the message", SOON, |s| s.handled().count() == 1)
            .await;

        // A second key in the same Secret: both are valid, for as long as the rotation lasts.
        space
            .patch(
                "Secret",
                "signing",
                json!({"stringData": {"next": "another-example-signing-key"}}),
            )
            .await;
        let rotated = github_signature("another-example-signing-key", b"{}");
        until(
            "the new key to be accepted",
            Duration::from_mins(2),
            async || {
                let reply = http
                    .post(&url, &[("x-hub-signature-256", rotated.as_str())], "{}")
                    .await?;
                if reply.status == 202 {
                    Ok(())
                } else {
                    Err(format!("{reply:?}"))
                }
            },
        )
        .await;
        let reply = http
            .post(&url, &[("x-hub-signature-256", signature.as_str())], "{}")
            .await
            .unwrap();
        assert_eq!(reply.status, 202, "{reply:?}");
    })
    .await;
}

/// Output of kubectl, which must succeed.
pub fn kubectl(arguments: &[&str]) -> String {
    let done = Command::new("kubectl")
        .args(arguments)
        .output()
        .expect("kubectl is on the PATH");
    assert!(
        done.status.success(),
        "kubectl {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}
