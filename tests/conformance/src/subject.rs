//! The transports under test.

pub mod rabbitmq;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_broker::{Clock, MemoryBroker, NatsTransport, QueueSpec, SystemClock, Transport};
use weir_core::config::BusConfig;
use weir_core::names::{QueueNames, token};

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
    /// Clients that know nothing of Weir and write into the broker.
    Strangers,
    /// Records beside the messages, and with them redrives.
    Records,
    /// A place for dead letters that can be taken away or filled up behind our back.
    ForbidDeadLetters,
    /// FIFO queues.
    Fifo,
    /// What happens to a group and to its turn are two steps.
    TurnsApart,
    /// Messages that wait can be looked at without taking them.
    Peek,
    /// The age of the oldest message can be read.
    Age,
    /// A delivery stays its holder's while the connection is lost, for as long as its lease.
    LeaseOverOutage,
    /// An acknowledgement that was answered holds over a kill of the server right after it.
    DurableAck,
    /// Storing a copy elsewhere and acknowledging the delivery have one effect, whoever dies between.
    AtomicHandover,
}

/// A step of an operation, before which a connection can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The acknowledgement of a delivery.
    Acknowledge,
    /// The last part of a publication, without which nothing is stored.
    Publish,
    /// The turn of a group, after the message is stored. Only with [`Feature::TurnsApart`].
    StoreTurn,
    /// The removal of a message of a group, after its dead letter is stored.
    RemoveDeadLettered,
    /// The end of a turn.
    EndTurn,
}

/// A transport, and the means to disturb it.
#[async_trait]
pub trait Subject: Send + Sync {
    /// What it does not have, with the reason.
    fn lacks(&self, feature: Feature) -> Option<&'static str>;

    /// Copies of each stream.
    fn replicas(&self) -> u32 {
        1
    }

    /// A client as another process would be one.
    async fn connect(&self) -> Arc<dyn Transport>;

    /// A client whose connection can be disturbed. Only with [`Feature::CutConnection`].
    async fn connect_through_proxy(&self) -> (Arc<dyn Transport>, Proxy);

    /// What a client sends at a step. Only with [`Feature::CutConnection`].
    fn cut_at(&self, step: Step) -> &'static [u8];

    /// Makes the broker unreachable: kills the server where there is one.
    fn take_down(&self);

    /// Ends that.
    fn bring_up(&self);

    /// Starts what a guarantee that failed left down.
    fn bring_up_if_down(&self) {}

    /// How old the numbers of a queue may be.
    fn lag(&self) -> Duration {
        Duration::ZERO
    }

    /// A short lease, in which a server that was killed is back and a step gets done, seconds.
    fn short_lease(&self) -> u32 {
        2
    }

    /// How long the servers serve between two kills: long enough to get something done.
    fn between_kills(&self) -> Duration {
        Duration::from_millis(900)
    }

    /// Kills one server and starts it again, where there are several; otherwise the only one.
    fn kill_one(&self) {
        self.take_down();
        self.bring_up();
    }

    /// Puts something that is not ours where the queue of `spec` would be.
    async fn plant_foreign(&self, spec: &QueueSpec);

    /// Changes the topology of `spec` behind our back: the limit becomes 1.
    async fn drift(&self, spec: &QueueSpec);

    /// From now on no dead letter of `spec` can be stored: it has no place, or where `full` no room.
    /// [`Transport::apply_queue`] mends both. Only with [`Feature::ForbidDeadLetters`].
    async fn forbid_dead_letters(&self, spec: &QueueSpec, full: bool);

    /// Stores a message that Weir did not write. Only with [`Feature::Strangers`].
    async fn write_as_stranger(&self, spec: &QueueSpec, body: &'static str);

    /// Stores the turn of a group as a schedule does whose time has come: also where there is one. Only with
    /// [`Feature::TurnsApart`] and [`Feature::Strangers`].
    async fn fire_turn(&self, _spec: &QueueSpec, _group: &'static str) {
        panic!("a group has no turn that can be written from outside")
    }
}

/// What a transport does not have, with the reason.
pub type Lacks = fn(Feature) -> Option<&'static str>;

/// Every transport, and what it lacks: what the documentation's table is made from.
pub const TRANSPORTS: [(&str, Lacks); 3] = [
    ("memory", memory_lacks),
    ("NATS", nats_lacks),
    ("RabbitMQ", rabbitmq::lacks),
];

fn memory_lacks(feature: Feature) -> Option<&'static str> {
    match feature {
        Feature::ServerKill => Some("it ends with the process"),
        Feature::CutConnection => Some("it has no connection"),
        Feature::Strangers => Some("nobody else can reach it"),
        Feature::ForbidDeadLetters => Some("its dead letters have no place of their own"),
        Feature::Capacity
        | Feature::Records
        | Feature::Fifo
        | Feature::TurnsApart
        | Feature::Peek
        | Feature::Age
        | Feature::LeaseOverOutage
        | Feature::DurableAck
        | Feature::AtomicHandover => None,
    }
}

fn nats_lacks(feature: Feature) -> Option<&'static str> {
    match feature {
        Feature::Capacity => {
            Some("streams with schedules cannot refuse new messages; the intake reads the depth")
        }
        _ => None,
    }
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
        memory_lacks(feature)
    }

    async fn connect(&self) -> Arc<dyn Transport> {
        Arc::<MemoryBroker>::clone(&self.broker)
    }

    async fn connect_through_proxy(&self) -> (Arc<dyn Transport>, Proxy) {
        panic!("it has no connection")
    }

    fn cut_at(&self, _: Step) -> &'static [u8] {
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

    async fn forbid_dead_letters(&self, _: &QueueSpec, _: bool) {
        panic!("its dead letters have no place of their own")
    }

    async fn write_as_stranger(&self, _: &QueueSpec, _: &'static str) {
        panic!("nobody else can reach it")
    }
}

/// NATS of one version: one server, or three with three copies of every stream.
pub struct Nats {
    servers: Mutex<Vec<Server>>,
}

impl Nats {
    /// Starts a server of a version.
    pub fn start(version: &str) -> Self {
        Self {
            servers: Mutex::new(vec![Server::start(version, Vec::new())]),
        }
    }

    /// Starts three servers of a version that form a cluster.
    pub fn start_cluster(version: &str) -> Self {
        let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let urls: Vec<String> = routes
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect();
        let servers = (0..3).map(|number| {
            let extra = [
                "-n".to_owned(),
                format!("n{number}-{}", routes[number]),
                "--cluster_name".to_owned(),
                format!("c{}", routes[0]),
                "--cluster".to_owned(),
                urls[number].clone(),
                "--routes".to_owned(),
                urls.join(","),
            ];
            Server::start(version, extra.to_vec())
        });
        Self {
            servers: Mutex::new(servers.collect()),
        }
    }

    fn urls(&self) -> Vec<String> {
        self.servers
            .lock()
            .unwrap()
            .iter()
            .map(Server::url)
            .collect()
    }

    fn url(&self) -> String {
        self.urls().remove(0)
    }

    async fn open(servers: Vec<String>) -> Arc<dyn Transport> {
        let bus = BusConfig::Nats {
            servers,
            credentials_file: None,
            ca_file: None,
        };
        let transport = NatsTransport::connect(&bus, Arc::new(SystemClock))
            .await
            .unwrap();
        transport.connected().wait_for(|up| *up).await.unwrap();
        // A cluster that was just started has no leader for a moment.
        let until = tokio::time::Instant::now() + crate::ground::SOON * 2;
        while let Err(error) = transport.server().await {
            assert!(tokio::time::Instant::now() < until, "{error}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Arc::new(transport)
    }

    async fn api(&self, subject: String, body: Value) -> Value {
        let client = async_nats::connect(self.url()).await.unwrap();
        let payload = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = client
            .request(format!("$JS.API.{subject}"), payload.into())
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
        nats_lacks(feature)
    }

    fn replicas(&self) -> u32 {
        if self.servers.lock().unwrap().len() > 1 {
            3
        } else {
            1
        }
    }

    async fn connect(&self) -> Arc<dyn Transport> {
        Self::open(self.urls()).await
    }

    async fn connect_through_proxy(&self) -> (Arc<dyn Transport>, Proxy) {
        let upstream = self.servers.lock().unwrap()[0].address();
        let proxy = Proxy::start(upstream).await;
        (
            Self::open(vec![format!("nats://{}", proxy.address())]).await,
            proxy,
        )
    }

    fn cut_at(&self, step: Step) -> &'static [u8] {
        match step {
            Step::Acknowledge | Step::EndTurn => b"+ACK",
            Step::StoreTurn => b".turn.",
            Step::RemoveDeadLettered if self.replicas() > 1 => b"STREAM.PURGE",
            Step::RemoveDeadLettered => b"STREAM.MSG.DELETE",
            // Of a publication with an identity, which is a batch.
            Step::Publish => b"Nats-Batch-Commit",
        }
    }

    fn take_down(&self) {
        self.servers
            .lock()
            .unwrap()
            .iter_mut()
            .for_each(Server::kill);
    }

    fn bring_up(&self) {
        self.servers
            .lock()
            .unwrap()
            .iter_mut()
            .for_each(Server::restart);
    }

    fn kill_one(&self) {
        let mut servers = self.servers.lock().unwrap();
        let number = fastrand::usize(..servers.len());
        servers[number].restart();
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

    async fn forbid_dead_letters(&self, spec: &QueueSpec, full: bool) {
        let stream = QueueNames::of(&spec.object).dead_stream();
        if !full {
            self.api(format!("STREAM.DELETE.{stream}"), Value::Null)
                .await;
            return;
        }
        let info = self.api(format!("STREAM.INFO.{stream}"), Value::Null).await;
        let mut config = info["config"].clone();
        config["discard"] = "new".into();
        config["max_msgs"] = 1.into();
        config["max_bytes"] = 1.into();
        self.api(format!("STREAM.UPDATE.{stream}"), config).await;
    }

    async fn fire_turn(&self, spec: &QueueSpec, group: &'static str) {
        let client = async_nats::connect(self.url()).await.unwrap();
        let names = QueueNames::of(&spec.object);
        let role = |role: &str| names.role(&format!("{role}.{}", token(group)));
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Schedule", format!("@at {:.3}", SystemClock.now()));
        headers.insert("Nats-Schedule-Target", role("turn"));
        let schedule = async_nats::Request::new()
            .headers(headers)
            .payload(group.into());
        let turn = client.send_request(role("wake"), schedule);
        let answer = turn.await.unwrap().payload;
        assert!(answer.starts_with(b"{\"stream\""), "{answer:?}");
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

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
