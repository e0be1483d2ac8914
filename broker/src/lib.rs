//! Brokers at the level of meaning.
//!
//! This crate does not wrap the calls of a broker; it offers what the patterns need, each with a
//! written guarantee, once per transport. `weir-conformance` holds every transport to the same
//! suite. The decisions (what to retry, when to give up) are not made here but in `weir-core`.
#![warn(missing_docs)]

pub mod clock;
pub mod error;
pub mod fifo;
pub mod memory;
pub mod nats;
pub mod queue;
pub mod rabbitmq;
pub mod redrive;
mod task;
pub mod transport;

pub use clock::{Clock, SystemClock};
pub use error::BrokerError;
pub use fifo::{
    FifoQueue, GroupCounts, HeldGroup, Hold, Turn, TurnConsumer, TurnLease, TurnMessage,
};
pub use memory::MemoryBroker;
pub use nats::NatsTransport;
pub use queue::{
    Consumer, Delivery, Depth, Lease, Page, Permit, Publication, Published, Record, RecordName,
    StoredDeadLetter, StoredMessage, WorkQueue,
};
pub use rabbitmq::RabbitTransport;
pub use transport::{Applied, QueueSpec, Removal, Removed, Server, Transport, connect};
