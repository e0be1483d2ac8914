//! The kinds of Weir: what users write, what the API server checks, what the operator reports.
//!
//! One module a kind ([`messagebus`], [`webhook`], [`queueconsumer`], [`fifoconsumer`]); the blocks they share are in
//! [`shared`], their status in [`status`], the closed list of condition types, reasons and events in
//! [`conditions`]. [`all_crds`] gives the definitions as they are installed: always use it rather
//! than the derived `crd()`, because [`definition`] adds columns and normalises the schemas there.
//! [`lint`] judges manifests offline as the API server would.
//!
//! Nothing here does IO. Documentation comments of fields are the user reference
//! (`kubectl explain`); the rules that hold for every field are checked by `tests/schema.rs`.

#![warn(missing_docs)]

pub mod conditions;
pub mod definition;
pub mod document;
pub mod fifoconsumer;
pub mod lint;
pub mod messagebus;
pub mod queueconsumer;
pub mod rules;
pub mod shared;
pub mod status;
pub mod webhook;

pub use definition::{Kind, all_crds};
pub use document::Document;
pub use fifoconsumer::{FifoConsumer, FifoConsumerSpec};
pub use lint::{Linter, Problem, Severity};
pub use messagebus::{MessageBus, MessageBusSpec, MessageBusStatus};
pub use queueconsumer::{QueueConsumer, QueueConsumerSpec};
pub use status::{ConsumerStatus, OrderedStatus};
pub use webhook::{Webhook, WebhookSpec};

/// API group of all kinds.
pub const GROUP: &str = "weir.dev";
/// The version served and stored.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of every manifest.
pub const API_VERSION: &str = "weir.dev/v1alpha1";
/// Category of all kinds: `kubectl get weir`.
pub const CATEGORY: &str = "weir";
/// Longest name of an object, so that the names of its children fit.
pub const MAX_NAME: usize = 40;
