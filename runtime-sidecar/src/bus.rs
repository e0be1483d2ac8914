//! Connections to brokers. Objects with equal bus configuration share one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use weir_broker::{BrokerError, Transport};
use weir_core::config::BusConfig;

use crate::consumer::jittered;

/// Pause between two tries to connect for the first time. Later the transport reconnects by itself.
const PAUSE: Duration = Duration::from_secs(3);

/// Opens connections.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// Opens a connection, or hands out the one that there is. Called again, with pauses, after an
    /// error.
    async fn connect(&self, bus: &BusConfig) -> Result<Arc<dyn Transport>, BrokerError>;
}

/// The connections of one runtime.
pub struct Buses {
    connect: Arc<dyn Connect>,
    states: HashMap<BusConfig, State>,
    connecting: JoinSet<(BusConfig, Attempt)>,
}

enum State {
    Connecting { error: Option<BrokerError> },
    Connected(Arc<dyn Transport>),
}

enum Attempt {
    Failed(BrokerError),
    Connected(Arc<dyn Transport>),
}

impl Buses {
    /// No connections yet.
    pub fn new(connect: Arc<dyn Connect>) -> Self {
        Self {
            connect,
            states: HashMap::new(),
            connecting: JoinSet::new(),
        }
    }

    /// Keeps connections to exactly these buses.
    pub fn keep<'a>(&mut self, wanted: impl Iterator<Item = &'a BusConfig>) -> Vec<BusConfig> {
        let mut before = std::mem::take(&mut self.states);
        for bus in wanted {
            if self.states.contains_key(bus) {
                continue;
            }
            let state = before.remove(bus).unwrap_or_else(|| {
                self.attempt(bus.clone(), Duration::ZERO);
                State::Connecting { error: None }
            });
            self.states.insert(bus.clone(), state);
        }
        before.into_keys().collect()
    }

    /// The connection to a bus, once there was one.
    pub fn transport(&self, bus: &BusConfig) -> Option<&Arc<dyn Transport>> {
        match self.states.get(bus)? {
            State::Connected(transport) => Some(transport),
            State::Connecting { .. } => None,
        }
    }

    /// Why there is no connection yet.
    pub fn error(&self, bus: &BusConfig) -> Option<&BrokerError> {
        match self.states.get(bus)? {
            State::Connecting { error } => error.as_ref(),
            State::Connected(_) => None,
        }
    }

    /// Every bus, and its connection.
    pub fn iter(&self) -> impl Iterator<Item = (&BusConfig, Option<&Arc<dyn Transport>>)> {
        self.states.keys().map(|bus| (bus, self.transport(bus)))
    }

    /// Waits until something has changed. Cancel safe.
    pub async fn changed(&mut self) -> Result<(), tokio::task::JoinError> {
        loop {
            let Some(ended) = self.connecting.join_next().await else {
                return std::future::pending().await;
            };
            let (bus, attempt) = ended?;
            // It may not be wanted any more.
            let Some(state) = self.states.get_mut(&bus) else {
                continue;
            };
            match attempt {
                Attempt::Connected(transport) => *state = State::Connected(transport),
                Attempt::Failed(error) => {
                    *state = State::Connecting { error: Some(error) };
                    self.attempt(bus, jittered(PAUSE));
                }
            }
            return Ok(());
        }
    }

    fn attempt(&mut self, bus: BusConfig, pause: Duration) {
        let connect = self.connect.clone();
        self.connecting.spawn(async move {
            tokio::time::sleep(pause).await;
            let attempt = match connect.connect(&bus).await {
                Ok(transport) => Attempt::Connected(transport),
                Err(error) => Attempt::Failed(error),
            };
            (bus, attempt)
        });
    }
}

/// A bus by its servers, for logs and metrics; nothing secret.
pub struct Servers<'a>(pub &'a BusConfig);

impl fmt::Display for Servers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            BusConfig::Memory {} => f.write_str("memory"),
            // The addresses are in a file, with the password; the management address has neither.
            BusConfig::RabbitMq {
                management_url,
                vhost,
                ..
            } => {
                f.write_str("rabbitmq")?;
                if let Some(url) = management_url {
                    write!(f, " {}", crate::egress::redact(url))?;
                }
                vhost.iter().try_for_each(|vhost| write!(f, " {vhost}"))
            }
            BusConfig::Nats { servers, .. } => {
                for (index, server) in servers.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "," };
                    write!(f, "{separator}{}", crate::egress::redact(server))?;
                }
                Ok(())
            }
        }
    }
}
