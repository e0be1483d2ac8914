//! Definitions at random: any value, and a sound definition with some places changed.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// Words that mean something to the parser, so that random values get past the first check.
const WORDS: &[&str] = &[
    "StartAt",
    "States",
    "Type",
    "Task",
    "Pass",
    "Choice",
    "Wait",
    "Succeed",
    "Fail",
    "Parallel",
    "Map",
    "Next",
    "End",
    "Choices",
    "Default",
    "Variable",
    "StringEquals",
    "NumericLessThanPath",
    "And",
    "Not",
    "IsPresent",
    "Branches",
    "ItemProcessor",
    "Iterator",
    "ItemReader",
    "ItemBatcher",
    "ResultWriter",
    "ProcessorConfig",
    "Mode",
    "DISTRIBUTED",
    "Retry",
    "Catch",
    "ErrorEquals",
    "States.ALL",
    "Resource",
    "InputPath",
    "ResultPath",
    "Parameters",
    "x.$",
    "$.a[0]",
    "$$.b",
    "$v",
    "States.Format('{}', $.a)",
    "QueryLanguage",
    "JSONata",
    "{% $states.input %}",
    "{%",
    "Assign",
    "Output",
    "Condition",
    "Seconds",
    "TimestampPath",
    "2024-01-01T00:00:00Z",
    "TimeoutSeconds",
    "Credentials",
    "A",
    "B",
    "",
];

pub fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(WORDS).prop_map(str::to_owned), 1 => any::<String>()]
}

pub fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(word(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A definition with every kind of state.
pub fn sound() -> Value {
    json!({"StartAt": "A", "TimeoutSeconds": 9, "States": {
        "A": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"a.$": "$.a"},
            "ResultSelector": {"b.$": "$.b"}, "ResultPath": "$.c", "TimeoutSeconds": 5, "HeartbeatSeconds": 1,
            "Retry": [{"ErrorEquals": ["E"], "MaxAttempts": 2, "BackoffRate": 1.5}],
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "F", "ResultPath": null}], "Next": "C"},
        "C": {"Type": "Choice", "Choices": [
            {"And": [{"Variable": "$.a", "IsPresent": true}, {"Not": {"Variable": "$.b", "StringEquals": "x"}}], "Next": "W"}],
            "Default": "P"},
        "W": {"Type": "Wait", "SecondsPath": "$.n", "Next": "P"},
        "P": {"Type": "Parallel", "Next": "M", "Branches": [
            {"StartAt": "B", "States": {"B": {"Type": "Pass", "Result": 1, "End": true}}}]},
        "M": {"Type": "Map", "Next": "J", "ItemsPath": "$.items", "ItemSelector": {"i.$": "$$.Map.Item.Value"},
            "ItemProcessor": {"StartAt": "I", "States": {"I": {"Type": "Pass", "Assign": {"v": 1}, "End": true}}}},
        "J": {"Type": "Pass", "QueryLanguage": "JSONata", "Output": "{% $states.input %}", "Next": "S"},
        "S": {"Type": "Succeed"},
        "F": {"Type": "Fail", "ErrorPath": "$.Error", "Cause": "c"}
    }})
}

/// Every place of a value, as a JSON pointer.
fn places(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                places(item, format!("{at}/{i}"), into);
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                places(
                    item,
                    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    into,
                );
            }
        }
        _ => {}
    }
    into.push(at);
}

/// What is done to a place of a definition.
#[derive(Clone, Debug)]
pub enum Change {
    Remove,
    Replace(Value),
    Add(String, Value),
}

pub fn change() -> impl Strategy<Value = (Index, Change)> {
    let change = prop_oneof![
        Just(Change::Remove),
        anything().prop_map(Change::Replace),
        (word(), anything()).prop_map(|(key, value)| Change::Add(key, value)),
    ];
    (any::<Index>(), change)
}

pub fn changed(mut definition: Value, index: Index, change: Change) -> Value {
    let mut all = Vec::new();
    places(&definition, String::new(), &mut all);
    let place = index.get(&all).clone();
    match change {
        Change::Remove => {
            let (parent, key) = place.rsplit_once('/').unwrap_or_default();
            if let Some(fields) = definition
                .pointer_mut(parent)
                .and_then(Value::as_object_mut)
            {
                fields.remove(key);
            }
        }
        Change::Replace(value) => *definition.pointer_mut(&place).expect("a place of it") = value,
        Change::Add(key, value) => {
            if let Some(fields) = definition
                .pointer_mut(&place)
                .and_then(Value::as_object_mut)
            {
                fields.insert(key, value);
            }
        }
    }
    definition
}
