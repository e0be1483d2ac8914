//! Where conformance cases are, and how recorded values are compared.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::PathBuf;

use serde_json::Value;

/// The cases of a file, a line each; nothing, with a message, where the folder is absent.
pub fn cases(file: &str) -> Vec<Value> {
    let Some(path) = folder()
        .map(|folder| folder.join(file))
        .filter(|path| path.is_file())
    else {
        println!("skipped: no {file}; name the folder in WEIR_CONFORMANCE");
        return Vec::new();
    };
    let text = std::fs::read_to_string(&path).expect("a readable file");
    let parse = |line: &str| serde_json::from_str(line).expect("a JSON value in every line");
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(parse)
        .collect()
}

/// A whole JSON file.
pub fn document(file: &str) -> Option<Value> {
    let text = std::fs::read_to_string(folder()?.join(file)).ok()?;
    Some(serde_json::from_str(&text).expect("a JSON file"))
}

fn folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("WEIR_CONFORMANCE") {
        return Some(folder.into());
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    ["../shared/conformance", "../../shared/conformance"]
        .iter()
        .map(|relative| root.join(relative))
        .find(|folder| folder.is_dir())
}

/// Fails with every difference, so that one run shows the whole picture.
pub fn report(what: &str, cases: usize, skipped: usize, failures: &[String]) {
    println!(
        "{what}: {} of {cases} as recorded, {skipped} not applicable",
        cases - failures.len()
    );
    assert!(failures.is_empty(), "{what}:\n{}", failures.join("\n"));
}

/// Whether two values are the same: numbers by value, and texts that hold JSON as what they hold, as
/// the recorder has it.
pub fn same(expected: &Value, told: &Value) -> bool {
    equal(&unfolded(expected), &unfolded(told))
}

fn unfolded(value: &Value) -> Value {
    let parsed = value
        .as_str()
        .and_then(|text| serde_json::from_str::<Value>(text).ok());
    parsed.unwrap_or_else(|| value.clone())
}

fn equal(expected: &Value, told: &Value) -> bool {
    match (expected, told) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| equal(a, b)))
        }
        // A text within a value that the recorder parsed.
        (Value::Object(_), Value::String(text)) => {
            serde_json::from_str::<Value>(text).is_ok_and(|told| equal(expected, &told))
        }
        _ => expected == told,
    }
}
