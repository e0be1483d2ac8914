//! Event patterns: EventBridge's grammar and the two dialects of SNS filter policies.
//!
//! A [`Pattern`] is a JSON object that mirrors the events it selects; each leaf is a list of alternatives (aws-semantics 6.8 and
//! 7, with examples in docs/filters.md). [`Pattern::parse`] refuses what AWS refuses, in AWS's words. A [`Set`] holds up to
//! [`MAX_PATTERNS`] of them and finds those that match an event by reading its bytes once, whatever their number.
//! [`Policy`] is what a topic's subscription has: a pattern for the attributes of a message or for its body.
//!
//! Nothing here does IO, and nothing panics on what it is given. Recorded answers of AWS are run in `tests/patterns.rs` and
//! `tests/topics.rs`, properties in `tests/pattern_properties.rs`.

mod address;
pub mod batch;
mod case;
mod complexity;
mod error;
mod grammar;
mod number;
mod operator;
mod scan;
mod set;
mod test;
mod token;
mod topic;
mod wildcard;

pub use error::{PatternError, Position};
pub use set::{EventError, MAX_EVENT_DEPTH, MAX_PATTERNS, Scratch, Set, SetError};
pub use topic::{Attribute, MessageError, Policy, PolicyScope};

/// Characters an EventBridge pattern may have (aws-semantics 7.14).
pub const MAX_PATTERN_LENGTH: usize = 4096;
/// Bytes a filter policy may have.
pub const MAX_POLICY_LENGTH: usize = 256 * 1024;

/// Whose rules a pattern is read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// EventBridge rules and pipes, and filters of event source mappings.
    EventBridge,
    /// An SNS filter policy with scope `MessageAttributes`.
    TopicAttributes,
    /// An SNS filter policy with scope `MessageBody`.
    TopicBody,
}

impl Dialect {
    fn is_topic(self) -> bool {
        self != Self::EventBridge
    }
}

/// A pattern that was checked. To match events with it, put it in a [`Set`].
#[derive(Debug, Clone)]
pub struct Pattern {
    branches: Vec<grammar::Branch>,
}

impl Pattern {
    /// Reads a pattern and checks everything AWS checks when a rule or a subscription is created.
    ///
    /// An empty filter policy is accepted and matches every message; an empty event pattern is refused.
    pub fn parse(source: &str, dialect: Dialect) -> Result<Self, PatternError> {
        check(source, dialect).map_err(|error| error.in_source(source, dialect))
    }
}

fn check(source: &str, dialect: Dialect) -> Result<Pattern, PatternError> {
    if dialect.is_topic() {
        if source.len() > MAX_POLICY_LENGTH {
            return Err(PatternError::of(format!(
                "Longer than {MAX_POLICY_LENGTH} bytes"
            )));
        }
    } else if source.len() > MAX_PATTERN_LENGTH && source.chars().count() > MAX_PATTERN_LENGTH {
        return Err(PatternError::of(format!(
            "Longer than {MAX_PATTERN_LENGTH} characters: write several patterns"
        )));
    }
    let grammar = grammar::read(source, dialect)?;
    if dialect.is_topic() {
        topic::check_limits(&grammar, dialect)?;
    }
    complexity::check(&grammar.branches)?;
    Ok(Pattern {
        branches: grammar.branches,
    })
}
