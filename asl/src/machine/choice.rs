//! Choice states (aws-semantics 10.6.2).

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::failure::{Mishap, name};
use super::run::{Attempt, Exit, Runner, Stay};
use super::view::{Chain, View};
use crate::definition::{Choice, Comparison, Condition, Domain, Kind, Operand, Relation, Test};
use crate::path::{EvaluatePathError, Path};
use crate::timestamp;

impl<'m> Runner<'m, '_> {
    /// The first rule that matches.
    pub(super) fn choose(
        &mut self,
        stay: &Stay<'m, '_>,
        choice: &Choice,
        chain: &Chain<'_>,
    ) -> Result<Attempt, Mishap> {
        let input = self.effective_input(stay, chain)?;
        let about = std::sync::Arc::clone(&self.about);
        let view = stay.standing(&about, chain).of(&input);
        for (index, rule) in choice.rules.iter().enumerate() {
            if self.holds(stay, &rule.condition, index, &view)? {
                return Ok(Attempt::Chosen(input.clone(), Exit::Rule(index)));
            }
        }
        if choice.default.is_some() {
            return Ok(Attempt::Chosen(input.clone(), Exit::Default));
        }
        Err(stay.mishap(
            name::NO_CHOICE_MATCHED,
            "Failed to transition out of the state. The state does not point to a next state.",
        ))
    }

    fn holds(
        &mut self,
        stay: &Stay<'_, '_>,
        condition: &Condition,
        rule: usize,
        view: &View<'_>,
    ) -> Result<bool, Mishap> {
        match condition {
            Condition::And(all) => {
                for condition in all {
                    if !self.holds(stay, condition, rule, view)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::Or(any) => {
                for condition in any {
                    if self.holds(stay, condition, rule, view)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::Not(negated) => Ok(!self.holds(stay, negated, rule, view)?),
            Condition::Comparison(comparison) => compare(stay, comparison, view),
            Condition::Expression(expression) => {
                let field = format!("Choices[{rule}]/Condition");
                let value =
                    self.expression(stay, expression, &field, "boolean", Value::is_boolean, view)?;
                Ok(value == Value::Bool(true))
            }
        }
    }
}

fn compare(stay: &Stay<'_, '_>, comparison: &Comparison, view: &View<'_>) -> Result<bool, Mishap> {
    if let Test::Is {
        kind: Kind::Present,
        expected,
    } = comparison.test
    {
        return match comparison.variable.evaluate(view) {
            Ok(_) => Ok(expected),
            Err(EvaluatePathError::NotFound { .. }) => Ok(!expected),
            Err(error) => Err(invalid(stay, &comparison.variable, &error)),
        };
    }
    let value = lookup(stay, &comparison.variable, view)?;
    match &comparison.test {
        Test::Compare {
            domain,
            relation,
            operand,
        } => {
            let operand = match operand {
                Operand::Literal(literal) => Cow::Borrowed(literal),
                Operand::Path(path) => lookup(stay, path, view)?,
            };
            let ordering = ordering(*domain, &value, &operand);
            Ok(ordering.is_some_and(|ordering| satisfies(*relation, ordering)))
        }
        Test::Matches(pattern) => Ok(value.as_str().is_some_and(|text| matches(pattern, text))),
        Test::Is { kind, expected } => Ok(is(*kind, &value) == *expected),
    }
}

fn lookup<'v>(
    stay: &Stay<'_, '_>,
    path: &Path,
    view: &'v View<'_>,
) -> Result<Cow<'v, Value>, Mishap> {
    path.evaluate(view)
        .map_err(|error| invalid(stay, path, &error))
}

fn invalid(stay: &Stay<'_, '_>, path: &Path, error: &EvaluatePathError) -> Mishap {
    match error {
        EvaluatePathError::NotFound { .. } => stay.mishap(
            name::RUNTIME,
            format_args!(
                "Invalid path '{path}': The choice state's condition path references an invalid value."
            ),
        ),
        other => stay.mishap(name::RUNTIME, format_args!("Invalid path '{path}': {other}")),
    }
}

/// How the values compare; none when either is not of the domain.
fn ordering(domain: Domain, left: &Value, right: &Value) -> Option<Ordering> {
    match domain {
        Domain::String => Some(left.as_str()?.cmp(right.as_str()?)),
        Domain::Numeric => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        Domain::Boolean => Some(left.as_bool()?.cmp(&right.as_bool()?)),
        Domain::Timestamp => {
            Some(timestamp::parse(left.as_str()?)?.cmp(&timestamp::parse(right.as_str()?)?))
        }
    }
}

fn satisfies(relation: Relation, ordering: Ordering) -> bool {
    match relation {
        Relation::Equals => ordering.is_eq(),
        Relation::LessThan => ordering.is_lt(),
        Relation::GreaterThan => ordering.is_gt(),
        Relation::LessThanEquals => ordering.is_le(),
        Relation::GreaterThanEquals => ordering.is_ge(),
    }
}

fn is(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::Present => true,
        Kind::Null => value.is_null(),
        Kind::String => value.is_string(),
        Kind::Numeric => value.is_number(),
        Kind::Boolean => value.is_boolean(),
        Kind::Timestamp => value.as_str().is_some_and(timestamp::is_valid),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Any,
    Exactly(char),
}

/// `*` is any run of characters; a backslash takes the meaning from a star or a backslash. Takes at most the product of the
/// two lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' => Token::Any,
            '\\' => match rest.next_if(|next| matches!(next, '*' | '\\')) {
                Some(escaped) => Token::Exactly(escaped),
                None => Token::Exactly('\\'),
            },
            other => Token::Exactly(other),
        });
    }
    let text: Vec<char> = text.chars().collect();
    let (mut token, mut at) = (0, 0);
    // The last star, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match tokens.get(token) {
            Some(Token::Any) => {
                star = Some((token, at));
                token += 1;
            }
            Some(Token::Exactly(c)) if *c == text[at] => {
                token += 1;
                at += 1;
            }
            _ => match &mut star {
                Some((position, taken)) => {
                    *taken += 1;
                    token = *position + 1;
                    at = *taken;
                }
                None => return false,
            },
        }
    }
    tokens[token..].iter().all(|token| *token == Token::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_and_a_backslash_for_itself() {
        for (pattern, text) in [
            ("*", ""),
            ("a*c", "abbc"),
            ("a*c", "ac"),
            ("*.log", "x.log.log"),
            ("a\\*b", "a*b"),
            ("a\\\\b", "a\\b"),
            ("a\\b", "a\\b"),
            ("**x", "yx"),
            ("é*", "éa"),
        ] {
            assert!(matches(pattern, text), "{pattern} should match {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a*c", "ab"),
            ("a\\*b", "axb"),
            ("*.log", "x.txt"),
            ("a", "A"),
        ] {
            assert!(!matches(pattern, text), "{pattern} should not match {text}");
        }
    }
}
