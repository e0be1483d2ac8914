//! Fields that the schema does not know: an error, as with the server's strict validation. And nulls.

use serde_json::Value;

use super::nearest::did_you_mean;
use super::{Finding, MAX_PROBLEMS};

/// Unknown fields, each with the nearest known one. `metadata` is not looked at here.
pub(super) fn fields(schema: &Value, value: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    walk(schema, value, "", &mut findings);
    findings
}

/// Nulls where no default takes their place. Some ways to write an object take them away, others
/// (server-side apply) refuse them.
pub(super) fn nulls(schema: &Value, value: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    find_nulls(schema, value, "", &mut findings);
    findings
}

fn find_nulls(schema: &Value, value: &Value, path: &str, findings: &mut Vec<Finding>) {
    match value {
        Value::Null if schema["type"].is_string() && schema.get("default").is_none() => {
            findings.push(Finding::new(
                path,
                "null is not a value: leave the field out",
            ));
        }
        Value::Object(object) => {
            for (name, child) in object {
                let property = &schema["properties"][name];
                if property.is_object() {
                    find_nulls(property, child, &join(path, name), findings);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_nulls(
                    &schema["items"],
                    item,
                    &format!("{path}[{index}]"),
                    findings,
                );
            }
        }
        _ => {}
    }
}

fn walk(schema: &Value, value: &Value, path: &str, findings: &mut Vec<Finding>) {
    if findings.len() > MAX_PROBLEMS {
        return;
    }
    match value {
        Value::Object(object) => {
            let empty = serde_json::Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&empty);
            let entries = schema.get("additionalProperties");
            for (name, child) in object {
                let here = join(path, name);
                if findings.len() > MAX_PROBLEMS {
                    return;
                }
                if matches!(here.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                match properties.get(name).or(entries) {
                    Some(schema) => walk(schema, child, &here, findings),
                    // A scalar was wanted: the schema says so.
                    None if schema["type"] != "object" => {}
                    None => {
                        let names = properties.keys().map(String::as_str);
                        findings.push(unknown_field(&here, name, names));
                    }
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(
                    &schema["items"],
                    item,
                    &format!("{path}[{index}]"),
                    findings,
                );
            }
        }
        _ => {}
    }
}

/// What is said of an unknown field.
pub(super) fn unknown_field<'a>(
    path: &str,
    name: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Finding {
    let hint = did_you_mean(name, names);
    Finding::new(path, format!("unknown field \"{path}\"{hint}"))
}

/// Path of a field.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.into()
    } else {
        format!("{path}.{name}")
    }
}
