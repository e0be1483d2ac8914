//! Executions recorded elsewhere end here as they did there, with the same events in the same order.

mod support;

use serde_json::{Value, json};
use weir_asl::batch;
use weir_asl::simulate::Behaviours;

fn flag(case: &Value, name: &str) -> bool {
    case[name].as_bool().unwrap_or_default()
}

/// Whether the values of a case are those of one moment: its status and events still hold.
fn is_momentary(case: &Value) -> bool {
    [
        "expected_has_placeholders",
        "nondeterministic",
        "uses_context",
    ]
    .iter()
    .any(|f| flag(case, f))
}

fn run(case: &Value, behaviours: Option<&Behaviours>) -> Value {
    let told = batch::test(&case.to_string(), behaviours);
    serde_json::from_str(&told).expect("an answer in JSON")
}

/// What differs from the recording; nothing if it is the same.
fn differences(case: &Value, told: &Value) -> Vec<String> {
    let expected = &case["expected"];
    let mut differ = Vec::new();
    let mut compare = |name: &str, same: bool| {
        if !same {
            let (expected, told) = match name {
                "events" => (&case["event_types"], &told["events"]),
                name => (&expected[name], &told[name]),
            };
            differ.push(format!("{name}: expected {expected}\n    told {told}"));
        }
    };
    compare("status", told["status"] == expected["status"]);
    if !is_momentary(case) {
        compare(
            "output",
            support::same(&expected["output"], &told["output"]),
        );
        compare("error", told["error"] == expected["error"]);
        compare("cause", support::same(&expected["cause"], &told["cause"]));
    }
    if let Some(events) = case["event_types"].as_array() {
        let told = told["events"].as_array().cloned().unwrap_or_default();
        let same = if flag(case, "parallel_events_normalised") {
            sorted(events) == sorted(&told)
        } else {
            *events == told
        };
        compare("events", same);
    }
    differ
}

fn sorted(events: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> = events.iter().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn executions_end_as_recorded() {
    let behaviours = support::document("asl-lambda-behaviours.json")
        .map(|value| Behaviours::from_json(&value).expect("behaviours"));
    let (mut failures, mut count, mut momentary) = (Vec::new(), 0, 0);
    for case in support::cases("asl-executions.jsonl") {
        count += 1;
        momentary += usize::from(is_momentary(&case));
        let told = run(&case, behaviours.as_ref());
        let differ = differences(&case, &told);
        if !differ.is_empty() {
            failures.push(format!("{}\n  {}", case["id"], differ.join("\n  ")));
        }
    }
    println!("{momentary} of {count} cases hold values of a moment: status and events compared");
    support::report("executions", count, 0, &failures);
}

#[test]
fn a_line_that_is_no_case_is_answered_by_an_error() {
    for line in [
        "",
        "{",
        "[]",
        "1",
        "{\"id\": 1}",
        "{\"id\": 1, \"definition\": {}, \"type\": \"SLOW\"}",
    ] {
        for told in [batch::test(line, None), batch::lint(line)] {
            let told: Value = serde_json::from_str(&told).unwrap();
            assert!(told["error"].is_string(), "{line}: {told}");
        }
    }
}

#[test]
fn a_refused_definition_is_rejected_with_every_problem() {
    let line = json!({"id": "x", "definition": {"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}}}});
    let told: Value = serde_json::from_str(&batch::test(&line.to_string(), None)).unwrap();
    assert_eq!(told["status"], "REJECTED");
    assert_eq!(told["rejected"]["code"], "InvalidDefinition");
    let lint: Value = serde_json::from_str(&batch::lint(&line.to_string())).unwrap();
    assert_eq!((&lint["id"], &lint["valid"]), (&json!("x"), &json!(false)));
    assert_eq!(lint["problems"].as_array().unwrap().len(), 2);
    assert_eq!(lint["problems"][0]["path"], "/States/A/Next");
}
