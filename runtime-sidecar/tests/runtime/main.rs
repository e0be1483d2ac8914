//! The whole runtime on the memory broker, with real HTTP on loopback.

mod consumer;
mod harness;
mod path;
