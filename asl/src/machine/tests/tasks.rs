//! Tasks: retries, catchers, timeouts, heartbeats, expressions.

use serde_json::json;

use super::*;

#[test]
fn a_retried_task_waits_longer_each_time_and_then_is_caught() {
    let mut bench = Bench::new(
        &json!({"StartAt": "S", "States": {
            "S": {"Type": "Task", "Resource": SERVICE, "End": true,
                "Retry": [{"ErrorEquals": ["ErrorA", "ErrorB"], "IntervalSeconds": 1, "BackoffRate": 2, "MaxAttempts": 2},
                          {"ErrorEquals": ["ErrorC"], "IntervalSeconds": 5}],
                "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Z", "ResultPath": "$.error"}]},
            "Z": {"Type": "Pass", "End": true}}}),
        json!({"x": 1}),
    );
    let mut waits = Vec::new();
    for error in ["ErrorA", "ErrorB", "ErrorC", "ErrorB"] {
        bench.fail(error);
        if bench.outcome().is_none() {
            waits.push(bench.wait());
        }
    }
    assert_eq!(waits, [1, 2, 5]);
    assert_eq!(
        bench.output(),
        &json!({"x": 1, "error": {"Error": "ErrorB", "Cause": "cause"}})
    );
    assert!(bench.types().ends_with(&[
        "TaskFailed".into(),
        "TaskStateExited".into(),
        "PassStateEntered".into(),
        "PassStateExited".into(),
        "ExecutionSucceeded".into()
    ]));
}

#[test]
fn the_count_of_retries_is_in_the_context_and_begins_anew_with_each_visit() {
    let mut bench = Bench::new(
        &single(&json!({"Type": "Task", "Resource": SERVICE, "End": true,
            "Parameters": {"n.$": "$$.State.RetryCount"}, "Retry": [{"ErrorEquals": ["States.ALL"]}]})),
        json!({}),
    );
    assert_eq!(*bench.tasks.values().next().unwrap().input, json!({"n": 0}));
    bench.fail("E");
    bench.wait();
    assert_eq!(*bench.tasks.values().next().unwrap().input, json!({"n": 1}));
}

#[test]
fn a_task_times_out_and_a_late_answer_finds_nothing() {
    let mut bench = Bench::new(
        &single(&json!({"Type": "Task", "Resource": SERVICE, "End": true, "TimeoutSeconds": 5})),
        json!({}),
    );
    let id = *bench.tasks.keys().next().unwrap();
    assert_eq!(bench.wait(), 5);
    assert!(bench.tasks.is_empty(), "the task is cancelled");
    assert_eq!(bench.failure(), ("States.Timeout", ""));
    bench.tell(Event::TaskSucceeded {
        id,
        output: json!(1),
    });
    assert_eq!(bench.failure(), ("States.Timeout", ""));
    assert!(bench.types().contains(&"TaskTimedOut".to_owned()));
}

#[test]
fn heartbeats_keep_a_task_alive_until_they_stop() {
    let mut bench = Bench::new(
        &json!({"StartAt": "S", "States": {
            "S": {"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken", "End": true,
                "TimeoutSeconds": 600, "HeartbeatSeconds": 10, "Parameters": {"token.$": "$$.Task.Token"},
                "Catch": [{"ErrorEquals": ["States.HeartbeatTimeout"], "Next": "Z"}]},
            "Z": {"Type": "Pass", "End": true}}}),
        json!({}),
    );
    let task = bench.tasks.values().next().unwrap().clone();
    assert_eq!(task.input["token"], json!(task.token.unwrap()));
    for _ in 0..3 {
        bench.now = bench.now.checked_add(SignedDuration::from_secs(9)).unwrap();
        bench.tell(Event::TaskHeartbeat { id: task.id });
    }
    assert_eq!(bench.wait(), 10);
    assert_eq!(
        bench.output(),
        &json!({"Error": "States.Timeout", "Cause": ""})
    );
    assert!(bench.timers.is_empty(), "the long timer is cancelled");
}

#[test]
fn an_activity_starts_when_somebody_takes_it() {
    let mut bench = Bench::new(
        &single(
            &json!({"Type": "Task", "Resource": "arn:aws:states:us-east-1:1:activity:a", "End": true}),
        ),
        json!({}),
    );
    let id = *bench.tasks.keys().next().unwrap();
    assert_eq!(bench.types().last().unwrap(), "ActivityScheduled");
    bench.tell(Event::TaskStarted {
        id,
        worker: Some("w".into()),
    });
    bench.succeed(json!(1));
    assert_eq!(
        bench.types()[2..],
        [
            "ActivityScheduled",
            "ActivityStarted",
            "ActivitySucceeded",
            "TaskStateExited",
            "ExecutionSucceeded"
        ]
    );
}

#[test]
fn a_failed_expression_is_an_event_and_can_be_tried_again() {
    let mut bench = Bench::new(
        &json!({"QueryLanguage": "JSONata", "StartAt": "S", "States": {"S": {
            "Type": "Task", "Resource": SERVICE, "Arguments": {"a": "{% $nothing %}"}, "End": true,
            "Retry": [{"ErrorEquals": ["States.QueryEvaluationError"], "MaxAttempts": 1}]}}}),
        json!({}),
    );
    bench.wait();
    assert_eq!(
        bench.types(),
        [
            "ExecutionStarted",
            "TaskStateEntered",
            "EvaluationFailed",
            "EvaluationFailed",
            "ExecutionFailed"
        ]
    );
    let details = bench.history[2].to_json();
    assert_eq!(
        details["evaluationFailedEventDetails"]["location"],
        "Arguments/a"
    );
    assert_eq!(details["evaluationFailedEventDetails"]["state"], "S");
}

#[test]
fn the_catcher_of_a_jsonata_state_sees_the_error_and_the_input() {
    let mut bench = Bench::new(
        &json!({"QueryLanguage": "JSONata", "StartAt": "S", "States": {
            "S": {"Type": "Task", "Resource": SERVICE, "Next": "Z", "Assign": {"v": "result"}, "Catch": [{
                "ErrorEquals": ["E"], "Next": "Z", "Output": {"e": "{% $states.errorOutput.Error %}", "i": "{% $states.input.x %}"},
                "Assign": {"v": "error"}}]},
            "Z": {"Type": "Pass", "Output": {"v": "{% $v %}", "in": "{% $states.input %}"}, "End": true}}}),
        json!({"x": 1}),
    );
    bench.fail("E");
    assert_eq!(
        bench.output(),
        &json!({"v": "error", "in": {"e": "E", "i": 1}})
    );
}

#[test]
fn the_silence_of_an_activity_counts_from_when_it_is_taken() {
    let mut bench = Bench::new(
        &single(
            &json!({"Type": "Task", "Resource": "arn:aws:states:us-east-1:1:activity:a", "End": true,
            "TimeoutSeconds": 100, "HeartbeatSeconds": 10}),
        ),
        json!({}),
    );
    assert_eq!(bench.timers.len(), 1);
    let id = *bench.tasks.keys().next().unwrap();
    bench.now = bench
        .now
        .checked_add(SignedDuration::from_secs(50))
        .unwrap();
    bench.tell(Event::TaskStarted { id, worker: None });
    assert_eq!(bench.wait(), 10);
    assert_eq!(bench.failure().0, "States.Timeout");
}
