//! A flow: the machine itself, a branch, or the body of a Map.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::{Outline, StateOutline};
use super::fields::Fields;
use super::state;
use super::variables::{self, Scope};
use crate::definition::{Flow, State, StateName, WorkflowType};

/// Reads `StartAt` and `States`. The outline is complete even when the flow is not.
pub(super) fn flow(
    fields: &Fields<'_>,
    workflow: WorkflowType,
    outer: &Scope,
) -> (Option<Flow>, Outline) {
    fields.required(&["StartAt", "States"]);
    let start_at = fields.text("StartAt");
    let mut outline = Outline {
        path: fields.path().to_owned(),
        start_at: start_at.as_deref().map(str::to_owned),
        states: Vec::new(),
    };
    let Some(states) = fields.object("States") else {
        return (None, outline);
    };
    if states.iter().next().is_none() {
        fields.problem_at("States", "At least one state is required");
    }
    let scope = outer.within(variables::assigned(&states));
    let mut by_name: BTreeMap<StateName, Arc<State>> = BTreeMap::new();
    let mut whole = true;
    for (name, value) in states.iter() {
        let path = states.at(name);
        if !states.cx().admit_state(&path) {
            return (None, outline);
        }
        let mut noted = StateOutline {
            name: name.clone(),
            path: path.clone(),
            ..Default::default()
        };
        let state = Fields::new(value, path, states.cx())
            .and_then(|fields| state::state(name, &fields, workflow, &scope, &mut noted));
        outline.states.push(noted);
        match state {
            Some(state) => {
                by_name.insert(Arc::clone(&state.name), Arc::new(state));
            }
            None => whole = false,
        }
    }
    let flow = match start_at {
        Some(start_at) if whole => Some(Flow {
            start_at,
            states: by_name,
        }),
        _ => None,
    };
    (flow, outline)
}
