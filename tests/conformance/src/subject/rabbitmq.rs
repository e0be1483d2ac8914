//! RabbitMQ under test: one server, and a NATS server for its state.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use weir_broker::{QueueSpec, RabbitTransport, SystemClock, Transport};
use weir_core::config::BusConfig;
use weir_core::names::QueueNames;

use super::{Feature, Step, Subject};
use crate::proxy::Proxy;
use crate::server;
use crate::server::rabbitmq::{Server, request};

/// Logs of FIFO queues are renewed all the time.
const LOG_BYTES: u64 = 64 * 1024;

/// What RabbitMQ does not have, with the reason.
pub(crate) fn lacks(feature: Feature) -> Option<&'static str> {
    match feature {
        Feature::TurnsApart => Some("what happens to a group and to its turn is one record"),
        Feature::ForbidDeadLetters => Some("a stream cannot be made to refuse"),
        Feature::Peek => Some("a quorum queue can be read only by taking from it"),
        Feature::Age => Some("a quorum queue does not tell the age of its messages"),
        Feature::LeaseOverOutage => Some(
            "a delivery belongs to its connection: the broker gives it to others when that ends",
        ),
        Feature::DurableAck => Some(
            "acknowledgements are not confirmed: what a server took in within milliseconds of its kill may \
             come again",
        ),
        Feature::AtomicHandover => Some(
            "the copy for a retry or a dead letter and the acknowledgement are two steps: who dies \
             between them causes one more delivery",
        ),
        Feature::ServerKill
        | Feature::Fifo
        | Feature::CutConnection
        | Feature::Capacity
        | Feature::Strangers
        | Feature::Records => None,
    }
}

/// RabbitMQ of one release of Debian.
pub struct RabbitMq {
    servers: Mutex<(Server, server::Server)>,
}

impl RabbitMq {
    /// Starts the servers.
    pub fn start(suite: &str, state: &str) -> Self {
        let nats = server::Server::start(state, Vec::new());
        Self {
            servers: Mutex::new((Server::start(suite), nats)),
        }
    }

    /// The bus, reached at `address`, with or without state.
    pub fn bus(&self, address: &str, with_state: bool) -> BusConfig {
        let servers = self.servers.lock().unwrap();
        let name = format!("uri-{:016x}", fastrand::u64(..));
        let uri_file = servers.0.folder().join(name);
        std::fs::write(&uri_file, format!("amqp://guest:guest@{address}\n")).unwrap();
        let state = BusConfig::Nats {
            servers: vec![servers.1.url()],
            credentials_file: None,
            ca_file: None,
        };
        BusConfig::RabbitMq {
            uri_file: uri_file.to_str().unwrap().to_owned(),
            management_url: Some(format!("http://{}", servers.0.management())),
            vhost: Some("/".to_owned()),
            ca_file: None,
            state: with_state.then(|| Box::new(state)),
        }
    }

    /// `127.0.0.1:port` of AMQP.
    pub fn address(&self) -> String {
        self.servers.lock().unwrap().0.address()
    }

    async fn open(bus: &BusConfig) -> Arc<dyn Transport> {
        let transport = RabbitTransport::connect(bus, Arc::new(SystemClock))
            .await
            .unwrap()
            .with_logs_of(LOG_BYTES);
        transport.connected().wait_for(|up| *up).await.unwrap();
        Arc::new(transport)
    }

    async fn stranger(&self) -> Connection {
        let uri = format!("amqp://guest:guest@{}/%2f", self.address());
        Connection::connect(&uri, ConnectionProperties::default())
            .await
            .unwrap()
    }
}

#[async_trait]
impl Subject for RabbitMq {
    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        lacks(feature)
    }

    async fn connect(&self) -> Arc<dyn Transport> {
        Self::open(&self.bus(&self.address(), true)).await
    }

    async fn connect_through_proxy(&self) -> (Arc<dyn Transport>, Proxy) {
        let proxy = Proxy::start(self.address()).await;
        (Self::open(&self.bus(proxy.address(), true)).await, proxy)
    }

    fn cut_at(&self, step: Step) -> &'static [u8] {
        match step {
            // Class and method of the frame.
            Step::Acknowledge => b"\x00\x3c\x00\x50",
            Step::Publish | Step::StoreTurn => b"\x00\x3c\x00\x28",
            Step::RemoveDeadLettered => b"\"record\":\"moved\"",
            Step::EndTurn => b"\"record\":\"end\"",
        }
    }

    fn take_down(&self) {
        let mut servers = self.servers.lock().unwrap();
        servers.0.kill();
        servers.1.kill();
    }

    fn bring_up(&self) {
        let mut servers = self.servers.lock().unwrap();
        servers.1.restart();
        servers.0.restart();
    }

    fn lag(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn short_lease(&self) -> u32 {
        10
    }

    fn between_kills(&self) -> Duration {
        Duration::from_secs(4)
    }

    fn bring_up_if_down(&self) {
        let mut servers = self.servers.lock().unwrap();
        if !servers.1.is_up() {
            servers.1.restart();
        }
        if !servers.0.is_up() {
            servers.0.restart();
        }
    }

    async fn plant_foreign(&self, spec: &QueueSpec) {
        let channel = self.stranger().await.create_channel().await.unwrap();
        let queue = QueueNames::of(&spec.object).role("queue");
        let options = QueueDeclareOptions::durable();
        channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .unwrap();
    }

    async fn drift(&self, spec: &QueueSpec) {
        let queue = QueueNames::of(&spec.object).role("queue");
        let pattern = format!("^{}$", queue.replace('.', "\\\\."));
        let body = format!(
            r#"{{"pattern": "{pattern}", "definition": {{"max-length": 1}}, "priority": 50, "apply-to": "all"}}"#
        );
        let management = self.servers.lock().unwrap().0.management();
        request(&management, "PUT", &format!("policies/%2F/{queue}"), &body).unwrap();
    }

    async fn forbid_dead_letters(&self, _: &QueueSpec, _: bool) {
        panic!("a stream cannot be made to refuse")
    }

    async fn write_as_stranger(&self, spec: &QueueSpec, body: &'static str) {
        let channel = self.stranger().await.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let queue = QueueNames::of(&spec.object).role("queue");
        let options = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let confirmed = channel
            .basic_publish(
                "".into(),
                queue.into(),
                options,
                body.as_bytes(),
                BasicProperties::default(),
            )
            .await
            .unwrap()
            .await
            .unwrap();
        assert!(confirmed.take_message().is_none());
    }
}
