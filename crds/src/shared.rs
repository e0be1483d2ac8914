//! Blocks that several kinds share. A block has one meaning everywhere.

pub mod allowed_from;
pub mod batch;
pub mod concurrency;
pub mod dead_letter;
pub mod dedup;
pub mod delivery;
pub mod env;
pub mod handler;
pub mod pod;
pub mod reference;
pub mod retry;
pub mod scaling;
pub mod target;
pub mod volume;

pub use allowed_from::{AllowedFrom, AllowedNamespaces};
pub use batch::{Batch, OrderedBatch};
pub use concurrency::Concurrency;
pub use dead_letter::{DeadLetter, DeletionPolicy};
pub use dedup::{Deduplicate, DeduplicateBy, DeduplicateScope, OrderedDeduplicate};
pub use delivery::{Consumes, Delivery};
pub use env::{EnvFrom, EnvSource, EnvVar};
pub use handler::{Handler, Protocol};
pub use pod::{Quantity, Resources, Toleration};
pub use reference::{KeyRef, LocalRef, OptionalKeyRef};
pub use retry::Retry;
pub use scaling::{Scaling, ScalingProvider};
pub use target::{Target, TargetKind};
pub use volume::Volume;
