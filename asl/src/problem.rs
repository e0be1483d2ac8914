//! What is wrong with a definition, in words that say what to write instead.

mod json;
mod nearest;

use std::fmt;

pub use json::complaint;
pub(crate) use nearest::nearest;

/// What kind of problem it is: the codes of AWS's `ValidateStateMachineDefinition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The text is not JSON.
    InvalidJsonDescription,
    /// There is no text.
    MissingDescription,
    /// A field is missing, unknown, or of the wrong form.
    SchemaValidationFailed,
    /// A flow never ends.
    MissingEndState,
    /// Two states of the machine have one name.
    DuplicateStateName,
    /// A name is empty or longer than 80 characters.
    InvalidStateName,
    /// Two distributed Maps have one label.
    DuplicateLabelName,
    /// A label is longer than 40 characters or has characters that are not allowed.
    InvalidLabelName,
    /// A transition leads nowhere, or a state is never reached.
    MissingTransitionTarget,
    /// Nested deeper, or larger, than a definition may be.
    TooDeeplyNested,
    /// A JSONata expression that does not parse.
    InvalidJsonataExpression,
    /// A JSONata expression that uses what a state machine does not offer.
    UnsupportedJsonataExpression,
    /// A warning: a value looks like a path or an intrinsic call, but its name does not end in `.$`.
    NoDollar,
    /// A warning: a value looks like a path, but the name of its field does not end in `Path`.
    NoPath,
    /// A warning: the result of a Pass state looks as if it were evaluated, and is not.
    PassResultIsStatic,
}

impl Code {
    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidJsonDescription => "INVALID_JSON_DESCRIPTION",
            Self::MissingDescription => "MISSING_DESCRIPTION",
            Self::SchemaValidationFailed => "SCHEMA_VALIDATION_FAILED",
            Self::MissingEndState => "MISSING_END_STATE",
            Self::DuplicateStateName => "DUPLICATE_STATE_NAME",
            Self::InvalidStateName => "INVALID_STATE_NAME",
            Self::DuplicateLabelName => "DUPLICATE_LABEL_NAME",
            Self::InvalidLabelName => "INVALID_LABEL_NAME",
            Self::MissingTransitionTarget => "MISSING_TRANSITION_TARGET",
            Self::TooDeeplyNested => "TOO_DEEPLY_NESTED",
            Self::InvalidJsonataExpression => "INVALID_JSONATA_EXPRESSION",
            Self::UnsupportedJsonataExpression => "UNSUPPORTED_JSONATA_EXPRESSION",
            Self::NoDollar => "NO_DOLLAR",
            Self::NoPath => "NO_PATH",
            Self::PassResultIsStatic => "PASS_RESULT_IS_STATIC",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `/States/A/Choices[0]/Next`; `/` is the definition itself.
    pub path: String,
    /// What kind.
    pub code: Code,
    /// What, in AWS's words where they are known.
    pub message: String,
    /// What to write instead, where that can be guessed.
    pub hint: Option<String>,
}

impl Problem {
    /// The message, with the hint if there is one.
    pub fn advice(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }
}

impl fmt::Display for Problem {
    /// As AWS writes it into an error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // AWS gives this one no place.
        let path = if self.code == Code::MissingEndState {
            "null"
        } else {
            &self.path
        };
        write!(f, "{}: {} at {path}", self.code, self.message)
    }
}

/// A definition that is refused, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid State Machine Definition: '{}'", list(.problems))]
pub struct Rejection {
    /// At least one, in the order of the definition; at most [`Rejection::MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
}

impl Rejection {
    /// How many problems are reported of one definition.
    pub const MAX_PROBLEMS: usize = 100;

    /// The error code of `CreateStateMachine`.
    pub fn code(&self) -> &'static str {
        "InvalidDefinition"
    }
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
