//! Kills at random, and a ledger that stands outside the system.
//!
//! Producers and handlers write what they did to append-only files; [`check`] computes from those files
//! and the dead letters what was lost, invented, damaged or delivered too often. It shares no code
//! with the system that it judges. [`nemesis`] draws the kills from a printed seed; [`processes`] are
//! real ones: broker, sidecars, handlers.

pub mod campaign;
pub mod check;
pub mod ledger;
pub mod nemesis;
pub mod order;
pub mod processes;
pub mod producer;
