//! Carries out the plan of a namespace's shared runtime, and asks its pods.
//!
//! Every object of the namespace needs the runtime; only one of their reconciles works on it at a
//! time, and what it found is used by the others for a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_core::config::ObjectConfig;
use weir_core::object::ObjectKey;

use crate::applier::{self, Applier, NotApplied, Owner};
use crate::bus::Bus;
use crate::error::{Error, chain};
use crate::identity::Identity;
use crate::observe::observe_members;
use crate::plan::{ChildKind, MANAGER};
use crate::pod_security;
use crate::rollout::{Rollout, rollout};
use crate::runtime::{self, Member};
use crate::seen_configs::SeenConfigs;
use crate::stores::Stores;
use crate::world::{Cluster, Name, RUNTIME};

/// How long the runtime of a namespace is not looked at again.
const FRESH: Duration = Duration::from_secs(5);
/// Kinds of children that a runtime can have.
const KINDS: [ChildKind; 4] = [
    ChildKind::Service,
    ChildKind::Deployment,
    ChildKind::PodDisruptionBudget,
    ChildKind::HorizontalPodAutoscaler,
];

/// The runtimes of all namespaces.
#[derive(Default)]
pub struct RuntimeShell(Mutex<HashMap<String, Entry>>);

/// One namespace: whoever holds the lock works on it.
type Entry = Arc<tokio::sync::Mutex<Option<Looked>>>;

/// What was last seen of one runtime.
struct Looked {
    when: Instant,
    members: HashMap<ObjectKey, Member>,
    found: Found,
}

/// Who needs the runtime, or no longer does.
#[derive(Clone, Copy)]
pub enum Asking<'a> {
    /// An object that is served, with the bus that it uses.
    Member(&'a Identity, &'a Bus),
    /// An object that is being deleted.
    Leaving(&'a Identity),
}

impl Looked {
    /// It was just now, and whoever asks was taken into account.
    fn serves(&self, asking: Asking<'_>) -> bool {
        let known = |identity: &Identity| {
            let member = self.members.get(&identity.key)?;
            (member.owner.uid == identity.uid).then_some(member)
        };
        self.when.elapsed() < FRESH
            && match asking {
                Asking::Member(identity, bus) => known(identity).is_some_and(|member| {
                    member.keys_secret == identity.keys_secret && member.bus.as_ref() == Some(bus)
                }),
                Asking::Leaving(identity) => known(identity).is_none(),
            }
    }
}

/// What is there of a runtime.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its Deployment.
    pub rollout: Option<Rollout>,
    /// Addresses of its running pods.
    pub addresses: Vec<String>,
}

impl RuntimeShell {
    /// Makes the runtime of a namespace as wanted.
    pub async fn ensure(
        &self,
        asking: Asking<'_>,
        cluster: &Cluster,
        stores: &Stores,
        applier: &Applier,
        client: &Client,
    ) -> Result<Found, NotApplied> {
        let (Asking::Member(identity, _) | Asking::Leaving(identity)) = asking;
        let namespace = &identity.key.namespace;
        let entry = self.entry(namespace);
        let mut looked = entry.lock().await;
        if let Some(last) = looked.as_ref().filter(|last| last.serves(asking)) {
            return Ok(last.found.clone());
        }
        let (members, sizing) = observe_members(namespace, cluster, stores).await?;
        let wanted = runtime::children(namespace, &members, &sizing, cluster);
        *looked = None;
        pod_security::check(&wanted).map_err(NotApplied::Refused)?;
        let live = applier.live(&KINDS, namespace, &runtime::labels()).await?;
        let mut deployment = None;
        for child in &wanted {
            let applied = applier
                .ensure(child, &format!("{MANAGER}/runtime"), &Owner::Runtime, &live)
                .await?;
            if child.kind == ChildKind::Deployment {
                deployment = serde_json::from_value(applied).ok();
            }
        }
        // Without members nothing is deleted here: it goes with the last of them.
        if !wanted.is_empty() {
            applier
                .prune(namespace, &wanted, &live, &Owner::Runtime)
                .await?;
        }
        let found = look(namespace, deployment, client).await?;
        *looked = Some(Looked {
            when: Instant::now(),
            members: members
                .into_iter()
                .map(|member| (member.key.clone(), member))
                .collect(),
            found: found.clone(),
        });
        Ok(found)
    }

    /// Something of the runtime changed: it is looked at again at once.
    pub fn invalidate(&self, namespace: &str) {
        self.lock().remove(namespace);
    }

    fn entry(&self, namespace: &str) -> Entry {
        Arc::clone(self.lock().entry(namespace.to_owned()).or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look(
    namespace: &str,
    deployment: Option<Deployment>,
    client: &Client,
) -> Result<Found, Error> {
    let Some(deployment) = deployment else {
        return Ok(Found {
            rollout: None,
            addresses: Vec::new(),
        });
    };
    let pods = pods(namespace, &runtime::selector(), client).await?;
    let mut found = rollout(&deployment, &pods);
    // Deployments of tenants may fail for their own reasons; these words lead to the right one.
    if let Some((_, words)) = &mut found.cause {
        *words = format!("shared runtime {namespace}/{RUNTIME}: {words}");
    }
    Ok(Found {
        rollout: Some(found),
        addresses: addresses(&pods),
    })
}

/// Pods by label.
pub async fn pods(
    namespace: &str,
    selector: &std::collections::BTreeMap<String, String>,
    client: &Client,
) -> Result<Vec<Pod>, Error> {
    let labels: Vec<String> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let parameters = ListParams::default().labels(&labels.join(","));
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = api.list(&parameters).await;
    Ok(list
        .map_err(|error| Error::kube("list", format!("pods in {namespace}"), error))?
        .items)
}

/// Addresses of pods that run.
pub fn addresses(pods: &[Pod]) -> Vec<String> {
    pods.iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| pod.status.as_ref()?.pod_ip.clone())
        .collect()
}

/// Puts an object's configuration into the one of the runtime's ConfigMaps that is its, or takes it
/// out. Says whether anything changed.
pub async fn set_config(
    identity: &Identity,
    config: Option<&ObjectConfig>,
    applier: &Applier,
    seen: &SeenConfigs,
) -> Result<bool, NotApplied> {
    let key = &identity.key;
    let name = runtime::shard_name(key);
    let file = ObjectConfig::file_name(key);
    let text = config.map(ObjectConfig::to_json);
    if let Some(text) = &text
        && seen.has(
            &Name::new(&key.namespace, &name),
            &file,
            text,
            &identity.uid,
        )
    {
        return Ok(false);
    }
    let found = applier
        .get(ChildKind::ConfigMap, &key.namespace, &name)
        .await?;
    if let Some(found) = &found {
        applier::refuse_foreign(found, ChildKind::ConfigMap, &key.namespace, &name)?;
    }
    let in_place = found.as_ref().map_or(config.is_none(), |found| {
        found["data"].get(&file).and_then(Value::as_str) == text.as_deref()
            && (config.is_none() || is_owner(found, &identity.uid))
    });
    if in_place {
        return Ok(false);
    }
    // The object stays an owner when its configuration goes: the ConfigMap goes with its last object.
    let mut wanted = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": key.namespace,
            "labels": runtime::labels(),
            "ownerReferences": [{
                "apiVersion": identity.owner.api_version,
                "kind": identity.owner.kind,
                "name": identity.owner.name,
                "uid": identity.owner.uid,
            }],
        },
    });
    if let Some(text) = text {
        wanted["data"] = json!({ file: text });
    }
    let manager = format!("{MANAGER}/{}/{}", key.kind.lower(), key.name);
    applier
        .apply(
            ChildKind::ConfigMap,
            &key.namespace,
            &name,
            &manager,
            &wanted,
        )
        .await?;
    Ok(true)
}

fn is_owner(object: &Value, uid: &str) -> bool {
    let references = object["metadata"]["ownerReferences"].as_array();
    references.is_some_and(|all| all.iter().any(|reference| reference["uid"] == uid))
}

/// Makes the kubelets refresh the configuration that pods have mounted, which they would do by
/// themselves within a minute or so. Best effort.
pub async fn touch_pods(
    namespace: &str,
    selector: &std::collections::BTreeMap<String, String>,
    change: &str,
    client: &Client,
) {
    let pods = match pods(namespace, selector, client).await {
        Ok(pods) => pods,
        Err(error) => {
            tracing::warn!(error = chain(&error), "pods were not touched");
            return;
        }
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let patch = json!({ "metadata": { "annotations": { "weir.dev/config-changed": change } } });
    for pod in pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
    {
        let patched = api
            .patch_metadata(
                &pod.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await;
        match patched {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => tracing::warn!(error = chain(&error), "pod was not touched"),
        }
    }
}
