//! `weir run`: the operator's plans carried out on this machine.
//!
//! Nothing here decides what an object means: manifests go through the same resolve and plan as in a
//! cluster ([`world`]), the result is served by the same runtime, in this process ([`runtime`]). What is
//! local is only where handlers come from ([`handlers`]).

pub mod handlers;
pub mod runtime;
pub mod world;
