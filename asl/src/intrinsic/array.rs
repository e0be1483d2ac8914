//! `States.Array...`.

use std::collections::HashSet;

use serde_json::Value;

use super::math::integer;

/// The longest range.
const MAX_RANGE: i64 = 1_000;

fn items<'a>(value: &'a Value, what: &str) -> Result<&'a Vec<Value>, String> {
    value
        .as_array()
        .ok_or_else(|| format!("the {what} argument must be an array, but was: {value}"))
}

pub(super) fn partition(array: &Value, size: &Value) -> Result<Value, String> {
    let items = items(array, "first")?;
    let size = integer(size, "second")?;
    match usize::try_from(size) {
        Ok(size) if size > 0 => Ok(items
            .chunks(size)
            .map(|chunk| Value::Array(chunk.to_vec()))
            .collect()),
        _ => Err(format!(
            "the chunk size must be a positive integer, but was: {size}"
        )),
    }
}

pub(super) fn contains(array: &Value, wanted: &Value) -> Result<Value, String> {
    let items = items(array, "first")?;
    Ok(Value::Bool(items.iter().any(|item| same(item, wanted))))
}

/// Deep equality; numbers by value.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
        _ => left == right,
    }
}

pub(super) fn range(start: &Value, end: &Value, step: &Value) -> Result<Value, String> {
    let (start, end, step) = (
        integer(start, "first")?,
        integer(end, "second")?,
        integer(step, "third")?,
    );
    if step == 0 {
        return Err("the step must not be 0".to_owned());
    }
    let count = if (step > 0) == (start <= end) || start == end {
        (end - start) / step + 1
    } else {
        0
    };
    if count > MAX_RANGE {
        return Err(format!(
            "the range has {count} items, more than the {MAX_RANGE} that are allowed"
        ));
    }
    Ok((0..count)
        .map(|index| Value::from(start + index * step))
        .collect())
}

pub(super) fn item(array: &Value, index: &Value) -> Result<Value, String> {
    let items = items(array, "first")?;
    let index = integer(index, "second")?;
    let found = usize::try_from(index)
        .ok()
        .and_then(|index| items.get(index));
    found.cloned().ok_or_else(|| {
        format!(
            "index {index} is out of bounds for an array of length {}",
            items.len()
        )
    })
}

pub(super) fn length(array: &Value) -> Result<Value, String> {
    items(array, "first").map(|items| Value::from(items.len()))
}

/// The items without repetitions, in the order of their first appearance.
pub(super) fn unique(array: &Value) -> Result<Value, String> {
    let mut seen = HashSet::new();
    let kept = items(array, "first")?
        .iter()
        .filter(|item| seen.insert(sorted_text(item)));
    Ok(kept.cloned().collect())
}

/// A text that is the same for equal values: field order does not matter.
fn sorted_text(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let texts: Vec<_> = items.iter().map(sorted_text).collect();
            format!("[{}]", texts.join(","))
        }
        Value::Object(fields) => {
            let mut texts: Vec<_> = fields
                .iter()
                .map(|(name, field)| {
                    format!("{}:{}", Value::from(name.as_str()), sorted_text(field))
                })
                .collect();
            texts.sort_unstable();
            format!("{{{}}}", texts.join(","))
        }
        scalar => scalar.to_string(),
    }
}
