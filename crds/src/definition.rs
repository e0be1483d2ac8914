//! Custom resource definitions as they are installed.
//!
//! `kube` derives a definition from the types; [`Kind::definition`] adds the columns and the rules on
//! whole objects and brings the schema into the one form that the API server, `kubectl explain` and
//! our own tests expect. Tests: `tests/schema.rs`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps,
};
use kube::core::crd::CustomResourceExt;
use serde_json::{Map, Value};

use crate::{FifoConsumer, MessageBus, QueueConsumer, Webhook};

/// A printer column: title, type, path, priority. Priority 1 is shown with `-o wide` only.
pub type Column = (&'static str, &'static str, &'static str, i32);

/// Path of the status of `Ready`.
pub const READY: &str = r#".status.conditions[?(@.type=="Ready")].status"#;
/// Path of the reason of `Ready`.
pub const REASON: &str = r#".status.conditions[?(@.type=="Ready")].reason"#;
/// Path of the message of `Ready`.
pub const MESSAGE: &str = r#".status.conditions[?(@.type=="Ready")].message"#;

/// Columns of kinds that handle messages.
pub const fn consumer_columns() -> &'static [Column] {
    &[
        ("Ready", "string", READY, 0),
        ("Backlog", "integer", ".status.backlog", 0),
        ("Dead", "integer", ".status.deadLetters", 0),
        ("Limit", "integer", ".spec.concurrency.max", 0),
        ("URL", "string", ".status.url", 0),
        ("Reason", "string", REASON, 1),
        ("Message", "string", MESSAGE, 1),
        ("Handler", "string", ".status.handlerRef", 1),
        ("Replicas", "integer", ".status.replicas", 1),
        ("Oldest", "integer", ".status.oldestSeconds", 1),
        ("Paused", "boolean", ".spec.paused", 1),
    ]
}

/// Columns of kinds that handle messages in order.
pub const fn ordered_columns() -> &'static [Column] {
    &[
        ("Ready", "string", READY, 0),
        ("Backlog", "integer", ".status.backlog", 0),
        ("Groups", "integer", ".status.groups", 0),
        ("Blocked", "integer", ".status.blockedGroups", 0),
        ("Dead", "integer", ".status.deadLetters", 0),
        ("Limit", "integer", ".spec.concurrency.max", 1),
        ("URL", "string", ".status.url", 1),
        ("Reason", "string", REASON, 1),
        ("Message", "string", MESSAGE, 1),
        ("Handler", "string", ".status.handlerRef", 1),
        ("Replicas", "integer", ".status.replicas", 1),
        ("Oldest", "integer", ".status.oldestSeconds", 1),
        ("Paused", "boolean", ".spec.paused", 1),
    ]
}

/// A kind of this crate.
pub trait Kind: CustomResourceExt {
    /// Printer columns; the age is added as the last one.
    const COLUMNS: &'static [Column];

    /// Rules on the whole object, which see `metadata.name`.
    fn object_rules() -> Vec<Value>;

    /// The definition to install.
    fn definition() -> CustomResourceDefinition {
        let mut crd = Self::crd();
        for version in &mut crd.spec.versions {
            version.additional_printer_columns =
                Some(Self::COLUMNS.iter().map(column).chain([age()]).collect());
            if let Some(schema) = version
                .schema
                .as_mut()
                .and_then(|schema| schema.open_api_v3_schema.as_mut())
            {
                *schema = finish(schema, Self::object_rules());
            }
        }
        crd
    }
}

/// All definitions, ordered by name.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    vec![
        FifoConsumer::definition(),
        MessageBus::definition(),
        QueueConsumer::definition(),
        Webhook::definition(),
    ]
}

fn column(&(name, type_, json_path, priority): &Column) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.into(),
        type_: type_.into(),
        json_path: json_path.into(),
        priority: (priority != 0).then_some(priority),
        ..Default::default()
    }
}

fn age() -> CustomResourceColumnDefinition {
    column(&("Age", "date", ".metadata.creationTimestamp", 0))
}

fn finish(schema: &JSONSchemaProps, object_rules: Vec<Value>) -> JSONSchemaProps {
    let mut value = serde_json::to_value(schema).expect("a schema is JSON");
    normalise(&mut value);
    if let Some(root) = value.as_object_mut() {
        root.insert(
            "x-kubernetes-validations".into(),
            Value::Array(object_rules),
        );
        // The kind's own words, not "Auto-generated derived type for ...".
        if let Some(words) = root["properties"]["spec"].get("description").cloned() {
            root.insert("description".into(), words);
        }
        root["properties"]["spec"]["description"] = "What is wanted.".into();
        if let Some(status) = root["properties"].get_mut("status") {
            status["description"] = "What is there, written by the operator.".into();
        }
    }
    serde_json::from_value(value).expect("a normalised schema is a schema")
}

/// Brings a schema into the form the API server wants, everywhere below `schema`.
fn normalise(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    without_null(object);
    integer_format(object);
    if let Some(Value::String(words)) = object.get_mut("description") {
        *words = one_line_a_paragraph(words);
    }
    if object.contains_key("x-kubernetes-int-or-string") {
        object.remove("anyOf");
    }
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(children)) = object.get_mut(key) {
            children.values_mut().for_each(normalise);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            normalise(child);
        }
    }
}

/// Line breaks of the source are not those of the reader.
fn one_line_a_paragraph(words: &str) -> String {
    words
        .split("\n\n")
        .map(|part| part.replace('\n', " "))
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// Optional values are absent, never null.
fn without_null(object: &mut Map<String, Value>) {
    object.remove("nullable");
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
}

/// `int32` or `int64`, the formats that Kubernetes knows, and whole numbers as bounds.
fn integer_format(object: &mut Map<String, Value>) {
    if object
        .get("format")
        .is_some_and(|format| format != "date-time")
    {
        object.remove("format");
    }
    if object.get("type").is_none_or(|kind| kind != "integer") {
        return;
    }
    let large = object
        .get("maximum")
        .and_then(Value::as_f64)
        .is_none_or(|most| most > 2_147_483_647.0);
    object.insert(
        "format".into(),
        if large { "int64" } else { "int32" }.into(),
    );
}
