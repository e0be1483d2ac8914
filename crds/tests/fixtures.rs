//! Every fixture is judged as its folder says, and every rule has fixtures.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::{fixtures, schemas, values_at, walk};
use serde_json::Value;
use weir_crds::lint::{Linter, Parsed, parse, with_defaults};
use weir_crds::{Document, Severity};

fn value_of(text: &str) -> Value {
    match parse(text).pop() {
        Some(Parsed::Document { value, .. }) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn accepted_fixtures_have_no_problem() {
    let linter = Linter::new();
    for fixture in fixtures("accepted") {
        let manifest = linter.read(&fixture.name, &fixture.text);
        assert_eq!(manifest.problems, [], "{}", fixture.name);
        assert_eq!(manifest.documents.len(), 1, "{}", fixture.name);
    }
}

#[test]
fn rejected_fixtures_have_exactly_the_expected_problems() {
    let linter = Linter::new();
    for fixture in fixtures("rejected") {
        let problems = linter.read(&fixture.name, &fixture.text).problems;
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(
            !fixture.expected.is_empty(),
            "{}: no line `# expect: `",
            fixture.name
        );
        assert_eq!(
            problems.len(),
            fixture.expected.len(),
            "{}: {shown:#?}",
            fixture.name
        );
        for expected in &fixture.expected {
            let found = shown.iter().any(|message| message.contains(expected));
            assert!(
                found,
                "{}: expected {expected:?}, found {shown:#?}",
                fixture.name
            );
        }
        for problem in &problems {
            assert_eq!(problem.severity, Severity::Error, "{}", fixture.name);
            assert!(problem.line.is_some(), "{}: {problem:?}", fixture.name);
        }
        let path = fixture.path.unwrap_or_default();
        assert!(
            problems.iter().any(|problem| problem.path == path),
            "{}: {shown:#?}",
            fixture.name
        );
    }
}

#[test]
fn every_rule_has_an_accepted_and_a_rejected_fixture() {
    let (accepted, rejected) = (fixtures("accepted"), fixtures("rejected"));
    let values: Vec<Value> = accepted
        .iter()
        .map(|fixture| value_of(&fixture.text))
        .collect();
    let mut missing = Vec::new();
    let mut rules = 0;
    let mut rejected_by = BTreeSet::new();
    for fixture in &rejected {
        let kind = value_of(&fixture.text)["kind"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        rejected_by.extend(
            fixture
                .expected
                .iter()
                .map(|expected| (kind.clone(), expected.clone())),
        );
    }
    for (kind, schema) in schemas() {
        walk(&schema, "", &mut |path, schema| {
            for rule in schema["x-kubernetes-validations"]
                .as_array()
                .into_iter()
                .flatten()
            {
                rules += 1;
                let message = rule["message"].as_str().unwrap();
                // A block that several kinds share needs its fixture once, a rule of a kind itself
                // for the kind.
                let own = path.is_empty() || path == "spec";
                let refused = rejected_by.iter().any(|(of, expected)| {
                    (!own || *of == kind) && message.contains(expected.as_str())
                });
                let passed = values.iter().any(|value| {
                    (!own || value["kind"] == kind.as_str()) && !values_at(value, path).is_empty()
                });
                if !refused || !passed {
                    missing.push(format!("{kind} {path}: {message}"));
                }
            }
        });
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(rules > 50, "{rules}");
}

#[test]
fn every_bound_has_a_rejected_fixture() {
    let linter = Linter::new();
    let mut covered = BTreeSet::new();
    for fixture in fixtures("rejected") {
        for problem in linter.read(&fixture.name, &fixture.text).problems {
            let keyword = match &problem.message {
                text if text.contains("greater than or equal to") => "minimum",
                text if text.contains("less than or equal to") => "maximum",
                text if text.contains("Too long") => "maxLength",
                text if text.contains("should match") => "pattern",
                text if text.contains("Unsupported value") => "enum",
                text if text.contains("should have at least") => "minItems",
                text if text.contains("Too many") => "maxItems",
                text if text.contains("Duplicate value") => "duplicate",
                text if text.contains("Required value") => "required",
                _ => continue,
            };
            covered.insert((general(&problem.path), keyword));
        }
    }
    let mut missing = BTreeSet::new();
    let mut bounds = BTreeSet::new();
    for (_, schema) in schemas() {
        walk(
            &schema["properties"]["spec"],
            "spec",
            &mut |path, schema| {
                let mut need = |path: String, keyword| {
                    bounds.insert((path.clone(), keyword));
                    if !covered.contains(&(path.clone(), keyword)) {
                        missing.insert((path, keyword));
                    }
                };
                for keyword in [
                    "minimum",
                    "maximum",
                    "maxLength",
                    "pattern",
                    "enum",
                    "minItems",
                    "maxItems",
                ] {
                    if !schema[keyword].is_null() {
                        need(path.into(), keyword);
                    }
                }
                if !schema["maxProperties"].is_null() {
                    need(path.into(), "maxItems");
                }
                if matches!(
                    schema["x-kubernetes-list-type"].as_str(),
                    Some("set" | "map")
                ) {
                    need(format!("{path}[]"), "duplicate");
                }
                for name in schema["required"].as_array().into_iter().flatten() {
                    need(format!("{path}.{}", name.as_str().unwrap()), "required");
                }
            },
        );
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(bounds.len() > 150, "{}", bounds.len());
}

/// `a[3].b` is `a[].b`; an entry of the maps that we have is `{}`.
#[test]
fn a_path_is_refused_wherever_a_name_is_expected() {
    // What goes to the user's own program, or is compared with what a sender wrote, may be any text.
    const FREE: [&str; 14] = [
        "FifoConsumer spec.handler.args",
        "FifoConsumer spec.handler.command",
        "FifoConsumer spec.handler.env.value",
        "FifoConsumer spec.handler.image",
        "MessageBus spec.rabbitmq.vhost",
        "QueueConsumer spec.handler.args",
        "QueueConsumer spec.handler.command",
        "QueueConsumer spec.handler.env.value",
        "QueueConsumer spec.handler.image",
        "Webhook spec.handler.args",
        "Webhook spec.handler.command",
        "Webhook spec.handler.env.value",
        "Webhook spec.handler.image",
        "Webhook spec.verify.hmac.prefix",
    ];
    let linter = Linter::new();
    let (mut accepted, mut tried) = (BTreeSet::new(), BTreeSet::new());
    for fixture in fixtures("accepted") {
        let whole = value_of(&fixture.text);
        let kind = whole["kind"].as_str().unwrap();
        let mut places = Vec::new();
        strings(&whole["spec"], "/spec", &mut places);
        for place in places {
            let names: Vec<_> = place
                .split('/')
                .filter(|part| !part.is_empty() && part.parse::<usize>().is_err())
                .collect();
            let field = format!("{kind} {}", names.join("."));
            if !tried.insert(field.clone()) {
                continue;
            }
            let mut changed = whole.clone();
            *changed.pointer_mut(&place).unwrap() = "../../../etc/passwd".into();
            if linter
                .read("changed", &changed.to_string())
                .problems
                .is_empty()
            {
                accepted.insert(field);
            }
        }
    }
    assert_eq!(accepted, FREE.map(str::to_owned).into());
}

/// Pointers of all strings.
fn strings(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(place.to_owned()),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                strings(item, &format!("{place}/{n}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                strings(field, &format!("{place}/{name}"), found);
            }
        }
        _ => {}
    }
}

fn general(path: &str) -> String {
    let mut general = String::new();
    for part in path.split(['[', ']']).enumerate() {
        general += if part.0 % 2 == 0 { part.1 } else { "[]" };
    }
    for map in ["nodeSelector", "requests", "limits"] {
        if let Some(at) = general.find(&format!("{map}.")) {
            general.truncate(at + map.len());
            general += "{}";
        }
    }
    general
}

#[test]
fn accepted_fixtures_survive_a_round_trip() {
    let linter = Linter::new();
    for fixture in fixtures("accepted") {
        let document = linter
            .read(&fixture.name, &fixture.text)
            .documents
            .remove(0)
            .document;
        let value = serde_json::to_value(&document).unwrap();
        assert_eq!(
            Document::from_value(value.clone()).unwrap(),
            document,
            "{}",
            fixture.name
        );
        assert_eq!(linter.judge(&value), [], "{}", fixture.name);
    }
}

/// The types fill in the same defaults as the server, so that a value is the same with and without
/// a cluster.
#[test]
fn types_and_schemas_have_the_same_defaults() {
    let schemas = schemas();
    for fixture in fixtures("accepted") {
        let written = value_of(&fixture.text);
        let (_, schema) = schemas
            .iter()
            .find(|(kind, _)| written["kind"] == kind.as_str())
            .unwrap();
        let by_schema = with_defaults(schema, &written);
        let mut by_types =
            serde_json::to_value(Document::from_value(without_nulls(written)).unwrap()).unwrap();
        as_text(&mut by_types, &by_schema);
        let (mut left, mut right) = (by_types["spec"].clone(), by_schema["spec"].clone());
        without_empty_lists(&mut left);
        without_empty_lists(&mut right);
        assert_eq!(left, right, "{}", fixture.name);
    }
}

/// Quantities are text in the types, and a number or text as written.
fn as_text(value: &mut Value, like: &Value) {
    match (value, like) {
        (Value::Object(object), like) => {
            object
                .iter_mut()
                .for_each(|(name, child)| as_text(child, &like[name]));
        }
        (Value::Array(items), Value::Array(like)) => {
            items
                .iter_mut()
                .zip(like)
                .for_each(|(item, like)| as_text(item, like));
        }
        (value @ Value::String(_), Value::Number(_)) => *value = like.clone(),
        _ => {}
    }
}

/// An absent list and an empty one are the same to the types, except where the default has entries.
fn without_empty_lists(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|name, child| name == "permanentStatuses" || *child != serde_json::json!([]));
        object.values_mut().for_each(without_empty_lists);
    }
}

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(object) = &mut value {
        object.retain(|_, child| !child.is_null());
        for child in object.values_mut() {
            *child = without_nulls(child.take());
        }
    }
    value
}
