//! Fields that the schema does not know: an error, as with the server's strict validation.

use serde_json::Value;

use super::{Finding, nearest};

/// Unknown fields, each with the nearest known one. `metadata` is not looked at here.
pub(super) fn fields(schema: &Value, value: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    walk(schema, value, "", &mut findings);
    findings
}

fn walk(schema: &Value, value: &Value, path: &str, findings: &mut Vec<Finding>) {
    match value {
        Value::Object(object) => {
            let empty = serde_json::Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&empty);
            let entries = schema.get("additionalProperties");
            for (name, child) in object {
                let here = join(path, name);
                if matches!(here.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                match properties.get(name).or(entries) {
                    Some(schema) => walk(schema, child, &here, findings),
                    // A scalar was wanted: the schema says so.
                    None if schema["type"] != "object" => {}
                    None => {
                        let mut message = format!("unknown field \"{here}\"");
                        if let Some(near) = nearest(name, properties.keys().map(String::as_str)) {
                            message += &format!("; did you mean \"{near}\"?");
                        }
                        findings.push(Finding::new(here, message));
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

/// Path of a field.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.into()
    } else {
        format!("{path}.{name}")
    }
}
