//! One broker for the whole run, and the objects that are measured on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use weir_broker::{QueueSpec, SystemClock, Transport};
use weir_core::config::{
    BusConfig, ConsumerConfig, DeduplicateBy, DeduplicateConfig, DeduplicateScope, IntakeConfig,
    ObjectConfig, Protocol, QueueConfig, RetryConfig, TargetConfig, VERSION, WhenExhausted,
};
use weir_core::object::{Kind, ObjectKey};

use crate::Failure;
use crate::process::{Process, free_port, listening};

/// Where everything runs.
pub struct Site {
    /// Address of the broker.
    pub url: String,
    /// The sidecar under test.
    pub sidecar: PathBuf,
    /// Files of the run.
    pub folder: TempDir,
    transport: Arc<dyn Transport>,
    _server: Process,
}

impl Site {
    /// Starts a NATS server of its own.
    pub async fn start(nats: &Path, sidecar: PathBuf) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("weir-bench-").tempdir()?;
        let port = free_port()?;
        let store = folder.path().join("nats");
        let store = store.to_string_lossy();
        let server = Process::start(
            nats,
            &[
                "-a",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-js",
                "-sd",
                &store,
            ],
        )?;
        listening(port).await?;
        let url = format!("nats://127.0.0.1:{port}");
        let transport = weir_broker::connect(&bus(&url), Arc::new(SystemClock)).await?;
        Ok(Self {
            url,
            sidecar,
            folder,
            transport,
            _server: server,
        })
    }

    /// Makes the topology of one object and the configuration file that serves it.
    pub async fn object(
        &self,
        name: &str,
        dedup: bool,
        handler: Option<u16>,
        slots: u32,
    ) -> Result<(QueueSpec, PathBuf), Failure> {
        let object = ObjectKey::new(Kind::Webhook, "bench", name);
        let queue = QueueConfig {
            limit: slots,
            batch_max: 1,
            lease_seconds: 30,
            replicas: 1,
            capacity: 100_000_000,
            dead_letter_retention_seconds: 86_400,
            fifo: None,
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
            bus: bus(&self.url),
            queue,
            intake: handler.is_none().then(|| intake(dedup)),
            consumer: handler.map(|port| consumer(port, slots)),
        };
        let folder = self
            .folder
            .path()
            .join(format!("{name}-{}", handler.is_some()));
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
