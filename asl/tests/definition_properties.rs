//! No definition, however broken, makes the parser panic or hang, and what it accepts is whole.

mod random;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use random::{anything, change, changed, sound};
use serde_json::{Map, Value, json};
use weir_asl::definition::{Flow, StateKind, StateMachine, Transition, WorkflowType};
use weir_asl::parse::{from_value, parse};

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
                for branch in branches {
                    whole(machine, branch);
                }
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
