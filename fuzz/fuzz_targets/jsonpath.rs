//! Any text is judged as a path, and what is one is applied to any JSON, without a panic and within its bounds.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weir_asl::path::{Path, ReferencePath};
use weir_asl::scope::Values;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (path, json) = text.split_once('\0').unwrap_or((text, "{\"a\":[{\"b\":1},2]}"));
    let Ok(value) = serde_json::from_str::<Value>(json) else {
        return;
    };
    let variables = BTreeMap::from([("v".to_owned(), value.clone())]);
    if let Ok(path) = Path::parse(path) {
        let scope = Values { input: &value, context: &value, variables: &variables };
        let found = path.evaluate(&scope);
        assert!(path.is_definite() || !matches!(found, Ok(found) if !found.is_array()));
    }
    if let Ok(path) = ReferencePath::parse(path)
        && let Ok(placed) = path.place(value.clone(), Value::Bool(true))
    {
        let scope = Values { input: &placed, context: &placed, variables: &variables };
        let read = path.as_path().evaluate(&scope);
        assert_eq!(read.as_deref(), Ok(&Value::Bool(true)));
    }
});
