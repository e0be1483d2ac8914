//! One broker, and the objects that are measured on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use weir_broker::{QueueSpec, SystemClock, Transport};
use weir_conformance::server::rabbitmq;
use weir_core::config::{
    BusConfig, ConsumerConfig, DeduplicateBy, DeduplicateConfig, DeduplicateScope, FifoConfig,
    IntakeConfig, ObjectConfig, Protocol, QueueConfig, RetryConfig, TargetConfig, VERSION,
    WhenExhausted,
};
use weir_core::object::{Kind, ObjectKey};

use crate::Failure;
use crate::process::{Process, free_port, listening};

/// Where everything runs.
pub struct Site {
    /// How to reach the broker: a URL of NATS, a file with the URI of RabbitMQ.
    pub address: String,
    /// The sidecar under test.
    pub sidecar: PathBuf,
    bus: BusConfig,
    transport: Arc<dyn Transport>,
    folder: TempDir,
    _server: Process,
    _rabbitmq: Option<rabbitmq::Server>,
}

/// What is asked of an object that is measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// It removes duplicates at its intake.
    pub dedup: bool,
    /// It calls the handler at this port; without one it is an intake.
    pub handler: Option<u16>,
    /// Calls at once.
    pub slots: u32,
    /// It keeps the order within groups.
    pub fifo: bool,
}

impl Site {
    /// Starts a NATS server of its own.
    pub async fn nats(nats: &Path, sidecar: PathBuf) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("weir-bench-").tempdir()?;
        let (server, url) = start_nats(nats, folder.path()).await?;
        Self::over(url.clone(), bus(&url), sidecar, folder, server, None).await
    }

    /// Starts a RabbitMQ server of one release of Debian, and a NATS server for its state.
    pub async fn rabbitmq(suite: &str, nats: &Path, sidecar: PathBuf) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("weir-bench-").tempdir()?;
        let (state, url) = start_nats(nats, folder.path()).await?;
        let server = rabbitmq::Server::start(suite);
        let uri_file = folder.path().join("uri");
        std::fs::write(
            &uri_file,
            format!("amqp://guest:guest@{}/%2F\n", server.address()),
        )?;
        let uri_file = uri_file.to_string_lossy().into_owned();
        let config = BusConfig::RabbitMq {
            uri_file: uri_file.clone(),
            management_url: Some(format!("http://{}", server.management())),
            vhost: None,
            ca_file: None,
            state: Some(Box::new(bus(&url))),
        };
        Self::over(uri_file, config, sidecar, folder, state, Some(server)).await
    }

    async fn over(
        address: String,
        bus: BusConfig,
        sidecar: PathBuf,
        folder: TempDir,
        server: Process,
        rabbitmq: Option<rabbitmq::Server>,
    ) -> Result<Self, Failure> {
        let transport = weir_broker::connect(&bus, Arc::new(SystemClock)).await?;
        Ok(Self {
            address,
            sidecar,
            bus,
            transport,
            folder,
            _server: server,
            _rabbitmq: rabbitmq,
        })
    }

    /// Makes the topology of one object and the configuration file that serves it.
    pub async fn object(
        &self,
        name: &str,
        wanted: Wanted,
    ) -> Result<(QueueSpec, PathBuf), Failure> {
        let kind = if wanted.fifo {
            Kind::FifoConsumer
        } else {
            Kind::Webhook
        };
        let object = ObjectKey::new(kind, "bench", name);
        let queue = QueueConfig {
            limit: wanted.slots,
            batch_max: 1,
            lease_seconds: 30,
            replicas: 1,
            capacity: 100_000_000,
            dead_letter_retention_seconds: 86_400,
            fifo: wanted.fifo.then_some(FifoConfig { partitions: 8 }),
        };
        let spec = QueueSpec {
            object: object.clone(),
            uid: name.into(),
            config: queue.clone(),
        };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while let Err(why) = self.transport.apply_queue(&spec).await {
            if tokio::time::Instant::now() > deadline {
                return Err(why.into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let config = ObjectConfig {
            version: VERSION,
            object: object.clone(),
            uid: name.into(),
            generation: 1,
            bus: self.bus.clone(),
            queue,
            intake: wanted.handler.is_none().then(|| intake(wanted.dedup)),
            consumer: wanted.handler.map(|port| consumer(port, wanted.slots)),
        };
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(
            folder.join(ObjectConfig::file_name(&object)),
            config.to_json(),
        )?;
        Ok((spec, folder))
    }

    /// Starts the sidecar on a configuration folder; answers its data port as well.
    pub async fn start_sidecar(&self, config: &Path) -> Result<(Process, u16), Failure> {
        let (data, admin, ops) = (free_port()?, free_port()?, free_port()?);
        let address = |port: u16| format!("127.0.0.1:{port}");
        let process = Process::start(
            &self.sidecar,
            &[
                "--config",
                &config.to_string_lossy(),
                "--listen",
                &address(data),
                "--admin",
                &address(admin),
                "--ops",
                &address(ops),
            ],
        )?;
        listening(admin).await?;
        Ok((process, data))
    }

    /// The queue of an object, to fill it and to watch it drain.
    pub fn queue(&self, spec: &QueueSpec) -> Arc<dyn weir_broker::WorkQueue> {
        self.transport.queue(spec)
    }
}

async fn start_nats(program: &Path, folder: &Path) -> Result<(Process, String), Failure> {
    let port = free_port()?;
    let (text, store) = (port.to_string(), folder.join("nats"));
    let store = store.to_string_lossy();
    let arguments = ["-a", "127.0.0.1", "-p", &text, "-js", "-sd", &store];
    let server = Process::start(program, &arguments)?;
    listening(port).await?;
    Ok((server, format!("nats://127.0.0.1:{port}")))
}

fn bus(url: &str) -> BusConfig {
    BusConfig::Nats {
        servers: vec![url.to_owned()],
        credentials_file: None,
        ca_file: None,
    }
}

fn intake(dedup: bool) -> IntakeConfig {
    IntakeConfig {
        methods: vec!["POST".into()],
        max_body_bytes: 65_536,
        status: 202,
        verify: None,
        deduplicate: dedup.then(|| DeduplicateConfig {
            by: DeduplicateBy::Header,
            header: Some("webhook-id".into()),
            window_seconds: 300,
            scope: DeduplicateScope::Queue,
        }),
        group: None,
        delay_seconds: 0,
        publish_api: false,
    }
}

fn consumer(port: u16, slots: u32) -> ConsumerConfig {
    ConsumerConfig {
        target: TargetConfig::Handler {
            url: format!("http://127.0.0.1:{port}/"),
            readiness_path: None,
        },
        protocol: Protocol::CloudEvents,
        timeout_seconds: 30,
        per_replica: slots,
        batch_window_seconds: 0,
        retry: RetryConfig {
            max_attempts: 5,
            initial_seconds: 1,
            multiplier: 2,
            max_seconds: 900,
            max_age_seconds: 345_600,
            permanent_statuses: vec![400],
        },
        when_exhausted: WhenExhausted::DeadLetter,
        paused: false,
    }
}
