//! A broker: what it is, and the topology it holds.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use weir_core::config::{BusConfig, QueueConfig};
use weir_core::object::ObjectKey;

use crate::clock::Clock;
use crate::error::BrokerError;
use crate::memory::MemoryBroker;
use crate::nats::NatsTransport;
use crate::queue::WorkQueue;
use crate::rabbitmq::RabbitTransport;

/// The queue of one object, with the identity that owns its topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// The object.
    pub object: ObjectKey,
    /// Its UID: the owner of the streams.
    pub uid: String,
    /// What is wanted.
    pub config: QueueConfig,
}

/// What the server said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `nats`, `rabbitmq` or `memory`.
    pub product: &'static str,
    /// `2.15.1`.
    pub version: String,
    /// JetStream API level; 0 where there is none.
    pub api_level: u32,
    /// Largest message with headers, bytes.
    pub max_message_bytes: usize,
}

/// What [`Transport::apply_queue`] had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Broker objects that were not there.
    pub created: Vec<String>,
    /// Broker objects that differed and were changed back, with the fields that differed.
    pub repaired: Vec<String>,
}

/// What to do with messages when an object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Keep every stream, marked as orphaned so that an object of the same name adopts it.
    Retain,
    /// Remove every stream with what it holds.
    Delete,
    /// Remove what is empty, keep the rest as `Retain`. Delayed messages and dead letters count.
    DeleteIfEmpty,
}

/// What [`Transport::remove_queue`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Broker objects that are gone.
    pub deleted: Vec<String>,
    /// Broker objects that were kept, with the number of messages in each.
    pub retained: Vec<(String, u64)>,
}

/// One connection to one broker. Cheap to share; reconnects for ever with jittered back-off.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Version and limits. `Unsupported` when the server cannot keep the guarantees, `Unreachable`
    /// when there is none.
    async fn server(&self) -> Result<Server, BrokerError>;

    /// Makes the topology of a queue as wanted: creates what is missing, repairs what drifted,
    /// changes nothing else. Idempotent, also when two processes do it at once. Refuses
    /// (`Conflict`) what is not marked as this object's; adopts what was orphaned by an object of
    /// the same name.
    async fn apply_queue(&self, queue: &QueueSpec) -> Result<Applied, BrokerError>;

    /// Ends the topology of a queue. Touches only what is marked as this object's.
    async fn remove_queue(
        &self,
        queue: &QueueSpec,
        removal: Removal,
    ) -> Result<Removed, BrokerError>;

    /// A handle on a queue. No IO; the topology need not exist yet.
    fn queue(&self, queue: &QueueSpec) -> Arc<dyn WorkQueue>;

    /// Whether the connection is up, for readiness and metrics.
    fn connected(&self) -> watch::Receiver<bool>;
}

/// Opens a bus. Returns without waiting for the server, which is tried for ever; an error means that
/// the configuration cannot work. A memory bus is a new, empty one: share what this returns.
pub async fn connect(
    bus: &BusConfig,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Transport>, BrokerError> {
    Ok(match bus {
        BusConfig::Nats { .. } => Arc::new(NatsTransport::connect(bus, clock).await?),
        BusConfig::RabbitMq { .. } => Arc::new(RabbitTransport::connect(bus, clock).await?),
        BusConfig::Memory {} => MemoryBroker::new(clock),
    })
}
