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
