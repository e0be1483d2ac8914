//! The transports under test.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_broker::{MemoryBroker, NatsTransport, QueueSpec, SystemClock, Transport};
use weir_core::config::BusConfig;
use weir_core::names::QueueNames;

use crate::proxy::Proxy;
use crate::server::Server;

/// What a guarantee needs beside a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A server that can be killed and started again.
    ServerKill,
    /// A connection that can be cut between two steps of one operation.
    CutConnection,
    /// A bound on the number of waiting messages, kept by the transport itself.
    Capacity,
    /// Old versions.
    Versions,
    /// Clients that know nothing of Weir and write into the broker.
    Strangers,
}

/// A transport, and the means to disturb it.
#[async_trait]
pub trait Subject: Send + Sync {
    /// What it does not have, with the reason.
    fn lacks(&self, feature: Feature) -> Option<&'static str>;

    /// A client as another process would be one.
    async fn connect(&self) -> Arc<dyn Transport>;

    /// A client whose connection can be disturbed. Only with [`Feature::CutConnection`].
    async fn connect_through_proxy(&self) -> (Arc<dyn Transport>, Proxy);

    /// Makes the broker unreachable: kills the server where there is one.
    fn take_down(&self);

    /// Ends that.
    fn bring_up(&self);

    /// Puts something that is not ours where the queue of `spec` would be.
    async fn plant_foreign(&self, spec: &QueueSpec);

    /// Changes the topology of `spec` behind our back: the limit becomes 1.
    async fn drift(&self, spec: &QueueSpec);

    /// Stores a message that Weir did not write. Only with [`Feature::Strangers`].
    async fn write_as_stranger(&self, spec: &QueueSpec, body: &'static str);
}

/// The memory transport.
pub struct Memory {
    broker: Arc<MemoryBroker>,
}

impl Memory {
    /// An empty broker.
    pub fn start() -> Self {
        Self {
            broker: MemoryBroker::new(Arc::new(SystemClock)),
        }
    }
}

#[async_trait]
impl Subject for Memory {
    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::ServerKill => Some("it ends with the process"),
            Feature::CutConnection => Some("it has no connection"),
            Feature::Versions => Some("it has one version"),
            Feature::Strangers => Some("nobody else can reach it"),
            Feature::Capacity => None,
        }
    }

    async fn connect(&self) -> Arc<dyn Transport> {
        Arc::<MemoryBroker>::clone(&self.broker)
    }

    async fn connect_through_proxy(&self) -> (Arc<dyn Transport>, Proxy) {
        panic!("it has no connection")
    }

    fn take_down(&self) {
        self.broker.set_reachable(false);
    }

    fn bring_up(&self) {
        self.broker.set_reachable(true);
    }

    async fn plant_foreign(&self, spec: &QueueSpec) {
        let other = QueueSpec {
            uid: "foreign".to_owned(),
            ..spec.clone()
        };
        self.broker.apply_queue(&other).await.unwrap();
    }

    async fn drift(&self, spec: &QueueSpec) {
        let mut drifted = spec.clone();
        drifted.config.limit = 1;
        self.broker.apply_queue(&drifted).await.unwrap();
    }

    async fn write_as_stranger(&self, _: &QueueSpec, _: &'static str) {
        panic!("nobody else can reach it")
    }
}

/// NATS of one version.
pub struct Nats {
    server: Mutex<Server>,
}

impl Nats {
    /// Starts a server of a version.
    pub fn start(version: &str) -> Self {
        Self {
            server: Mutex::new(Server::start(version, Vec::new())),
        }
    }

    fn url(&self) -> String {
        self.server.lock().unwrap().url()
    }

    async fn open(url: String) -> Arc<dyn Transport> {
        let bus = BusConfig::Nats {
            servers: vec![url],
            credentials_file: None,
            ca_file: None,
        };
        let transport = NatsTransport::connect(&bus, Arc::new(SystemClock))
            .await
            .unwrap();
        transport.connected().wait_for(|up| *up).await.unwrap();
        Arc::new(transport)
    }

    async fn api(&self, subject: String, body: Value) -> Value {
        let client = async_nats::connect(self.url()).await.unwrap();
        let answer = client
            .request(format!("$JS.API.{subject}"), body.to_string().into())
            .await
            .unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["error"].is_null(), "{subject}: {answer}");
        answer
    }
}

#[async_trait]
impl Subject for Nats {
    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::Capacity => Some(
                "streams with schedules cannot refuse new messages; the intake reads the depth",
            ),
            _ => None,
        }
    }

    async fn connect(&self) -> Arc<dyn Transport> {
        Self::open(self.url()).await
    }

    async fn connect_through_proxy(&self) -> (Arc<dyn Transport>, Proxy) {
        let upstream = self.server.lock().unwrap().address();
        let proxy = Proxy::start(upstream).await;
        (Self::open(proxy.url()).await, proxy)
    }

    fn take_down(&self) {
        self.server.lock().unwrap().kill();
    }

    fn bring_up(&self) {
        self.server.lock().unwrap().restart();
    }

    async fn plant_foreign(&self, spec: &QueueSpec) {
        let stream = QueueNames::of(&spec.object).queue_stream();
        let body = json!({ "name": stream, "subjects": [format!("foreign.{stream}")] });
        self.api(format!("STREAM.CREATE.{stream}"), body).await;
    }

    async fn drift(&self, spec: &QueueSpec) {
        let stream = QueueNames::of(&spec.object).queue_stream();
        let info = self.api(format!("STREAM.INFO.{stream}"), Value::Null).await;
        let mut config = info["config"].clone();
        config["duplicate_window"] = 60_000_000_000_u64.into();
        self.api(format!("STREAM.UPDATE.{stream}"), config).await;
        let info = self
            .api(format!("CONSUMER.INFO.{stream}.workers"), Value::Null)
            .await;
        let mut config = info["config"].clone();
        config["max_ack_pending"] = 1.into();
        let filter = config["filter_subject"].as_str().unwrap().to_owned();
        let body = json!({ "stream_name": stream, "action": "update", "config": config });
        self.api(format!("CONSUMER.CREATE.{stream}.workers.{filter}"), body)
            .await;
    }

    async fn write_as_stranger(&self, spec: &QueueSpec, body: &'static str) {
        let client = async_nats::connect(self.url()).await.unwrap();
        let subject = QueueNames::of(&spec.object).role("main");
        let answer = client.request(subject, body.into()).await.unwrap();
        assert!(
            answer.payload.starts_with(b"{\"stream\""),
            "{:?}",
            answer.payload
        );
    }
}
