//! Scalars of a state that a path or an expression may give.

use std::sync::Arc;

use serde_json::Value;

use super::failure::{Mishap, name};
use super::output::evaluation;
use super::run::{Runner, Stay};
use super::view::View;
use crate::definition::Source;
use crate::jsonata::Expression;
use crate::template::{self, EvaluateTemplateError};

/// How AWS words the faults of a scalar.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wording {
    /// As of a parameter: `The SecondsPath parameter ...`.
    Parameter,
    /// As of a field: `The MaxConcurrencyPath field ...`.
    Field,
    /// As `Field`, but a missing value is an invalid path.
    Limit,
}

impl Runner<'_, '_> {
    /// The value of an expression, of the expected type.
    pub(super) fn expression(
        &mut self,
        stay: &Stay<'_, '_>,
        expression: &Expression,
        field: &str,
        expected: &str,
        is_expected: impl Fn(&Value) -> bool,
        view: &View<'_>,
    ) -> Result<Value, Mishap> {
        let surroundings = self.surroundings();
        let value = template::evaluate_expression(
            expression,
            field,
            view,
            &surroundings,
            self.environment.randomness,
        )
        .map_err(|error| evaluation(stay, error))?;
        if is_expected(&value) {
            return Ok(value);
        }
        Err(unexpected(stay, expression, field, expected, &value))
    }

    /// A whole number, 0 or more.
    pub(super) fn integer(
        &mut self,
        stay: &Stay<'_, '_>,
        source: &Source<u64>,
        field: &str,
        wording: Wording,
        view: &View<'_>,
    ) -> Result<u64, Mishap> {
        match source {
            Source::Literal(number) => Ok(*number),
            Source::Path(path) => {
                let path_field = format!("{field}Path");
                let value = match template::evaluate_path(path, &path_field, view) {
                    Ok(value) => value,
                    Err(EvaluateTemplateError::MissPath { detail, .. })
                        if wording == Wording::Limit =>
                    {
                        return Err(stay.mishap(
                            name::RUNTIME,
                            format_args!("Invalid path '{path}' : {detail}"),
                        ));
                    }
                    Err(EvaluateTemplateError::MissPath { .. })
                        if wording == Wording::Parameter =>
                    {
                        return Err(stay.mishap(
                            name::RUNTIME,
                            format_args!(
                                "The {path_field} parameter does not reference an input value: {path}"
                            ),
                        ));
                    }
                    Err(error) => return Err(evaluation(stay, error)),
                };
                match (whole(&value), wording) {
                    (Some(number), _) if number >= 0 => Ok(number as u64),
                    (Some(_), Wording::Parameter) => Err(stay.mishap(
                        name::RUNTIME,
                        format_args!(
                            "The {path_field} parameter references a negative value: {path} == {value}"
                        ),
                    )),
                    (None, Wording::Parameter) => Err(stay.mishap(
                        name::RUNTIME,
                        format_args!(
                            "The {path_field} parameter cannot be parsed as a long value: {path} == {}",
                            plain(&value)
                        ),
                    )),
                    (Some(_), Wording::Field | Wording::Limit) => Err(negative(stay, field, &value)),
                    (None, Wording::Field | Wording::Limit) => Err(stay.mishap(
                        name::RUNTIME,
                        format_args!(
                            "The {path_field} field refers to value \"{}\" which is not a valid integer: {path}",
                            plain(&value)
                        ),
                    )),
                }
            }
            Source::Expression(expression) => {
                let value =
                    self.expression(stay, expression, field, "number", Value::is_number, view)?;
                match whole(&value) {
                    Some(number) if number >= 0 => Ok(number as u64),
                    _ => {
                        let mut mishap = stay.mishap(
                            name::QUERY_EVALUATION_ERROR,
                            format_args!(
                                "The {field} field must be a non-negative integer, but was: {value}"
                            ),
                        );
                        mishap.location = Some(field.to_owned());
                        Err(mishap)
                    }
                }
            }
            Source::Call(call) => {
                let value = call
                    .evaluate(view, self.environment.randomness)
                    .map_err(|error| evaluation(stay, error.into()))?;
                whole(&value)
                    .and_then(|number| u64::try_from(number).ok())
                    .ok_or_else(|| negative(stay, field, &value))
            }
        }
    }

    /// A percentage.
    pub(super) fn percentage(
        &mut self,
        stay: &Stay<'_, '_>,
        source: &Source<f64>,
        field: &str,
        view: &View<'_>,
    ) -> Result<f64, Mishap> {
        let (number, location) = match source {
            Source::Literal(number) => (*number, None),
            Source::Path(path) => {
                let path_field = format!("{field}Path");
                let value = template::evaluate_path(path, &path_field, view)
                    .map_err(|error| evaluation(stay, error))?;
                let number = value.as_f64().ok_or_else(|| {
                    stay.mishap(
                        name::RUNTIME,
                        format_args!(
                            "The {path_field} field refers to value \"{}\" which is not a valid float: {path}",
                            plain(&value)
                        ),
                    )
                })?;
                (number, None)
            }
            Source::Expression(expression) => {
                let value =
                    self.expression(stay, expression, field, "number", Value::is_number, view)?;
                (value.as_f64().unwrap_or(f64::NAN), Some(field.to_owned()))
            }
            Source::Call(call) => {
                let value = call
                    .evaluate(view, self.environment.randomness)
                    .map_err(|error| evaluation(stay, error.into()))?;
                (value.as_f64().unwrap_or(f64::NAN), None)
            }
        };
        if (0.0..=100.0).contains(&number) {
            return Ok(number);
        }
        let error = match location {
            Some(_) => name::QUERY_EVALUATION_ERROR,
            None => name::RUNTIME,
        };
        let mut mishap = stay.mishap(error, format_args!("{field} must be between 0 and 100."));
        mishap.location = location;
        Err(mishap)
    }

    /// A timestamp, as it is written.
    pub(super) fn timestamp(
        &mut self,
        stay: &Stay<'_, '_>,
        source: &Source<Arc<str>>,
        view: &View<'_>,
    ) -> Result<Arc<str>, Mishap> {
        match source {
            Source::Literal(text) => Ok(Arc::clone(text)),
            Source::Path(path) => {
                let value = match template::evaluate_path(path, "TimestampPath", view) {
                    Ok(value) => value,
                    Err(EvaluateTemplateError::MissPath { .. }) => {
                        return Err(stay.mishap(
                            name::RUNTIME,
                            format_args!(
                                "The TimestampPath parameter does not reference an input value: {path}"
                            ),
                        ));
                    }
                    Err(error) => return Err(evaluation(stay, error)),
                };
                match value.as_str().filter(|text| crate::timestamp::is_valid(text)) {
                    Some(text) => Ok(text.into()),
                    None => Err(stay.mishap(
                        name::RUNTIME,
                        format_args!(
                            "The TimestampPath parameter does not reference a valid ISO-8601 extended offset \
                             date-time format string: {path} == {}",
                            plain(&value)
                        ),
                    )),
                }
            }
            Source::Expression(expression) => {
                let value = self.expression(
                    stay,
                    expression,
                    "Timestamp",
                    "string",
                    Value::is_string,
                    view,
                )?;
                let text = value.as_str().unwrap_or_default();
                if crate::timestamp::is_valid(text) {
                    return Ok(text.into());
                }
                let mut mishap = stay.mishap(
                    name::QUERY_EVALUATION_ERROR,
                    format_args!(
                        "The Timestamp field cannot be parsed as an ISO-8601 extended offset date-time format \
                         string: {text}"
                    ),
                );
                mishap.location = Some("Timestamp".to_owned());
                Err(mishap)
            }
            Source::Call(call) => {
                let value = call
                    .evaluate(view, self.environment.randomness)
                    .map_err(|error| evaluation(stay, error.into()))?;
                Ok(plain(&value).into())
            }
        }
    }
}

/// An expression gave a value of another type.
pub(super) fn unexpected(
    stay: &Stay<'_, '_>,
    expression: &Expression,
    field: &str,
    expected: &str,
    value: &Value,
) -> Mishap {
    let mut mishap = stay.mishap(
        name::QUERY_EVALUATION_ERROR,
        format_args!(
            "The JSONata expression '{}' specified for the field '{field}' returned an unexpected result type. Expected \
             '{expected}', but was '{}' for value: {value}",
            expression.source(),
            type_name(value)
        ),
    );
    mishap.location = Some(field.to_owned());
    mishap
}

fn negative(stay: &Stay<'_, '_>, field: &str, value: &Value) -> Mishap {
    let text = match field {
        "MaxConcurrency" => {
            format!("Expected non-negative integer for MaxConcurrency, got '{value}' instead.")
        }
        "MaxItems" => "field MaxItems must be positive".to_owned(),
        _ => format!("{field} cannot be negative."),
    };
    stay.mishap(name::RUNTIME, text)
}

/// A number without a fraction.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64()
}

/// Texts without quotes, everything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
