//! JSONPath as Step Functions has it: the dialect of Jayway's `JsonPath`, rooted at the state's input (`$`), the
//! context object (`$$`) or a variable (`$name`).
//!
//! Paths are parsed once and never panic or run away: length, nesting, visited nodes and copied bytes are bounded. A
//! path is *definite* when it can name one value only; such a path that finds nothing is an error, any other path gives an
//! array, which may be empty (aws-semantics 10.3.3, 10.3.5).

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::scope::Scope;

mod evaluate;
mod filter;
mod function;
mod parse;
mod reference;
#[cfg(test)]
mod tests;

pub use parse::ParsePathError;
pub use reference::{ReferencePath, ResultPathMatchFailure};

/// The longest accepted path, in bytes.
pub const MAX_PATH_BYTES: usize = 8 * 1024;

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    source: String,
    root: Root,
    segments: Vec<Segment>,
    function: Option<function::Function>,
    definite: bool,
}

/// Where a path starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// `$`: the input, or whatever value the field works on.
    Input,
    /// `$$`: the context object.
    Context,
    /// `$name`: a variable.
    Variable(String),
}

#[derive(Debug, Clone, PartialEq)]
enum Segment {
    /// `.name`, `['name']`, `['one','two']`.
    Names(Vec<String>),
    /// `.*`, `[*]`.
    Wildcard,
    /// `[0]`, `[-1]`, `[0,2]`.
    Indices(Vec<i64>),
    /// `[from:to]`, `[from:to:step]`.
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    /// `[?(...)]`.
    Filter(filter::Expression),
    /// `..` followed by a segment that is tried on every descendant.
    Descend(Box<Segment>),
}

/// Why a path has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluatePathError {
    /// A definite path found nothing. The text is the one of AWS's path library.
    #[error("{detail}")]
    NotFound {
        /// What is missing, and where.
        detail: String,
    },
    /// A function such as `.sum()` was applied to something it has no answer for.
    #[error("{detail}")]
    FunctionFailed {
        /// What was expected.
        detail: String,
    },
    /// The path selects more than an execution may hold.
    #[error("the path selects more than {limit}")]
    SelectTooMuch {
        /// The bound that was reached, in words.
        limit: &'static str,
    },
}

impl Path {
    /// Parses a path. The error says where it stops being one.
    pub fn parse(source: &str) -> Result<Self, ParsePathError> {
        parse::path(source)
    }

    /// The path as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where the path starts.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The variable the path starts at, if it does.
    pub fn variable(&self) -> Option<&str> {
        match &self.root {
            Root::Variable(name) => Some(name),
            Root::Input | Root::Context => None,
        }
    }

    /// Whether the path can name one value only.
    pub fn is_definite(&self) -> bool {
        self.definite
    }

    /// Whether the path is `$` and nothing else.
    pub fn is_whole_input(&self) -> bool {
        self.root == Root::Input && self.segments.is_empty() && self.function.is_none()
    }

    /// The value the path selects.
    pub fn evaluate<'v>(&self, scope: &'v dyn Scope) -> Result<Cow<'v, Value>, EvaluatePathError> {
        let root = match &self.root {
            Root::Input => scope.input(),
            Root::Context => scope.context(),
            Root::Variable(name) => {
                scope
                    .variable(name)
                    .ok_or_else(|| EvaluatePathError::NotFound {
                        detail: format!("No results for path: ${name}"),
                    })?
            }
        };
        evaluate::path(self, root)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.source)
    }
}
