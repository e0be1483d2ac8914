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
    opening: Mutex<HashMap<BusConfig, Arc<tokio::sync::Mutex<()>>>>,
}

struct Slot {
    transport: Arc<dyn Transport>,
    bus: Name,
    used: Instant,
    connected: bool,
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
            slots: Mutex::default(),
            opening: Mutex::default(),
        }
    }

    /// The connection of a bus.
    pub async fn of(&self, bus: &Bus) -> Result<Broker, NoConnection> {
        let config = self.credentials.for_operator(bus).await?;
        let transport = self
            .open(&bus.name, &config)
            .await
            .map_err(NoConnection::Broker)?;
        Ok(Broker {
            transport,
            fence: self.fence.clone(),
        })
    }

    async fn open(
        &self,
        bus: &Name,
        config: &BusConfig,
    ) -> Result<Arc<dyn Transport>, BrokerError> {
        // Whoever is first opens it; other buses do not wait for this one.
        let opening = Arc::clone(lock(&self.opening).entry(config.clone()).or_default());
        let _first = opening.lock().await;
        if let Some(slot) = lock(&self.slots).get_mut(config) {
            slot.used = Instant::now();
            return Ok(Arc::clone(&slot.transport));
        }
        let opened = timeout(OPERATION, self.connect.connect(config)).await;
        let transport = opened.unwrap_or_else(|_| Err(timed_out("connect")))?;
        let mut connected = transport.connected();
        timeout(FIRST_CONNECTION, connected.wait_for(|up| *up))
            .await
            .ok();
        let connected = *connected.borrow();
        self.metrics.broker(bus, connected);
        let slot = Slot {
            transport: Arc::clone(&transport),
            bus: bus.clone(),
            used: Instant::now(),
            connected,
        };
        lock(&self.slots).insert(config.clone(), slot);
        Ok(transport)
    }

    /// The buses whose connection was lost or came back since the last call. Connections that nobody
    /// uses are dropped.
    pub fn changes(&self) -> Vec<Name> {
        let mut changed = Vec::new();
        lock(&self.slots).retain(|config, slot| {
            if slot.used.elapsed() > self.idle {
                self.credentials.forget(config);
                self.metrics.forget_broker(&slot.bus);
                lock(&self.opening).remove(config);
                return false;
            }
            let connected = *slot.transport.connected().borrow();
            if connected != slot.connected {
                slot.connected = connected;
                self.metrics.broker(&slot.bus, connected);
                changed.push(slot.bus.clone());
            }
            true
        });
        changed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
