//! What the reading of one definition notes as it goes.

use std::cell::{Cell, RefCell};

use crate::definition::{QueryLanguage, WorkflowType};
use crate::problem::{Code, Problem, Rejection};

/// The states and transitions of one flow, noted even where states are faulty.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// Where the flow stands in the definition; empty for the machine itself.
    pub path: String,
    /// Its `StartAt`, if it has one.
    pub start_at: Option<String>,
    /// Its states, in order of names.
    pub states: Vec<StateOutline>,
}

/// What is judged of a state together with others.
#[derive(Debug, Default)]
pub(crate) struct StateOutline {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub path: String,
    /// Whether the flow may end here.
    pub terminal: bool,
    /// Where it may lead: the place of the field, and the name in it.
    pub targets: Vec<(String, String)>,
    /// Label of a distributed Map.
    pub label: Option<String>,
    /// Flows within.
    pub flows: Vec<Outline>,
}

/// What holds for the whole definition, and what was found.
pub(super) struct Context {
    workflow: WorkflowType,
    language: Cell<QueryLanguage>,
    states: Cell<usize>,
    problems: RefCell<Vec<Problem>>,
    outline: RefCell<Option<Outline>>,
}

impl Context {
    pub(super) fn new(workflow: WorkflowType) -> Self {
        Self {
            workflow,
            language: Cell::default(),
            states: Cell::new(0),
            problems: RefCell::default(),
            outline: RefCell::default(),
        }
    }

    pub(super) fn workflow(&self) -> WorkflowType {
        self.workflow
    }

    /// The language of states that name none, in nested flows too: AWS does not let a Map or a
    /// Parallel hand its own language down.
    pub(super) fn machine_language(&self) -> QueryLanguage {
        self.language.get()
    }

    pub(super) fn set_machine_language(&self, language: QueryLanguage) {
        self.language.set(language);
    }

    pub(super) fn set_outline(&self, outline: Outline) {
        *self.outline.borrow_mut() = Some(outline);
    }

    /// Counts one more state; false when there are too many.
    pub(super) fn admit_state(&self, path: &str) -> bool {
        let count = self.states.get() + 1;
        self.states.set(count);
        if count == super::MAX_STATES + 1 {
            self.report(Problem {
                path: path.to_owned(),
                code: Code::TooDeeplyNested,
                message: format!("A state machine has at most {} states", super::MAX_STATES),
                hint: None,
            });
        }
        count <= super::MAX_STATES
    }

    /// Notes a problem. More than are reported are not kept.
    pub(super) fn report(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < Rejection::MAX_PROBLEMS {
            problems.push(problem);
        }
    }

    /// Notes that something has the wrong form.
    pub(super) fn schema(&self, path: impl Into<String>, message: impl Into<String>) {
        self.report(Problem {
            path: path.into(),
            code: Code::SchemaValidationFailed,
            message: message.into(),
            hint: None,
        });
    }

    pub(super) fn finish(self) -> (Vec<Problem>, Option<Outline>) {
        (self.problems.into_inner(), self.outline.into_inner())
    }
}
