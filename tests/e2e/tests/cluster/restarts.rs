//! The operator dies.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use tokio::sync::RwLock;

use crate::manifests::{bus, shared_nats};
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
async fn an_operator_that_is_killed_while_it_works_converges() {
    const OBJECTS: usize = 20;
    in_space("killed", async |space| {
        let _alone = UNDISTURBED.write().await;
        space.apply(&bus("default", &shared_nats())).await;
        for n in 0..OBJECTS {
            space.apply(&forwarder(&format!("queue-{n}"))).await;
            if n % 7 == 3 {
                kill_operator(space).await;
            }
        }
        for n in 0..OBJECTS {
            space.ready("QueueConsumer", &format!("queue-{n}")).await;
        }
        let runtimes: Vec<_> = space.list("Deployment").await;
        assert_eq!(runtimes.len(), 1, "one runtime for all of them");

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

/// Without grace: as if the node had lost power.
async fn kill_operator(space: &Space) {
    let pods = Api::<Pod>::namespaced(space.client.clone(), &home());
    for pod in operators(space).await {
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await
            .expect("the pod can be killed");
    }
}
