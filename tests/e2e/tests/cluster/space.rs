//! A namespace of one test, and what a test does in it.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch,
    PatchParams, PostParams,
};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::wait::{SOON, until};

/// Weir's kinds.
pub const KINDS: [&str; 4] = ["MessageBus", "Webhook", "QueueConsumer", "FifoConsumer"];

const MANAGER: &str = "weir-e2e";

/// A namespace that exists as long as its test runs.
pub struct Space {
    pub client: Client,
    pub name: String,
}

/// Runs `test` in a new namespace called after it; tells what is there if it fails; deletes it.
///
/// `KEEP=1` leaves the namespace. Nobody waits for the deletion here: `tests/e2e/run` does, once for all.
pub async fn in_space(name: &str, test: impl AsyncFnOnce(&Space)) {
    in_labelled_space(name, &json!({}), test).await;
}

/// As [`in_space`], with labels on the namespace.
pub async fn in_labelled_space(name: &str, labels: &Value, test: impl AsyncFnOnce(&Space)) {
    let space = Space::create(name, labels).await;
    let result = AssertUnwindSafe(test(&space)).catch_unwind().await;
    if let Err(panic) = result {
        eprintln!("{}", space.describe().await);
        space.delete().await;
        resume_unwind(panic);
    }
    space.delete().await;
}

/// A client of the cluster. One for each test, because it lives in the test's runtime.
pub async fn client() -> Client {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    Client::try_default()
        .await
        .expect("KUBECONFIG names a cluster")
}

impl Space {
    async fn create(name: &str, labels: &Value) -> Self {
        let client = client().await;
        let mut labels = labels.clone();
        labels["weir-e2e"] = json!("true");
        let namespace =
            json!({"metadata": {"generateName": format!("e2e-{name}-"), "labels": labels}});
        let created = Api::<Namespace>::all(client.clone())
            .create(
                &PostParams::default(),
                &serde_json::from_value(namespace).unwrap(),
            )
            .await
            .expect("a namespace is made");
        let space = Self {
            name: created.name_any(),
            client,
        };
        // Pods are refused until the namespace has its default ServiceAccount.
        until("the default ServiceAccount", SOON, async || {
            space
                .get("ServiceAccount", "default")
                .await
                .ok_or("it is missing")
        })
        .await;
        space
    }

    async fn delete(&self) {
        if std::env::var_os("KEEP").is_none() {
            Api::<Namespace>::all(self.client.clone())
                .delete(&self.name, &DeleteParams::default())
                .await
                .expect("the namespace can be deleted");
        }
    }

    /// The API of a kind in this namespace.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.name, &resource(kind))
    }

    /// An object, if it exists.
    pub async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let found = self.api(kind).get_opt(name).await.expect("the API answers");
        found.map(|object| serde_json::to_value(object).unwrap())
    }

    /// All objects of a kind.
    pub async fn list(&self, kind: &str) -> Vec<Value> {
        let list = self.api(kind).list(&ListParams::default()).await;
        list.expect("the API answers")
            .items
            .iter()
            .map(|object| serde_json::to_value(object).unwrap())
            .collect()
    }

    /// Applies the documents of a YAML text.
    pub async fn apply(&self, yaml: &str) {
        for document in yaml.split("\n---\n") {
            self.try_apply(document)
                .await
                .unwrap_or_else(|error| panic!("{error}\n{document}"));
        }
    }

    /// Applies one document; `Err` if the API server refuses it.
    pub async fn try_apply(&self, yaml: &str) -> Result<(), kube::Error> {
        let object: Value = crate::manifests::parse(yaml).expect("a manifest is YAML");
        let (kind, name) = (
            object["kind"].as_str().expect("a kind"),
            object["metadata"]["name"].as_str().expect("a name"),
        );
        self.api(kind)
            .patch(
                name,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&object),
            )
            .await
            .map(drop)
    }

    /// Merges `patch` into an object.
    pub async fn patch(&self, kind: &str, name: &str, patch: Value) {
        self.api(kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap_or_else(|error| panic!("patch of {kind} {name}: {error}"));
    }

    /// Deletes an object, without waiting for its end.
    pub async fn remove(&self, kind: &str, name: &str) {
        self.api(kind)
            .delete(name, &DeleteParams::default())
            .await
            .unwrap_or_else(|error| panic!("deletion of {kind} {name}: {error}"));
    }

    /// Waits until an object is gone.
    pub async fn gone(&self, kind: &str, name: &str, within: Duration) {
        until(
            &format!("the end of {kind} {name}"),
            within,
            async || match self.get(kind, name).await {
                None => Ok(()),
                Some(object) => Err(format!("it is there: {}", object["metadata"])),
            },
        )
        .await;
    }

    /// Scales a Deployment or `StatefulSet` and waits until so many pods run.
    pub async fn scale(&self, kind: &str, name: &str, replicas: u32) {
        self.patch(kind, name, json!({"spec": {"replicas": replicas}}))
            .await;
        until(
            &format!("{replicas} replicas of {name}"),
            SOON,
            async || {
                let object = self.get(kind, name).await.ok_or("it is missing")?;
                let status = &object["status"];
                let count = |field: &str| status[field].as_u64().unwrap_or(0);
                let wanted = u64::from(replicas);
                if count("replicas") == wanted && count("readyReplicas") == wanted {
                    Ok(())
                } else {
                    Err(format!("its status is {status}"))
                }
            },
        )
        .await;
    }

    /// Waits until an object's Ready condition is True for its present generation.
    pub async fn ready(&self, kind: &str, name: &str) -> Value {
        self.condition(kind, name, "Ready", |c| c["status"] == "True")
            .await
    }

    /// Waits until a condition of the object's present generation is as wanted; gives the object.
    pub async fn condition(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        until(&format!("{condition} of {kind} {name}"), SOON, async || {
            let object = self.get(kind, name).await.ok_or("it is missing")?;
            let found = find_condition(&object, condition);
            let current = found["observedGeneration"] == object["metadata"]["generation"];
            if current && wanted(found) {
                Ok(object)
            } else {
                Err(format!(
                    "its conditions are {}",
                    object["status"]["conditions"]
                ))
            }
        })
        .await
    }

    /// Waits for an event about an object of this namespace.
    pub async fn event(&self, reason: &str, object: &str) -> Value {
        until(
            &format!("an event {reason} about {object}"),
            SOON,
            async || {
                let events = self.events().await;
                let about = |e: &&Event| {
                    e.reason.as_deref() == Some(reason)
                        && e.involved_object.name.as_deref() == Some(object)
                };
                let found = events.iter().find(about);
                found
                    .map(|event| serde_json::to_value(event).unwrap())
                    .ok_or_else(|| {
                        let reasons: Vec<_> =
                            events.iter().filter_map(|e| e.reason.as_deref()).collect();
                        format!("there are only {reasons:?}")
                    })
            },
        )
        .await
    }

    /// The pods of this namespace.
    pub async fn pods(&self) -> Vec<Pod> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.name);
        pods.list(&ListParams::default())
            .await
            .expect("the API answers")
            .items
    }

    /// Name, uid and restarts of every pod that Weir made: the same before and after means that none
    /// was restarted or replaced.
    pub async fn weir_pods(&self) -> Vec<(String, String, i32)> {
        let made_by_weir = |pod: &&Pod| {
            pod.labels()
                .get("app.kubernetes.io/managed-by")
                .is_some_and(|m| m == "weir")
        };
        let mut pods: Vec<_> = self
            .pods()
            .await
            .iter()
            .filter(made_by_weir)
            .map(|pod| (pod.name_any(), pod.uid().unwrap_or_default(), restarts(pod)))
            .collect();
        pods.sort();
        assert!(!pods.is_empty(), "no pod of Weir's");
        pods
    }

    async fn events(&self) -> Vec<Event> {
        let events = Api::<Event>::namespaced(self.client.clone(), &self.name);
        events
            .list(&ListParams::default())
            .await
            .expect("the API answers")
            .items
    }

    /// For people who look into a failure.
    async fn describe(&self) -> String {
        let mut text = format!("\n--- namespace {}\n", self.name);
        for kind in KINDS {
            for object in self.list(kind).await {
                let name = &object["metadata"]["name"];
                let _ = writeln!(text, "{kind} {name}: {:#}", object["status"]);
            }
        }
        for event in self.events().await {
            let object = event.involved_object;
            let _ = writeln!(
                text,
                "event: {} {} {}: {}",
                object.kind.unwrap_or_default(),
                object.name.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            );
        }
        for pod in self.pods().await {
            describe_pod(&self.client, &pod, 40, &mut text).await;
        }
        let labels = ListParams::default().labels("app.kubernetes.io/name=weir-operator");
        if let Ok(operators) = Api::<Pod>::all(self.client.clone()).list(&labels).await {
            for pod in operators.items {
                describe_pod(&self.client, &pod, 60, &mut text).await;
            }
        }
        text
    }
}

async fn describe_pod(client: &Client, pod: &Pod, lines: i64, text: &mut String) {
    let status = pod.status.clone().unwrap_or_default();
    let _ = writeln!(
        text,
        "pod {}: {}, restarts {}",
        pod.name_any(),
        status.phase.unwrap_or_default(),
        restarts(pod)
    );
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let spec = pod.spec.clone().unwrap_or_default();
    let containers = spec
        .init_containers
        .into_iter()
        .flatten()
        .chain(spec.containers);
    for container in containers {
        let parameters = LogParams {
            container: Some(container.name.clone()),
            tail_lines: Some(lines),
            ..LogParams::default()
        };
        let log = match api.logs(&pod.name_any(), &parameters).await {
            Ok(log) => log,
            Err(error) => format!("no log: {error}"),
        };
        let _ = writeln!(
            text,
            "  log of {}:\n    {}",
            container.name,
            log.trim().replace('\n', "\n    ")
        );
    }
}

/// A condition of an object by its type, or null.
pub fn find_condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == type_)
        .unwrap_or(&Value::Null)
}

/// How often containers of a pod, sidecars included, were started again.
pub fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.clone().unwrap_or_default();
    let init = status.init_container_statuses.unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    init.iter()
        .chain(&containers)
        .map(|c| c.restart_count)
        .sum()
}

/// How the API server names a kind.
pub fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "Deployment" | "StatefulSet" | "ReplicaSet" => ("apps", "v1"),
        "Role" | "RoleBinding" => ("rbac.authorization.k8s.io", "v1"),
        "Lease" => ("coordination.k8s.io", "v1"),
        kind if KINDS.contains(&kind) => ("weir.dev", "v1alpha1"),
        _ => ("", "v1"),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}
