//! Paths, intrinsic calls, expressions and the templates that hold them: judged place by place, so
//! that each fault is a problem of its own, and then handed to their parsers.

use serde_json::Value;

use super::context::Context;
use super::fields::Fields;
use crate::definition::QueryLanguage;
use crate::intrinsic::Call;
use crate::jsonata::Expression;
use crate::path::{Path, ReferencePath};
use crate::problem::{Code, Problem};
use crate::template::Template;

/// Whether a text is marked as a JSONata expression.
pub(super) fn is_expression(text: &str) -> bool {
    text.len() >= 4 && text.starts_with("{%") && text.ends_with("%}")
}

/// Whether a text has the form of an intrinsic call.
pub(super) fn is_call(text: &str) -> bool {
    text.starts_with("States.")
}

/// A path: `$.a`, `$$.Execution.Id`, `$variable`.
pub(super) fn path(fields: &Fields<'_>, name: &str) -> Option<Path> {
    let text = fields.text(name)?;
    match Path::parse(&text) {
        Ok(path) => Some(path),
        Err(error) => {
            fields.problem_at(name, format!("Value is not a valid JSONPath: {error}"));
            None
        }
    }
}

/// A path that can name one value only: no filters, wildcards, slices or descendants.
pub(super) fn singular_path(fields: &Fields<'_>, name: &str) -> Option<Path> {
    let path = path(fields, name)?;
    if path.is_definite() {
        return Some(path);
    }
    fields.problem_at(
        name,
        format!("Value is not a Reference Path: '{path}' may select more than one value"),
    );
    None
}

/// A path that can be written to.
pub(super) fn reference_path(fields: &Fields<'_>, name: &str) -> Option<ReferencePath> {
    let text = fields.text(name)?;
    match ReferencePath::parse(&text) {
        Ok(path) => Some(path),
        Err(error) => {
            fields.problem_at(name, format!("Value is not a Reference Path: {error}"));
            None
        }
    }
}

/// An intrinsic call in a field.
pub(super) fn call(fields: &Fields<'_>, name: &str) -> Option<Call> {
    let text = fields.text(name)?;
    match Call::parse(&text) {
        Ok(call) => Some(call),
        Err(error) => {
            fields.problem_at(
                name,
                format!(
                    "Value is not a valid JSONPath or a valid intrinsic function call: {error}"
                ),
            );
            None
        }
    }
}

/// A JSONata expression with its marks.
pub(super) fn expression(cx: &Context, at: &str, text: &str) -> Option<Expression> {
    let report = |code, message, hint| {
        cx.report(Problem {
            path: at.to_owned(),
            code,
            message,
            hint,
        });
    };
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => {
            report(
                Code::InvalidJsonataExpression,
                without_code(&error.to_string()),
                None,
            );
            return None;
        }
    };
    let mut sound = true;
    for name in expression.stray_names() {
        sound = false;
        report(
            Code::UnsupportedJsonataExpression,
            format!("Reference to '{name}' at the top level is not supported."),
            Some(format!(
                "did you mean '$states.input.{name}', or the variable '${name}'?"
            )),
        );
    }
    sound.then_some(expression)
}

/// The words of a JSONata error without its code (`S0207: `), as AWS tells it.
fn without_code(said: &str) -> String {
    let said = said.strip_prefix("Invalid syntax: ").unwrap_or(said);
    let code = said.as_bytes().get(..5).unwrap_or_default();
    let coded = code.first().is_some_and(u8::is_ascii_uppercase)
        && code[1..].iter().all(u8::is_ascii_digit);
    said.get(5..)
        .and_then(|rest| rest.strip_prefix(": "))
        .filter(|_| coded)
        .unwrap_or(said)
        .to_owned()
}

/// A template in a field. The absence of the field is no problem.
pub(super) fn template(
    fields: &Fields<'_>,
    name: &str,
    language: QueryLanguage,
) -> Option<Template> {
    let value = fields.get(name)?;
    let at = fields.at(name);
    let sound = match language {
        QueryLanguage::JsonPath => sound_paths(fields.cx(), &at, value),
        QueryLanguage::Jsonata => sound_expressions(fields.cx(), &at, value),
    };
    if !sound {
        return None;
    }
    match Template::parse(value, language) {
        Ok(template) => Some(template),
        Err(error) => {
            fields.problem_at(name, error.to_string());
            None
        }
    }
}

/// Notes every `name.$` whose value is neither a path nor an intrinsic call.
fn sound_paths(cx: &Context, at: &str, value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().enumerate().fold(true, |sound, (i, item)| {
            sound_paths(cx, &format!("{at}[{i}]"), item) & sound
        }),
        Value::Object(fields) => fields.iter().fold(true, |sound, (key, value)| {
            let Some(stored) = key.strip_suffix(".$") else {
                return sound_paths(cx, &format!("{at}/{key}"), value) & sound;
            };
            let alone = !fields.contains_key(stored);
            if !alone {
                cx.schema(
                    at,
                    format!("The fields '{stored}' and '{key}' stand for the same name"),
                );
            }
            sound_path(cx, at, key, value) & alone & sound
        }),
        _ => true,
    }
}

fn sound_path(cx: &Context, at: &str, key: &str, value: &Value) -> bool {
    let why = match value.as_str() {
        None => "it must be a string".to_owned(),
        Some(text) if is_call(text) => match Call::parse(text) {
            Ok(_) => return true,
            Err(error) => error.to_string(),
        },
        Some(text) => match Path::parse(text) {
            Ok(_) => return true,
            Err(error) => error.to_string(),
        },
    };
    cx.report(Problem {
        path: at.to_owned(),
        code: Code::SchemaValidationFailed,
        message: format!(
            "The value for the field '{key}' must be a valid JSONPath or a valid intrinsic \
             function call"
        ),
        hint: Some(why),
    });
    false
}

/// Notes every expression that does not parse, and every one that is marked on one side only.
fn sound_expressions(cx: &Context, at: &str, value: &Value) -> bool {
    match value {
        Value::String(text) if is_expression(text) => expression(cx, at, text).is_some(),
        Value::String(text) if text.starts_with("{%") || text.ends_with("%}") => {
            cx.report(Problem {
                path: at.to_owned(),
                code: Code::InvalidJsonataExpression,
                message: "A JSONata expression begins with '{%' and ends with '%}', with nothing \
                          around them"
                    .into(),
                hint: None,
            });
            false
        }
        Value::Array(items) => items.iter().enumerate().fold(true, |sound, (i, item)| {
            sound_expressions(cx, &format!("{at}[{i}]"), item) & sound
        }),
        Value::Object(fields) => fields.iter().fold(true, |sound, (key, value)| {
            sound_expressions(cx, &format!("{at}/{key}"), value) & sound
        }),
        _ => true,
    }
}
