//! Names of states are unique over the whole machine, as are labels of distributed Maps.

use std::collections::BTreeMap;

use crate::parse::Outline;
use crate::problem::{Code, Problem};

pub(super) fn unique(outline: &Outline, problems: &mut Vec<Problem>) {
    let mut states = BTreeMap::new();
    let mut labels = BTreeMap::new();
    collect(outline, &mut states, &mut labels);
    report(states, Code::DuplicateStateName, "State name", "", problems);
    report(
        labels,
        Code::DuplicateLabelName,
        "Label",
        "/Label",
        problems,
    );
}

type Places<'a> = BTreeMap<&'a str, Vec<&'a str>>;

fn collect<'a>(flow: &'a Outline, states: &mut Places<'a>, labels: &mut Places<'a>) {
    for state in &flow.states {
        states.entry(&state.name).or_default().push(&state.path);
        if let Some(label) = &state.label {
            labels.entry(label).or_default().push(&state.path);
        }
        for flow in &state.flows {
            collect(flow, states, labels);
        }
    }
}

fn report(places: Places<'_>, code: Code, what: &str, field: &str, problems: &mut Vec<Problem>) {
    for (name, places) in places {
        let (first, again) = (places[0], &places[1..]);
        problems.extend(again.iter().map(|place| Problem {
            path: format!("{place}{field}"),
            code,
            message: format!("{what} '{name}' is duplicated"),
            hint: Some(format!("it is used at {first}{field} too")),
        }));
    }
}
