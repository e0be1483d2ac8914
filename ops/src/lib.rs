//! The ops API over HTTP: dead letters and queues, for whoever may see and move them.
//!
//! One meaning, two servers: `weir run` and the sidecar serve it on loopback, the operator serves it
//! to users of the cluster. What they differ in is passed in: a [`Directory`] of the objects and
//! their queues, and a [`Guard`] that decides who may do what. The JSON is [`weir_core::ops`], the
//! description for users `docs/ops-api.md`. A redrive is begun here by writing its record, and
//! carried out by [`Redrives`], which also goes on with what a process before this one left.
//!
//! Everything is bounded: bodies, lines, pages, the letters that one request looks at, redrives at once.
//! What a message holds is never logged.
#![warn(missing_docs)]

mod api;
mod directory;
mod groups;
mod guard;
mod letters;
mod local;
mod moves;
mod redrives;
mod refusal;
mod route;
mod transfer;

pub use api::Api;
pub use directory::{Directory, Entry, News};
pub use guard::{Access, Caller, Guard, Verb};
pub use local::{LocalGuard, same};
pub use redrives::{Orders, Redrives};
pub use refusal::{Body, Refusal, json};
