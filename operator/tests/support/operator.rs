//! A whole operator in this process: against [`super::api::Api`], with a broker in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_broker::{BrokerError, MemoryBroker, QueueSpec, SystemClock, Transport, WorkQueue};
use weir_core::config::{BusConfig, QueueConfig};
use weir_core::object::{Kind, ObjectKey};
use weir_operator::brokers::Connect;
use weir_operator::fence::Fence;
use weir_operator::health::Health;
use weir_operator::lease::Times;
use weir_operator::metrics::Metrics;
use weir_operator::probe::{ObjectProblem, ObjectReport, Probe};
use weir_operator::run::{Ended, Parts, run};
use weir_operator::settings::Settings;
use weir_operator::stores::Scope;
use weir_operator::world::{Cluster, Name};

use super::api::Api;

/// Settings for tests: everything soon.
pub fn quick() -> Settings {
    let ms = Duration::from_millis;
    Settings {
        resync: ms(400),
        deletion_timeout: ms(1500),
        broker_grace: ms(300),
        numbers_interval: ms(50),
        busy_resync: ms(100),
        first_pause: ms(10),
        longest_pause: ms(200),
        progress_interval: ms(50),
        debounce: ms(5),
        ..Settings::default()
    }
}

/// Connects to brokers in memory: one for each address. Addresses with `slow` never answer.
#[derive(Default)]
pub struct Memory {
    brokers: Mutex<HashMap<String, Arc<MemoryBroker>>>,
}

impl Memory {
    /// The broker behind an address.
    pub fn at(&self, address: &str) -> Arc<MemoryBroker> {
        let mut brokers = self.brokers.lock().unwrap();
        let broker = brokers
            .entry(address.to_owned())
            .or_insert_with(|| MemoryBroker::new(Arc::new(SystemClock)));
        Arc::clone(broker)
    }

    /// A queue behind an address, as the data plane has it.
    pub fn queue(&self, address: &str, object: ObjectKey, uid: &str) -> Arc<dyn WorkQueue> {
        self.at(address).queue(&spec(object, uid))
    }
}

/// A queue with the defaults.
pub fn spec(object: ObjectKey, uid: &str) -> QueueSpec {
    QueueSpec {
        object,
        uid: uid.to_owned(),
        config: QueueConfig {
            limit: 25,
            batch_max: 1,
            lease_seconds: 30,
            replicas: 1,
            capacity: 1_000_000,
            dead_letter_retention_seconds: 1_209_600,
            fifo: None,
        },
    }
}

#[async_trait]
impl Connect for Memory {
    async fn connect(&self, bus: &BusConfig) -> Result<Arc<dyn Transport>, BrokerError> {
        let BusConfig::Nats { servers, .. } = bus else {
            unreachable!("only NATS in a cluster")
        };
        if servers[0].contains("slow") {
            std::future::pending::<()>().await;
        }
        Ok(self.at(&servers[0]))
    }
}

/// A data plane that has loaded everything, and says what it is told to.
#[derive(Default)]
pub struct Loaded {
    /// Problems of objects.
    pub problems: Mutex<HashMap<ObjectKey, Vec<ObjectProblem>>>,
    api: Mutex<Option<Api>>,
    known: Mutex<Option<(Instant, Arc<Vec<ObjectReport>>)>>,
}

#[async_trait]
impl Probe for Loaded {
    async fn objects(&self, _address: &str) -> Option<Arc<Vec<ObjectReport>>> {
        // What is there does not change much within a moment; many ask.
        let mut known = self.known.lock().unwrap();
        if let Some((when, reports)) = known.as_ref()
            && when.elapsed() < Duration::from_millis(100)
        {
            return Some(Arc::clone(reports));
        }
        let reports = Arc::new(self.reports()?);
        *known = Some((Instant::now(), Arc::clone(&reports)));
        Some(reports)
    }
}

impl Loaded {
    fn reports(&self) -> Option<Vec<ObjectReport>> {
        let api = self.api.lock().unwrap().clone()?;
        let problems = self.problems.lock().unwrap();
        let mut reports = Vec::new();
        for (kind, plural) in [
            (Kind::Webhook, "webhooks"),
            (Kind::QueueConsumer, "queueconsumers"),
            (Kind::FifoConsumer, "fifoconsumers"),
        ] {
            for object in api.all(plural) {
                let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
                let key = ObjectKey::new(kind, text("namespace"), text("name"));
                let problems = problems.get(&key).cloned().unwrap_or_default();
                reports.push(ObjectReport {
                    object: key,
                    generation: None,
                    problems,
                });
            }
        }
        Some(reports)
    }
}

/// An operator that runs.
pub struct Operator {
    pub api: Api,
    pub memory: Arc<Memory>,
    pub probe: Arc<Loaded>,
    pub metrics: Arc<Metrics>,
    pub shutdown: CancellationToken,
    tasks: JoinSet<Result<(), Ended>>,
    _folder: Folder,
}

/// A folder that goes with its owner.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

impl Operator {
    /// Starts one.
    pub fn start(api: &Api, memory: &Arc<Memory>, settings: &Settings) -> Self {
        Self::start_with_ops(api, memory, settings, None)
    }

    /// Starts one that serves the ops API.
    pub fn start_with_ops(
        api: &Api,
        memory: &Arc<Memory>,
        settings: &Settings,
        ops: Option<weir_operator::ops::OpsListener>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        let probe = Arc::new(Loaded::default());
        *probe.api.lock().unwrap() = Some(api.clone());
        let shutdown = CancellationToken::new();
        let fence = Fence::default();
        let ms = Duration::from_millis;
        let folder =
            std::env::temp_dir().join(format!("weir-operator-test-{:016x}", fastrand::u64(..)));
        let parts = Parts {
            client: api.fenced(&fence),
            lease_client: api.client(),
            fence,
            lease_namespace: "weir-system".to_owned(),
            lease_times: Times {
                duration: ms(20_000),
                stop_writing: ms(15_000),
                renew: ms(200),
            },
            identity: format!("test-{:08x}", fastrand::u32(..)),
            account: Name::new("weir-system", "weir-operator"),
            scopes: vec![Scope::Cluster],
            cluster: Cluster {
                sidecar_image: "sidecar:1".to_owned(),
                ..Cluster::default()
            },
            settings: settings.clone(),
            connect: Arc::clone(memory) as Arc<dyn Connect>,
            credentials: folder.clone(),
            probe: Arc::clone(&probe) as Arc<dyn Probe>,
            ops,
            clock: Arc::new(SystemClock),
            metrics: Arc::clone(&metrics),
            health: Health::new(settings.relist * 3),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(run(parts, shutdown.clone()));
        let (api, memory) = (api.clone(), Arc::clone(memory));
        Self {
            api,
            memory,
            probe,
            metrics,
            shutdown,
            tasks,
            _folder: Folder(folder),
        }
    }

    /// Starts one with a server and a broker of its own, and a bus called `default`.
    pub fn alone() -> Self {
        let api = Api::default();
        api.put(&bus("default", "nats://a:4222"));
        Self::start(&api, &Arc::default(), &quick())
    }

    /// Tells it to end and waits until it has.
    pub async fn stop(mut self) -> Result<(), Ended> {
        self.shutdown.cancel();
        self.tasks.join_next().await.unwrap().unwrap()
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> Result<(), Ended> {
        self.tasks.join_next().await.unwrap().unwrap()
    }

    /// Waits for the status of a condition.
    pub async fn until(&self, plural: &str, name: &str, type_: &str, status: &str) {
        let what = format!("{plural}/{name} {type_}={status}");
        self.api
            .until(&what, |api| {
                let object = api.get(plural, name);
                object.is_some_and(|object| condition(&object, type_)["status"] == status)
            })
            .await;
    }

    /// Waits for the reason of a condition.
    pub async fn until_reason(&self, plural: &str, name: &str, type_: &str, reason: &str) {
        let what = format!("{plural}/{name} {type_} because of {reason}");
        self.api
            .until(&what, |api| {
                let object = api.get(plural, name);
                object.is_some_and(|object| condition(&object, type_)["reason"] == reason)
            })
            .await;
    }

    /// The reasons of all events about an object.
    pub fn events(&self, name: &str) -> Vec<String> {
        let events = self.api.all("events");
        let about = events
            .iter()
            .filter(|event| event["regarding"]["name"] == name);
        about
            .map(|event| event["reason"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A condition of an object.
pub fn condition(object: &Value, type_: &str) -> Value {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == type_)
        .unwrap_or_default()
}

/// A bus at an address.
pub fn bus(name: &str, address: &str) -> Value {
    object(
        "MessageBus",
        name,
        &json!({ "nats": { "servers": [address], "replicas": 1 } }),
    )
}

/// A webhook with a handler.
pub fn webhook(name: &str) -> Value {
    object(
        "Webhook",
        name,
        &json!({
            "verify": { "scheme": "Stripe", "secretRef": { "name": "stripe-signing" } },
            "handler": { "image": "handler:1" },
            "concurrency": { "max": 25 },
        }),
    )
}

/// A queue that sends to an address.
pub fn queue(name: &str, spec: &Value) -> Value {
    let mut whole = json!({ "to": { "url": "http://a" } });
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    object("QueueConsumer", name, &whole)
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": "shop" },
        "spec": spec,
    })
}
