//! Recorded answers. They lie beside the repository, or where `WEIR_CONFORMANCE` says; without them these tests say so and pass.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use weir_core::pattern::{Dialect, batch};

fn recorded(name: &str) -> Option<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folders = match std::env::var_os("WEIR_CONFORMANCE") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![
            root.join("../../shared/conformance"),
            root.join("../../../shared/conformance"),
        ],
    };
    let found = folders
        .iter()
        .find_map(|folder| std::fs::read_to_string(folder.join(name)).ok());
    if found.is_none() {
        println!("skipped: no {name}; set WEIR_CONFORMANCE to the folder that has it");
    }
    found
}

fn answer(line: &str, dialect: Dialect) -> Value {
    serde_json::from_str(&batch::answer(line.as_bytes(), dialect)).unwrap()
}

fn report(differences: &[String], cases: usize) {
    println!("{} of {cases} agree", cases - differences.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[derive(Deserialize)]
struct EventCase<'a> {
    #[serde(default)]
    name: Value,
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(borrow)]
    pattern: &'a RawValue,
    expected: String,
    aws_error: Option<AwsError>,
}

#[derive(Deserialize)]
struct AwsError {
    #[serde(rename = "Message")]
    message: String,
}

fn check_event(case: &EventCase) -> Option<String> {
    let line = format!(
        r#"{{"id":0,"event":{},"pattern":{}}}"#,
        case.event, case.pattern
    );
    let answer = answer(&line.replace('\n', " "), Dialect::EventBridge);
    let expected = if case.expected == "exception" {
        "invalid"
    } else {
        &case.expected
    };
    let message = case.aws_error.as_ref().map(|error| error.message.as_str());
    let agrees =
        answer["result"] == expected && message.is_none_or(|message| answer["message"] == message);
    (!agrees).then(|| {
        format!(
            "{} expected {expected} {message:?}, got {answer}: {line}",
            case.name
        )
    })
}

#[test]
fn event_patterns_give_the_answers_aws_gave() {
    let Some(text) = recorded("event-patterns.json") else {
        return;
    };
    let cases: Vec<EventCase> = serde_json::from_str(&text).unwrap();
    report(
        &cases.iter().filter_map(check_event).collect::<Vec<_>>(),
        cases.len(),
    );
}

#[test]
fn event_patterns_agree_with_the_labelled_pairs() {
    let Some(text) = recorded("event-patterns-fuzz.jsonl") else {
        return;
    };
    let cases: Vec<EventCase> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    report(
        &cases.iter().filter_map(check_event).collect::<Vec<_>>(),
        cases.len(),
    );
}

#[derive(Deserialize)]
struct TopicCase<'a> {
    test: String,
    key: Option<String>,
    scope: String,
    #[serde(borrow)]
    policy: &'a RawValue,
    message: Option<String>,
    attributes: Option<Value>,
    matched: Option<bool>,
    accepted: Option<bool>,
    aws_error: Option<AwsError>,
}

fn check_topic(case: &TopicCase) -> Option<String> {
    let line = format!(
        r#"{{"id":0,"scope":{},"policy":{},"message":{},"attributes":{}}}"#,
        json!(case.scope),
        case.policy,
        json!(case.message),
        json!(case.attributes),
    );
    let answer = answer(&line, Dialect::TopicAttributes);
    let expected = match (case.matched, case.accepted) {
        (Some(true), _) => "match",
        (Some(false), _) | (None, Some(true)) => "no_match",
        _ => "invalid",
    };
    let message = case.aws_error.as_ref().map(|error| error.message.as_str());
    let agrees = (answer["result"] == expected
        || case.accepted == Some(true) && answer["result"] != "invalid")
        && message.is_none_or(|message| answer["message"] == message);
    (!agrees).then(|| {
        format!(
            "{} {:?} expected {expected} {message:?}, got {answer}: {line}",
            case.test, case.key
        )
    })
}

#[test]
fn topics_deliver_what_sns_delivered() {
    let Some(text) = recorded("topic-filter-delivery.json") else {
        return;
    };
    let cases: Vec<TopicCase> = serde_json::from_str(&text).unwrap();
    report(
        &cases.iter().filter_map(check_topic).collect::<Vec<_>>(),
        cases.len(),
    );
}

#[test]
fn topics_refuse_the_policies_sns_refused_in_its_words() {
    let Some(text) = recorded("topic-filter-validation.json") else {
        return;
    };
    let cases: Vec<TopicCase> = serde_json::from_str(&text).unwrap();
    report(
        &cases.iter().filter_map(check_topic).collect::<Vec<_>>(),
        cases.len(),
    );
}
