//! A simulation runs a machine without the world: virtual time, mocks, and the same answer every time.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "values are written where they are passed"
)]

use jiff::SignedDuration;
use serde_json::{Value, json};
use weir_asl::batch;
use weir_asl::definition::WorkflowType;
use weir_asl::parse::from_value;
use weir_asl::simulate::{Answers, Mocks, Options, Report, simulate};

fn run(definition: &Value, input: Value, mocks: Value) -> Report {
    let machine = from_value(definition, WorkflowType::Standard).unwrap();
    let mocks = Mocks::from_json(&mocks).unwrap();
    let answers = Answers {
        mocks: Some(&mocks),
        functions: None,
    };
    simulate(&machine, input, &Options::default(), answers)
}

fn task(more: Value) -> Value {
    let mut state = json!({"Type": "Task", "Resource": "charge", "End": true});
    state
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"StartAt": "Charge", "States": {"Charge": state, "Refund": {"Type": "Succeed"}}})
}

/// The same without the state that nothing leads to.
fn alone(more: Value) -> Value {
    let mut definition = task(more);
    definition["States"]
        .as_object_mut()
        .unwrap()
        .remove("Refund");
    definition
}

fn elapsed(report: &Report) -> SignedDuration {
    report
        .end_time
        .duration_since(Options::default().start_time)
}

#[test]
fn a_wait_of_years_takes_no_time() {
    let definition = json!({"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 99_999_999, "End": true}}});
    let report = run(&definition, json!({"a": 1}), json!({}));
    assert_eq!(
        (report.status, report.output.as_ref()),
        ("SUCCEEDED", Some(&json!({"a": 1})))
    );
    assert_eq!(elapsed(&report), SignedDuration::from_secs(99_999_999));
}

#[test]
fn successive_answers_meet_successive_attempts() {
    let definition = alone(
        json!({"Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 3, "BackoffRate": 1.5, "MaxAttempts": 2}]}),
    );
    let busy = json!({"Throw": {"Error": "Busy", "Cause": "later"}});
    let report = run(
        &definition,
        json!({}),
        json!({"Charge": [busy, busy, {"Return": {"paid": true}}]}),
    );
    assert_eq!(report.output, Some(json!({"paid": true})));
    assert_eq!(
        elapsed(&report),
        SignedDuration::from_millis(7_500),
        "3 and 4.5 seconds"
    );
    let report = run(&definition, json!({}), json!({"charge": busy}));
    assert_eq!(
        (report.status, report.error.as_deref()),
        ("FAILED", Some("Busy"))
    );
    assert_eq!(report.cause.as_deref(), Some("later"));
}

#[test]
fn an_error_is_caught_and_says_what_it_was() {
    let definition = task(
        json!({"Catch": [{"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.e", "Next": "Refund"}]}),
    );
    let report = run(
        &definition,
        json!({"a": 1}),
        json!({"Charge": {"Throw": {"Error": "X"}}}),
    );
    assert_eq!(
        report.output,
        Some(json!({"a": 1, "e": {"Error": "X", "Cause": ""}}))
    );
}

#[test]
fn a_task_that_never_answers_times_out() {
    let definition = alone(json!({"TimeoutSeconds": 60}));
    let report = run(&definition, json!({}), json!({"Charge": {"Never": true}}));
    assert_eq!(
        (report.status, report.error.as_deref()),
        ("FAILED", Some("States.Timeout"))
    );
    assert_eq!(elapsed(&report), SignedDuration::from_secs(60));
    assert!(report.event_types().contains(&"TaskTimedOut".to_owned()));
}

#[test]
fn without_a_timeout_the_report_says_what_is_waited_for() {
    let report = run(
        &alone(json!({})),
        json!({}),
        json!({"Charge": {"Never": true}}),
    );
    assert_eq!(report.status, "RUNNING");
    assert_eq!(
        report.cause.as_deref(),
        Some("Nothing answers: the call of 'charge' by 'Charge'.")
    );
}

#[test]
fn heartbeats_keep_a_task_alive() {
    let definition = alone(json!({"TimeoutSeconds": 1_000, "HeartbeatSeconds": 10}));
    let slow = json!({"Return": 1, "AfterSeconds": 100});
    assert_eq!(
        run(&definition, json!({}), json!({"Charge": slow}))
            .error
            .as_deref(),
        Some("States.Timeout")
    );
    let beating = json!({"Return": 1, "AfterSeconds": 100, "HeartbeatEverySeconds": 9});
    let report = run(&definition, json!({}), json!({"Charge": beating}));
    assert_eq!(report.output, Some(json!(1)));
    assert_eq!(elapsed(&report), SignedDuration::from_secs(100));
}

#[test]
fn a_token_is_answered_after_a_day() {
    let definition = alone(json!({
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"MessageBody": {"token.$": "$$.Task.Token"}}
    }));
    let mocks = json!({"arn:aws:states:::sqs:sendMessage.waitForTaskToken": {"Return": "yes", "AfterSeconds": 86_400}});
    let report = run(&definition, json!({}), mocks);
    assert_eq!(report.output, Some(json!("yes")));
    assert_eq!(
        report.event_types()[2..6],
        [
            "TaskScheduled",
            "TaskStarted",
            "TaskSubmitted",
            "TaskSucceeded"
        ]
    );
}

#[test]
fn a_task_without_a_mock_ends_the_run_whatever_is_caught() {
    let definition = task(json!({"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Refund"}]}));
    let report = run(&definition, json!({}), json!({}));
    assert_eq!(
        (report.status, report.error.as_deref()),
        ("ABORTED", Some("Weir.NoMock"))
    );
    assert!(
        report
            .cause
            .unwrap()
            .contains("The state 'Charge' calls 'charge'")
    );
}

#[test]
fn echo_gives_back_what_the_task_was_called_with() {
    let definition = alone(json!({"Parameters": {"n.$": "$.a"}}));
    assert_eq!(
        run(
            &definition,
            json!({"a": 5}),
            json!({"charge": {"Echo": true}})
        )
        .output,
        Some(json!({"n": 5}))
    );
}

fn distributed(more: Value) -> Value {
    let mut state = json!({"Type": "Map", "End": true, "ItemProcessor": {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": "Work", "States": {"Work": {"Type": "Task", "Resource": "work", "End": true}}}});
    state
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"StartAt": "Each", "States": {"Each": state}})
}

#[test]
fn a_distributed_map_reads_a_file_and_runs_children() {
    let definition = distributed(json!({"ItemReader": {
        "Resource": "arn:aws:states:::s3:getObject", "Parameters": {"Bucket": "b", "Key": "k"},
        "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"}}}));
    let mocks = json!({"arn:aws:states:::s3:getObject": {"Return": "a,b\n1,2\n3,4\n"}, "work": {"Echo": true}});
    let report = run(&definition, json!({}), mocks);
    assert_eq!(
        report.output,
        Some(json!([{"a": "1", "b": "2"}, {"a": "3", "b": "4"}])),
        "{report:?}"
    );
    assert_eq!(
        report.event_types(),
        [
            "ExecutionStarted",
            "MapStateEntered",
            "MapStateStarted",
            "MapRunStarted",
            "MapRunSucceeded",
            "MapStateSucceeded",
            "MapStateExited",
            "ExecutionSucceeded"
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_fails_the_map() {
    let definition =
        distributed(json!({"ItemReader": {"Resource": "r", "ReaderConfig": {"InputType": "CSV"}}}));
    let of = |mock: Value| {
        run(
            &definition,
            json!({}),
            json!({"Each": mock, "work": {"Echo": true}}),
        )
    };
    let report = of(json!({"Return": "a,a\n1,2"}));
    assert_eq!(report.error.as_deref(), Some("States.ItemReaderFailed"));
    assert!(
        report
            .cause
            .unwrap()
            .contains("CSV headers cannot contain duplicates.")
    );
    let report = of(json!({"Return": 5}));
    assert!(
        report
            .cause
            .unwrap()
            .contains("Attempting to map over non-iterable node.")
    );
    let report = of(json!({"Throw": {"Error": "X", "Cause": "gone"}}));
    assert!(report.cause.unwrap().contains("gone"));
}

#[test]
fn results_are_written_where_the_writer_says() {
    let definition = distributed(json!({"ResultWriter": {
        "Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "b", "Prefix": "p/"}}}));
    let report = run(&definition, json!([1, 2]), json!({"work": {"Echo": true}}));
    let output = report.output.unwrap();
    assert_eq!(output["ResultWriterDetails"]["Bucket"], "b");
    let key = output["ResultWriterDetails"]["Key"].as_str().unwrap();
    assert!(
        key.starts_with("p/Each-") && key.ends_with("/manifest.json"),
        "{key}"
    );
}

#[test]
fn too_many_failures_fail_a_distributed_map() {
    let definition = distributed(json!({"ToleratedFailureCount": 1}));
    let fail = json!({"Throw": {"Error": "Bad"}});
    let one = run(
        &definition,
        json!([1, 2, 3]),
        json!({"work": [fail, {"Echo": true}]}),
    );
    assert_eq!(one.status, "SUCCEEDED", "{one:?}");
    let two = run(
        &definition,
        json!([1, 2, 3]),
        json!({"work": [fail, fail, {"Echo": true}]}),
    );
    assert_eq!(
        two.error.as_deref(),
        Some("States.ExceedToleratedFailureThreshold")
    );
}

#[test]
fn a_machine_that_never_ends_is_stopped() {
    let definition = json!({"StartAt": "A", "States": {
        "A": {"Type": "Choice", "Choices": [{"Variable": "$.never", "IsPresent": true, "Next": "E"}], "Default": "B"},
        "B": {"Type": "Pass", "Next": "A"}, "E": {"Type": "Succeed"}}});
    let report = run(&definition, json!({}), json!({}));
    assert_eq!(report.status, "FAILED");
    assert!(report.history.len() <= 25_000);
    let machine = from_value(&definition, WorkflowType::Express).unwrap();
    let options = Options {
        workflow: WorkflowType::Express,
        max_events: 100,
        ..Options::default()
    };
    let report = simulate(&machine, json!({}), &options, Answers::default());
    assert_eq!(report.status, "RUNNING");
    assert_eq!(
        report.cause.as_deref(),
        Some("The simulation stopped after 100 events.")
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let definition = json!({"StartAt": "P", "States": {"P": {"Type": "Pass", "Parameters": {"id.$": "States.UUID()", "n.$": "States.MathRandom(1, 1000000)"}, "End": true}}});
    let machine = from_value(&definition, WorkflowType::Standard).unwrap();
    let of = |seed| {
        simulate(
            &machine,
            json!({}),
            &Options {
                seed,
                ..Options::default()
            },
            Answers::default(),
        )
        .output
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn an_execution_of_a_machine_with_a_timeout_ends_in_time() {
    let definition = json!({"TimeoutSeconds": 5, "StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 6, "End": true}}});
    let report = run(&definition, json!({}), json!({}));
    assert_eq!(report.status, "TIMED_OUT");
    assert_eq!(elapsed(&report), SignedDuration::from_secs(5));
}

fn tested(case: &Value) -> Value {
    serde_json::from_str(&batch::test(&case.to_string(), None)).unwrap()
}

#[test]
fn a_case_has_its_own_mocks_and_options() {
    let case = json!({"id": 7, "definition": alone(json!({})), "input": {"a": 1}, "mocks": {"Charge": {"Return": "ok"}, "Chrage": {"Echo": true}}});
    let told = tested(&case);
    assert_eq!(
        (&told["id"], &told["status"], &told["output"]),
        (&json!(7), &json!("SUCCEEDED"), &json!("ok"))
    );
    assert_eq!(
        told["warnings"][0],
        "mocks: no state, resource or function is named 'Chrage'; did you mean 'Charge'?"
    );
    let clock = json!({"StartAt": "P", "States": {"P": {"Type": "Pass", "Parameters": {"at.$": "$$.Execution.StartTime", "name.$": "$$.Execution.Name"}, "End": true}}});
    let told = tested(
        &json!({"definition": clock, "options": {"startTime": "2030-05-06T07:08:09Z", "executionName": "n"}}),
    );
    assert_eq!(
        told["output"],
        json!({"at": "2030-05-06T07:08:09.000Z", "name": "n"})
    );
    assert!(
        tested(&json!({"definition": {}, "options": {"seeds": 1}}))["error"]
            .as_str()
            .unwrap()
            .contains("options.seeds")
    );
    assert!(
        tested(&json!({"definition": {}, "mocks": {"A": 1}}))["error"]
            .as_str()
            .unwrap()
            .starts_with("mocks.A")
    );
}

#[test]
fn a_state_can_be_run_by_itself() {
    let definition = json!({"StartAt": "First", "States": {
        "First": {"Type": "Wait", "Seconds": 5, "Next": "Choose"},
        "Choose": {"Type": "Choice", "Choices": [{"Variable": "$.a", "NumericEquals": 1, "Next": "One"}], "Default": "Other"},
        "One": {"Type": "Fail"}, "Other": {"Type": "Fail"}}});
    let of = |input: Value| {
        tested(&json!({"definition": definition, "state": "Choose", "input": input}))
    };
    let told = of(json!({"a": 1}));
    assert_eq!(
        (&told["status"], &told["next"], &told["output"]),
        (&json!("SUCCEEDED"), &json!("One"), &json!({"a": 1}))
    );
    assert_eq!(of(json!({"a": 2}))["next"], "Other");
    let told = tested(&json!({"definition": definition.to_string(), "state": "Fisrt"}));
    assert_eq!(
        told["error"],
        "there is no state 'Fisrt'; did you mean 'First'?"
    );
}

#[test]
fn a_function_that_does_not_exist_is_not_found() {
    let behaviours = weir_asl::simulate::Behaviours::from_json(
        &json!({"h.py": {"returns": "the input event unchanged"}}),
    )
    .unwrap();
    let of = |resource: &str, parameters: Value| -> Value {
        let case = json!({"definition": alone(json!({"Resource": resource, "Parameters": parameters})), "lambda_functions": [{"name": "f", "handler": "h.py"}]});
        serde_json::from_str(&batch::test(&case.to_string(), Some(&behaviours))).unwrap()
    };
    assert_eq!(
        of("arn:aws:lambda:us-east-1:1:function:f", json!({"a": 1}))["output"],
        json!({"a": 1})
    );
    assert_eq!(
        of(
            "arn:aws:states:::lambda:invoke",
            json!({"FunctionName": "f", "Payload": 5})
        )["output"]["Payload"],
        5
    );
    assert_eq!(
        of("arn:aws:lambda:us-east-1:1:function:g", json!({}))["error"],
        "Lambda.ResourceNotFoundException"
    );
    assert_eq!(
        of(
            "arn:aws:states:::lambda:invoke",
            json!({"FunctionName": "g"})
        )["error"],
        "Lambda.ResourceNotFoundException"
    );
    assert_eq!(
        of(
            "arn:aws:states:::sqs:sendMessage",
            json!({"FunctionName": "f"})
        )["error"],
        "Weir.NoMock"
    );
}

#[test]
fn what_a_function_returns_does_not_answer_for_its_token() {
    let behaviours =
        weir_asl::simulate::Behaviours::from_json(&json!({"h.py": {"returns": 1}})).unwrap();
    let definition = alone(json!({
        "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
        "Parameters": {"FunctionName": "f"}, "TimeoutSeconds": 5}));
    let case =
        json!({"definition": definition, "lambda_functions": [{"name": "f", "handler": "h.py"}]});
    let told: Value =
        serde_json::from_str(&batch::test(&case.to_string(), Some(&behaviours))).unwrap();
    assert_eq!(
        (&told["status"], &told["error"]),
        (&json!("FAILED"), &json!("States.Timeout"))
    );
    assert_eq!(told["events"][4], "TaskSubmitted");
}

#[test]
fn a_definition_may_be_given_as_text() {
    let text = alone(json!({})).to_string();
    assert_eq!(
        tested(&json!({"definition": text, "mocks": {"Charge": {"Return": 1}}}))["output"],
        1
    );
    assert_eq!(tested(&json!({"definition": "{"}))["status"], "REJECTED");
}
