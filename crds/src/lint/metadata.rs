//! What every Kubernetes object has: type and metadata.

use serde_json::Value;

use super::unknown::{join, unknown_field};
use super::{Finding, nearest};
use crate::document::{KINDS, LATER_KINDS};
use crate::{API_VERSION, GROUP};

/// Fields of `metadata`.
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// `Kind/name`, as far as they are there.
pub(super) fn title(value: &Value) -> String {
    let text = |value: &Value| -> String {
        value
            .as_str()
            .unwrap_or_default()
            .chars()
            .take(253)
            .collect()
    };
    let (kind, name) = (text(&value["kind"]), text(&value["metadata"]["name"]));
    if name.is_empty() {
        kind
    } else {
        format!("{kind}/{name}")
    }
}

/// The objects in a `List`.
pub(super) fn items_of_list(value: &Value) -> Option<&Vec<Value>> {
    (value["apiVersion"] == "v1" && value["kind"] == "List").then(|| value["items"].as_array())?
}

/// `apiVersion` and `kind`.
pub(super) fn type_of(value: &Value) -> Result<(&str, &str), Finding> {
    if !value.is_object() {
        return Err(Finding::new(
            "",
            "not an object: write `apiVersion`, `kind`, `metadata` and `spec`",
        ));
    }
    let text = |field: &str| match &value[field] {
        Value::String(text) if !text.is_empty() => Ok(text.as_str()),
        Value::Null | Value::String(_) => Err(Finding::new(field, "Required value")),
        other => Err(Finding::new(
            field,
            format!("must be text, not {}", name_of(other)),
        )),
    };
    Ok((text("apiVersion")?, text("kind")?))
}

/// An object of another group that is named as one of ours.
pub(super) fn looks_like_ours(value: &Value) -> Option<Finding> {
    let (api_version, kind) = type_of(value).ok()?;
    let group = api_version.split('/').next().unwrap_or_default();
    let ours = KINDS.contains(&kind) || LATER_KINDS.contains(&kind);
    let near = nearest(group, [GROUP, "weir"]).is_some();
    (near || (ours && !api_version.contains('/'))).then(|| {
        let message =
            format!("{api_version:?} is not a version of Weir; did you mean {API_VERSION:?}?");
        Finding::new("apiVersion", message)
    })
}

/// The metadata of an object of ours, by the server's rules.
pub(super) fn check(value: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(metadata) = value["metadata"].as_object() else {
        let message = "Required value: name or generateName is required";
        return vec![Finding::blocking("metadata.name", message)];
    };
    for (field, value) in metadata {
        let path = join("metadata", field);
        match (field.as_str(), value) {
            (_, Value::Null) | ("name" | "namespace" | "generateName", Value::String(_)) => {}
            ("name", Value::String(name)) if !is_subdomain(name) => findings.push(Finding::blocking(
                path,
                format!(
                    "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
                ),
            )),
            ("namespace", Value::String(name)) if !is_label(name) => findings.push(Finding::blocking(
                path,
                format!(
                    "Invalid value: {name:?}: a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character"
                ),
            )),
            ("name" | "namespace" | "generateName", other) => {
                findings.push(Finding::blocking(path, not_text(other)));
            }
            ("labels" | "annotations", Value::Object(entries)) => {
                for (key, value) in entries {
                    if !value.is_string() && !value.is_null() {
                        findings.push(Finding::blocking(join(&path, key), not_text(value)));
                    }
                }
            }
            ("labels" | "annotations", other) => findings.push(Finding::blocking(
                path,
                format!("must be a mapping of text to text, not {}", name_of(other)),
            )),
            (name, _) if FIELDS.contains(&name) => {}
            (name, _) => {
                findings.push(unknown_field(path, name, FIELDS));
            }
        }
    }
    let set = |field: &str| {
        metadata
            .get(field)
            .and_then(Value::as_str)
            .is_some_and(|name| !name.is_empty())
    };
    let unnamed = metadata
        .get("name")
        .is_none_or(|name| name.is_null() || *name == "");
    if unnamed && !set("generateName") {
        let message = "Required value: name or generateName is required";
        findings.push(Finding::blocking("metadata.name", message));
    }
    findings
}

fn not_text(value: &Value) -> String {
    format!("must be text, not {}: write it in quotes", name_of(value))
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253
        && name
            .split('.')
            .all(|part| !part.is_empty() && is_word(part))
}

fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len()) && is_word(name)
}

fn is_word(part: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
}
