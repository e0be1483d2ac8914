//! Runs a machine without the world: a virtual clock, mocks for what tasks call, a seed for what is
//! random. A year's wait takes no time, and the same arguments give the same run.

mod alone;
mod functions;
mod host;
mod mocks;
mod read;
mod task;

use jiff::Timestamp;
use serde_json::Value;

pub use alone::{TakeStateError, alone};
pub use functions::{Behaviours, Functions, ParseBehavioursError};
pub use mocks::{Mocks, ParseMocksError};
pub use read::read_items;

use crate::definition::{StateMachine, WorkflowType};
use crate::machine::{Happening, HistoryEvent};

/// What a simulation is told beside the definition and the input.
#[derive(Clone, Debug)]
pub struct Options {
    /// Standard or express.
    pub workflow: WorkflowType,
    /// What the clock says at the start.
    pub start_time: Timestamp,
    /// Where randomness comes from.
    pub seed: u64,
    /// How many events the host may tell executions before it gives up.
    pub max_events: u64,
    /// The last part of the execution's ARN, and `$$.Execution.Name`.
    pub execution_name: String,
    /// `$$.StateMachine.Name`.
    pub machine_name: String,
}

impl Default for Options {
    /// A standard machine on 2024-01-01, seed 0, 100,000 events.
    fn default() -> Self {
        Self {
            workflow: WorkflowType::Standard,
            start_time: Timestamp::constant(1_704_067_200, 0),
            seed: 0,
            max_events: 100_000,
            execution_name: "simulation".into(),
            machine_name: "machine".into(),
        }
    }
}

/// What tasks get as answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers<'a> {
    /// By name of a state, a resource or a function.
    pub mocks: Option<&'a Mocks>,
    /// Functions that are called for `lambda:invoke` and for function ARNs.
    pub functions: Option<&'a Functions<'a>>,
}

/// How a simulation ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED`; `RUNNING` if nothing would ever happen again, or
    /// too much did.
    pub status: &'static str,
    /// The output of an execution that succeeded.
    pub output: Option<Value>,
    /// The error of one that failed.
    pub error: Option<String>,
    /// Its cause; for a running one, what it waits for.
    pub cause: Option<String>,
    /// The history, without that of child executions.
    pub history: Vec<HistoryEvent>,
    /// What the clock said at the end.
    pub end_time: Timestamp,
}

impl Report {
    /// The name of the last state that was entered.
    pub fn last_state(&self) -> Option<&str> {
        self.history
            .iter()
            .rev()
            .find_map(|event| match &event.what {
                Happening::StateEntered { name, .. } => Some(&**name),
                _ => None,
            })
    }

    /// The types of the history's events, in order.
    pub fn event_types(&self) -> Vec<String> {
        self.history.iter().map(HistoryEvent::type_name).collect()
    }
}

/// Runs one execution to its end.
pub fn simulate(
    machine: &StateMachine,
    input: Value,
    options: &Options,
    answers: Answers<'_>,
) -> Report {
    host::Host::new(machine, options, answers).run(input)
}
