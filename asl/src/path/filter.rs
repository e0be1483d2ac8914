//! Filters: `[?(@.price < 10 && @.name == 'x')]`.

use serde_json::Value;

use super::evaluate::Walk;
use super::function::Function;
use super::parse::{Cursor, ParsePathError};
use super::{EvaluatePathError, Segment};

/// How large a compiled regular expression may be.
const MAX_PATTERN_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Any(Vec<Expression>),
    All(Vec<Expression>),
    Not(Box<Expression>),
    /// A path alone: true where it finds something.
    Exists(Operand),
    Compare(Operand, Operator, Operand),
    /// `@.name =~ /pattern/i`: the whole text has to match.
    Matches(Operand, Pattern),
}

/// A compiled regular expression; its size and, by construction, its time are bounded.
#[derive(Debug, Clone)]
pub(super) struct Pattern(regex::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Literal(Value),
    /// `@...` (the item) or `$...` (the value the whole path started at).
    Path {
        from_root: bool,
        segments: Vec<Segment>,
        function: Option<Function>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
    SubsetOf,
    AnyOf,
    NoneOf,
    Contains,
    Size,
    Empty,
}

/// Parses what stands between `?` and `]`.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Expression, ParsePathError> {
    cursor.skip_spaces();
    let expression = any(cursor)?;
    cursor.skip_spaces();
    Ok(expression)
}

fn any(cursor: &mut Cursor<'_>) -> Result<Expression, ParsePathError> {
    let mut alternatives = vec![all(cursor)?];
    while eat_operator(cursor, "||") {
        alternatives.push(all(cursor)?);
    }
    Ok(match alternatives.len() {
        1 => alternatives.remove(0),
        _ => Expression::Any(alternatives),
    })
}

fn all(cursor: &mut Cursor<'_>) -> Result<Expression, ParsePathError> {
    let mut conditions = vec![single(cursor)?];
    while eat_operator(cursor, "&&") {
        conditions.push(single(cursor)?);
    }
    Ok(match conditions.len() {
        1 => conditions.remove(0),
        _ => Expression::All(conditions),
    })
}

fn eat_operator(cursor: &mut Cursor<'_>, text: &str) -> bool {
    cursor.skip_spaces();
    cursor.eat(text)
}

fn single(cursor: &mut Cursor<'_>) -> Result<Expression, ParsePathError> {
    cursor.skip_spaces();
    match cursor.peek() {
        Some('!') => {
            cursor.bump();
            let negated = cursor.nested(single)?;
            Ok(Expression::Not(Box::new(negated)))
        }
        Some('(') => {
            cursor.bump();
            let inner = cursor.nested(any)?;
            cursor.skip_spaces();
            if !cursor.eat(")") {
                return Err(cursor.expected("')'"));
            }
            Ok(inner)
        }
        _ => comparison(cursor),
    }
}

fn comparison(cursor: &mut Cursor<'_>) -> Result<Expression, ParsePathError> {
    let left = operand(cursor)?;
    cursor.skip_spaces();
    if cursor.eat("=~") {
        cursor.skip_spaces();
        return Ok(Expression::Matches(left, pattern(cursor)?));
    }
    let Some(operator) = operator(cursor)? else {
        return match left {
            Operand::Path { .. } => Ok(Expression::Exists(left)),
            Operand::Literal(_) => Err(cursor.expected("a comparison operator")),
        };
    };
    cursor.skip_spaces();
    let right = operand(cursor)?;
    Ok(Expression::Compare(left, operator, right))
}

fn operator(cursor: &mut Cursor<'_>) -> Result<Option<Operator>, ParsePathError> {
    const SYMBOLS: [(&str, Operator); 8] = [
        ("===", Operator::Equal),
        ("==", Operator::Equal),
        ("!==", Operator::NotEqual),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    for (symbol, operator) in SYMBOLS {
        if cursor.eat(symbol) {
            return Ok(Some(operator));
        }
    }
    if cursor.peek() == Some('=') {
        return Err(cursor.expected("'==' or '=~'"));
    }
    let word = cursor.take_while(|c| c.is_ascii_alphabetic());
    Ok(Some(match word.to_ascii_lowercase().as_str() {
        "" => return Ok(None),
        "in" => Operator::In,
        "nin" => Operator::NotIn,
        "subsetof" => Operator::SubsetOf,
        "anyof" => Operator::AnyOf,
        "noneof" => Operator::NoneOf,
        "contains" => Operator::Contains,
        "size" => Operator::Size,
        "empty" => Operator::Empty,
        _ => return Err(cursor.expected("an operator such as ==, <, in or contains")),
    }))
}

/// `/pattern/flags`, with the flags i, d, x, m, s, u and U of Java; those that Rust lacks change nothing.
fn pattern(cursor: &mut Cursor<'_>) -> Result<Pattern, ParsePathError> {
    if !cursor.eat("/") {
        return Err(cursor.expected("a regular expression between slashes"));
    }
    let mut text = String::new();
    loop {
        match cursor.bump() {
            None => return Err(cursor.expected("the slash that closes the regular expression")),
            Some('/') => break,
            Some('\\') => match cursor.bump() {
                Some('/') => text.push('/'),
                Some(escaped) => {
                    text.push('\\');
                    text.push(escaped);
                }
                None => return Err(cursor.expected("the slash that closes the regular expression")),
            },
            Some(c) => text.push(c),
        }
    }
    let flags = cursor.take_while(|c| "idxmsuU".contains(c));
    regex::RegexBuilder::new(&format!("^(?:{text})$"))
        .case_insensitive(flags.contains('i'))
        .multi_line(flags.contains('m'))
        .dot_matches_new_line(flags.contains('s'))
        .ignore_whitespace(flags.contains('x'))
        .size_limit(MAX_PATTERN_BYTES)
        .dfa_size_limit(MAX_PATTERN_BYTES)
        .build()
        .map(Pattern)
        .map_err(|_| cursor.expected("a valid regular expression before this place"))
}

fn operand(cursor: &mut Cursor<'_>) -> Result<Operand, ParsePathError> {
    match cursor.peek() {
        Some(root @ ('@' | '$')) => {
            cursor.bump();
            let (segments, function) = cursor.nested(Cursor::operand_segments)?;
            Ok(Operand::Path {
                from_root: root == '$',
                segments,
                function,
            })
        }
        Some('\'' | '"') => cursor
            .quoted()
            .map(|text| Operand::Literal(Value::String(text))),
        Some('[') => {
            cursor.bump();
            let items = cursor.nested(literals)?;
            Ok(Operand::Literal(Value::Array(items)))
        }
        _ => {
            let word =
                cursor.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
            match serde_json::from_str(word) {
                Ok(literal) => Ok(Operand::Literal(literal)),
                Err(_) => {
                    Err(cursor.expected("'@', '$', a quoted text, a number, true, false or null"))
                }
            }
        }
    }
}

fn literals(cursor: &mut Cursor<'_>) -> Result<Vec<Value>, ParsePathError> {
    let mut items = Vec::new();
    cursor.skip_spaces();
    if cursor.eat("]") {
        return Ok(items);
    }
    loop {
        cursor.skip_spaces();
        match operand(cursor)? {
            Operand::Literal(literal) => items.push(literal),
            Operand::Path { .. } => return Err(cursor.expected("literals only inside a list")),
        }
        cursor.skip_spaces();
        if cursor.eat("]") {
            return Ok(items);
        }
        if !cursor.eat(",") {
            return Err(cursor.expected("',' or ']'"));
        }
    }
}

pub(super) fn accepts(
    expression: &Expression,
    item: &Value,
    walk: &mut Walk<'_>,
) -> Result<bool, EvaluatePathError> {
    Ok(match expression {
        Expression::Any(alternatives) => {
            for alternative in alternatives {
                if accepts(alternative, item, walk)? {
                    return Ok(true);
                }
            }
            false
        }
        Expression::All(conditions) => {
            for condition in conditions {
                if !accepts(condition, item, walk)? {
                    return Ok(false);
                }
            }
            true
        }
        Expression::Not(negated) => !accepts(negated, item, walk)?,
        Expression::Exists(operand) => value(operand, item, walk)?.is_some(),
        Expression::Matches(operand, pattern) => value(operand, item, walk)?
            .is_some_and(|value| value.as_str().is_some_and(|text| pattern.0.is_match(text))),
        Expression::Compare(left, operator, right) => {
            let left = value(left, item, walk)?;
            let right = value(right, item, walk)?;
            compare(left.as_ref(), *operator, right.as_ref())
        }
    })
}

/// The operand's value; none where a definite path finds nothing.
fn value(
    operand: &Operand,
    item: &Value,
    walk: &mut Walk<'_>,
) -> Result<Option<Value>, EvaluatePathError> {
    match operand {
        Operand::Literal(literal) => Ok(Some(literal.clone())),
        Operand::Path {
            from_root,
            segments,
            function,
        } => {
            let start = if *from_root { walk.root } else { item };
            let found = match walk.evaluate(segments, "@", start) {
                Ok(found) => found,
                Err(EvaluatePathError::NotFound { .. }) => return Ok(None),
                Err(other) => return Err(other),
            };
            match function {
                None => Ok(Some(found.into_owned())),
                Some(function) => match function.apply(&found) {
                    Ok(value) => Ok(Some(value)),
                    Err(EvaluatePathError::FunctionFailed { .. }) => Ok(None),
                    Err(other) => Err(other),
                },
            }
        }
    }
}

fn compare(left: Option<&Value>, operator: Operator, right: Option<&Value>) -> bool {
    let (left, right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        // What is missing differs from everything that is there.
        (None, None) => return operator == Operator::Equal,
        _ => return operator == Operator::NotEqual,
    };
    match operator {
        Operator::Equal => equal(left, right),
        Operator::NotEqual => !equal(left, right),
        Operator::Less => ordering(left, right).is_some_and(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => ordering(left, right).is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => ordering(left, right).is_some_and(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => ordering(left, right).is_some_and(std::cmp::Ordering::is_ge),
        Operator::In => list(right).is_some_and(|list| contains(list, left)),
        Operator::NotIn => !list(right).is_some_and(|list| contains(list, left)),
        Operator::SubsetOf => both(left, right, |all, of| {
            all.iter().all(|item| contains(of, item))
        }),
        Operator::AnyOf => both(left, right, |all, of| {
            all.iter().any(|item| contains(of, item))
        }),
        Operator::NoneOf => both(left, right, |all, of| {
            !all.iter().any(|item| contains(of, item))
        }),
        Operator::Contains => match (left, right) {
            (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
            (Value::Array(items), _) => contains(items, right),
            _ => false,
        },
        Operator::Size => right
            .as_u64()
            .is_some_and(|size| length(left) == Some(size as usize)),
        Operator::Empty => right
            .as_bool()
            .is_some_and(|empty| length(left).is_some_and(|size| (size == 0) == empty)),
    }
}

fn list(value: &Value) -> Option<&[Value]> {
    value.as_array().map(Vec::as_slice)
}

fn both(left: &Value, right: &Value, holds: impl Fn(&[Value], &[Value]) -> bool) -> bool {
    match (list(left), list(right)) {
        (Some(left), Some(right)) => holds(left, right),
        _ => false,
    }
}

fn contains(items: &[Value], wanted: &Value) -> bool {
    items.iter().any(|item| equal(item, wanted))
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Array(items) => Some(items.len()),
        Value::Object(fields) => Some(fields.len()),
        Value::String(text) => Some(text.chars().count()),
        _ => None,
    }
}

/// Numbers by value; a number and a text by what they look like, as the library does.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => left.as_f64() == right.as_f64(),
        (Value::Number(number), Value::String(text))
        | (Value::String(text), Value::Number(number)) => text
            .parse::<f64>()
            .is_ok_and(|parsed| number.as_f64() == Some(parsed)),
        _ => left == right,
    }
}

fn ordering(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}
