//! Between JSON and the evaluator's values, which are not `Send` and never leave this module.

use jsonata_core::value::JValue;
use serde::Deserialize as _;
use serde_json::{Map, Number, Value};

use super::EvaluateExpressionError;

/// How deep a result may nest: as deep as JSON that is read from outside.
const MAX_DEPTH: usize = 127;

pub(super) fn inwards(value: &Value) -> Result<JValue, EvaluateExpressionError> {
    JValue::deserialize(value).map_err(|error| EvaluateExpressionError::Throw(error.to_string()))
}

pub(super) fn outwards(value: &JValue, bytes: usize) -> Result<Value, EvaluateExpressionError> {
    if value.is_undefined() {
        return Err(EvaluateExpressionError::ReturnNothing);
    }
    let mut left = bytes;
    convert(value, MAX_DEPTH, &mut left)
}

fn convert(
    value: &JValue,
    depth: usize,
    left: &mut usize,
) -> Result<Value, EvaluateExpressionError> {
    if depth == 0 {
        return Err(EvaluateExpressionError::Throw(format!(
            "The result is nested deeper than {MAX_DEPTH} levels."
        )));
    }
    spend(left, 2)?;
    Ok(match value {
        JValue::Null | JValue::Undefined => Value::Null,
        JValue::Bool(bool) => Value::Bool(*bool),
        JValue::Number(number) => Value::Number(json_number(*number)?),
        JValue::String(text) => {
            spend(left, text.len())?;
            Value::String(text.to_string())
        }
        JValue::Array(items) => {
            let mut converted = Vec::new();
            for item in &**items {
                converted.push(convert(item, depth - 1, left)?);
            }
            Value::Array(converted)
        }
        JValue::Object(_) => {
            let mut converted = Map::new();
            for (name, field) in value.as_object().into_iter().flatten() {
                spend(left, name.len())?;
                // As when JavaScript writes JSON: a field without a value is no field.
                if !field.is_undefined() {
                    converted.insert(name.clone(), convert(field, depth - 1, left)?);
                }
            }
            Value::Object(converted)
        }
        JValue::Lambda(_) | JValue::Builtin { .. } | JValue::Regex { .. } => {
            return Err(EvaluateExpressionError::ReturnUnsupported);
        }
    })
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), EvaluateExpressionError> {
    *left = left.checked_sub(bytes).ok_or_else(|| {
        EvaluateExpressionError::Throw("The result exceeds the maximum size.".to_owned())
    })?;
    Ok(())
}

/// The evaluator knows doubles only, as JavaScript does: whole ones become integers again.
fn json_number(number: f64) -> Result<Number, EvaluateExpressionError> {
    if number.fract() == 0.0 && number.abs() < 9.2e18 {
        return Ok(Number::from(number as i64));
    }
    Number::from_f64(number).ok_or(EvaluateExpressionError::ReturnUnsupported)
}
