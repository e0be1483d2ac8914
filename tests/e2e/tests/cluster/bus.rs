//! What the broker holds, read past the operator and the runtime.

use std::sync::Arc;

use async_nats::jetstream::{self, Context};
use weir_broker::{QueueSpec, SystemClock};
use weir_core::config::{BusConfig, QueueConfig};
use weir_core::dead_letter::DeadLetter;
use weir_core::names::QueueNames;
use weir_core::object::{Kind, ObjectKey};

use crate::manifests::shared_nats;
use crate::space::Space;
use crate::wait::{SOON, until};

/// Names of the streams of an object: its queue and its dead letters.
pub fn streams(space: &Space, kind: &str, name: &str) -> (String, String) {
    let kind = Kind::parse(kind).expect("a kind with a queue");
    let names = QueueNames::of(&ObjectKey::new(kind, &space.name, name));
    (names.queue_stream(), names.dead_stream())
}

/// Service and namespace of the server that the tests share.
fn shared_service() -> (String, String) {
    let url = shared_nats();
    let host = url.rsplit('/').next().unwrap_or_default();
    let mut labels = host.split([':', '.']).map(str::to_owned);
    (
        labels.next().unwrap_or_default(),
        labels.next().unwrap_or_default(),
    )
}

impl Space {
    /// The server that the tests share.
    pub async fn jetstream(&self) -> Context {
        let (service, namespace) = shared_service();
        self.jetstream_at(&namespace, &service).await
    }

    /// Dead letters of an object on the shared server, oldest first.
    pub async fn dead_letters(&self, kind: &str, name: &str) -> Vec<DeadLetter> {
        let (service, namespace) = shared_service();
        let address = self
            .service(&namespace, &service)
            .await
            .expect("the shared NATS");
        let bus = BusConfig::Nats {
            servers: vec![format!("nats://{address}")],
            credentials_file: None,
            ca_file: None,
        };
        let transport = weir_broker::connect(&bus, Arc::new(SystemClock))
            .await
            .unwrap();
        let kind = Kind::parse(kind).expect("a kind with a queue");
        // Only names matter to a reader; what the queue is made like is the operator's business.
        let queue = transport.queue(&QueueSpec {
            object: ObjectKey::new(kind, &self.name, name),
            uid: String::new(),
            config: QueueConfig {
                limit: 1,
                batch_max: 1,
                lease_seconds: 30,
                replicas: 1,
                capacity: 1,
                dead_letter_retention_seconds: 1_209_600,
                fifo: None,
            },
        });
        until("the dead letters to be readable", SOON, async || {
            let mut letters = Vec::new();
            let mut after = None;
            loop {
                let page = queue.dead_letters(after, 100).await?;
                letters.extend(page.items.into_iter().map(|stored| stored.letter));
                after = page.next;
                if after.is_none() {
                    return Ok::<_, weir_broker::BrokerError>(letters);
                }
            }
        })
        .await
    }

    /// The server behind a Service.
    pub async fn jetstream_at(&self, namespace: &str, service: &str) -> Context {
        let client = until("a connection to NATS", SOON, async || {
            let address = self.service(namespace, service).await?;
            async_nats::connect(address)
                .await
                .map_err(|e| e.to_string())
        })
        .await;
        jetstream::new(client)
    }
}

/// Messages of a stream; `None` if there is no such stream.
pub async fn messages(context: &Context, stream: &str) -> Option<u64> {
    let mut stream = context.get_stream(stream).await.ok()?;
    stream.info().await.ok().map(|info| info.state.messages)
}
