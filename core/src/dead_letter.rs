//! Why a message was given up, and what is kept with it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::Message;

/// Longest part of a handler's answer that a dead letter keeps, in bytes.
pub const ANSWER_KEPT: usize = 1024;

/// Why a message became a dead letter. The names are part of the API (metrics, `weir dlq`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// `retry.maxAttempts` outcomes failed.
    MaxAttempts,
    /// The handler answered one of `retry.permanentStatuses`.
    PermanentStatus,
    /// Older than `retry.maxAgeSeconds` or `retentionSeconds`.
    MaxAge,
    /// The processes that had it ended without an outcome, `retry.maxAttempts` times.
    NoOutcome,
    /// What is stored cannot be handed to a handler (written by somebody else, damaged).
    Malformed,
}

impl Reason {
    /// The reason as it is written in metrics, status and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxAttempts => "MaxAttempts",
            Self::PermanentStatus => "PermanentStatus",
            Self::MaxAge => "MaxAge",
            Self::NoOutcome => "NoOutcome",
            Self::Malformed => "Malformed",
        }
    }
}

/// What is known about the failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Why it was given up.
    pub reason: Reason,
    /// Attempts that counted, this last one included.
    pub attempts: u32,
    /// When it was given up.
    pub failed_at: Timestamp,
    /// HTTP status of the last answer, absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// One line for people: `handler answered 500`, `no answer within 30 s`.
    pub message: String,
    /// At most [`ANSWER_KEPT`] bytes of the last answer, invalid UTF-8 replaced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
}

/// A message that was given up, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message as it was accepted.
    pub message: Message,
    /// Why.
    pub failure: Failure,
}

/// The part of an answer that is kept: at most [`ANSWER_KEPT`] bytes, cut between characters.
pub fn kept_answer(answer: &str) -> &str {
    &answer[..answer.floor_char_boundary(ANSWER_KEPT)]
}

/// Longest line that [`one_line`] makes, in bytes.
const LONGEST_LINE: usize = 512;

/// One line for people: control characters become spaces, at most 512 bytes.
pub(crate) fn one_line(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_LINE)].replace(char::is_control, " ")
}
