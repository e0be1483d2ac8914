//! The whole runtime on the memory broker, with real HTTP on loopback.

mod harness;
mod path;
