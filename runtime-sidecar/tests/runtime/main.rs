//! The whole runtime on the memory broker, with real HTTP on loopback.

mod batch;
mod consumer;
mod harness;
mod lifecycle;
mod path;
