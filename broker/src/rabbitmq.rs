//! RabbitMQ, 4.0 or newer.
//!
//! A quorum queue holds what waits, a ladder of quorum queues what is delayed, a stream the dead letters
//! (which can be looked at and paged without taking them). RabbitMQ has no limit over all consumers, no
//! lease and no compare-and-set, so:
//! - the limit is made of **tokens**: `limit` messages in a queue of their own, of which a consumer holds
//!   one for each call. Who makes and retires them is decided by the order of records in a stream
//!   (`control`), so that none is lost or doubled;
//! - a **lease** is the connection, and a deadline that the consumer itself keeps (`lease`);
//! - **attempts** are counted in headers and, for calls that began and did not end, by notes in a stream
//!   (`notes`), because the counts of the broker do not tell a call from a delivery;
//! - **deduplication** needs keys in another broker, the `state` of the bus (`dedup`).
//!
//! What this must never do: acknowledge before what follows is stored, keep a message that nobody
//! waits for, touch a queue that is not recorded as ours, delete a queue on a condition, republish what the
//! broker wrote into headers. The pure parts (`control`, `notes`, `dead`, `ladder`, `topology`, `codec`)
//! have their tests beside them, the whole is held to the conformance suite.

mod address;
mod apply;
mod codec;
mod connection;
mod consume;
mod control;
mod dead;
mod dedup;
mod fifo;
mod ladder;
mod lanes;
mod lease;
mod management;
mod names;
mod notes;
mod permit;
mod pool;
mod pulls;
mod queue;
mod read;
mod shared;
mod tail;
mod topology;
mod version;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use tokio::sync::watch;
use weir_core::config::BusConfig;
use weir_core::object::ObjectKey;

use self::connection::Connection;
use self::dedup::Keys;
use self::fifo::Fifo;
use self::queue::RabbitQueue;
use self::shared::Shared;
use crate::clock::Clock;
use crate::error::BrokerError;
use crate::nats::NatsTransport;
use crate::queue::WorkQueue;
use crate::transport::{Applied, QueueSpec, Removal, Removed, Server, Transport};

/// As much as a NATS server with default settings takes, so that what fits here fits there. RabbitMQ
/// would take 16 MiB, but its quorum queues are not made for large messages.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024 * 1024 - 8 * 1024;

/// How long the log of a FIFO queue may become before it is renewed, bytes, beside twice what is stored.
const LOG_BYTES: u64 = 64 * 1024 * 1024;

/// A connection to RabbitMQ.
pub struct RabbitTransport {
    connection: Connection,
    clock: Arc<dyn Clock>,
    /// Where deduplication keys live.
    state: Option<NatsTransport>,
    /// Queues that somebody in this process uses, with what they were opened for.
    queues: Mutex<HashMap<ObjectKey, (QueueSpec, Weak<Shared>)>>,
    /// How long the log of a FIFO queue may become before it is renewed, bytes.
    log_bytes: u64,
    /// Who changes topology in this process: the lock of the broker is per connection.
    changing: tokio::sync::Mutex<()>,
}

/// Something that RabbitMQ cannot do.
pub(crate) fn unsupported(why: &str) -> BrokerError {
    BrokerError::Unsupported {
        server: "rabbitmq".to_owned(),
        why: why.to_owned(),
    }
}

impl RabbitTransport {
    /// Starts to connect and returns without waiting for the server; it is tried for ever. An error
    /// means that the configuration cannot work.
    pub async fn connect(bus: &BusConfig, clock: Arc<dyn Clock>) -> Result<Self, BrokerError> {
        let BusConfig::RabbitMq {
            uri_file,
            management_url,
            vhost,
            ca_file,
            state,
        } = bus
        else {
            return Err(BrokerError::Refused {
                operation: "connect",
                why: "the bus is not RabbitMQ".to_owned(),
            });
        };
        let state = match state.as_deref() {
            None => None,
            Some(nats @ BusConfig::Nats { .. }) => {
                Some(NatsTransport::connect(nats, Arc::clone(&clock)).await?)
            }
            Some(_) => {
                return Err(BrokerError::Refused {
                    operation: "connect",
                    why: "the state of a RabbitMQ bus must be NATS".to_owned(),
                });
            }
        };
        let connection = Connection::open(
            uri_file,
            management_url.as_deref(),
            vhost.as_deref(),
            ca_file.as_deref(),
        )
        .await?;
        Ok(Self {
            connection,
            clock,
            state,
            queues: Mutex::new(HashMap::new()),
            log_bytes: LOG_BYTES,
            changing: tokio::sync::Mutex::new(()),
        })
    }

    /// Renews the log of a FIFO queue when it is longer than `bytes` and twice what is stored; 64 MiB where
    /// this is not said. To be called before a queue is opened.
    #[must_use]
    pub fn with_logs_of(mut self, bytes: u64) -> Self {
        self.log_bytes = bytes;
        self
    }

    fn shared(&self, spec: &QueueSpec) -> Arc<Shared> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, (_, shared)| shared.strong_count() > 0);
        if let Some((known, shared)) = queues.get(&spec.object)
            && known == spec
            && let Some(shared) = shared.upgrade()
        {
            return shared;
        }
        // The log of a FIFO queue knows identities itself.
        let state = self.state.as_ref().filter(|_| spec.config.fifo.is_none());
        let keys = state.map(|state| Keys {
            store: Arc::new(state.keys(spec)),
        });
        let clock = Arc::clone(&self.clock);
        let shared = Arc::new(Shared::new(
            self.connection.clone(),
            clock,
            spec,
            keys,
            self.log_bytes,
        ));
        let known = (spec.clone(), Arc::downgrade(&shared));
        queues.insert(spec.object.clone(), known);
        shared
    }
}

#[async_trait]
impl Transport for RabbitTransport {
    async fn server(&self) -> Result<Server, BrokerError> {
        Ok(Server {
            product: "rabbitmq",
            version: self.connection.version().await?,
            api_level: 0,
            max_message_bytes: MAX_MESSAGE_BYTES,
        })
    }

    async fn apply_queue(&self, queue: &QueueSpec) -> Result<Applied, BrokerError> {
        self.connection.version().await?;
        let _changing = self.changing.lock().await;
        let shared = self.shared(queue);
        let mut applied = apply::apply(&shared, queue).await?;
        if let Some(keys) = &shared.keys {
            keys.store.apply(queue, &mut applied).await?;
        }
        Ok(applied)
    }

    async fn remove_queue(
        &self,
        queue: &QueueSpec,
        removal: Removal,
    ) -> Result<Removed, BrokerError> {
        let _changing = self.changing.lock().await;
        let shared = self.shared(queue);
        let removed = apply::remove(&shared, queue, removal).await?;
        if let Some(keys) = &shared.keys {
            if removed.retained.is_empty() {
                keys.store.remove(queue).await?;
            } else {
                let now = self.clock.now().to_string();
                keys.store.orphan(queue, &now).await?;
            }
        }
        Ok(removed)
    }

    fn queue(&self, queue: &QueueSpec) -> Arc<dyn WorkQueue> {
        let shared = self.shared(queue);
        let fifo = queue.config.fifo.is_some();
        let fifo = fifo.then(|| Arc::new(Fifo::new(&shared, &queue.config)));
        Arc::new(RabbitQueue { shared, fifo })
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.connection.connected()
    }
}
