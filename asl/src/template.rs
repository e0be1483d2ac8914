//! Payload templates: JSON in which some strings stand for values.
//!
//! In JSONPath mode the value of a key that ends in `.$` is a path or an intrinsic call, and the key is stored without the
//! ending (aws-semantics 10.3.2). In JSONata mode any string `{% ... %}` is an expression (10.5). Everything else is literal.

use serde_json::{Map, Value};

use crate::definition::QueryLanguage;
use crate::intrinsic::{Call, EvaluateCallError, ParseCallError};
use crate::jsonata::{
    self, Bindings, EvaluateExpressionError, Expression, ParseExpressionError, Surroundings,
};
use crate::path::{EvaluatePathError, ParsePathError, Path, Root};
use crate::randomness::Randomness;
use crate::scope::Scope;

#[cfg(test)]
mod tests;

/// How deep a template may nest.
pub const MAX_DEPTH: usize = 100;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    node: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Literal(Value),
    Array(Vec<Node>),
    Object(Vec<Field>),
    Path(Path),
    Call(Call),
    Expression(Expression),
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    /// As it is written: with `.$`, where it has that.
    key: String,
    value: Node,
}

impl Field {
    fn stored_key(&self) -> &str {
        match self.value {
            Node::Path(_) | Node::Call(_) => self.key.strip_suffix(".$").unwrap_or(&self.key),
            _ => &self.key,
        }
    }
}

/// Why a value is no template, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", if pointer.is_empty() { "/" } else { pointer })]
pub struct ParseTemplateError {
    /// A JSON pointer from the template to the object or array that holds the wrong string; empty for the template itself.
    pub pointer: String,
    /// The key of the wrong string there, or its index.
    pub field: String,
    /// What is wrong with it.
    pub why: MistakenValue,
}

/// What is wrong with a string of a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MistakenValue {
    /// A key ends in `.$`, but its value is no string.
    #[error("the value of a key that ends in '.$' must be a path or an intrinsic call in a string")]
    NotText,
    /// The value of a key that ends in `.$` is no path.
    #[error("{0}")]
    Path(#[from] ParsePathError),
    /// The value of a key that ends in `.$` is no intrinsic call.
    #[error("{0}")]
    Call(#[from] ParseCallError),
    /// A string between `{%` and `%}` is no expression.
    #[error("{0}")]
    Expression(#[from] ParseExpressionError),
    /// The template nests deeper than [`MAX_DEPTH`].
    #[error("a template may nest at most {MAX_DEPTH} levels")]
    NestTooDeep,
}

/// Why a template has no value. The text is the cause AWS reports, without its prefix that names the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateTemplateError {
    /// A definite path finds nothing: `States.Runtime`.
    #[error(
        "The JSONPath '{path}' specified for the field '{field}' could not be found in the input '{input}'"
    )]
    MissPath {
        /// The path.
        path: String,
        /// The key, with its `.$`, or the name of the field that is a path.
        field: String,
        /// What the path was applied to, as JSON.
        input: String,
        /// What is missing, in the words of the path library.
        detail: String,
    },
    /// A path has no value for another reason: `States.Runtime`.
    #[error(
        "The JSONPath '{path}' specified for the field '{field}' could not be evaluated: {why}"
    )]
    FailPath {
        /// The path.
        path: String,
        /// The key, with its `.$`, or the name of the field that is a path.
        field: String,
        /// Why.
        why: EvaluatePathError,
    },
    /// An intrinsic call has no value.
    #[error("{0}")]
    FailCall(#[from] EvaluateCallError),
    /// An expression has no value: `States.QueryEvaluationError`.
    #[error("The JSONata expression '{expression}' specified for the field '{field}' {why}")]
    FailExpression {
        /// The expression, without its delimiters.
        expression: String,
        /// The names that lead to it, such as `Arguments/FunctionName`.
        field: String,
        /// Why.
        why: EvaluateExpressionError,
    },
}

impl EvaluateTemplateError {
    /// The name under which AWS reports the error.
    pub fn error(&self) -> &'static str {
        match self {
            Self::MissPath { .. }
            | Self::FailPath { .. }
            | Self::FailCall(EvaluateCallError::MissArgument { .. }) => "States.Runtime",
            Self::FailCall(EvaluateCallError::RefuseArguments { .. }) => "States.IntrinsicFailure",
            Self::FailExpression { .. } => "States.QueryEvaluationError",
        }
    }
}

/// Everything a template of either language can see.
pub trait Frame: Scope + Bindings {}

impl<T: Scope + Bindings> Frame for T {}

impl Template {
    /// Parses a template of the given language.
    pub fn parse(value: &Value, language: QueryLanguage) -> Result<Self, ParseTemplateError> {
        let mut place = Place {
            pointer: String::new(),
            field: String::new(),
            depth: 0,
        };
        let node = match language {
            QueryLanguage::JsonPath => json_path(value, &mut place)?,
            QueryLanguage::Jsonata => jsonata(value, &mut place)?,
        };
        Ok(Self { node })
    }

    /// The value, if the template is nothing but a literal.
    pub fn as_literal(&self) -> Option<&Value> {
        match &self.node {
            Node::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// The expression, if the template is nothing but one.
    pub fn as_expression(&self) -> Option<&Expression> {
        match &self.node {
            Node::Expression(expression) => Some(expression),
            _ => None,
        }
    }

    /// The fields of a template that is an object, so that they can be evaluated one by one.
    pub fn keys(&self) -> Vec<&str> {
        match &self.node {
            Node::Literal(Value::Object(fields)) => fields.keys().map(String::as_str).collect(),
            Node::Object(fields) => fields.iter().map(Field::stored_key).collect(),
            _ => Vec::new(),
        }
    }

    /// The value. `field` is the name of the state's field that holds the template, for the texts of errors.
    pub fn evaluate(
        &self,
        field: &str,
        frame: &dyn Frame,
        surroundings: &Surroundings,
        randomness: &mut dyn Randomness,
    ) -> Result<Value, EvaluateTemplateError> {
        let mut evaluation = Evaluation {
            field: field.to_owned(),
            frame,
            surroundings,
            randomness,
        };
        evaluation.node(&self.node, field)
    }
}

/// The value of a field that is a path.
pub fn evaluate_path(
    path: &Path,
    field: &str,
    scope: &dyn Scope,
) -> Result<Value, EvaluateTemplateError> {
    match path.evaluate(scope) {
        Ok(value) => Ok(value.into_owned()),
        Err(EvaluatePathError::NotFound { detail }) => Err(EvaluateTemplateError::MissPath {
            detail,
            path: path.source().to_owned(),
            field: field.to_owned(),
            input: match path.root() {
                Root::Context => scope.context().to_string(),
                Root::Input | Root::Variable(_) => scope.input().to_string(),
            },
        }),
        Err(why) => Err(EvaluateTemplateError::FailPath {
            path: path.source().to_owned(),
            field: field.to_owned(),
            why,
        }),
    }
}

/// The value of a field that is an expression. `field` is the way to it, such as `Arguments/FunctionName`.
pub fn evaluate_expression(
    expression: &Expression,
    field: &str,
    bindings: &dyn Bindings,
    surroundings: &Surroundings,
    randomness: &mut dyn Randomness,
) -> Result<Value, EvaluateTemplateError> {
    expression
        .evaluate(bindings, surroundings, randomness)
        .map_err(|why| EvaluateTemplateError::FailExpression {
            expression: expression.source().to_owned(),
            field: field.to_owned(),
            why,
        })
}

struct Evaluation<'e> {
    /// The names that lead to the current node.
    field: String,
    frame: &'e dyn Frame,
    surroundings: &'e Surroundings,
    randomness: &'e mut dyn Randomness,
}

impl Evaluation<'_> {
    fn node(&mut self, node: &Node, key: &str) -> Result<Value, EvaluateTemplateError> {
        match node {
            Node::Literal(value) => Ok(value.clone()),
            Node::Path(path) => evaluate_path(path, key, self.frame),
            Node::Call(call) => Ok(call.evaluate(self.frame, self.randomness)?),
            Node::Expression(expression) => evaluate_expression(
                expression,
                &self.field,
                self.frame,
                self.surroundings,
                self.randomness,
            ),
            Node::Array(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let value = self.below(&format!("[{index}]"), |inner| inner.node(item, key))?;
                    values.push(value);
                }
                Ok(Value::Array(values))
            }
            Node::Object(fields) => {
                let mut values = Map::new();
                for field in fields {
                    let value = self.below(&format!("/{}", field.key), |inner| {
                        inner.node(&field.value, &field.key)
                    })?;
                    values.insert(field.stored_key().to_owned(), value);
                }
                Ok(Value::Object(values))
            }
        }
    }

    fn below<T>(&mut self, step: &str, evaluate: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.field.len();
        self.field.push_str(step);
        let value = evaluate(self);
        self.field.truncate(length);
        value
    }
}

struct Place {
    pointer: String,
    field: String,
    depth: usize,
}

impl Place {
    fn mistake(&self, why: impl Into<MistakenValue>) -> ParseTemplateError {
        ParseTemplateError {
            pointer: self.pointer.clone(),
            field: self.field.clone(),
            why: why.into(),
        }
    }

    /// Goes into the field `name` of the object or array at hand.
    fn enter<T>(
        &mut self,
        name: &str,
        is_container: bool,
        parse: impl FnOnce(&mut Self) -> Result<T, ParseTemplateError>,
    ) -> Result<T, ParseTemplateError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.mistake(MistakenValue::NestTooDeep));
        }
        let length = self.pointer.len();
        let field = std::mem::replace(&mut self.field, name.to_owned());
        if is_container {
            self.pointer.push('/');
            self.pointer
                .push_str(&name.replace('~', "~0").replace('/', "~1"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        self.pointer.truncate(length);
        self.field = field;
        parsed
    }
}

fn json_path(value: &Value, place: &mut Place) -> Result<Node, ParseTemplateError> {
    container(value, place, &|key, field, place| match key {
        Some(key) if key.ends_with(".$") => {
            let Value::String(text) = field else {
                return Err(place.mistake(MistakenValue::NotText));
            };
            if text.starts_with('$') {
                Path::parse(text)
                    .map(Node::Path)
                    .map_err(|why| place.mistake(why))
            } else {
                Call::parse(text)
                    .map(Node::Call)
                    .map_err(|why| place.mistake(why))
            }
        }
        _ => json_path(field, place),
    })
}

fn jsonata(value: &Value, place: &mut Place) -> Result<Node, ParseTemplateError> {
    match value {
        Value::String(text) if jsonata::is_expression(text) => Expression::parse(text)
            .map(Node::Expression)
            .map_err(|why| place.mistake(why)),
        _ => container(value, place, &|_, field, place| jsonata(field, place)),
    }
}

/// Parses a field by its key, or an item, which has none.
type ParseField = dyn Fn(Option<&str>, &Value, &mut Place) -> Result<Node, ParseTemplateError>;

/// Parses what is below a value, and makes one literal of it where nothing there is to be evaluated.
fn container(
    value: &Value,
    place: &mut Place,
    parse: &ParseField,
) -> Result<Node, ParseTemplateError> {
    match value {
        Value::Array(items) => {
            let mut nodes = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let holds = item.is_object() || item.is_array();
                nodes.push(
                    place.enter(&index.to_string(), holds, |place| parse(None, item, place))?,
                );
            }
            let literal = nodes.iter().all(|node| matches!(node, Node::Literal(_)));
            Ok(if literal {
                Node::Literal(value.clone())
            } else {
                Node::Array(nodes)
            })
        }
        Value::Object(fields) => {
            let mut nodes = Vec::with_capacity(fields.len());
            for (key, field) in fields {
                let holds = field.is_object() || field.is_array();
                let value = place.enter(key, holds, |place| parse(Some(key), field, place))?;
                nodes.push(Field {
                    key: key.clone(),
                    value,
                });
            }
            let literal = nodes
                .iter()
                .all(|field| matches!(field.value, Node::Literal(_)));
            Ok(if literal {
                Node::Literal(value.clone())
            } else {
                Node::Object(nodes)
            })
        }
        scalar => Ok(Node::Literal(scalar.clone())),
    }
}
