//! Intrinsic functions: `States.Format('{} {}', $.name, States.UUID())` (aws-semantics 10.4).
//!
//! Calls are parsed once, with the number of arguments checked; at most [`MAX_NESTING`] calls stand inside each other.
//! Evaluation is a function of the scope and of the randomness passed in.

use serde_json::Value;

use crate::path::{EvaluatePathError, ParsePathError, Path, Root};
use crate::randomness::Randomness;
use crate::scope::Scope;

mod array;
mod encode;
pub(crate) use encode::{digest, parse_json};
mod format;
mod math;
mod parse;
#[cfg(test)]
mod tests;

/// How many calls may stand inside each other, the outermost included.
pub const MAX_NESTING: usize = 10;
/// The longest accepted call, in bytes.
pub const MAX_CALL_BYTES: usize = 32 * 1024;
/// The longest text that can be hashed, encoded or decoded, in characters.
pub const MAX_TEXT_CHARACTERS: usize = 10_000;

/// A parsed call of an intrinsic function.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    source: String,
    function: Function,
    arguments: Vec<Argument>,
}

#[derive(Debug, Clone, PartialEq)]
enum Argument {
    /// A quoted text: as it is, and with its escapes still in it, which `States.Format` needs.
    Text {
        value: Value,
        raw: String,
    },
    /// A number, `true`, `false` or `null`.
    Literal(Value),
    Path(Path),
    Call(Box<Call>),
}

/// The functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Array,
    ArrayPartition,
    ArrayContains,
    ArrayRange,
    ArrayGetItem,
    ArrayLength,
    ArrayUnique,
    Base64Encode,
    Base64Decode,
    Hash,
    JsonMerge,
    StringToJson,
    JsonToString,
    MathRandom,
    MathAdd,
    StringSplit,
    Format,
    Uuid,
}

/// Why a text is no call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCallError {
    /// No function of this name exists.
    #[error(
        "'{0}' is no intrinsic function: write States.Format, States.Array, States.UUID or another of AWS's list"
    )]
    NameUnknownFunction(String),
    /// The text stops being a call at this byte.
    #[error("at byte {position} of '{call}': {expected}")]
    LeaveSyntax {
        /// The whole text.
        call: String,
        /// Where, counted in bytes from 0.
        position: usize,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// A path among the arguments is none.
    #[error("in an argument: {0}")]
    MistakePath(#[from] ParsePathError),
    /// A function was given too few or too many arguments.
    #[error("{function} takes {wanted} argument(s), not {given}")]
    MiscountArguments {
        /// The function.
        function: &'static str,
        /// How many it takes, in words.
        wanted: &'static str,
        /// How many there are.
        given: usize,
    },
    /// More than [`MAX_NESTING`] calls inside each other.
    #[error("at most {MAX_NESTING} calls may be nested")]
    ExceedNesting,
    /// The call is longer than [`MAX_CALL_BYTES`].
    #[error("a call may have at most {MAX_CALL_BYTES} bytes, this one has {0}")]
    ExceedLength(usize),
}

/// Why a call has no value. The text is the cause AWS reports, without its prefix that names the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateCallError {
    /// A path among the arguments finds nothing: `States.Runtime`.
    #[error(
        "The function '{call}' had the following error: The JsonPath argument for the field '{path}' could not be found \
         in the input '{input}'"
    )]
    MissArgument {
        /// The call that has the argument.
        call: String,
        /// The path.
        path: String,
        /// What it was applied to, as JSON.
        input: String,
    },
    /// The function has no answer for these arguments: `States.IntrinsicFailure`.
    #[error("The function '{call}' had the following error: {why}")]
    RefuseArguments {
        /// The call.
        call: String,
        /// What it accepts instead.
        why: String,
    },
}

impl Call {
    /// Parses a call such as `States.Array($.a, 'b', 3)`.
    pub fn parse(source: &str) -> Result<Self, ParseCallError> {
        parse::call(source)
    }

    /// The call as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Every path among the arguments, nested ones too.
    pub fn paths(&self) -> Vec<&Path> {
        let mut found = Vec::new();
        let mut pending = vec![self];
        while let Some(call) = pending.pop() {
            for argument in &call.arguments {
                match argument {
                    Argument::Path(path) => found.push(path),
                    Argument::Call(inner) => pending.push(inner),
                    Argument::Text { .. } | Argument::Literal(_) => {}
                }
            }
        }
        found
    }

    /// The value of the call.
    pub fn evaluate(
        &self,
        scope: &dyn Scope,
        randomness: &mut dyn Randomness,
    ) -> Result<Value, EvaluateCallError> {
        let mut values = Vec::with_capacity(self.arguments.len());
        for argument in &self.arguments {
            values.push(self.argument(argument, scope, randomness)?);
        }
        self.apply(values, randomness)
            .map_err(|why| EvaluateCallError::RefuseArguments {
                call: self.source.clone(),
                why,
            })
    }

    fn argument(
        &self,
        argument: &Argument,
        scope: &dyn Scope,
        randomness: &mut dyn Randomness,
    ) -> Result<Value, EvaluateCallError> {
        match argument {
            Argument::Text { value, .. } | Argument::Literal(value) => Ok(value.clone()),
            Argument::Call(inner) => inner.evaluate(scope, randomness),
            Argument::Path(path) => match path.evaluate(scope) {
                Ok(value) => Ok(value.into_owned()),
                Err(EvaluatePathError::NotFound { .. }) => Err(EvaluateCallError::MissArgument {
                    call: self.source.clone(),
                    path: path.source().to_owned(),
                    input: match path.root() {
                        Root::Context => scope.context().to_string(),
                        Root::Input | Root::Variable(_) => scope.input().to_string(),
                    },
                }),
                Err(other) => Err(EvaluateCallError::RefuseArguments {
                    call: self.source.clone(),
                    why: other.to_string(),
                }),
            },
        }
    }

    fn apply(
        &self,
        arguments: Vec<Value>,
        randomness: &mut dyn Randomness,
    ) -> Result<Value, String> {
        match self.function {
            Function::Array => Ok(Value::Array(arguments)),
            Function::ArrayPartition => array::partition(&arguments[0], &arguments[1]),
            Function::ArrayContains => array::contains(&arguments[0], &arguments[1]),
            Function::ArrayRange => array::range(&arguments[0], &arguments[1], &arguments[2]),
            Function::ArrayGetItem => array::item(&arguments[0], &arguments[1]),
            Function::ArrayLength => array::length(&arguments[0]),
            Function::ArrayUnique => array::unique(&arguments[0]),
            Function::Base64Encode => encode::base64_encode(&arguments[0]),
            Function::Base64Decode => encode::base64_decode(&arguments[0]),
            Function::Hash => encode::hash(&arguments[0], &arguments[1]),
            Function::JsonMerge => encode::merge(arguments),
            Function::StringToJson => encode::string_to_json(&arguments[0]),
            Function::JsonToString => Ok(Value::String(arguments[0].to_string())),
            Function::MathRandom => math::random(&arguments, randomness),
            Function::MathAdd => math::add(&arguments[0], &arguments[1]),
            Function::StringSplit => format::split(&arguments[0], &arguments[1]),
            Function::Format => {
                let template = match (self.arguments.first(), arguments.first()) {
                    (Some(Argument::Text { raw, .. }), _) => raw.as_str(),
                    (_, Some(Value::String(text))) => text.as_str(),
                    _ => return Err("the template must be a string".to_owned()),
                };
                format::format(template, &arguments[1..])
            }
            Function::Uuid => Ok(Value::String(crate::randomness::uuid(randomness))),
        }
    }
}

impl Function {
    /// Name, function, fewest and most arguments.
    const ALL: [(&'static str, Function, usize, usize, &'static str); 18] = [
        (
            "States.Array",
            Function::Array,
            0,
            usize::MAX,
            "any number of",
        ),
        ("States.ArrayPartition", Function::ArrayPartition, 2, 2, "2"),
        ("States.ArrayContains", Function::ArrayContains, 2, 2, "2"),
        ("States.ArrayRange", Function::ArrayRange, 3, 3, "3"),
        ("States.ArrayGetItem", Function::ArrayGetItem, 2, 2, "2"),
        ("States.ArrayLength", Function::ArrayLength, 1, 1, "1"),
        ("States.ArrayUnique", Function::ArrayUnique, 1, 1, "1"),
        ("States.Base64Encode", Function::Base64Encode, 1, 1, "1"),
        ("States.Base64Decode", Function::Base64Decode, 1, 1, "1"),
        ("States.Hash", Function::Hash, 2, 2, "2"),
        ("States.JsonMerge", Function::JsonMerge, 3, 3, "3"),
        ("States.StringToJson", Function::StringToJson, 1, 1, "1"),
        ("States.JsonToString", Function::JsonToString, 1, 1, "1"),
        ("States.MathRandom", Function::MathRandom, 2, 3, "2 or 3"),
        ("States.MathAdd", Function::MathAdd, 2, 2, "2"),
        ("States.StringSplit", Function::StringSplit, 2, 2, "2"),
        (
            "States.Format",
            Function::Format,
            1,
            usize::MAX,
            "at least 1",
        ),
        ("States.UUID", Function::Uuid, 0, 0, "no"),
    ];
}
