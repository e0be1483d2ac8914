//! Transitions: every target exists in its own flow, every state is reached, every flow ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::parse::Outline;
use crate::problem::{Code, Problem, nearest};

/// Judges a flow and those within it.
pub(super) fn transitions(flow: &Outline, problems: &mut Vec<Problem>) {
    // That there are no states is a problem already, and the only one worth telling.
    if flow.states.is_empty() {
        return;
    }
    let known: BTreeMap<&str, usize> = flow
        .states
        .iter()
        .enumerate()
        .map(|(i, state)| (state.name.as_str(), i))
        .collect();
    let start = format!("{}/StartAt", flow.path);
    let starts = flow.start_at.iter().map(|name| (&start, name));
    let leads = flow
        .states
        .iter()
        .flat_map(|state| state.targets.iter().map(|(at, n)| (at, n)));
    for (place, name) in starts.chain(leads) {
        if !known.contains_key(name.as_str()) {
            problems.push(Problem {
                path: place.clone(),
                code: Code::MissingTransitionTarget,
                message: format!("Missing 'Next' target: {name}"),
                hint: Some(nearest(name, known.keys().copied()).map_or_else(
                    || "a target is a state of the same 'States'".to_owned(),
                    |near| format!("did you mean '{near}'?"),
                )),
            });
        }
    }
    if flow.states.iter().any(|state| state.terminal) {
        unreachable(flow, &known, problems);
    } else {
        problems.push(Problem {
            path: if flow.path.is_empty() {
                "/".into()
            } else {
                flow.path.clone()
            },
            code: Code::MissingEndState,
            message: "Workflow has no terminal state".into(),
            hint: Some("end it with \"End\": true, or with a Succeed or Fail state".into()),
        });
    }
    for flow in flow.states.iter().flat_map(|state| &state.flows) {
        transitions(flow, problems);
    }
}

fn unreachable(flow: &Outline, known: &BTreeMap<&str, usize>, problems: &mut Vec<Problem>) {
    // Without a start nothing is reached, and that is one problem already.
    let Some(start) = &flow.start_at else { return };
    let mut reached = BTreeSet::new();
    let mut open: Vec<usize> = known.get(start.as_str()).copied().into_iter().collect();
    while let Some(state) = open.pop() {
        if reached.insert(state) {
            let targets = flow.states[state].targets.iter();
            open.extend(targets.filter_map(|(_, name)| known.get(name.as_str())));
        }
    }
    for (_, state) in flow
        .states
        .iter()
        .enumerate()
        .filter(|(i, _)| !reached.contains(i))
    {
        problems.push(Problem {
            path: state.path.clone(),
            code: Code::MissingTransitionTarget,
            message: format!("State \"{}\" is not reachable.", state.name),
            hint: None,
        });
    }
}
