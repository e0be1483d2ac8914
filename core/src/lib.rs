//! What the patterns mean, as functions from values to values.
//!
//! Nothing here does IO, reads a clock or draws randomness: time and random bits are arguments, so
//! every rule can be tested without a broker, a server or a cluster. The shells around it are
//! `weir-broker` (storage), `weir-sidecar` (HTTP) and `weir-operator` (Kubernetes).
//!
//! In the order in which a message meets them: [`headers`] and [`verify`] at the door, [`cloudevents`],
//! [`publish`], [`event`], [`group`], [`dedup`], [`ids`] and [`trace`] until it is stored, [`wire`] in the broker, [`gate`]
//! before a call, [`batch`], [`decide`] and [`fifo`] after it, [`retry`] and [`dead_letter`] when it failed,
//! [`redrive`] when somebody has mended the reason.
//! [`config`], [`object`] and [`names`] say what all of that is for.
#![warn(missing_docs)]

pub mod batch;
pub mod breaker;
pub mod cloudevents;
pub mod config;
pub mod dead_letter;
pub mod decide;
pub mod dedup;
mod encoding;
pub mod event;
pub mod fifo;
pub mod gate;
pub mod group;
pub mod headers;
pub mod ids;
pub mod message;
pub mod names;
pub mod object;
pub mod ops;
pub mod pattern;
pub mod publish;
pub mod redrive;
pub mod retry;
pub mod trace;
pub mod verify;
pub mod wire;
