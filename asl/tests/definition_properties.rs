//! No definition, however broken, makes the parser panic or hang, and what it accepts is whole.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};
use weir_asl::definition::{Flow, StateKind, StateMachine, Transition, WorkflowType};
use weir_asl::parse::{from_value, parse};

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

fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(WORDS).prop_map(str::to_owned), 1 => any::<String>()]
}

fn anything() -> impl Strategy<Value = Value> {
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
fn sound() -> Value {
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

#[derive(Clone, Debug)]
enum Change {
    Remove,
    Replace(Value),
    Add(String, Value),
}

fn change() -> impl Strategy<Value = (Index, Change)> {
    let change = prop_oneof![
        Just(Change::Remove),
        anything().prop_map(Change::Replace),
        (word(), anything()).prop_map(|(key, value)| Change::Add(key, value)),
    ];
    (any::<Index>(), change)
}

fn changed(mut definition: Value, index: Index, change: Change) -> Value {
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

fn whole(machine: &StateMachine, flow: &Flow) {
    assert!(flow.states.contains_key(&flow.start_at));
    for state in flow.states.values() {
        assert!(machine.state(&state.name).is_some());
        let targets = state.catch.iter().map(|catcher| &catcher.next);
        for target in targets {
            assert!(flow.states.contains_key(target));
        }
        if let Transition::Next(next) = &state.transition {
            assert!(flow.states.contains_key(next));
        }
        match &state.kind {
            StateKind::Choice(choice) => {
                for next in choice
                    .rules
                    .iter()
                    .map(|rule| &rule.next)
                    .chain(&choice.default)
                {
                    assert!(flow.states.contains_key(next));
                }
            }
            StateKind::Parallel(branches) => {
                branches.iter().for_each(|branch| whole(machine, branch))
            }
            StateKind::Map(map) => whole(machine, &map.processor),
            _ => {}
        }
    }
}

fn judged(value: &Value, workflow: WorkflowType) {
    match from_value(value, workflow) {
        Ok(machine) => whole(&machine, machine.flow()),
        Err(rejection) => {
            assert!(!rejection.problems.is_empty() && rejection.problems.len() <= 100);
            for problem in &rejection.problems {
                assert!(problem.path.starts_with('/'), "{problem:?}");
                assert!(!problem.message.is_empty());
            }
        }
    }
}

#[test]
fn the_sound_definition_is_accepted() {
    assert_eq!(
        from_value(&sound(), WorkflowType::Standard).map(|_| ()),
        Ok(())
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_is_judged(value in anything()) {
        judged(&value, WorkflowType::Standard);
        judged(&json!({"StartAt": "A", "States": {"A": value}}), WorkflowType::Express);
    }

    #[test]
    fn any_text_is_judged(text in any::<String>()) {
        let _ = parse(&text, WorkflowType::Standard);
    }

    #[test]
    fn a_cut_definition_is_refused(cut in any::<Index>()) {
        let text = sound().to_string();
        let part = &text[..cut.index(text.len())];
        prop_assert!(parse(part, WorkflowType::Standard).is_err());
    }

    #[test]
    fn a_changed_definition_is_judged(changes in vec(change(), 1..4)) {
        let definition = changes.into_iter().fold(sound(), |d, (index, change)| changed(d, index, change));
        judged(&definition, WorkflowType::Standard);
    }

    #[test]
    fn a_definition_is_judged_the_same_from_its_text(changes in vec(change(), 0..3)) {
        let definition = changes.into_iter().fold(sound(), |d, (index, change)| changed(d, index, change));
        let said = |result: Result<StateMachine, weir_asl::problem::Rejection>| result.map(|_| ()).map_err(|r| r.to_string());
        prop_assert_eq!(
            said(from_value(&definition, WorkflowType::Standard)),
            said(parse(&definition.to_string(), WorkflowType::Standard))
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_states_are_judged_quickly(count in 1_usize..3_000) {
        let mut states = Map::new();
        for i in 0..count {
            let next = if i + 1 == count { json!({"Type": "Succeed"}) } else { json!({"Type": "Pass", "Next": format!("S{}", i + 1)}) };
            states.insert(format!("S{i}"), next);
        }
        let definition = json!({"StartAt": "S0", "States": states});
        prop_assert!(from_value(&definition, WorkflowType::Standard).is_ok());
    }
}
