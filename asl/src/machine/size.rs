//! How large a value is as JSON, without writing it.

use serde_json::Value;

/// Whether the value has more than `bytes` as compact JSON, or more than `depth` levels. Looks no further than it has to.
pub(super) fn exceeds(value: &Value, bytes: usize, depth: usize) -> bool {
    let mut left = bytes;
    !fits(value, &mut left, depth)
}

/// The bytes of the value as compact JSON.
pub(super) fn of(value: &Value) -> usize {
    let mut left = usize::MAX;
    fits(value, &mut left, usize::MAX);
    usize::MAX - left
}

fn fits(value: &Value, left: &mut usize, depth: usize) -> bool {
    let Some(below) = depth.checked_sub(1) else {
        return false;
    };
    match value {
        Value::Null | Value::Bool(true) => spend(left, 4),
        Value::Bool(false) => spend(left, 5),
        Value::Number(number) => spend(left, digits(number)),
        Value::String(text) => spend(left, quoted(text)),
        Value::Array(items) => {
            spend(left, 2 + items.len().saturating_sub(1))
                && items.iter().all(|item| fits(item, left, below))
        }
        Value::Object(fields) => {
            spend(left, 2 + fields.len().saturating_sub(1))
                && fields
                    .iter()
                    .all(|(name, field)| spend(left, quoted(name) + 1) && fits(field, left, below))
        }
    }
}

fn spend(left: &mut usize, bytes: usize) -> bool {
    match left.checked_sub(bytes) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

fn digits(number: &serde_json::Number) -> usize {
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => number.checked_ilog10().unwrap_or(0) as usize + 1,
        (None, Some(number)) => number.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 2,
        (None, None) => number.to_string().len(),
    }
}

/// Bytes of a text with its quotes and escapes.
fn quoted(text: &str) -> usize {
    let escapes: usize = text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0C => 1,
            0..=0x1F => 5,
            _ => 0,
        })
        .sum();
    text.len() + 2 + escapes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_exceeds_a_depth_below_its_own() {
        let value = json!({"a": [[1]]});
        assert!(!exceeds(&value, 100, 4));
        assert!(exceeds(&value, 100, 3));
    }

    #[test]
    fn a_value_exceeds_exactly_what_is_less_than_its_json() {
        for value in [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(-7),
            json!(10),
            json!(18_446_744_073_709_551_615_u64),
            json!(1.5),
            json!("a\"b\\c\n\u{1}é"),
            json!([1, [], {}, "x"]),
            json!({"a": {"b\n": [1.25, null]}, "c": ""}),
        ] {
            let length = value.to_string().len();
            assert!(!exceeds(&value, length, 10), "{value}");
            assert!(exceeds(&value, length - 1, 10), "{value}");
        }
    }
}
