//! NATS JetStream, 2.12 or newer.
//!
//! One work-queue stream holds everything of a queue that has to change together: waiting messages,
//! schedules of delayed ones, deduplication keys, counts of unfinished calls, permits. Dead letters
//! are in a stream of their own. One durable pull consumer is shared by all workers; its
//! `max_ack_pending` is the exact limit.
//!
//! What this must never do: acknowledge before what follows is stored, ask for more than somebody
//! waits for, buffer while there is no connection, touch a stream that is not ours, delay a retry by
//! a negative acknowledgement (which would hold a slot). The pure parts (`group`, `pull`, `topology`,
//! `tries`, `codec`) have their tests beside them, the whole is held to the conformance suite.

mod api;
mod apply;
mod codec;
mod commit;
mod connection;
mod consume;
mod fifo;
mod group;
mod heard;
mod keys;
mod letters;
mod permit;
mod pull;
mod queue;
mod read;
mod receipt;
mod recent;
mod record;
mod redelivery;
mod settle;
mod topology;
mod tries;
mod version;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::watch;
use weir_core::config::BusConfig;

use self::api::{AccountInfo, Failure};
use self::codec::RESERVE;
use self::connection::Connection;
use self::fifo::Fifo;
pub(crate) use self::keys::{Claim, KeyStore};
use self::queue::{NatsQueue, Shared};
use self::topology::Names;
use crate::clock::Clock;
use crate::error::BrokerError;
use crate::queue::WorkQueue;
use crate::transport::{Applied, QueueSpec, Removal, Removed, Server, Transport};

/// A connection to NATS.
pub struct NatsTransport {
    connection: Connection,
    clock: Arc<dyn Clock>,
    /// Streams that somebody in this process uses.
    streams: Mutex<HashMap<String, Weak<Shared>>>,
}

impl NatsTransport {
    /// Starts to connect and returns without waiting for the server; it is tried for ever. An error
    /// means that the configuration cannot work.
    pub async fn connect(bus: &BusConfig, clock: Arc<dyn Clock>) -> Result<Self, BrokerError> {
        let BusConfig::Nats {
            servers,
            credentials_file,
            ca_file,
        } = bus
        else {
            return Err(BrokerError::Refused {
                operation: "connect",
                why: "the bus is not NATS".to_owned(),
            });
        };
        let connection =
            Connection::open(servers, credentials_file.as_deref(), ca_file.as_deref()).await?;
        Ok(Self {
            connection,
            clock,
            streams: Mutex::new(HashMap::new()),
        })
    }

    /// Deduplication keys for a queue that another broker holds.
    pub(crate) fn keys(&self, queue: &QueueSpec) -> KeyStore {
        KeyStore::new(self.connection.clone(), queue)
    }
}

#[async_trait]
impl Transport for NatsTransport {
    async fn server(&self) -> Result<Server, BrokerError> {
        if !self.connection.is_up() {
            return Err(self.connection.unreachable());
        }
        let info = self.connection.client().server_info();
        let account = self
            .connection
            .api::<AccountInfo>("read account", "INFO", &Value::Null)
            .await;
        let api_level = match account {
            Ok(account) => account.api.level,
            Err(Failure::NoResponders) if !info.jetstream => {
                return Err(BrokerError::Unsupported {
                    server: format!("nats-server {}", info.version),
                    why: "JetStream is not enabled; start the servers with -js".to_owned(),
                });
            }
            Err(Failure::NoResponders) => {
                return Err(self.connection.unavailable("JetStream does not answer"));
            }
            Err(failure) => return Err(failure.told("the account")),
        };
        version::check(&info.version, api_level)?;
        Ok(Server {
            product: "nats",
            version: info.version,
            api_level,
            max_message_bytes: info.max_payload.saturating_sub(RESERVE),
        })
    }

    async fn apply_queue(&self, queue: &QueueSpec) -> Result<Applied, BrokerError> {
        self.server().await?;
        apply::apply(&self.connection, queue).await
    }

    async fn remove_queue(
        &self,
        queue: &QueueSpec,
        removal: Removal,
    ) -> Result<Removed, BrokerError> {
        apply::remove(&self.connection, queue, removal, self.clock.as_ref()).await
    }

    fn queue(&self, queue: &QueueSpec) -> Arc<dyn WorkQueue> {
        let names = Names::of(queue);
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|_, shared| shared.strong_count() > 0);
        let known = streams.get(&names.stream).and_then(Weak::upgrade);
        let shared = known.unwrap_or_else(|| {
            let stream = names.stream.clone();
            let shared = Arc::new(Shared::new(
                self.connection.clone(),
                Arc::clone(&self.clock),
                names,
            ));
            streams.insert(stream, Arc::downgrade(&shared));
            shared
        });
        let lease = Duration::from_secs(u64::from(queue.config.lease_seconds.max(1)));
        let outstanding = u64::from(queue.config.limit) * u64::from(queue.config.batch_max.max(1));
        let outstanding = usize::try_from(outstanding).unwrap_or(usize::MAX);
        let fifo = queue.config.fifo.as_ref().map(|_| {
            let fifo = Fifo::new(Arc::clone(&shared), &queue.config);
            Arc::new(fifo)
        });
        Arc::new(NatsQueue {
            shared,
            lease,
            outstanding,
            kept: Duration::from_secs(queue.config.dead_letter_retention_seconds),
            fifo,
        })
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.connection.connected()
    }
}
