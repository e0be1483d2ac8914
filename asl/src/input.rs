//! The input of an execution, from its text.

use serde_json::Value;

use crate::problem::complaint;

/// Largest input, in bytes (aws-semantics 10.1.2).
pub const MAX_BYTES: usize = 262_144;

/// An input that no execution is started with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid State Machine Execution Input: '{0}'")]
pub struct InvalidExecutionInput(String);

impl InvalidExecutionInput {
    /// The error code of `StartExecution`.
    pub fn code(&self) -> &'static str {
        "InvalidExecutionInput"
    }
}

/// Reads an input: any JSON value. The words are those that AWS answers.
pub fn execution_input(text: &str) -> Result<Value, InvalidExecutionInput> {
    if text.trim().is_empty() {
        return Err(InvalidExecutionInput("Invalid execution input.".into()));
    }
    if text.len() > MAX_BYTES {
        return Err(InvalidExecutionInput(format!(
            "The input has {} bytes; at most {MAX_BYTES} are allowed",
            text.len()
        )));
    }
    serde_json::from_str(text).map_err(|error| InvalidExecutionInput(complaint(text, &error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        execution_input(text).unwrap_err().to_string()
    }

    #[test]
    fn any_json_value_is_an_input() {
        for text in ["null", "2", "\"some text\"", "{}", " [1] "] {
            assert!(execution_input(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_in_aws_s_words() {
        assert_eq!(
            refusal("{'not': 'json'"),
            "Invalid State Machine Execution Input: 'Unexpected character (''' (code 39)): was expecting \
             double-quote to start field name'"
        );
        assert_eq!(
            refusal("not some json"),
            "Invalid State Machine Execution Input: 'Unrecognized token 'not': was expecting (JSON String, \
             Number, Array, Object or token 'null', 'true' or 'false')'"
        );
        assert_eq!(
            refusal(""),
            "Invalid State Machine Execution Input: 'Invalid execution input.'"
        );
        assert!(refusal(&format!("\"{}\"", "x".repeat(262_143))).contains("262145 bytes"));
    }
}
