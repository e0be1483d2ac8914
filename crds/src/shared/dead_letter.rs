//! `deadLetter` and `deletionPolicy`: what is kept of messages nobody could handle.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where messages go that could not be handled. Always on.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadLetter {
    /// Seconds a dead letter is kept, 60 to 1209600 (14 days). Default 1209600. Counted from the
    /// moment it became a dead letter.
    #[schemars(range(min = 60, max = 1_209_600))]
    pub retention_seconds: u32,
}

impl Default for DeadLetter {
    fn default() -> Self {
        Self {
            retention_seconds: 1_209_600,
        }
    }
}

/// What happens to stored messages when the object is deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeletionPolicy {
    /// Messages and dead letters stay in the broker; an object of the same name takes them over.
    #[default]
    Retain,
    /// Messages and dead letters are deleted with the object.
    Delete,
    /// As `Delete` when nothing is stored, otherwise as `Retain`.
    DeleteIfEmpty,
}
