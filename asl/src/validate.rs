//! What concerns several states together: names, transitions, ends.

mod doubts;
mod graph;
mod names;

pub use doubts::warnings;

use crate::definition::WorkflowType;
use crate::parse::{self, Outline};
use crate::problem::Problem;

/// Everything that is wrong with a definition; nothing if it can be run.
pub fn validate(text: &str, workflow: WorkflowType) -> Vec<Problem> {
    parse::parse(text, workflow)
        .err()
        .map(|rejection| rejection.problems)
        .unwrap_or_default()
}

/// Judges a whole machine after its states have been read one by one.
pub(crate) fn machine(outline: &Outline, problems: &mut Vec<Problem>) {
    names::unique(outline, problems);
    graph::transitions(outline, problems);
}
