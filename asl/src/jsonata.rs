//! JSONata expressions: strings of the form `{% expression %}` (aws-semantics 10.5).
//!
//! The language itself is `jsonata-core`; this module gives it Step Functions' surroundings: `$states`, the variables, the
//! functions `$partition $range $hash $random $uuid $parse`, no `$eval`, and the texts of AWS's errors. Time and randomness
//! are passed in, so `$now()`, `$random()` and `$shuffle()` are as reproducible as the rest.
//!
//! An expression cannot run away: time, nesting, the length of sequences and the size of values are bounded, see
//! [`Limits`] and `guard`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jsonata_core::ast::AstNode;
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorOptions};
use jsonata_core::value::JValue;
use serde_json::Value;

use crate::randomness::Randomness;

mod convert;
mod document;
mod functions;
mod guard;
mod inspect;
mod stray;
#[cfg(test)]
mod tests;

/// The longest accepted expression, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 32 * 1024;

/// A parsed expression.
#[derive(Clone)]
pub struct Expression {
    source: Arc<str>,
    program: Arc<AstNode>,
    needs: inspect::Needs,
    stray: Vec<String>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Expression")
            .field(&self.source)
            .finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseExpressionError {
    /// The text lacks the delimiters.
    #[error("a JSONata expression starts with '{{%' and ends with '%}}'")]
    LackDelimiters,
    /// Nothing stands between the delimiters.
    #[error("the expression is empty")]
    SayNothing,
    /// JSONata does not accept it.
    #[error("{0}")]
    LeaveSyntax(String),
    /// `$eval` is not available.
    #[error("the function $eval is not available: write the expression itself")]
    CallEval,
    /// The expression is longer than [`MAX_EXPRESSION_BYTES`].
    #[error("an expression may have at most {MAX_EXPRESSION_BYTES} bytes, this one has {0}")]
    ExceedLength(usize),
}

/// Why an expression has no value. The text is what AWS puts behind
/// "The JSONata expression '...' specified for the field '...'".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateExpressionError {
    /// The result is undefined.
    #[error("returned nothing (undefined).")]
    ReturnNothing,
    /// The result is, or contains, something JSON does not have, such as a function.
    #[error("returned an unsupported result type.")]
    ReturnUnsupported,
    /// The evaluation failed, or reached a limit.
    #[error("threw an error during evaluation. {0}")]
    Throw(String),
}

/// What one evaluation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time.
    pub time: Duration,
    /// Levels of nesting; a recursive call costs about three.
    pub depth: usize,
    /// Items of one sequence.
    pub items: usize,
    /// Bytes of one text, and about the bytes of one value as JSON.
    pub bytes: usize,
}

impl Default for Limits {
    /// Two seconds, 3,000 levels, 131,072 items (what fits 256 KiB of JSON), 2 MiB.
    fn default() -> Self {
        Self {
            time: Duration::from_secs(2),
            depth: 3_000,
            items: 131_072,
            bytes: 2 * 1024 * 1024,
        }
    }
}

/// A field of `$states`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatesField {
    /// `$states.input`.
    Input,
    /// `$states.result`: only once the state has one.
    Result,
    /// `$states.errorOutput`: only in a catcher.
    ErrorOutput,
    /// `$states.context`.
    Context,
}

impl StatesField {
    const ALL: [Self; 4] = [Self::Input, Self::Result, Self::ErrorOutput, Self::Context];

    fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Result => "result",
            Self::ErrorOutput => "errorOutput",
            Self::Context => "context",
        }
    }
}

/// What an expression can see. Only what it mentions is asked for.
pub trait Bindings {
    /// The value of a field of `$states`, if it has one here.
    fn states(&self, field: StatesField) -> Option<&Value>;
    /// The value of the variable `$name`, nearest scope first.
    fn variable(&self, name: &str) -> Option<&Value>;
}

/// Time and bounds of an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// What `$now()` and `$millis()` answer.
    pub now: Timestamp,
    /// The bounds.
    pub limits: Limits,
}

/// Whether a string of a definition is an expression: with the delimiters as its very first and last characters, anything
/// else is a literal (as recorded: `" {% 1 %}"` is one).
pub fn is_expression(text: &str) -> bool {
    text.len() >= 4 && text.starts_with("{%") && text.ends_with("%}")
}

impl Expression {
    /// Parses `{% expression %}`.
    pub fn parse(text: &str) -> Result<Self, ParseExpressionError> {
        if !is_expression(text) {
            return Err(ParseExpressionError::LackDelimiters);
        }
        let source = text[2..text.len() - 2].trim();
        if source.is_empty() {
            return Err(ParseExpressionError::SayNothing);
        }
        if source.len() > MAX_EXPRESSION_BYTES {
            return Err(ParseExpressionError::ExceedLength(source.len()));
        }
        let program = jsonata_core::parser::parse(source)
            .map_err(|error| ParseExpressionError::LeaveSyntax(error.to_string()))?;
        let needs = inspect::needs(&program)?;
        let stray = stray::names(&program);
        Ok(Self {
            source: source.into(),
            program: Arc::new(guard::guarded(program)),
            needs,
            stray,
        })
    }

    /// What stands between the delimiters, without the spaces around it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names the expression reads at its top level, where nothing has names: `phone` instead of `$states.input.phone`.
    pub fn stray_names(&self) -> impl Iterator<Item = &str> {
        self.stray.iter().map(String::as_str)
    }

    /// The names of variables the expression mentions, `$states` and its own ones among them.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.needs.variables.iter().map(String::as_str)
    }

    /// The value of the expression.
    pub fn evaluate(
        &self,
        bindings: &dyn Bindings,
        surroundings: &Surroundings,
        randomness: &mut dyn Randomness,
    ) -> Result<Value, EvaluateExpressionError> {
        self.evaluate_with(&JValue::Undefined, bindings, surroundings, randomness)
    }

    fn evaluate_with(
        &self,
        input: &JValue,
        bindings: &dyn Bindings,
        surroundings: &Surroundings,
        randomness: &mut dyn Randomness,
    ) -> Result<Value, EvaluateExpressionError> {
        let limits = surroundings.limits;
        let mut context = Context::new();
        if self.needs.states {
            context.bind("states".to_owned(), self.states(bindings)?);
        }
        for name in &self.needs.variables {
            if let Some(value) = bindings.variable(name) {
                context.bind(name.clone(), convert::inwards(value)?);
            }
        }
        let options = EvaluatorOptions {
            timeout_ms: Some(limits.time.as_millis() as u64),
            cancel: None,
            max_stack_depth: Some(limits.depth),
            max_sequence_length: Some(limits.items),
        };
        let mut evaluator = Evaluator::with_options(context, options);
        let seed = if self.needs.randomness {
            randomness.next_u64()
        } else {
            0
        };
        let is_mentioned = |name: &str| self.needs.variables.contains(name);
        functions::register(&mut evaluator, is_mentioned, surroundings.now, seed, limits)
            .and_then(|()| guard::register(&mut evaluator, limits))
            .and_then(|()| evaluator.evaluate(&self.program, input))
            .map_err(|error| EvaluateExpressionError::Throw(text_of(error.message())))
            .and_then(|result| convert::outwards(&result, limits.bytes))
    }

    fn states(&self, bindings: &dyn Bindings) -> Result<JValue, EvaluateExpressionError> {
        let mut fields = Vec::new();
        for field in StatesField::ALL {
            if self
                .needs
                .fields
                .as_ref()
                .is_none_or(|named| named.contains(&field))
                && let Some(value) = bindings.states(field)
            {
                fields.push((field.name().to_owned(), convert::inwards(value)?));
            }
        }
        Ok(JValue::object(fields.into_iter().collect()))
    }
}

/// The text of an error as JSONata's reference has it: no name behind "non-function".
fn text_of(message: &str) -> String {
    const NON_FUNCTION: &str = "T1006: Attempted to invoke a non-function";
    let text = if message.starts_with(NON_FUNCTION) {
        NON_FUNCTION
    } else {
        message
    };
    text.to_owned()
}
