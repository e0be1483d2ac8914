//! One state by itself: a machine in which every way out of it ends.

use serde_json::{Map, Value, json};

use crate::problem::nearest;

/// Why a state cannot be taken out of a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeStateError {
    /// No state has the name.
    #[error("there is no state '{name}'{}", near.as_ref().map(|n| format!("; did you mean '{n}'?")).unwrap_or_default())]
    MissName {
        /// The name.
        name: String,
        /// The nearest one.
        near: Option<String>,
    },
}

/// The definition of a machine that runs one state of another, in whichever branch it stands. The
/// states that it leads to are there and succeed with what they are given.
pub fn alone(definition: &Value, name: &str) -> Result<Value, TakeStateError> {
    let mut names = Vec::new();
    let Some(state) = find(definition, name, &mut names) else {
        return Err(TakeStateError::MissName {
            name: name.to_owned(),
            near: nearest(name, names).map(str::to_owned),
        });
    };
    let mut states = Map::new();
    states.insert(name.to_owned(), state.clone());
    for target in targets(state).filter(|target| *target != name) {
        states.insert(target.to_owned(), json!({"Type": "Succeed"}));
    }
    // A state that only leads to itself still has to end somewhere.
    if !has_end(state) && states.len() == 1 {
        states[name] = ending(state);
    }
    let mut machine = Map::new();
    if let Some(language) = definition.get("QueryLanguage") {
        machine.insert("QueryLanguage".into(), language.clone());
    }
    machine.insert("StartAt".into(), name.into());
    machine.insert("States".into(), states.into());
    Ok(Value::Object(machine))
}

/// The state of a name, in this flow or in one within it.
fn find<'d>(flow: &'d Value, name: &str, names: &mut Vec<&'d str>) -> Option<&'d Value> {
    let states = flow.get("States")?.as_object()?;
    if let Some(state) = states.get(name) {
        return Some(state);
    }
    for (other, state) in states {
        names.push(other);
        let bodies = ["ItemProcessor", "Iterator"]
            .into_iter()
            .filter_map(|field| state.get(field));
        let branches = state
            .get("Branches")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        for flow in bodies.chain(branches) {
            if let Some(found) = find(flow, name, names) {
                return Some(found);
            }
        }
    }
    None
}

fn targets(state: &Value) -> impl Iterator<Item = &str> {
    let nexts = ["Choices", "Catch"]
        .into_iter()
        .filter_map(|field| state.get(field)?.as_array())
        .flatten()
        .filter_map(|entry| entry.get("Next"));
    ["Next", "Default"]
        .into_iter()
        .filter_map(|field| state.get(field))
        .chain(nexts)
        .filter_map(Value::as_str)
}

fn has_end(state: &Value) -> bool {
    state.get("End").is_some()
        || matches!(
            state.get("Type").and_then(Value::as_str),
            Some("Succeed" | "Fail")
        )
}

fn ending(state: &Value) -> Value {
    let mut state = state.clone();
    if let Some(fields) = state.as_object_mut()
        && fields.remove("Next").is_some()
    {
        fields.insert("End".into(), true.into());
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::WorkflowType;
    use crate::parse::from_value;

    #[test]
    fn a_state_is_taken_out_of_its_branch_with_its_ways_out() {
        let definition = json!({"QueryLanguage": "JSONata", "StartAt": "P", "States": {"P": {"Type": "Parallel", "End": true, "Branches": [
            {"StartAt": "T", "States": {
                "T": {"Type": "Task", "Resource": "r", "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "F"}], "Next": "W"},
                "F": {"Type": "Fail"}, "W": {"Type": "Wait", "Seconds": 5, "End": true}}}]}}});
        let taken = alone(&definition, "T").unwrap();
        assert_eq!(taken["States"]["F"], json!({"Type": "Succeed"}));
        assert_eq!(taken["States"]["W"], json!({"Type": "Succeed"}));
        assert_eq!(taken["QueryLanguage"], "JSONata");
        assert!(from_value(&taken, WorkflowType::Standard).is_ok());
        assert_eq!(
            alone(&definition, "TT").unwrap_err().to_string(),
            "there is no state 'TT'"
        );
    }

    #[test]
    fn a_state_that_leads_to_itself_ends() {
        let definition =
            json!({"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 1, "Next": "W"}}});
        assert!(from_value(&alone(&definition, "W").unwrap(), WorkflowType::Standard).is_ok());
        let error = alone(&json!({"States": {"Charge": {}}}), "Chrage")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "there is no state 'Chrage'; did you mean 'Charge'?");
    }
}
