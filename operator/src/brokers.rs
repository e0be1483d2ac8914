//! Connections to brokers, one for each distinct bus, and the credentials for them.
//!
//! Topology is changed only through [`Brokers`], which asks the fence first.

mod credentials;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};
use weir_broker::{
    Applied, BrokerError, QueueSpec, Removal, Removed, Server, Transport, WorkQueue,
};
use weir_core::config::BusConfig;

use crate::bus::Bus;
use crate::error::Error;
use crate::fence::Fence;
use crate::metrics::Metrics;
use crate::plan::Rejected;
use crate::settings::Settings;
use crate::world::Name;

pub use credentials::Credentials;

/// Longest operation on a broker.
const OPERATION: Duration = Duration::from_secs(20);
/// How long the first connection is waited for.
const FIRST_CONNECTION: Duration = Duration::from_secs(5);

/// Makes connections. The binary connects to real brokers, tests to one in memory.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// Starts a connection. An error means that it can never work as configured.
    async fn connect(&self, bus: &BusConfig) -> Result<Arc<dyn Transport>, BrokerError>;
}

/// Why there is no connection to ask.
#[derive(Debug)]
pub enum NoConnection {
    /// The credentials are not there, or may not be read.
    Refused(Rejected),
    /// The broker.
    Broker(BrokerError),
    /// The world.
    Failed(Error),
}

/// All connections of this process.
pub struct Brokers {
    connect: Arc<dyn Connect>,
    credentials: Credentials,
    fence: Fence,
    metrics: Arc<Metrics>,
    idle: Duration,
    slots: Mutex<HashMap<BusConfig, Slot>>,
    opening: tokio::sync::Mutex<()>,
}

struct Slot {
    transport: Arc<dyn Transport>,
    bus: Name,
    opened: Instant,
    used: Instant,
    was_connected: bool,
}

/// A connection that may be used while the lease is held.
#[derive(Clone)]
pub struct Broker {
    transport: Arc<dyn Transport>,
    fence: Fence,
}

impl Brokers {
    /// None yet.
    pub fn new(
        connect: Arc<dyn Connect>,
        credentials: Credentials,
        fence: Fence,
        metrics: Arc<Metrics>,
        settings: &Settings,
    ) -> Self {
        Self {
            connect,
            credentials,
            fence,
            metrics,
            idle: settings.broker_idle,
            slots: Mutex::new(HashMap::new()),
            opening: tokio::sync::Mutex::new(()),
        }
    }

    /// The connection of a bus.
    pub async fn of(&self, bus: &Bus) -> Result<Broker, NoConnection> {
        let config = self.credentials.for_operator(bus).await?;
        let (transport, opened) = self
            .open(&bus.name, config)
            .await
            .map_err(NoConnection::Broker)?;
        let mut connected = transport.connected();
        if !*connected.borrow() && opened.elapsed() < FIRST_CONNECTION {
            let left = FIRST_CONNECTION.saturating_sub(opened.elapsed());
            timeout(left, connected.wait_for(|up| *up)).await.ok();
        }
        self.metrics.broker(&bus.name, *connected.borrow());
        Ok(Broker {
            transport,
            fence: self.fence.clone(),
        })
    }

    async fn open(
        &self,
        bus: &Name,
        config: BusConfig,
    ) -> Result<(Arc<dyn Transport>, Instant), BrokerError> {
        let _one_at_a_time = self.opening.lock().await;
        if let Some(slot) = self.lock().get_mut(&config) {
            slot.used = Instant::now();
            return Ok((Arc::clone(&slot.transport), slot.opened));
        }
        let opened = timeout(OPERATION, self.connect.connect(&config)).await;
        let transport = opened.unwrap_or_else(|_| Err(timed_out("connect")))?;
        let now = Instant::now();
        let slot = Slot {
            transport: Arc::clone(&transport),
            bus: bus.clone(),
            opened: now,
            used: now,
            was_connected: true,
        };
        self.lock().insert(config, slot);
        Ok((transport, now))
    }

    /// The buses whose connection was lost or came back since the last call. Connections that nobody
    /// uses are dropped.
    pub fn changes(&self) -> Vec<Name> {
        let now = Instant::now();
        let mut changed = Vec::new();
        self.lock().retain(|config, slot| {
            if now.duration_since(slot.used) > self.idle {
                self.credentials.forget(config);
                self.metrics.forget_broker(&slot.bus);
                return false;
            }
            let connected = *slot.transport.connected().borrow();
            if connected != slot.was_connected && slot.opened.elapsed() > FIRST_CONNECTION {
                slot.was_connected = connected;
                self.metrics.broker(&slot.bus, connected);
                changed.push(slot.bus.clone());
            }
            true
        });
        changed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BusConfig, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// What the server says about itself.
    pub async fn server(&self) -> Result<Server, BrokerError> {
        bounded("server", self.transport.server()).await
    }

    /// Makes the topology of a queue as wanted.
    pub async fn apply(&self, queue: &QueueSpec) -> Result<Applied, BrokerError> {
        self.check("apply")?;
        bounded("apply", self.transport.apply_queue(queue)).await
    }

    /// Ends the topology of a queue.
    pub async fn remove(
        &self,
        queue: &QueueSpec,
        removal: Removal,
    ) -> Result<Removed, BrokerError> {
        self.check("remove")?;
        bounded("remove", self.transport.remove_queue(queue, removal)).await
    }

    /// A handle to look at a queue.
    pub fn queue(&self, queue: &QueueSpec) -> Arc<dyn WorkQueue> {
        self.transport.queue(queue)
    }

    fn check(&self, operation: &'static str) -> Result<(), BrokerError> {
        self.fence.check().map_err(|fenced| BrokerError::Refused {
            operation,
            why: fenced.to_string(),
        })
    }
}

async fn bounded<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    timeout(OPERATION, work)
        .await
        .unwrap_or_else(|_| Err(timed_out(operation)))
}

fn timed_out(operation: &'static str) -> BrokerError {
    BrokerError::TimedOut {
        operation,
        after: OPERATION,
    }
}
