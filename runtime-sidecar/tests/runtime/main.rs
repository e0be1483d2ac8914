//! The whole runtime on the memory broker, with real HTTP on loopback.

mod batch;
mod consumer;
mod harness;
mod intake;
mod lifecycle;
mod path;
