//! The interpreter: a function from the state of an execution and an event to the next state, commands for the host, and
//! history events.
//!
//! [`step`] does no IO, reads no clock and holds nothing back: the definition, the time and the randomness are passed in,
//! and what it returns is all there is. A host stores the [`Execution`] of each step, then carries out its commands; after
//! a crash it goes on from the last one it stored. Events that come twice, or too late, change nothing.
//!
//! Everything is bounded: the transitions of one step, the size of data, the length of the history, the expressions.
//! Semantics: aws-semantics 10. Tests: the modules here, `tests/`, and the recorded executions in the conformance cases.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize as _;
use serde_json::Value;

use crate::definition::{StateKind, StateMachine};
use crate::jsonata;
use crate::randomness::Randomness;

mod choice;
mod command;
mod deliver;
mod event;
mod failure;
mod history;
mod map;
mod map_run;
mod output;
mod parallel;
mod retry;
mod run;
mod size;
mod source;
mod state;
mod task;
#[cfg(test)]
mod tests;
mod view;

pub use command::{Command, ReadItems, StartChild, StartTask, WriteResults};
pub use event::{About, Event, Id, Item};
pub use failure::{Failure, MAX_CAUSE_CHARACTERS, MAX_ERROR_CHARACTERS, name};
pub use history::{Happening, HistoryEvent, TaskStage};
pub use state::{Execution, Outcome};

use run::{Progress, Runner};
use state::Position;

/// The longest time of an express execution, in seconds.
const MAX_EXPRESS_SECONDS: u64 = 300;

/// What a step may use.
pub struct Environment<'e> {
    /// The time of everything in this step.
    pub now: Timestamp,
    /// Jitter, task tokens, `States.UUID` and the like.
    pub randomness: &'e mut dyn Randomness,
    /// The bounds.
    pub limits: &'e Limits,
}

/// The bounds of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// States entered in one step; then the host is asked to continue.
    pub transitions: u32,
    /// Bytes of an input, a result or an output, as JSON.
    pub data_bytes: usize,
    /// Levels of an input, a result or an output.
    pub data_depth: usize,
    /// Bytes of all variables of one line of control together, as JSON.
    pub variable_bytes: usize,
    /// Events in the history of a standard execution; it fails when they are used up.
    pub history_events: u64,
    /// The bounds of one JSONata expression.
    pub jsonata: jsonata::Limits,
}

impl Default for Limits {
    /// 1,000 transitions a step, 262,144 bytes, 120 levels, 10 MiB of variables, 25,000 events (aws-semantics 10.1).
    fn default() -> Self {
        Self {
            transitions: 1_000,
            data_bytes: 262_144,
            data_depth: 120,
            variable_bytes: 10 * 1024 * 1024,
            history_events: 25_000,
            jsonata: jsonata::Limits::default(),
        }
    }
}

/// What came of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The execution afterwards.
    pub execution: Execution,
    /// What the host has to do, in this order, once the execution is stored.
    pub commands: Vec<Command>,
    /// What to append to the history.
    pub history: Vec<HistoryEvent>,
}

impl Execution {
    /// An execution that has not begun: [`Event::Start`] begins it.
    ///
    /// A child of a distributed Map runs the processor of the Map that `about` names; none when the definition has no such
    /// Map.
    pub fn new(machine: &StateMachine, about: About) -> Option<Self> {
        let flow = match &about.processor_of {
            None => machine.flow(),
            Some(name) => match &machine.state(name)?.kind {
                StateKind::Map(map) => &map.processor,
                _ => return None,
            },
        };
        let root = parallel::beginning(flow, Arc::clone(&about.input), 0);
        let about = Arc::new(about);
        Some(Self {
            about,
            root,
            next_event: 1,
            next_id: 1,
            timeout: None,
            outcome: None,
        })
    }

    /// The execution as JSON text, for a host to keep.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The execution that [`Self::encode`] wrote. Strands in strands, and the data in them, nest deeper than JSON from
    /// outside may, so it takes this function to read it; it is for what a host wrote itself.
    pub fn decode(json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        reader.disable_recursion_limit();
        let execution = Self::deserialize(&mut reader)?;
        reader.end()?;
        Ok(execution)
    }

    /// How it ended; none while it runs.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// What is known of it from the beginning.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The id its next history event will have.
    pub fn next_event_id(&self) -> u64 {
        self.next_event
    }
}

/// Takes an event into an execution, and runs it until it waits, ends, or has made as many transitions as one step may.
pub fn step(
    machine: &StateMachine,
    execution: Execution,
    event: Event,
    environment: &mut Environment<'_>,
) -> Step {
    if execution.outcome.is_some() {
        return Step {
            execution,
            commands: Vec::new(),
            history: Vec::new(),
        };
    }
    let Execution {
        about,
        mut root,
        next_event,
        next_id,
        mut timeout,
        ..
    } = execution;
    let mut runner = Runner {
        machine,
        about,
        next_event,
        next_id,
        transitions_left: environment.limits.transitions.max(1),
        environment,
        commands: Vec::new(),
        history: Vec::new(),
        is_full: false,
    };
    let ended = match event {
        Event::Start if next_event == 1 => {
            let (input, role) = (
                Arc::clone(&runner.about.input),
                Arc::clone(&runner.about.role),
            );
            runner.record_leaf(0, Happening::ExecutionStarted { input, role });
            timeout = runner.time_limit();
            runner.advance(&mut root)
        }
        Event::Start => None,
        Event::Continue => runner.advance(&mut root),
        Event::TimerFired { id } if Some(id) == timeout => {
            runner.abandon(&root);
            Some(Outcome::TimedOut(Failure::timeout()))
        }
        Event::Stop { failure } => {
            runner.abandon(&root);
            Some(Outcome::Aborted(failure))
        }
        event => match runner.deliver(&mut root, event) {
            Ok(()) => runner.advance(&mut root),
            // Nobody waits for it: late, repeated, or never asked for.
            Err(_) => None,
        },
    };
    if let Some(outcome) = &ended {
        if let Some(id) = timeout.take() {
            runner.commands.push(Command::CancelTimer { id });
        }
        runner.record_end(&root, outcome);
        root = finished(root);
    }
    let Runner {
        about,
        next_event,
        next_id,
        commands,
        history,
        ..
    } = runner;
    let execution = Execution {
        about,
        root,
        next_event,
        next_id,
        timeout,
        outcome: ended,
    };
    Step {
        execution,
        commands,
        history,
    }
}

/// What is left of the strands once nothing of them is needed.
fn finished(mut root: state::Strand) -> state::Strand {
    root.position = Position::Done(Arc::new(Value::Null));
    root.variables.clear();
    root
}

impl Runner<'_, '_> {
    fn advance(&mut self, root: &mut state::Strand) -> Option<Outcome> {
        match self.strand(root, None) {
            Ok(Progress::Done(output)) => Some(Outcome::Succeeded(output)),
            Ok(Progress::Waiting) => None,
            Ok(Progress::Paused) => {
                self.commands.push(Command::Continue);
                None
            }
            Err(failure) => {
                self.abandon(root);
                Some(Outcome::Failed(failure))
            }
        }
    }

    /// Starts the timer of the whole execution.
    fn time_limit(&mut self) -> Option<Id> {
        let stated = match &self.about.processor_of {
            None => self.machine.timeout_seconds(),
            Some(_) => None,
        };
        let seconds = match (stated, self.about.is_express) {
            (None, false) => return None,
            (None, true) => MAX_EXPRESS_SECONDS,
            (Some(seconds), false) => seconds,
            (Some(seconds), true) => seconds.min(MAX_EXPRESS_SECONDS),
        };
        let delay = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        Some(self.timer(delay.unsigned_abs()))
    }

    /// The last event has a place of its own, also in a history that is full.
    fn record_end(&mut self, root: &state::Strand, outcome: &Outcome) {
        let what = match outcome {
            Outcome::Succeeded(output) => Happening::ExecutionSucceeded {
                output: Arc::clone(output),
            },
            Outcome::Failed(failure) => Happening::ExecutionFailed(failure.clone()),
            Outcome::TimedOut(failure) => Happening::ExecutionTimedOut(failure.clone()),
            Outcome::Aborted(failure) => Happening::ExecutionAborted(failure.clone()),
        };
        let id = self.next_event;
        self.next_event += 1;
        self.history.push(HistoryEvent {
            id,
            previous_id: root.last_event,
            timestamp: self.environment.now,
            what,
        });
        self.commands.push(Command::End(outcome.clone()));
    }
}
