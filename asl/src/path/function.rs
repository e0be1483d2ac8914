//! The functions that may end a path, such as `$.items.length()`.

use serde_json::{Number, Value};

use super::EvaluatePathError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Length,
    Min,
    Max,
    Average,
    StandardDeviation,
    Sum,
    Keys,
    First,
    Last,
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "length" | "size" => Self::Length,
            "min" => Self::Min,
            "max" => Self::Max,
            "avg" => Self::Average,
            "stddev" => Self::StandardDeviation,
            "sum" => Self::Sum,
            "keys" => Self::Keys,
            "first" => Self::First,
            "last" => Self::Last,
            _ => return None,
        })
    }

    pub(super) fn apply(self, value: &Value) -> Result<Value, EvaluatePathError> {
        match self {
            // Anything without a length has none: null, as the library answers.
            Self::Length => Ok(match value {
                Value::Array(items) => items.len().into(),
                Value::Object(fields) => fields.len().into(),
                Value::String(text) => text.chars().count().into(),
                _ => Value::Null,
            }),
            Self::Keys => Ok(match value {
                Value::Object(fields) => fields.keys().cloned().map(Value::String).collect(),
                _ => Value::Null,
            }),
            Self::First => edge(value, <[Value]>::first),
            Self::Last => edge(value, <[Value]>::last),
            Self::Min => {
                numbers(value).map(|all| float(all.into_iter().fold(f64::INFINITY, f64::min)))
            }
            Self::Max => {
                numbers(value).map(|all| float(all.into_iter().fold(f64::NEG_INFINITY, f64::max)))
            }
            Self::Sum => numbers(value).map(|all| float(all.iter().sum())),
            Self::Average => numbers(value).map(|all| float(mean(&all))),
            Self::StandardDeviation => numbers(value).map(|all| {
                let mean = mean(&all);
                let squares: f64 = all.iter().map(|number| (number - mean).powi(2)).sum();
                float((squares / all.len() as f64).sqrt())
            }),
        }
    }
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn edge(
    value: &Value,
    pick: impl Fn(&[Value]) -> Option<&Value>,
) -> Result<Value, EvaluatePathError> {
    let found = value.as_array().and_then(|items| pick(items));
    found
        .cloned()
        .ok_or_else(|| EvaluatePathError::FunctionFailed {
            detail: "Aggregation function attempted to calculate value using empty array"
                .to_owned(),
        })
}

fn numbers(value: &Value) -> Result<Vec<f64>, EvaluatePathError> {
    let numbers: Vec<f64> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect();
    if numbers.is_empty() {
        return Err(EvaluatePathError::FunctionFailed {
            detail: "Aggregation function attempted to calculate value using empty array"
                .to_owned(),
        });
    }
    Ok(numbers)
}
