//! The control plane of Weir: it turns custom resources into workloads, configuration and broker
//! topology, and says in their status how that went.
//!
//! The centre is pure. [`kinds::decide`] takes an object and a [`world::World`] and gives a
//! [`plan::Plan`]; `weir run` and `weir lint` call it without a cluster. Around it, one reconcile for
//! all kinds: observe, resolve, plan, apply, status, write.
#![warn(missing_docs)]

pub mod applier;
pub mod apply;
pub mod backoff;
pub mod brokers;
pub mod bus;
pub mod check;
pub mod context;
pub mod delivery;
pub mod done;
pub mod error;
pub mod fence;
pub mod finalize;
pub mod handler_pod;
pub mod health;
pub mod hub;
pub mod identity;
pub mod kinds;
pub mod lease;
pub mod matches;
pub mod memory;
pub mod metrics;
pub mod numbers;
pub mod observe;
pub mod ops;
pub mod options;
pub mod plan;
pub mod pod;
pub mod pod_security;
pub mod probe;
pub mod rbac;
pub mod reconcile;
pub mod rollout;
pub mod run;
pub mod runtime;
pub mod runtime_shell;
pub mod seen_configs;
pub mod settings;
pub mod status;
pub mod status_shell;
pub mod stores;
pub mod tell;
pub mod world;
