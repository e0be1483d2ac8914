//! The OpenAPI schema of a definition as a JSON schema, and its errors in the server's words.

use std::collections::HashSet;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::paths::LocationSegment;
use jsonschema::{Draft, ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::nearest::did_you_mean;
use super::unknown::join;
use super::{Finding, MAX_PROBLEMS};
use crate::rules::pattern_hint;

/// Turns a structural schema into a JSON schema.
pub(super) fn compile(schema: &Value) -> Validator {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(false)
        .build(&plain(schema))
        .expect("our schemas are valid: tests/schema.rs")
}

fn plain(schema: &Value) -> Value {
    let Some(object) = schema.as_object() else {
        return schema.clone();
    };
    let mut plain = Map::new();
    for (key, value) in object {
        let value = match key.as_str() {
            "properties" => value
                .as_object()
                .map(|all| {
                    all.iter()
                        .map(|(name, schema)| (name.clone(), self::plain(schema)))
                        .collect()
                })
                .map_or(Value::Null, Value::Object),
            "items" | "additionalProperties" => self::plain(value),
            "type" | "required" | "enum" | "pattern" | "minimum" | "maximum" | "minLength"
            | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
                value.clone()
            }
            "x-kubernetes-int-or-string" => {
                plain.insert("type".into(), json!(["integer", "string"]));
                continue;
            }
            _ => continue,
        };
        plain.insert(key.clone(), value);
    }
    Value::Object(plain)
}

/// What the server would say about `value`, which has its defaults.
pub(super) fn check(validator: &Validator, schema: &Value, value: &Value) -> Vec<Finding> {
    let mut findings: Vec<Finding> = validator
        .iter_errors(value)
        .take(MAX_PROBLEMS)
        .map(|error| finding(&error))
        .collect();
    // The library goes by keyword; readers go by field.
    findings.sort_by(|left, right| left.path.cmp(&right.path));
    walk(schema, value, "", &mut findings);
    findings
}

fn finding(error: &ValidationError<'_>) -> Finding {
    let path = path_of(error);
    let value = &**error.instance();
    match error.kind() {
        Kind::Required { property } => Finding::blocking(
            join(&path, property.as_str().unwrap_or_default()),
            "Required value",
        ),
        Kind::Type { kind } => Finding::blocking(path, wrong_type(kind, value)),
        Kind::Enum { options } => Finding::blocking(path, not_listed(options, value)),
        Kind::MaxLength { limit } => Finding::blocking(
            path,
            format!("Too long: may not be more than {limit} bytes"),
        ),
        Kind::MaxItems { limit } | Kind::MaxProperties { limit } => {
            Finding::blocking(path, too_many(*limit, value))
        }
        Kind::MinLength { limit } => {
            Finding::new(path, format!("should be at least {limit} chars long"))
        }
        Kind::MinItems { limit } => {
            Finding::new(path, format!("should have at least {limit} items"))
        }
        Kind::Minimum { limit } => Finding::new(
            path,
            format!("should be greater than or equal to {}", whole(limit)),
        ),
        Kind::Maximum { limit } => Finding::new(
            path,
            format!("should be less than or equal to {}", whole(limit)),
        ),
        Kind::Pattern { pattern } => {
            let hint = pattern_hint(pattern)
                .map(|hint| format!(": {hint}"))
                .unwrap_or_default();
            Finding::new(path, format!("should match '{pattern}'{hint}"))
        }
        _ => Finding::new(path, bounded(&error.to_string())),
    }
}

fn path_of(error: &ValidationError<'_>) -> String {
    error
        .instance_path()
        .iter()
        .fold(String::new(), |path, segment| match segment {
            LocationSegment::Property(name) => join(&path, &name),
            LocationSegment::Index(index) => format!("{path}[{index}]"),
        })
}

fn wrong_type(kind: &TypeKind, value: &Value) -> String {
    let wanted = match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(_) => "integer or string".into(),
    };
    let given = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let hint = match (wanted.as_str(), value) {
        ("integer", Value::String(text)) if text.parse::<i64>().is_ok() => {
            format!("; write {text} without quotes")
        }
        ("boolean", Value::String(text)) if matches!(text.as_str(), "true" | "false") => {
            format!("; write {text} without quotes")
        }
        ("string" | "integer or string", Value::Bool(_) | Value::Number(_)) => {
            format!("; write \"{value}\" in quotes")
        }
        ("array", Value::String(_) | Value::Object(_)) => {
            "; write a list, with `- ` in front".into()
        }
        _ => String::new(),
    };
    format!("must be of type {wanted}: \"{given}\"{hint}")
}

fn not_listed(options: &Value, value: &Value) -> String {
    let names: Vec<&str> = options
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let listed = names
        .iter()
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    let near = did_you_mean(value.as_str().unwrap_or_default(), names.iter().copied());
    format!(
        "Unsupported value: {}: supported values: {listed}{near}",
        bounded(&value.to_string())
    )
}

fn too_many(limit: u64, value: &Value) -> String {
    let count = value
        .as_array()
        .map(Vec::len)
        .or(value.as_object().map(Map::len))
        .unwrap_or_default();
    format!("Too many: {count}: must have at most {limit} items")
}

/// Bounds are numbers with a fraction in the API, and whole in our schemas.
fn whole(limit: &Value) -> String {
    match limit.as_f64() {
        Some(number) if limit.is_f64() => format!("{number:.0}"),
        _ => limit.to_string(),
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(300).collect()
}

/// What JSON schema does not say: lists whose entries must differ, sets by value and maps by key, and
/// numbers too large to be whole.
fn walk(schema: &Value, value: &Value, path: &str, findings: &mut Vec<Finding>) {
    if findings.len() > MAX_PROBLEMS {
        return;
    }
    match value {
        Value::Number(number) if number.is_f64() && whole_only(schema) => {
            findings.retain(|finding| finding.path != path);
            findings.push(Finding::blocking(
                path,
                "must be of type integer: \"number\"",
            ));
        }
        Value::Object(object) => {
            for (name, child) in object {
                let schema = match &schema["properties"][name] {
                    Value::Null => &schema["additionalProperties"],
                    schema => schema,
                };
                if schema.is_object() {
                    walk(schema, child, &join(path, name), findings);
                }
            }
        }
        Value::Array(items) => {
            let mut seen = HashSet::new();
            for (index, item) in items.iter().enumerate() {
                let here = format!("{path}[{index}]");
                if let Some(key) = key_of(schema, item)
                    && !seen.insert(key.to_string())
                {
                    findings.push(Finding::new(&here, format!("Duplicate value: {key}")));
                }
                walk(&schema["items"], item, &here, findings);
            }
        }
        _ => {}
    }
}

fn whole_only(schema: &Value) -> bool {
    schema["type"] == "integer" || schema["x-kubernetes-int-or-string"] == true
}

fn key_of(schema: &Value, item: &Value) -> Option<Value> {
    match schema["x-kubernetes-list-type"].as_str()? {
        "set" => Some(item.clone()),
        "map" => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array()?;
            let item = item.as_object()?;
            let key = keys.iter().filter_map(Value::as_str);
            let key = key.filter_map(|name| Some((name.to_owned(), item.get(name)?.clone())));
            Some(Value::Object(key.collect()))
        }
        _ => None,
    }
}
