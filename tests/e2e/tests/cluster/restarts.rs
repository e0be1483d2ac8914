//! The operator dies.

use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::RwLock;

use crate::limits::{consumer, publish};
use crate::manifests::{COUNTER, bus, shared_nats};
use crate::space::{Space, in_space};
use crate::wait::{SOON, until};

/// Held for reading by a test that needs the operator undisturbed, for writing by the one that kills it.
pub static UNDISTURBED: RwLock<()> = RwLock::const_new(());

/// Where the chart is installed.
pub fn home() -> String {
    std::env::var("WEIR_E2E_HOME").unwrap_or_else(|_| "weir-system".to_owned())
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn an_operator_that_is_killed_ten_times_converges_and_no_message_notices() {
    const OBJECTS: usize = 20;
    const KILLS: usize = 10;
    const MESSAGES: usize = 5000;
    in_space("killed", async |space| {
        let _alone = UNDISTURBED.write().await;
        space.apply(COUNTER).await;
        space.apply(&bus("default", &shared_nats())).await;
        let more = "
  concurrency: {max: 16}
  deduplicate: {by: MessageId, windowSeconds: 300}
  deletionPolicy: Delete";
        space.apply(&consumer("steady", more.trim_start())).await;
        space.ready("QueueConsumer", "steady").await;

        let killed_all = AtomicBool::new(false);
        let traffic = async {
            let mut accepted = Vec::new();
            while accepted.len() < MESSAGES || !killed_all.load(Ordering::Relaxed) {
                let bodies = (0..100).map(|n| json!({"n": accepted.len() + n})).collect();
                accepted.extend(publish(space, "steady", bodies).await);
            }
            accepted
        };
        let changes = async {
            for n in 0..OBJECTS {
                space.apply(&forwarder(&format!("queue-{n}"))).await;
                if n % (OBJECTS / KILLS) == 0 {
                    kill_operator(space).await;
                }
            }
            killed_all.store(true, Ordering::Relaxed);
        };
        let (accepted, ()) = futures::join!(traffic, changes);
        let stats = space
            .stats_when("every message to be handled", SOON, |stats| {
                stats.handled().count() == accepted.len() && stats.in_flight == 0
            })
            .await;
        println!(
            "{KILLS} kills of the operator: {} accepted, {} handled in {} calls",
            accepted.len(),
            stats.handled().count(),
            stats.calls
        );
        assert_eq!(
            stats.calls,
            accepted.len() as u64,
            "nobody who carries messages was killed"
        );

        for n in 0..OBJECTS {
            space.ready("QueueConsumer", &format!("queue-{n}")).await;
        }
        let runtimes = space.list("Deployment").await;
        let runtimes = runtimes
            .iter()
            .filter(|d| d["metadata"]["name"] == "weir-runtime");
        assert_eq!(runtimes.count(), 1, "one runtime for all of them");

        // One holds the Lease, and it is the one that lives.
        let leases = Api::<Lease>::namespaced(space.client.clone(), &home());
        until("a living holder of the Lease", SOON, async || {
            let held = leases
                .list(&ListParams::default())
                .await
                .map_err(|e| e.to_string())?;
            let holders: Vec<_> = held
                .items
                .iter()
                .filter_map(|l| l.spec.as_ref()?.holder_identity.clone())
                .collect();
            let running: Vec<_> = operators(space)
                .await
                .iter()
                .map(ResourceExt::name_any)
                .collect();
            match (&holders[..], &running[..]) {
                ([holder], [pod]) if holder.contains(pod.as_str()) => Ok(()),
                _ => Err(format!("{holders:?} hold it and {running:?} run")),
            }
        })
        .await;
    })
    .await;
}

/// A queue that the shared runtime works off, so that it needs no pod of its own.
pub fn forwarder(name: &str) -> String {
    format!(
        "
apiVersion: weir.dev/v1alpha1
kind: QueueConsumer
metadata: {{name: {name}}}
spec: {{to: {{url: 'http://counter:8080/'}}}}
"
    )
}

async fn operators(space: &Space) -> Vec<Pod> {
    let pods = Api::<Pod>::namespaced(space.client.clone(), &home());
    let labels = ListParams::default().labels("app.kubernetes.io/name=weir-operator");
    let mut found = pods.list(&labels).await.expect("the API answers").items;
    // The Job that checks an installation has the same labels and has ended.
    found.retain(|pod| {
        pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
            && pod.metadata.deletion_timestamp.is_none()
    });
    found
}

/// Kills the operator that runs, waiting for one if the last one has not been replaced yet. Without
/// grace: as if the node had lost power.
async fn kill_operator(space: &Space) {
    let pods = Api::<Pod>::namespaced(space.client.clone(), &home());
    let pod = until("an operator that runs", SOON, async || {
        operators(space).await.pop().ok_or("there is none")
    })
    .await;
    pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
        .await
        .expect("the pod can be killed");
}
