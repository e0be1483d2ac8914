//! What every Kubernetes object has: type and metadata.

use std::borrow::Cow;

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
    for (field, value) in metadata.iter().filter(|(_, value)| !value.is_null()) {
        let path = join("metadata", field);
        match field.as_str() {
            "name" | "namespace" | "generateName" => match value {
                Value::String(name) => findings.extend(bad_name(field, name, &path)),
                other => findings.push(Finding::blocking(path, not_text(other))),
            },
            "labels" | "annotations" => {
                match value {
                    Value::Object(entries) => {
                        let wrong = entries
                            .iter()
                            .filter(|(_, value)| !value.is_string() && !value.is_null());
                        findings.extend(wrong.map(|(key, value)| {
                            Finding::blocking(join(&path, key), not_text(value))
                        }));
                    }
                    other => findings.push(Finding::blocking(
                        path,
                        format!("must be a mapping of text to text, not {}", name_of(other)),
                    )),
                }
            }
            name if FIELDS.contains(&name) => {}
            name => findings.push(unknown_field(&path, name, FIELDS)),
        }
    }
    let unnamed = metadata
        .get("name")
        .is_none_or(|name| name.is_null() || *name == "");
    let generated = metadata
        .get("generateName")
        .and_then(Value::as_str)
        .is_some_and(|n| !n.is_empty());
    if unnamed && !generated {
        let message = "Required value: name or generateName is required";
        findings.push(Finding::blocking("metadata.name", message));
    }
    findings
}

/// The object with a name as the server makes it from `generateName`, when it has none.
pub(super) fn with_name(value: &Value) -> Cow<'_, Value> {
    let metadata = &value["metadata"];
    match (metadata["name"].as_str(), metadata["generateName"].as_str()) {
        (None | Some(""), Some(start)) => {
            let mut value = value.clone();
            value["metadata"]["name"] = format!("{start}xxxxx").into();
            Cow::Owned(value)
        }
        _ => Cow::Borrowed(value),
    }
}

/// A name that the server would refuse, in its words.
fn bad_name(field: &str, name: &str, path: &str) -> Option<Finding> {
    let (fits, what, dot) = match field {
        "name" => (is_subdomain(name), "subdomain", ", '-' or '.'"),
        "namespace" => (is_label(name), "label", " or '-'"),
        _ => (true, "", ""),
    };
    let message = format!(
        "Invalid value: {name:?}: a lowercase RFC 1123 {what} must consist of lower case alphanumeric characters{dot}, and must start and end with an alphanumeric character"
    );
    (!fits && !name.is_empty()).then(|| Finding::blocking(path, message))
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
