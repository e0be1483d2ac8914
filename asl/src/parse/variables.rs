//! Names of variables, and which flow may assign them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::Fields;
use crate::definition::QueryLanguage;

/// Longest name of a variable, in characters.
const MAX_NAME: usize = 80;

/// The variables of a flow's own states, and those of the flows around it, which it may read but
/// not assign (aws-semantics 10.5.5).
#[derive(Default)]
pub(super) struct Scope {
    outer: BTreeSet<String>,
    own: BTreeSet<String>,
}

impl Scope {
    /// The scope of a flow inside of this one that assigns these.
    pub(super) fn within(&self, own: BTreeSet<String>) -> Self {
        Self {
            outer: self.outer.union(&self.own).cloned().collect(),
            own,
        }
    }
}

/// What the states of a flow assign, not counting flows within them.
pub(super) fn assigned(states: &Fields<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, state) in states.iter() {
        let rules = ["Choices", "Catch"]
            .iter()
            .filter_map(|name| state.get(name)?.as_array());
        for holder in std::iter::once(state).chain(rules.flatten()) {
            if let Some(assign) = holder.get("Assign").and_then(Value::as_object) {
                names.extend(assign.keys().map(|key| variable(key).to_owned()));
            }
        }
    }
    names
}

/// Checks the names in an `Assign`.
pub(super) fn check(fields: &Fields<'_>, language: QueryLanguage, scope: &Scope) {
    let Some(assign) = fields.object("Assign") else {
        return;
    };
    for (key, _) in assign.iter() {
        let name = match language {
            QueryLanguage::JsonPath => variable(key),
            QueryLanguage::Jsonata => key,
        };
        if let Some(wrong) = wrong_name(name) {
            assign.problem(format!("The variable name '{name}' {wrong}"));
        } else if scope.outer.contains(name) {
            assign.problem(format!(
                "The variable '{name}' is assigned by a flow around this one: it can be read here \
                 but not assigned"
            ));
        }
    }
}

fn variable(key: &str) -> &str {
    key.strip_suffix(".$").unwrap_or(key)
}

fn wrong_name(name: &str) -> Option<String> {
    let mut letters = name.chars();
    let first = letters.next();
    if !first.is_some_and(|c| c.is_alphabetic() || c == '_')
        || !letters.all(|c| c.is_alphanumeric() || c == '_')
    {
        return Some("must be a letter followed by letters, digits and underscores".into());
    }
    if name.chars().count() > MAX_NAME {
        return Some(format!("is longer than {MAX_NAME} characters"));
    }
    (name == "states").then(|| "is reserved".to_owned())
}
