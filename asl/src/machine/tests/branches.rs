//! Parallel and inline Map.

use serde_json::{Value, json};

use super::*;

#[test]
fn a_failing_branch_gives_up_the_others() {
    let branch = |name: &str, more: Value| {
        let mut state = json!({"Type": "Task", "Resource": SERVICE, "End": true});
        state
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"StartAt": name, "States": {name: state}})
    };
    let mut bench = Bench::new(
        &single(&json!({"Type": "Parallel", "End": true, "Branches": [
            branch("A", json!({"TimeoutSeconds": 60})), branch("B", json!({})),
            json!({"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 9, "End": true}}})
        ]})),
        json!({}),
    );
    assert_eq!((bench.tasks.len(), bench.timers.len()), (2, 2));
    let id = *bench.tasks.keys().next_back().unwrap();
    bench.tell(Event::TaskFailed {
        id,
        failure: Failure::new("E", "c"),
    });
    assert_eq!(bench.failure(), ("E", "c"));
    assert_eq!(bench.timers.len(), 0);
    assert!(bench.tasks.len() <= 1 && !bench.tasks.keys().any(|open| *open != id));
    assert!(bench.types().ends_with(&[
        "TaskFailed".into(),
        "ParallelStateFailed".into(),
        "ExecutionFailed".into()
    ]));
}

#[test]
fn outputs_of_branches_are_in_the_order_of_branches() {
    let branch = |name: &str| json!({"StartAt": name, "States": {name: {"Type": "Task", "Resource": SERVICE, "End": true}}});
    let mut bench = Bench::new(
        &single(
            &json!({"Type": "Parallel", "End": true, "Branches": [branch("A"), branch("B"), branch("C")],
            "ResultPath": "$.all"}),
        ),
        json!({"in": 0}),
    );
    for id in bench.tasks.keys().copied().rev().collect::<Vec<_>>() {
        let output = json!(&*bench.tasks.remove(&id).unwrap().state);
        bench.tell(Event::TaskSucceeded { id, output });
    }
    assert_eq!(bench.output(), &json!({"in": 0, "all": ["A", "B", "C"]}));
}

#[test]
fn a_map_runs_no_more_at_once_than_it_may() {
    let map = |concurrency: u64| {
        single(
            &json!({"Type": "Map", "End": true, "MaxConcurrency": concurrency, "ItemProcessor": {
            "StartAt": "T", "States": {"T": {"Type": "Task", "Resource": SERVICE, "End": true}}}}),
        )
    };
    let items: Vec<u64> = (0..100).collect();
    for (concurrency, most) in [(1, 1), (3, 3), (0, 40), (1000, 40)] {
        let mut bench = Bench::new(&map(concurrency), json!(items));
        let mut seen = 0;
        while bench.outcome().is_none() {
            assert!(bench.tasks.len() <= most);
            seen = seen.max(bench.tasks.len());
            let (id, task) = bench.tasks.pop_last().unwrap();
            bench.tell(Event::TaskSucceeded {
                id,
                output: json!({"was": *task.input}),
            });
        }
        assert_eq!(seen, most);
        let outputs: Vec<Value> = items.iter().map(|item| json!({"was": item})).collect();
        assert_eq!(bench.output(), &json!(outputs));
    }
}

#[test]
fn events_of_a_map_follow_its_last_inner_event() {
    let bench = Bench::new(
        &single(
            &json!({"Type": "Map", "End": true, "MaxConcurrency": 1, "ItemProcessor": {
            "StartAt": "P", "States": {"P": {"Type": "Pass", "End": true}}}}),
        ),
        json!([1, 2]),
    );
    let links = bench.links();
    let expected = [
        ("ExecutionStarted", 0),
        ("MapStateEntered", 0),
        ("MapStateStarted", 2),
        ("MapIterationStarted", 3),
        ("PassStateEntered", 4),
        ("PassStateExited", 5),
        ("MapIterationSucceeded", 6),
        ("MapIterationStarted", 6),
        ("PassStateEntered", 8),
        ("PassStateExited", 9),
        ("MapIterationSucceeded", 10),
        ("MapStateSucceeded", 10),
        ("MapStateExited", 10),
        ("ExecutionSucceeded", 13),
    ];
    assert_eq!(
        links,
        expected.map(|(name, previous)| (name.to_owned(), previous))
    );
}

#[test]
fn a_map_that_is_tried_again_starts_again_without_an_exit() {
    let mut bench = Bench::new(
        &json!({"StartAt": "S", "States": {
            "S": {"Type": "Map", "Next": "Z", "Retry": [{"ErrorEquals": ["E"], "MaxAttempts": 1}],
                "Catch": [{"ErrorEquals": ["E"], "Next": "Z"}],
                "ItemProcessor": {"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "E"}}}},
            "Z": {"Type": "Pass", "End": true}}}),
        json!([1]),
    );
    bench.wait();
    assert_eq!(
        bench.types(),
        [
            "ExecutionStarted",
            "MapStateEntered",
            "MapStateStarted",
            "MapIterationStarted",
            "FailStateEntered",
            "MapIterationFailed",
            "MapStateStarted",
            "MapIterationStarted",
            "FailStateEntered",
            "MapIterationFailed",
            "MapStateFailed",
            "MapStateExited",
            "PassStateEntered",
            "PassStateExited",
            "ExecutionSucceeded"
        ]
    );
    assert_eq!(bench.output(), &json!({"Error": "E", "Cause": ""}));
}

#[test]
fn inner_variables_are_gone_after_the_branch_and_outer_ones_are_seen_inside() {
    let bench = Bench::new(
        &json!({"StartAt": "A", "States": {
            "A": {"Type": "Pass", "Assign": {"outer": 1}, "Next": "P"},
            "P": {"Type": "Parallel", "Next": "Z", "Branches": [
                {"StartAt": "B", "States": {
                    "B": {"Type": "Pass", "Assign": {"inner.$": "$outer"}, "Next": "C"},
                    "C": {"Type": "Pass", "Parameters": {"seen.$": "$inner", "outer.$": "$outer"}, "End": true}}}]},
            "Z": {"Type": "Pass", "End": true}}}),
        json!({}),
    );
    assert_eq!(bench.output(), &json!([{"seen": 1, "outer": 1}]));
    assert!(
        !bench
            .execution
            .unwrap()
            .root
            .variables
            .contains_key("inner")
    );
}

#[test]
fn what_nothing_can_catch_ends_the_execution_inside_a_map_too() {
    let bench = Bench::new(
        &json!({"StartAt": "S", "States": {
            "S": {"Type": "Map", "Next": "Z", "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Z"}],
                "ItemProcessor": {"StartAt": "P", "States": {"P": {"Type": "Pass", "InputPath": "$.no", "End": true}}}},
            "Z": {"Type": "Pass", "End": true}}}),
        json!([{}]),
    );
    let (error, cause) = bench.failure();
    assert_eq!(error, "States.Runtime");
    assert_eq!(
        cause,
        "An error occurred while executing the state 'P' (entered at the event id #5). Invalid path '$.no' : No results \
         for path: $['no']"
    );
    assert!(bench.types().ends_with(&[
        "MapIterationFailed".into(),
        "MapStateFailed".into(),
        "ExecutionFailed".into()
    ]));
}

#[test]
fn iterations_beside_a_failing_one_are_aborted() {
    let mut bench = Bench::new(
        &single(&json!({"Type": "Map", "End": true, "ItemProcessor": {
            "StartAt": "T", "States": {"T": {"Type": "Task", "Resource": SERVICE, "End": true}}}})),
        json!([1, 2]),
    );
    let id = *bench.tasks.keys().next().unwrap();
    bench.tell(Event::TaskFailed {
        id,
        failure: Failure::new("E", "c"),
    });
    assert!(bench.types().ends_with(&[
        "TaskFailed".into(),
        "MapIterationFailed".into(),
        "MapIterationAborted".into(),
        "MapStateFailed".into(),
        "ExecutionFailed".into()
    ]));
}
