//! The control plane of Weir: it turns custom resources into workloads, configuration and broker
//! topology, and says in their status how that went.
//!
//! The centre is pure. [`kinds::decide`] takes an object and a [`world::World`] and gives a
//! [`plan::Plan`]; `weir run` and `weir lint` call it without a cluster. Around it, one reconcile for
//! all kinds: observe, resolve, plan, apply, status, write.
#![warn(missing_docs)]

pub mod bus;
pub mod delivery;
pub mod handler_pod;
pub mod identity;
pub mod kinds;
pub mod plan;
pub mod pod;
pub mod pod_security;
pub mod runtime;
pub mod world;
