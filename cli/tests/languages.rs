//! `weir sm` and `weir filter`, as their users call them.
#![allow(clippy::unwrap_used, reason = "a test program")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

fn weir(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(WEIR)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments does not read.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const WAITS: &str = r#"{"StartAt": "Wait", "States": {
    "Wait": {"Type": "Wait", "Seconds": 31536000, "Next": "Charge"},
    "Charge": {"Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:charge",
               "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 3600}], "End": true}}}"#;

#[test]
fn a_machine_that_waits_for_a_year_is_tried_with_mocks() {
    let mocks = r#"{"Charge": [{"Throw": {"Error": "Busy", "Cause": "later"}}, {"Return": {"paid": true}}]}"#;
    let arguments = ["sm", "test", "-f", "-", "--mocks", mocks, "-o", "json"];
    let output = weir(&arguments, WAITS);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{document}");
    assert_eq!(document["output"]["paid"], true, "{document}");
    let events = document["events"].as_array().unwrap();
    assert_eq!(events.last().unwrap(), "ExecutionSucceeded");

    let output = weir(&["sm", "test", "-f", "-", "--mocks", mocks], WAITS);
    let shown = text(&output.stdout);
    assert!(shown.starts_with("status  SUCCEEDED\n"), "{shown}");
}

#[test]
fn a_machine_that_fails_ends_with_1_and_one_that_is_refused_with_2() {
    let fails =
        r#"{"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "No", "Cause": "why"}}}"#;
    let output = weir(&["sm", "test", "-f", "-"], fails);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("error   No\n") && shown.contains("cause   why\n"),
        "{shown}"
    );

    let refused = fails.replace("\"F\": {", "\"G\": {");
    let output = weir(&["sm", "test", "-f", "-"], &refused);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("weir sm lint"));
    let output = weir(&["sm", "lint", "-f", "-"], &refused);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("/StartAt"),
        "{}",
        text(&output.stdout)
    );
    let output = weir(&["sm", "lint", "-f", "-"], fails);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn batches_answer_every_line_in_order_and_a_bad_one_stops_none() {
    let cases = "{\"id\": 1, \"definition\": {\"StartAt\": \"A\", \"States\": {\"A\": {\"Type\": \"Succeed\"}}}}\n\
                 no json\n\
                 {\"id\": 3}\n";
    let answers = lines(&weir(&["sm", "test", "--batch", "-"], cases));
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0]["status"], "SUCCEEDED");
    assert!(answers[1]["error"].is_string() && answers[2]["error"].is_string());
    assert_eq!(answers[2]["id"], 3);
    let answers = lines(&weir(&["sm", "lint", "--batch", "-"], cases));
    assert_eq!((answers.len(), &answers[0]["valid"]), (3, &true.into()));

    let cases = "{\"id\": \"a\", \"pattern\": {\"x\": [1]}, \"event\": {\"x\": 1}}\n\
                 {\"id\": \"b\", \"pattern\": {\"x\": 1}, \"event\": {\"x\": 1}}\n\
                 {\"id\": \"c\", \"pattern\": {\"x\": [1]}, \"event\": {\"x\": 2}}\n";
    let answers = lines(&weir(&["filter", "test", "--batch", "-"], cases));
    let results: Vec<_> = answers
        .iter()
        .map(|answer| answer["result"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["match", "invalid", "no_match"]);
    let policies = "{\"id\": 1, \"policy\": {\"a\": [{\"prefix\": \"x\"}]}, \"message\": \"\", \
                    \"attributes\": {\"a\": {\"DataType\": \"String\", \"StringValue\": \"xy\"}}}\n";
    let arguments = [
        "filter",
        "test",
        "--dialect",
        "sns-attributes",
        "--batch",
        "-",
    ];
    assert_eq!(lines(&weir(&arguments, policies))[0]["result"], "match");
}

#[test]
fn a_filter_answers_by_its_exit_code() {
    let tried = |pattern: &str| {
        weir(
            &[
                "filter",
                "test",
                "--pattern",
                pattern,
                "--event",
                "{\"a\": \"b\"}",
            ],
            "",
        )
    };
    assert_eq!(tried(r#"{"a": ["b"]}"#).status.code(), Some(0));
    assert_eq!(tried(r#"{"a": ["c"]}"#).status.code(), Some(1));
    let invalid = tried(r#"{"a": "b"}"#);
    assert_eq!(invalid.status.code(), Some(2));
    assert!(
        text(&invalid.stderr).contains("invalid: "),
        "{}",
        text(&invalid.stderr)
    );
}
