//! Choice states: rules and their conditions.

use std::sync::Arc;

use serde_json::Value;

use super::StateName;
use crate::jsonata::Expression;
use crate::path::Path;
use crate::template::Template;

/// What is particular to a Choice.
#[derive(Debug)]
pub struct Choice {
    /// The rules, at least one; the first that matches is taken.
    pub rules: Vec<Rule>,
    /// Where the flow goes when none matches; absent means `States.NoChoiceMatched`.
    pub default: Option<StateName>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// When it matches.
    pub condition: Condition,
    /// Where it leads.
    pub next: StateName,
    /// The state's output when this rule is taken; JSONata only.
    pub output: Option<Template>,
    /// The variables when this rule is taken, instead of the state's own.
    pub assign: Option<Template>,
    /// Its comment.
    pub comment: Option<Arc<str>>,
}

/// When a rule matches.
#[derive(Debug)]
pub enum Condition {
    /// All of these; at least one.
    And(Vec<Condition>),
    /// Any of these; at least one.
    Or(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// A test of one value.
    Comparison(Comparison),
    /// A JSONata expression that yields a boolean.
    Expression(Expression),
}

/// A test of the value that a path finds.
#[derive(Debug)]
pub struct Comparison {
    /// `Variable`.
    pub variable: Path,
    /// The test.
    pub test: Test,
}

/// A test of one value. A value of another type fails the test; it is never an error
/// (aws-semantics 10.6.2).
#[derive(Debug)]
pub enum Test {
    /// `StringEquals`, `NumericLessThanPath` and so on.
    Compare {
        /// What is compared.
        domain: Domain,
        /// How.
        relation: Relation,
        /// With what.
        operand: Operand,
    },
    /// `StringMatches`: `*` is any run of characters, `\*` a star, `\\` a backslash.
    Matches(Arc<str>),
    /// `IsNull`, `IsPresent` and so on.
    Is {
        /// What the value should be.
        kind: Kind,
        /// Whether it should be that.
        expected: bool,
    },
}

/// What a comparison compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Strings, by code points.
    String,
    /// Numbers, by value.
    Numeric,
    /// Booleans; equality only.
    Boolean,
    /// RFC 3339 timestamps, as instants.
    Timestamp,
}

/// How a comparison compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    Equals,
    /// Below.
    LessThan,
    /// Above.
    GreaterThan,
    /// Below or the same.
    LessThanEquals,
    /// Above or the same.
    GreaterThanEquals,
}

/// What a value is compared with.
#[derive(Clone, Debug)]
pub enum Operand {
    /// A literal of the domain's type.
    Literal(Value),
    /// What this path finds in the state's input.
    Path(Path),
}

/// What a value can be tested to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `IsPresent`: the path finds something.
    Present,
    /// `IsNull`
    Null,
    /// `IsString`
    String,
    /// `IsNumeric`
    Numeric,
    /// `IsBoolean`
    Boolean,
    /// `IsTimestamp`
    Timestamp,
}
