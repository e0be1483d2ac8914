//! What every reconcile works with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use kube::{Resource, ResourceExt as _};
use tokio::sync::Semaphore;
use weir_broker::Clock;
use weir_crds::conditions::Event;

use crate::applier::Applier;
use crate::backoff::Backoff;
use crate::brokers::Brokers;
use crate::error::chain;
use crate::memory::{Key, Memory};
use crate::metrics::Metrics;
use crate::probe::Probe;
use crate::runtime_shell::RuntimeShell;
use crate::seen_configs::SeenConfigs;
use crate::settings::Settings;
use crate::stores::Stores;
use crate::world::Cluster;

/// Name of this program in field managers, events and the lease.
pub const CONTROLLER: &str = "weir-operator";

/// What every reconcile works with.
pub struct Context {
    /// Reads from, and while the lease is held writes to, the API server.
    pub client: Client,
    /// What the operator was told about the cluster.
    pub cluster: Cluster,
    /// Times and limits.
    pub settings: Settings,
    /// What the watches have seen.
    pub stores: Stores,
    /// Writes children.
    pub applier: Applier,
    /// Connections to brokers.
    pub brokers: Brokers,
    /// Asks the data plane.
    pub probe: Arc<dyn Probe>,
    /// Carries out the plan of the shared runtimes.
    pub runtimes: RuntimeShell,
    /// What the watch has seen of the runtimes' configuration.
    pub seen_configs: SeenConfigs,
    /// From one reconcile to the next.
    pub memory: Memory,
    /// Pauses after failures.
    pub backoff: Backoff<Key>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who writes events.
    pub events: Events,
    /// Places for reconciles of each kind.
    pub places: Places,
}

/// Places for reconciles: some for living objects, others for deletions, so that neither waits for
/// the other.
#[derive(Default)]
pub struct Places(Mutex<HashMap<(&'static str, bool), Arc<Semaphore>>>);

impl Places {
    /// The places of a kind.
    pub fn of(&self, kind: &'static str, deletion: bool, settings: &Settings) -> Arc<Semaphore> {
        let count = if deletion {
            settings.deletion_concurrency
        } else {
            settings.concurrency
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            all.entry((kind, deletion))
                .or_insert_with(|| Arc::new(Semaphore::new(count))),
        )
    }
}

/// Writes Kubernetes Events: for people, best effort, repeated ones gathered into one.
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Writes through `client`, as this instance.
    pub fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter {
            controller: CONTROLLER.to_owned(),
            instance: Some(instance),
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Tells about an object.
    pub async fn tell<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        event: Event,
        note: impl Into<String>,
    ) {
        let type_ = if event.is_normal() {
            EventType::Normal
        } else {
            EventType::Warning
        };
        self.publish(object, event.as_str(), type_, note.into())
            .await;
    }

    async fn publish<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &str,
        type_: EventType,
        mut note: String,
    ) {
        if let Some((end, _)) = note.char_indices().nth(900) {
            note.truncate(end);
        }
        tracing::info!(
            kind = %K::kind(&()), namespace = object.namespace(), name = object.name_any(),
            reason, note, "event"
        );
        let event = KubeEvent {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(error = chain(&error), reason, "event was not written");
        }
    }
}
