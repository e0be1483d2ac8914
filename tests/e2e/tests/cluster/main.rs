//! Tests against the cluster of `KUBECONFIG`, in which the chart is installed (`tests/e2e/run` does that).
//!
//! Every test has a namespace of its own and they run side by side. Nothing here sleeps for a result:
//! each wait is for a state, with a deadline ([`wait::until`]). A test that fails prints the
//! conditions, events and logs of its namespace ([`space::Space`]).
//!
//! They are ignored by a plain `cargo test`, which has no cluster.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test fails the test"
)]

mod addresses;
mod bus;
mod dead_letters;
mod drift;
mod fifo;
mod fixtures;
mod limits;
mod live;
mod manifests;
mod mistakes;
mod quiet;
mod restarts;
mod security;
mod space;
mod wait;
mod webhook;
