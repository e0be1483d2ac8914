//! What an execution may not exceed.

use serde_json::{Value, json};

use super::*;

#[test]
fn data_beyond_the_limit_is_refused_and_can_be_caught() {
    let big = "x".repeat(262_145);
    let mut bench = Bench::new(
        &json!({"StartAt": "S", "States": {
            "S": {"Type": "Task", "Resource": SERVICE, "Next": "Z",
                "Catch": [{"ErrorEquals": ["States.DataLimitExceeded"], "Next": "Z"}]},
            "Z": {"Type": "Pass", "End": true}}}),
        json!({}),
    );
    bench.succeed(json!(big));
    assert_eq!(bench.output()["Error"], "States.DataLimitExceeded");

    let half = "x".repeat(150_000);
    let bench = Bench::new(
        &single(&json!({"Type": "Pass", "Parameters": {"a.$": "$.t", "b.$": "$.t"}, "End": true})),
        json!({"t": half}),
    );
    assert_eq!(bench.failure().0, "States.DataLimitExceeded");
}

#[test]
fn a_machine_without_an_end_stops_when_its_history_is_full() {
    let limits = Limits {
        history_events: 1_000,
        ..Limits::default()
    };
    let mut bench = Bench::with(
        &json!({"StartAt": "A", "States": {
            "A": {"Type": "Pass", "Next": "B"},
            "B": {"Type": "Choice", "Choices": [{"Variable": "$.x", "IsPresent": true, "Next": "Z"}], "Default": "A"},
            "Z": {"Type": "Succeed"}}}),
        json!({}),
        limits,
    );
    while bench.outcome().is_none() {
        assert_eq!(bench.others.pop(), Some(Command::Continue));
        bench.tell(Event::Continue);
    }
    assert_eq!(bench.failure().0, "States.Runtime");
    assert_eq!(bench.history.len(), 1_000);
    assert_eq!(bench.types().last().unwrap(), "ExecutionFailed");
}

#[test]
fn the_time_of_the_machine_ends_all_of_it() {
    let mut bench = Bench::new(
        &json!({"TimeoutSeconds": 30, "StartAt": "S", "States": {
            "S": {"Type": "Task", "Resource": SERVICE, "End": true, "TimeoutSeconds": 100}}}),
        json!({}),
    );
    assert_eq!(bench.wait(), 30);
    assert!(matches!(bench.outcome(), Some(Outcome::TimedOut(_))));
    assert!(bench.tasks.is_empty() && bench.timers.is_empty());
    assert_eq!(bench.types().last().unwrap(), "ExecutionTimedOut");
}

#[test]
fn a_map_whose_results_are_too_large_together_stops_at_once() {
    let bench = Bench::new(
        &single(
            &json!({"Type": "Map", "End": true, "ItemsPath": "$.items", "ItemSelector": {"t.$": "$.text"},
            "ItemProcessor": {"StartAt": "P", "States": {"P": {"Type": "Pass", "End": true}}}}),
        ),
        json!({"text": "x".repeat(100_000), "items": (0..50).collect::<Vec<u64>>()}),
    );
    assert_eq!(bench.failure().0, "States.DataLimitExceeded");
    let ended = bench
        .types()
        .iter()
        .filter(|name| *name == "MapIterationSucceeded")
        .count();
    assert_eq!(ended, 3);
}

#[test]
fn variables_are_bounded_together() {
    let names: Vec<String> = (0..60).map(|index| format!("S{index}")).collect();
    let states: serde_json::Map<String, Value> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let mut state = json!({"Type": "Pass", "Assign": {format!("v{index}.$"): "$"}});
            match names.get(index + 1) {
                Some(next) => state["Next"] = next.clone().into(),
                None => state["End"] = true.into(),
            }
            (name.clone(), state)
        })
        .collect();
    let bench = Bench::new(
        &json!({"StartAt": "S0", "States": states}),
        json!("x".repeat(240_000)),
    );
    let (error, cause) = bench.failure();
    assert_eq!(error, "States.Runtime");
    assert!(
        cause.contains("'S43'") && cause.ends_with("exceed the maximum of 10485760 bytes."),
        "{cause}"
    );
}

#[test]
fn data_nests_no_deeper_than_it_may_and_what_does_not_can_be_read_again() {
    let mut branch = json!({"StartAt": "T", "States": {"T": {"Type": "Task", "Resource": SERVICE, "End": true}}});
    for level in 0..20 {
        let name = format!("P{level}");
        branch = json!({"StartAt": name.clone(), "States": {name: {"Type": "Parallel", "End": true, "Branches": [branch]}}});
    }
    let deep = (0..110).fold(json!("x"), |inner, _| json!([inner]));
    let mut bench = Bench::new(&branch, deep.clone());
    let written = bench.execution.as_ref().unwrap().encode().unwrap();
    assert_eq!(
        Execution::decode(&written).unwrap(),
        *bench.execution.as_ref().unwrap()
    );
    bench.succeed(deep);
    assert_eq!(bench.failure().0, "States.DataLimitExceeded");

    let growing = json!({"StartAt": "A", "States": {
        "A": {"Type": "Pass", "Parameters": {"x.$": "$"}, "Next": "B"},
        "B": {"Type": "Choice", "Choices": [{"Variable": "$.y", "IsPresent": true, "Next": "Z"}], "Default": "A"},
        "Z": {"Type": "Succeed"}}});
    assert_eq!(
        Bench::new(&growing, json!({})).failure().0,
        "States.DataLimitExceeded"
    );
}
