//! Errors of an execution: their names, and which retriers and catchers they match (aws-semantics 10.7).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Names that the language reserves.
pub mod name {
    /// Matches every error that can be caught.
    pub const ALL: &str = "States.ALL";
    /// A result is larger than an execution may hold.
    pub const DATA_LIMIT_EXCEEDED: &str = "States.DataLimitExceeded";
    /// More iterations of a Map failed than it tolerates.
    pub const EXCEED_TOLERATED_FAILURE_THRESHOLD: &str = "States.ExceedToleratedFailureThreshold";
    /// A task was silent for longer than `HeartbeatSeconds`; only retriers and catchers use this name.
    pub const HEARTBEAT_TIMEOUT: &str = "States.HeartbeatTimeout";
    /// The items of a Map could not be read.
    pub const ITEM_READER_FAILED: &str = "States.ItemReaderFailed";
    /// No rule of a Choice matched, and it has no default.
    pub const NO_CHOICE_MATCHED: &str = "States.NoChoiceMatched";
    /// A JSONata expression has no usable value.
    pub const QUERY_EVALUATION_ERROR: &str = "States.QueryEvaluationError";
    /// A result has no place in the input.
    pub const RESULT_PATH_MATCH_FAILURE: &str = "States.ResultPathMatchFailure";
    /// The results of a Map could not be written.
    pub const RESULT_WRITER_FAILED: &str = "States.ResultWriterFailed";
    /// The definition and the data do not fit; nothing catches it.
    pub const RUNTIME: &str = "States.Runtime";
    /// Matches every error of a task but a timeout.
    pub const TASK_FAILED: &str = "States.TaskFailed";
    /// Something took longer than it may.
    pub const TIMEOUT: &str = "States.Timeout";
}

/// Longest name of an error, in characters.
pub const MAX_ERROR_CHARACTERS: usize = 256;
/// Longest cause, in characters.
pub const MAX_CAUSE_CHARACTERS: usize = 32_768;

/// Why a state, a branch or an execution failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failure {
    /// The name; a Fail state may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<str>>,
    /// The cause; a Fail state may leave it out, and timeouts have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Arc<str>>,
    /// Whether the timeout is a missed heartbeat.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missed_heartbeat: bool,
}

impl Failure {
    /// A failure with a name and a cause, both cut to the lengths AWS allows.
    pub fn new(error: &str, cause: impl AsRef<str>) -> Self {
        Self {
            error: Some(cut(error, MAX_ERROR_CHARACTERS)),
            cause: Some(cut(cause.as_ref(), MAX_CAUSE_CHARACTERS)),
            missed_heartbeat: false,
        }
    }

    /// A timeout, which has no cause.
    pub fn timeout() -> Self {
        Self {
            error: Some(name::TIMEOUT.into()),
            cause: None,
            missed_heartbeat: false,
        }
    }

    /// A missed heartbeat: reported as a timeout, matched by its own name too.
    pub fn missed_heartbeat() -> Self {
        Self {
            missed_heartbeat: true,
            ..Self::timeout()
        }
    }

    /// The name, empty where there is none.
    pub fn error(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }

    /// What a catcher hands on: `{"Error": ..., "Cause": ...}`, empty texts where they are absent, as recorded.
    pub fn output(&self) -> Value {
        json!({"Error": self.error(), "Cause": self.cause.as_deref().unwrap_or_default()})
    }

    /// Whether a retrier or catcher for these names handles the failure.
    ///
    /// `States.Runtime` is handled by nothing, not even by its own name; `States.DataLimitExceeded` by its name and by
    /// `States.ALL`, as recorded (aws-semantics 10.7.2).
    pub fn matches(&self, names: &[Arc<str>]) -> bool {
        let error = self.error();
        if error == name::RUNTIME {
            return false;
        }
        names.iter().any(|wanted| match &**wanted {
            name::ALL => true,
            name::TASK_FAILED => error != name::TIMEOUT,
            name::HEARTBEAT_TIMEOUT => self.missed_heartbeat || error == name::HEARTBEAT_TIMEOUT,
            wanted => wanted == error,
        })
    }
}

fn cut(text: &str, characters: usize) -> Arc<str> {
    match text.char_indices().nth(characters) {
        Some((end, _)) => text[..end].into(),
        None => text.into(),
    }
}

/// A failure on its way, with what its history events need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mishap {
    pub(super) failure: Failure,
    /// The field whose expression failed: such a failure has an event of its own.
    pub(super) location: Option<String>,
    /// Whether a branch or an iteration failed, and not the state's own fields.
    pub(super) is_inner: bool,
}

impl Mishap {
    /// The failure of a branch or an iteration.
    pub(super) fn inner(failure: Failure) -> Self {
        Self {
            failure,
            location: None,
            is_inner: true,
        }
    }
}

impl From<Failure> for Mishap {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            location: None,
            is_inner: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handled(failure: &Failure, names: &[&str]) -> bool {
        let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        failure.matches(&names)
    }

    #[test]
    fn nothing_handles_a_runtime_error() {
        let failure = Failure::new(name::RUNTIME, "x");
        assert!(!handled(&failure, &[name::ALL]));
        assert!(!handled(&failure, &[name::RUNTIME, name::TASK_FAILED]));
    }

    #[test]
    fn task_failed_stands_for_everything_but_timeouts() {
        assert!(handled(&Failure::new("Custom", "x"), &[name::TASK_FAILED]));
        assert!(handled(
            &Failure::new(name::DATA_LIMIT_EXCEEDED, "x"),
            &[name::TASK_FAILED]
        ));
        assert!(!handled(&Failure::timeout(), &[name::TASK_FAILED]));
        assert!(!handled(&Failure::missed_heartbeat(), &[name::TASK_FAILED]));
    }

    #[test]
    fn a_missed_heartbeat_is_a_timeout_with_a_second_name() {
        assert!(handled(
            &Failure::missed_heartbeat(),
            &[name::HEARTBEAT_TIMEOUT]
        ));
        assert!(handled(&Failure::missed_heartbeat(), &[name::TIMEOUT]));
        assert!(!handled(&Failure::timeout(), &[name::HEARTBEAT_TIMEOUT]));
        assert!(handled(&Failure::timeout(), &[name::ALL]));
    }

    #[test]
    fn names_and_causes_are_cut_to_their_lengths() {
        let failure = Failure::new(&"é".repeat(300), "c".repeat(40_000));
        assert_eq!(failure.error().chars().count(), MAX_ERROR_CHARACTERS);
        assert_eq!(failure.cause.unwrap().len(), MAX_CAUSE_CHARACTERS);
    }
}
