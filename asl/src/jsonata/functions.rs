//! The functions Step Functions adds, and those of JSONata that depend on time or chance.

use std::cell::RefCell;

use jiff::Timestamp;
use jsonata_core::evaluator::{Evaluator, EvaluatorError};
use jsonata_core::value::JValue;

use super::{Limits, convert};
use crate::intrinsic;
use crate::randomness::{Seeded, between, unit, uuid};

/// Registers those of the functions that are mentioned.
pub(super) fn register(
    evaluator: &mut Evaluator,
    is_mentioned: impl Fn(&str) -> bool,
    now: Timestamp,
    seed: u64,
    limits: Limits,
) -> Result<(), EvaluatorError> {
    let millis = now.as_millisecond();
    if is_mentioned("now") {
        let text = format!("{:.3}", Timestamp::from_millisecond(millis).unwrap_or(now));
        evaluator
            .register_fn_override("now", move |_: &[JValue]| Ok(JValue::from(text.as_str())))?;
    }
    if is_mentioned("millis") {
        evaluator.register_fn_override("millis", move |_: &[JValue]| {
            Ok(JValue::from_f64(millis as f64))
        })?;
    }
    if is_mentioned("partition") {
        evaluator.register_fn("partition", partition)?;
    }
    if is_mentioned("range") {
        evaluator.register_fn("range", move |arguments: &[JValue]| {
            range(arguments, limits.items)
        })?;
    }
    if is_mentioned("hash") {
        evaluator.register_fn("hash", hash)?;
    }
    if is_mentioned("parse") {
        evaluator.register_fn("parse", parse)?;
    }
    if is_mentioned("random") {
        let source = RefCell::new(Seeded::new(seed));
        evaluator.register_fn_override("random", move |arguments: &[JValue]| {
            let number = match arguments.first().and_then(JValue::as_f64) {
                Some(seed) => unit(&mut Seeded::new(seed.to_bits())),
                None => unit(&mut *source.borrow_mut()),
            };
            Ok(JValue::from_f64(number))
        })?;
    }
    if is_mentioned("uuid") {
        let source = RefCell::new(Seeded::new(seed ^ 0x5DEE_CE66));
        evaluator.register_fn("uuid", move |_: &[JValue]| {
            Ok(JValue::from(uuid(&mut *source.borrow_mut()).as_str()))
        })?;
    }
    if is_mentioned("shuffle") {
        let source = RefCell::new(Seeded::new(seed ^ 0x2545_F491));
        evaluator.register_fn_override("shuffle", move |arguments: &[JValue]| {
            let Some(JValue::Array(items)) = arguments.first() else {
                return Ok(arguments.first().cloned().unwrap_or(JValue::Undefined));
            };
            let mut shuffled: Vec<JValue> = items.iter().cloned().collect();
            for last in (1..shuffled.len()).rev() {
                let chosen = between(&mut *source.borrow_mut(), 0, last as i64 + 1) as usize;
                shuffled.swap(last, chosen);
            }
            Ok(JValue::array(shuffled))
        })?;
    }
    Ok(())
}

fn thrown(text: impl Into<String>) -> EvaluatorError {
    EvaluatorError::EvaluationError(text.into())
}

fn argument(arguments: &[JValue], index: usize) -> &JValue {
    arguments.get(index).unwrap_or(&JValue::Undefined)
}

fn mismatch(index: usize, function: &str) -> EvaluatorError {
    thrown(format!(
        "T0410: Argument {index} of function \"{function}\" does not match function signature"
    ))
}

/// `$partition(array, size)`: pieces of `size` items; the last one may be shorter.
fn partition(arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    let given = argument(arguments, 0);
    if given.is_undefined() {
        return Ok(JValue::Undefined);
    }
    let size = argument(arguments, 1)
        .as_f64()
        .map(f64::floor)
        .filter(|size| *size >= 1.0);
    let Some(size) = size else {
        return Err(mismatch(2, "partition"));
    };
    // A sequence of one item arrives as that item.
    let single = [given.clone()];
    let items = given.as_array().map_or(single.as_slice(), Vec::as_slice);
    let pieces = items
        .chunks(size as usize)
        .map(|piece| JValue::array(piece.to_vec()));
    Ok(JValue::array(pieces.collect()))
}

/// `$range(first, last, step)`: the numbers from the first to the last, both included. A sequence, so a single number
/// comes out alone, as recorded.
fn range(arguments: &[JValue], most: usize) -> Result<JValue, EvaluatorError> {
    let number = |index: usize| {
        argument(arguments, index)
            .as_f64()
            .ok_or_else(|| mismatch(index + 1, "range"))
    };
    let (first, last, step) = (number(0)?, number(1)?, number(2)?);
    if step == 0.0 {
        return Err(mismatch(3, "range"));
    }
    let count = ((last - first) / step).floor() + 1.0;
    if count > most as f64 {
        return Err(thrown(format!(
            "D2014: The size of the sequence allocated by $range must not exceed {most}."
        )));
    }
    let numbers =
        (0..count.max(0.0) as usize).map(|index| JValue::from_f64(first + index as f64 * step));
    Ok(JValue::sequence(numbers.collect()))
}

/// `$hash(text, algorithm)`.
fn hash(arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    let given = argument(arguments, 0);
    if given.is_undefined() {
        return Ok(JValue::Undefined);
    }
    let text = given.as_str().ok_or_else(|| mismatch(1, "hash"))?;
    let algorithm = argument(arguments, 1)
        .as_str()
        .ok_or_else(|| mismatch(2, "hash"))?;
    match intrinsic::digest(text, algorithm) {
        Some(digest) => Ok(JValue::from(digest.as_str())),
        None => Err(thrown(format!(
            "The algorithm must be one of MD5, SHA-1, SHA-256, SHA-384, SHA-512, but was: {algorithm}"
        ))),
    }
}

/// `$parse(text)`: the value of JSON text.
fn parse(arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    let given = argument(arguments, 0);
    if given.is_undefined() {
        return Ok(JValue::Undefined);
    }
    let text = given.as_str().ok_or_else(|| mismatch(1, "parse"))?;
    let value = intrinsic::parse_json(text)
        .map_err(|error| thrown(format!("The argument of $parse is not valid JSON: {error}")))?;
    convert::inwards(&value).map_err(|error| thrown(error.to_string()))
}
