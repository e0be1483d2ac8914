//! House rules for definitions, checked on every field of every kind.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{schemas, walk};
use serde_json::Value;
use weir_crds::all_crds;

/// Runs `check` on every field and shows all that it returns.
fn every_field(check: impl Fn(&str, &Value) -> Option<String>) {
    let mut wrong = Vec::new();
    for (kind, schema) in schemas() {
        walk(&schema, "", &mut |path, field| {
            if let Some(what) = check(path, field) {
                wrong.push(format!("{kind} {path}: {what}"));
            }
        });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn is_entry(path: &str) -> bool {
    path.ends_with("[]") || path.ends_with("{}")
}

#[test]
fn every_field_is_described() {
    every_field(|path, field| {
        let words = field["description"].as_str().unwrap_or_default();
        (!is_entry(path) && words.len() < 10).then(|| format!("description {words:?}"))
    });
}

#[test]
fn descriptions_of_numbers_tell_default_and_bounds() {
    every_field(|path, field| {
        if field["type"] != "integer" || !path.starts_with("spec") || is_entry(path) {
            return None;
        }
        let words = field["description"].as_str().unwrap_or_default();
        let told =
            |value: &Value| words.contains(&format!("{}", value.as_f64().unwrap_or_default()));
        (!told(&field["maximum"]) || (field.get("default").is_some() && !told(&field["default"])))
            .then(|| words.to_owned())
    });
}

#[test]
fn every_integer_has_bounds() {
    every_field(|_, field| {
        let bounded = field["minimum"].is_number() && field["maximum"].is_number();
        (field["type"] == "integer" && !bounded).then(|| "needs minimum and maximum".into())
    });
}

#[test]
fn every_text_has_a_longest_length() {
    every_field(|_, field| {
        let text = field["type"] == "string" || field["x-kubernetes-int-or-string"] == true;
        let bounded = field["maxLength"].is_number() || field["enum"].is_array();
        (text && !bounded).then(|| "needs maxLength".into())
    });
}

#[test]
fn every_list_and_map_is_bounded() {
    every_field(|_, field| {
        let list = field["type"] == "array"
            && !(field["maxItems"].is_number() && field["x-kubernetes-list-type"].is_string());
        let map = field["additionalProperties"].is_object() && !field["maxProperties"].is_number();
        (list || map).then(|| "needs a bound, and a list its type".into())
    });
}

#[test]
fn nothing_is_nullable_and_no_number_is_a_fraction() {
    every_field(|_, field| {
        let null = !field["nullable"].is_null()
            || field["enum"]
                .as_array()
                .is_some_and(|words| words.contains(&Value::Null));
        let odd =
            field["type"] == "number" || !field["anyOf"].is_null() || !field["oneOf"].is_null();
        let open =
            field["x-kubernetes-preserve-unknown-fields"] == true || !field["$ref"].is_null();
        (null || odd || open).then(|| field.to_string())
    });
}

#[test]
fn formats_are_those_that_kubernetes_knows() {
    every_field(|_, field| match field["format"].as_str() {
        None | Some("int32" | "int64" | "date-time") => None,
        Some(other) => Some(other.into()),
    });
}

#[test]
fn enum_values_are_camel_case_or_methods() {
    every_field(|path, field| {
        let words = field["enum"].as_array()?;
        let wrong = words.iter().filter_map(Value::as_str).find(|word| {
            let upper = word.chars().all(|letter| letter.is_ascii_uppercase());
            let camel = word.starts_with(|first: char| first.is_ascii_uppercase())
                && word.chars().all(|letter| letter.is_ascii_alphanumeric());
            !(camel && (!upper || path.starts_with("spec.methods") || *word == "HTTP"))
        })?;
        Some(wrong.to_owned())
    });
}

#[test]
fn words_of_an_enum_are_in_its_description() {
    every_field(|path, field| {
        let words = field["enum"].as_array()?;
        let told = field["description"].as_str().unwrap_or_default();
        let missing = words
            .iter()
            .filter_map(Value::as_str)
            .find(|word| !told.contains(word))?;
        (!is_entry(path)).then(|| missing.to_owned())
    });
}

#[test]
fn names_of_durations_end_in_seconds() {
    every_field(|path, field| {
        let name = path.rsplit('.').next().unwrap_or_default().to_lowercase();
        let unit = ["duration", "millis", "minutes", "hours", "ttl"]
            .iter()
            .any(|unit| name.contains(unit));
        (unit || (field["type"] == "integer" && name.ends_with("timeout"))).then(|| name.clone())
    });
}

#[test]
fn rules_tell_what_to_write() {
    every_field(|_, field| {
        let rules = field["x-kubernetes-validations"].as_array()?;
        let poor = rules.iter().find(|rule| {
            let message = rule["message"].as_str().unwrap_or_default();
            message.len() < 20
                || message.len() > 200
                || message.ends_with('.')
                || message.starts_with(|first: char| first.is_ascii_uppercase())
        })?;
        Some(poor.to_string())
    });
}

#[test]
fn definitions_are_small() {
    let sizes: Vec<usize> = all_crds()
        .iter()
        .map(|crd| serde_json::to_string(crd).unwrap().len())
        .collect();
    assert!(sizes.iter().all(|size| *size < 100 * 1024), "{sizes:?}");
}

#[test]
fn conditions_are_a_map_by_type() {
    for (kind, schema) in schemas() {
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{kind}");
        assert_eq!(
            conditions["x-kubernetes-list-map-keys"],
            serde_json::json!(["type"]),
            "{kind}"
        );
    }
}

#[test]
fn names_are_as_documented() {
    let names: Vec<String> = all_crds()
        .into_iter()
        .map(|crd| {
            let names = crd.spec.names;
            assert_eq!(crd.spec.group, weir_crds::GROUP);
            assert_eq!(crd.spec.scope, "Namespaced");
            assert_eq!(crd.spec.versions[0].name, weir_crds::VERSION);
            assert!(
                crd.spec.versions[0]
                    .subresources
                    .as_ref()
                    .unwrap()
                    .status
                    .is_some()
            );
            assert_eq!(names.categories.unwrap(), [weir_crds::CATEGORY]);
            format!(
                "{} {} {}",
                names.kind,
                names.plural,
                names.short_names.unwrap().join(",")
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            "FifoConsumer fifoconsumers fifo",
            "MessageBus messagebuses bus",
            "QueueConsumer queueconsumers qc",
            "Webhook webhooks whk"
        ]
    );
}

/// What `kubectl get` shows; wide columns are in brackets.
#[test]
fn columns_are_as_documented() {
    let columns = |kind: &str| {
        let crd = all_crds()
            .into_iter()
            .find(|crd| crd.spec.names.kind == kind)
            .unwrap();
        let columns = crd.spec.versions[0]
            .additional_printer_columns
            .clone()
            .unwrap();
        let shown = columns.iter().map(|column| {
            assert!(!column.name.contains(' '));
            let name = column.name.to_uppercase();
            let path = &column.json_path;
            if column.priority == Some(1) {
                format!("[{name} {}] {path}", column.type_)
            } else {
                format!("{name} {} {path}", column.type_)
            }
        });
        shown.collect::<Vec<_>>()
    };
    let consumer = [
        "READY string .status.conditions[?(@.type==\"Ready\")].status",
        "BACKLOG integer .status.backlog",
        "DEAD integer .status.deadLetters",
        "LIMIT integer .spec.concurrency.max",
        "URL string .status.url",
        "[REASON string] .status.conditions[?(@.type==\"Ready\")].reason",
        "[MESSAGE string] .status.conditions[?(@.type==\"Ready\")].message",
        "[HANDLER string] .status.handlerRef",
        "[REPLICAS integer] .status.replicas",
        "[OLDEST integer] .status.oldestSeconds",
        "[PAUSED boolean] .spec.paused",
        "AGE date .metadata.creationTimestamp",
    ];
    assert_eq!(columns("Webhook"), consumer);
    assert_eq!(columns("QueueConsumer"), consumer);
    let ordered = [
        "READY string .status.conditions[?(@.type==\"Ready\")].status",
        "BACKLOG integer .status.backlog",
        "GROUPS integer .status.groups",
        "BLOCKED integer .status.blockedGroups",
        "DEAD integer .status.deadLetters",
    ];
    assert_eq!(columns("FifoConsumer")[..5], ordered);
    assert_eq!(
        columns("MessageBus"),
        [
            "READY string .status.conditions[?(@.type==\"Ready\")].status",
            "SERVER string .status.server.version",
            "DURABILITY string .status.durability",
            "[REASON string] .status.conditions[?(@.type==\"Ready\")].reason",
            "[MESSAGE string] .status.conditions[?(@.type==\"Ready\")].message",
            "AGE date .metadata.creationTimestamp",
        ]
    );
}
