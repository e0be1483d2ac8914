//! Fixtures and schemas for the tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file of `fixtures/`.
pub struct Fixture {
    pub name: String,
    pub text: String,
    /// What each problem must contain, from lines `# expect: ...`.
    pub expected: Vec<String>,
    /// Path of the first problem, from a line `# path: ...`.
    pub path: Option<String>,
}

/// The fixtures of one side, by name.
pub fn fixtures(side: &str) -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(side);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let comment = |mark: &str| {
                text.lines()
                    .take_while(|line| line.starts_with('#'))
                    .filter_map(|line| line.strip_prefix(mark))
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            Fixture {
                name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                expected: comment("# expect: "),
                path: comment("# path: ").pop(),
                text,
            }
        })
        .collect()
}

/// The schemas of all kinds, by name.
pub fn schemas() -> Vec<(String, Value)> {
    weir_crds::all_crds()
        .into_iter()
        .map(|crd| {
            let schema = crd.spec.versions[0].schema.as_ref().unwrap();
            let schema = serde_json::to_value(&schema.open_api_v3_schema).unwrap();
            (crd.spec.names.kind, schema)
        })
        .collect()
}

/// Visits every schema below this one with its path; entries of lists are `[]`, of maps `{}`.
pub fn walk(schema: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        walk(child, &path, visit);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(
            &schema["additionalProperties"],
            &format!("{path}{{}}"),
            visit,
        );
    }
}

/// Values at a path of [`walk`].
pub fn values_at<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut here = vec![value];
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let name = part.trim_end_matches("[]").trim_end_matches("{}");
        here = here
            .into_iter()
            .filter_map(|value| value.get(name))
            .collect();
        for mark in [part.strip_suffix("[]"), part.strip_suffix("{}")]
            .into_iter()
            .flatten()
        {
            assert_eq!(mark, name);
            here = here
                .into_iter()
                .flat_map(|value| match value {
                    Value::Array(items) => items.iter().collect::<Vec<_>>(),
                    Value::Object(entries) => entries.values().collect(),
                    _ => Vec::new(),
                })
                .collect();
        }
    }
    here
}
