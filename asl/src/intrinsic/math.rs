//! `States.Math...` and how numbers become the integers that functions work with.

use serde_json::Value;

use crate::randomness::{Randomness, Seeded, between};

/// The argument as an integer: rounded half up, as recorded (1.5 is 2, -1.5 is -1, -1.51 is -2); 32 bits, as documented.
pub(super) fn integer(value: &Value, what: &str) -> Result<i64, String> {
    let Some(number) = value.as_f64() else {
        return Err(format!(
            "the {what} argument must be a number, but was: {value}"
        ));
    };
    let rounded = (number + 0.5).floor();
    if rounded < f64::from(i32::MIN) || rounded > f64::from(i32::MAX) {
        return Err(format!(
            "the {what} argument must be between {} and {}, but was: {value}",
            i32::MIN,
            i32::MAX
        ));
    }
    Ok(rounded as i64)
}

pub(super) fn add(left: &Value, right: &Value) -> Result<Value, String> {
    Ok(Value::from(
        integer(left, "first")? + integer(right, "second")?,
    ))
}

/// An integer from the first argument up to, not including, the second. With a seed always the same one.
pub(super) fn random(
    arguments: &[Value],
    randomness: &mut dyn Randomness,
) -> Result<Value, String> {
    let (start, end) = (
        integer(&arguments[0], "first")?,
        integer(&arguments[1], "second")?,
    );
    if start >= end {
        return Err(format!(
            "the start, {start}, must be less than the end, {end}"
        ));
    }
    let number = match arguments.get(2) {
        None => between(randomness, start, end),
        Some(seed) => between(&mut Seeded::new(integer(seed, "third")? as u64), start, end),
    };
    Ok(Value::from(number))
}
