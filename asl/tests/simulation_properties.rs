//! Whatever definition is accepted can be run: without a panic, to an end or to a bound, and twice the
//! same way.

mod random;

use proptest::collection::vec;
use proptest::prelude::*;
use random::{anything, change, changed, sound};
use serde_json::{Value, json};
use weir_asl::batch;
use weir_asl::definition::{StateKind, StateMachine, WorkflowType};
use weir_asl::parse::from_value;
use weir_asl::simulate::{Answers, Mocks, Options, Report, simulate};

/// Every task answers, the first call of each with an error.
fn mocks(machine: &StateMachine) -> Mocks {
    let tasks = machine
        .states()
        .filter(|state| matches!(state.kind, StateKind::Task(_)));
    let answers = json!([{"Throw": {"Error": "E", "Cause": "c"}}, {"Echo": true}]);
    let by_name = tasks
        .map(|state| (state.name.to_string(), answers.clone()))
        .collect();
    Mocks::from_json(&Value::Object(by_name)).expect("mocks")
}

fn run(machine: &StateMachine, input: &Value) -> Report {
    let mocks = mocks(machine);
    let options = Options {
        max_events: 2_000,
        ..Options::default()
    };
    let answers = Answers {
        mocks: Some(&mocks),
        functions: None,
    };
    simulate(machine, input.clone(), &options, answers)
}

fn judged(definition: &Value, input: &Value) -> Result<(), TestCaseError> {
    let Ok(machine) = from_value(definition, WorkflowType::Standard) else {
        return Ok(());
    };
    let report = run(&machine, input);
    prop_assert!(
        ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "RUNNING"].contains(&report.status)
    );
    prop_assert_eq!(report.output.is_some(), report.status == "SUCCEEDED");
    let ids: Vec<u64> = report.history.iter().map(|event| event.id).collect();
    prop_assert_eq!(&ids, &(1..=ids.len() as u64).collect::<Vec<_>>());
    for event in &report.history {
        prop_assert!(event.previous_id < event.id, "{:?}", event);
    }
    let again = run(&machine, input);
    prop_assert_eq!(report.event_types(), again.event_types());
    prop_assert_eq!(report.output, again.output);
    Ok(())
}

#[test]
fn the_sound_definition_runs_to_its_end() {
    let machine = from_value(&sound(), WorkflowType::Standard).unwrap();
    let report = run(&machine, &json!({"a": 1, "b": 2, "n": 3, "items": [1, 2]}));
    assert_eq!(
        report.status, "FAILED",
        "the first call fails and the catcher leads to Fail"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_definition_runs(changes in vec(change(), 0..4), input in anything()) {
        let definition = changes.into_iter().fold(sound(), |d, (index, change)| changed(d, index, change));
        judged(&definition, &input)?;
        judged(&definition, &json!({"a": 1, "b": "x", "n": 3, "items": [1, {"i": 2}], "Error": "E"}))?;
    }

    #[test]
    fn any_line_is_answered_by_one_line(line in any::<String>(), value in anything()) {
        for line in [line, value.to_string(), json!({"id": 1, "definition": value, "input": value, "mocks": value}).to_string()] {
            for told in [batch::test(&line, None), batch::lint(&line)] {
                prop_assert!(!told.contains('\n'));
                prop_assert!(serde_json::from_str::<Value>(&told).is_ok());
            }
        }
    }
}
