//! One runtime, one broker, one handler; requests by a small client. Waits are on a state, with a
//! deadline.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir_broker::{BrokerError, Depth, MemoryBroker, QueueSpec, SystemClock, Transport, WorkQueue};
use weir_core::config::{
    BusConfig, ConsumerConfig, IntakeConfig, ObjectConfig, Protocol, QueueConfig, RetryConfig,
    TargetConfig, VERSION, WhenExhausted,
};
use weir_core::object::{Kind, ObjectKey};
use weir_sidecar::{Config, ConfigSource, Connect, Listeners, RunError, Settings, run};

mod client;
mod handler;

pub use client::{Answer, get, send};
pub use handler::{Call, Handler, Reply, by_body, status_of};

/// Longest wait for anything in these tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A runtime that runs.
pub struct Weir {
    pub broker: Arc<MemoryBroker>,
    pub config: watch::Sender<Arc<Config>>,
    pub intake: SocketAddr,
    pub admin: SocketAddr,
    pub ops: SocketAddr,
    pub shutdown: CancellationToken,
    running: JoinSet<Result<(), RunError>>,
}

struct OnlyMemory(Arc<MemoryBroker>);

#[async_trait]
impl Connect for OnlyMemory {
    async fn connect(&self, bus: &BusConfig) -> Result<Arc<dyn Transport>, BrokerError> {
        assert_eq!(*bus, BusConfig::Memory {});
        Ok(self.0.clone())
    }
}

/// Short times, so that tests need not wait.
pub fn settings() -> Settings {
    Settings {
        readiness_interval: Duration::from_millis(10),
        housekeeping_interval: Duration::from_millis(20),
        config_interval: Duration::from_millis(20),
        allow_loopback_targets: true,
        ..Settings::default()
    }
}

pub async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl Weir {
    /// Runs these objects on a broker of their own.
    pub async fn start(objects: Vec<ObjectConfig>) -> Self {
        Self::start_with(objects, settings()).await
    }

    pub async fn start_with(objects: Vec<ObjectConfig>, settings: Settings) -> Self {
        let broker = MemoryBroker::new(Arc::new(SystemClock));
        for object in &objects {
            apply(&broker, object).await;
        }
        Self::start_on(broker, objects, settings).await
    }

    /// Runs these objects on a broker that others may share.
    pub async fn start_on(
        broker: Arc<MemoryBroker>,
        objects: Vec<ObjectConfig>,
        settings: Settings,
    ) -> Self {
        let (config, updates) = watch::channel(Config::of(objects));
        let weir = Self::start_from(broker, ConfigSource::Updates(updates), config, settings).await;
        let objects = weir.config.borrow().objects.len();
        weir.served(objects).await;
        weir
    }

    pub async fn start_from(
        broker: Arc<MemoryBroker>,
        source: ConfigSource,
        config: watch::Sender<Arc<Config>>,
        settings: Settings,
    ) -> Self {
        let (intake, admin, ops) = (listener().await, listener().await, listener().await);
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        let (addresses, broker_of) = (
            [address(&intake), address(&admin), address(&ops)],
            broker.clone(),
        );
        let connect = Arc::new(OnlyMemory(broker_of));
        let listeners = Listeners {
            intake,
            admin: Some(admin),
            ops: Some(ops),
        };
        let stop = shutdown.clone();
        running.spawn(async move {
            run(
                source,
                connect,
                Arc::new(SystemClock),
                listeners,
                settings,
                stop,
            )
            .await
        });
        let [intake, admin, ops] = addresses;
        Self {
            broker,
            config,
            intake,
            admin,
            ops,
            shutdown,
            running,
        }
    }

    /// Waits until so many objects are served and connected.
    pub async fn served(&self, objects: usize) {
        until("the objects are served", || async {
            let body = get(self.admin, "/objects").await.json();
            let served = body["objects"].as_array().unwrap();
            let connected = !*self.broker.connected().borrow()
                || served.iter().all(|object| object["connected"] == true);
            served.len() == objects && connected
        })
        .await;
    }

    /// Serves these objects instead.
    pub async fn reconfigure(&self, objects: Vec<ObjectConfig>) {
        for object in &objects {
            apply(&self.broker, object).await;
        }
        self.config.send_replace(Config::of(objects));
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        send(self.intake, Request::post(path), body).await
    }

    pub fn queue(&self, object: &ObjectConfig) -> Arc<dyn WorkQueue> {
        self.broker.queue(&spec(object))
    }

    pub async fn depth(&self, object: &ObjectConfig) -> Depth {
        self.queue(object).depth().await.unwrap()
    }

    /// Waits until nothing waits, runs or is delayed.
    pub async fn settled(&self, object: &ObjectConfig) -> Depth {
        until("every message is settled", || async {
            let depth = self.depth(object).await;
            depth.ready + depth.in_flight + depth.delayed == 0
        })
        .await;
        self.depth(object).await
    }

    /// What `/objects` says about an object.
    pub async fn object(&self, name: &str) -> Value {
        let body = get(self.admin, "/objects").await.json();
        let objects = body["objects"].as_array().unwrap();
        objects
            .iter()
            .find(|object| object["name"] == name)
            .cloned()
            .unwrap_or_default()
    }

    /// The value of one series, 0 when there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = get(self.admin, "/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits for the runtime to end by itself or because it was told to.
    pub async fn end(mut self) -> Result<(), RunError> {
        timeout(PATIENCE, self.running.join_next())
            .await
            .expect("it ends")
            .unwrap()
            .unwrap()
    }

    pub async fn stop(self) -> Result<(), RunError> {
        self.shutdown.cancel();
        self.end().await
    }

    /// Ends it at once, as SIGKILL would.
    pub async fn kill(mut self) {
        self.running.shutdown().await;
    }
}

/// Waits for a state.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let check = async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, check)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

pub fn spec(object: &ObjectConfig) -> QueueSpec {
    QueueSpec {
        object: object.object.clone(),
        uid: object.uid.clone(),
        config: object.queue.clone(),
    }
}

pub async fn apply(broker: &MemoryBroker, object: &ObjectConfig) {
    broker.apply_queue(&spec(object)).await.unwrap();
}

/// A webhook that takes everything.
pub fn webhook(name: &str) -> ObjectConfig {
    object(Kind::Webhook, name, false)
}

/// A queue with the publish API.
pub fn queue(name: &str) -> ObjectConfig {
    object(Kind::QueueConsumer, name, true)
}

fn object(kind: Kind, name: &str, publish_api: bool) -> ObjectConfig {
    ObjectConfig {
        version: VERSION,
        object: ObjectKey::new(kind, "shop", name),
        uid: format!("uid-{name}"),
        generation: 1,
        bus: BusConfig::Memory {},
        queue: QueueConfig {
            limit: 100,
            batch_max: 1,
            lease_seconds: 30,
            replicas: 1,
            capacity: 100_000,
            dead_letter_retention_seconds: 3600,
            fifo: None,
        },
        intake: Some(IntakeConfig {
            methods: vec!["POST".to_owned()],
            max_body_bytes: 512 * 1024,
            status: 202,
            verify: None,
            deduplicate: None,
            group: None,
            delay_seconds: 0,
            publish_api,
        }),
        consumer: None,
    }
}

/// Lets a handler consume the object.
pub fn consumed_by(mut object: ObjectConfig, handler: SocketAddr) -> ObjectConfig {
    object.consumer = Some(ConsumerConfig {
        target: TargetConfig::Handler {
            url: format!("http://{handler}/in"),
            readiness_path: None,
        },
        protocol: Protocol::CloudEvents,
        timeout_seconds: 10,
        per_replica: 10,
        batch_window_seconds: 0,
        retry: RetryConfig {
            max_attempts: 3,
            initial_seconds: 0,
            multiplier: 1,
            max_seconds: 0,
            max_age_seconds: 3600,
            permanent_statuses: vec![400, 410],
        },
        when_exhausted: WhenExhausted::DeadLetter,
        paused: false,
    });
    object
}

pub fn consumer(object: &mut ObjectConfig) -> &mut ConsumerConfig {
    object.consumer.as_mut().unwrap()
}
