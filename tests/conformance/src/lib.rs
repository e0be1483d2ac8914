//! Every transport is held to the guarantees of `weir_broker::queue`, by the same functions.
//!
//! A guarantee is one async function in [`suite`] whose name is a sentence. It gets a [`Ground`]: a
//! transport under test and the means to disturb it (kill the server, cut a connection, write into
//! the broker behind our back). What a transport cannot do or is not there for is declared in one
//! place, [`Subject::lacks`].
//!
//! `cargo test -p weir-conformance` runs all of them side by side against the memory transport and
//! real NATS and RabbitMQ servers, and prints a table. Words after `--` select by name:
//! `cargo test -p weir-conformance -- dedup 2.15`. `WEIR_LOG=weir_broker=debug` shows what the transports
//! say meanwhile.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "everything here is a test"
)]
#![warn(missing_docs)]

pub mod fragile;
pub mod ground;
pub mod proxy;
pub mod server;
pub mod subject;
pub mod suite;

pub use ground::Ground;
pub use subject::{Feature, Subject};
