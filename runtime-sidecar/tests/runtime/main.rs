//! The whole runtime on the memory broker, with real HTTP on loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod batch;
mod consumer;
mod fifo;
mod harness;
mod intake;
mod lifecycle;
mod path;
mod servers;
