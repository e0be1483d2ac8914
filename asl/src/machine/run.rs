//! The loop: strands are run until each waits for something, ends, or the bound of the step is reached.

use std::sync::Arc;

use serde_json::Value;

use super::command::Command;
use super::event::{About, Id};
use super::failure::{Failure, Mishap, name};
use super::history::{Happening, HistoryEvent};
use super::state::{Position, Strand, Visit, Work};
use super::view::{Chain, Standing};
use super::{Environment, retry};
use crate::definition::{State, StateKind, StateMachine, StateName};

/// Everything of one step that is not the tree of strands.
pub(super) struct Runner<'m, 'e> {
    pub(super) machine: &'m StateMachine,
    pub(super) about: Arc<About>,
    pub(super) environment: &'m mut Environment<'e>,
    pub(super) next_event: u64,
    pub(super) next_id: u64,
    pub(super) transitions_left: u32,
    pub(super) commands: Vec<Command>,
    pub(super) history: Vec<HistoryEvent>,
    /// The history is full: the execution has to end.
    pub(super) is_full: bool,
}

/// How far a strand came.
pub(super) enum Progress {
    /// Every line of control in it waits for an event.
    Waiting,
    /// It could go on, but the step is over.
    Paused,
    /// It ended.
    Done(Arc<Value>),
}

/// How far a visit came.
pub(super) enum Attempt {
    /// It waits for an event, and so do all lines of control in it.
    Waiting(Work),
    /// It could go on, but the step is over.
    Paused(Work),
    /// The state has its result.
    Result(Arc<Value>),
    /// A Choice has chosen: what it hands on, and the rule that matched.
    Chosen(Arc<Value>, Exit),
}

/// How a state is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// As it says itself.
    Stated,
    /// As this rule of a Choice says.
    Rule(usize),
    /// By the default of a Choice.
    Default,
}

/// Where a visit stands, apart from its work.
pub(super) struct Stay<'m, 'v> {
    pub(super) state: &'m State,
    pub(super) input: &'v Arc<Value>,
    pub(super) entered_event: u64,
    pub(super) entered_at: jiff::Timestamp,
    pub(super) retry_count: u64,
}

impl Stay<'_, '_> {
    /// What expressions see, evaluated in this stay.
    pub(super) fn standing<'a>(&'a self, about: &'a About, chain: &'a Chain<'a>) -> Standing<'a> {
        Standing {
            about,
            state: &self.state.name,
            entered_at: self.entered_at,
            retry_count: matches!(
                self.state.kind,
                StateKind::Task(_) | StateKind::Parallel(_) | StateKind::Map(_)
            )
            .then_some(self.retry_count),
            chain,
            token: None,
            item: None,
        }
    }

    /// A failure of the state itself: AWS's cause names the state and the event of its entry.
    pub(super) fn mishap(&self, error: &str, text: impl std::fmt::Display) -> Mishap {
        mishap(&self.state.name, self.entered_event, error, text)
    }
}

pub(super) fn mishap(
    state: &str,
    entered_event: u64,
    error: &str,
    text: impl std::fmt::Display,
) -> Mishap {
    let cause = format!(
        "An error occurred while executing the state '{state}' (entered at the event id #{entered_event}). {text}"
    );
    Failure::new(error, cause).into()
}

impl<'m> Runner<'m, '_> {
    pub(super) fn fresh_id(&mut self) -> Id {
        let id = Id(self.next_id);
        self.next_id += 1;
        id
    }

    /// Adds an event to the history; `last` is the event it follows, and becomes this one.
    pub(super) fn record(&mut self, last: &mut u64, what: Happening) {
        let id = self.record_leaf(*last, what);
        *last = id;
    }

    /// Adds an event that nothing follows.
    pub(super) fn record_leaf(&mut self, previous_id: u64, what: Happening) -> u64 {
        let id = self.next_event;
        // The last place belongs to the end of the execution.
        if !self.about.is_express && id >= self.environment.limits.history_events {
            self.is_full = true;
            return id;
        }
        self.next_event += 1;
        self.history.push(HistoryEvent {
            id,
            previous_id,
            timestamp: self.environment.now,
            what,
        });
        id
    }

    /// Runs a strand as far as it goes.
    pub(super) fn strand(
        &mut self,
        strand: &mut Strand,
        outer: Option<&Chain<'_>>,
    ) -> Result<Progress, Failure> {
        loop {
            if self.is_full {
                return Err(Failure::new(
                    name::RUNTIME,
                    format!(
                        "The execution reached the maximum number of history events ({}).",
                        self.environment.limits.history_events
                    ),
                ));
            }
            match &mut strand.position {
                Position::Done(output) => return Ok(Progress::Done(Arc::clone(output))),
                Position::Before { state, input } => {
                    if self.transitions_left == 0 {
                        return Ok(Progress::Paused);
                    }
                    self.transitions_left -= 1;
                    let (state, input) = (self.state(state)?, Arc::clone(input));
                    self.record(
                        &mut strand.last_event,
                        Happening::StateEntered {
                            kind: state.kind.name(),
                            name: Arc::clone(&state.name),
                            input: Arc::clone(&input),
                        },
                    );
                    let visit = Visit {
                        state: Arc::clone(&state.name),
                        input,
                        entered_event: strand.last_event,
                        entered_at: self.environment.now,
                        retries: Vec::new(),
                        work: Work::Begin,
                    };
                    if let Some(progress) = self.visit(strand, visit, state, outer)? {
                        return Ok(progress);
                    }
                }
                Position::In(_) => {
                    let placeholder = Position::Done(Arc::new(Value::Null));
                    let Position::In(visit) = std::mem::replace(&mut strand.position, placeholder)
                    else {
                        continue;
                    };
                    let state = self.state(&visit.state)?;
                    if let Some(progress) = self.visit(strand, *visit, state, outer)? {
                        return Ok(progress);
                    }
                }
            }
        }
    }

    fn state(&self, name: &StateName) -> Result<&'m State, Failure> {
        // Only a state of another definition can name one that does not exist.
        self.machine
            .state(name)
            .map(|state| &**state)
            .ok_or_else(|| {
                Failure::new(
                    name::RUNTIME,
                    format!("The definition has no state '{name}'."),
                )
            })
    }

    /// Goes on with a visit. None: the strand is before its next state, or done.
    fn visit(
        &mut self,
        strand: &mut Strand,
        mut visit: Visit,
        state: &'m State,
        outer: Option<&Chain<'_>>,
    ) -> Result<Option<Progress>, Failure> {
        let stay = Stay {
            state,
            input: &visit.input,
            entered_event: visit.entered_event,
            entered_at: visit.entered_at,
            retry_count: visit.retry_count(),
        };
        let chain = Chain {
            variables: &strand.variables,
            item: strand.item.as_ref(),
            outer,
        };
        let last = &mut strand.last_event;
        let work = std::mem::replace(&mut visit.work, Work::Begin);
        let attempt = self.attempt(&stay, work, &chain, last);
        let finished = match attempt {
            Ok(Attempt::Waiting(work)) => {
                visit.work = work;
                strand.position = Position::In(Box::new(visit));
                return Ok(Some(Progress::Waiting));
            }
            Ok(Attempt::Paused(work)) => {
                visit.work = work;
                strand.position = Position::In(Box::new(visit));
                return Ok(Some(Progress::Paused));
            }
            Ok(Attempt::Result(result)) => self.complete(&stay, result, Exit::Stated, &chain),
            Ok(Attempt::Chosen(result, exit)) => self.complete(&stay, result, exit, &chain),
            Err(mishap) => Err(mishap),
        };
        let mishap = match finished {
            Ok(completion) => {
                self.exit(strand, &visit, state, completion);
                return Ok(None);
            }
            Err(mishap) => mishap,
        };
        if self.is_full {
            return Err(mishap.failure);
        }
        self.record_evaluation(&stay, &mishap, last);
        if let Some(delay) = retry::delay(
            &state.retry,
            &mishap.failure,
            &mut visit.retries,
            self.environment.randomness,
        ) {
            let timer = self.timer(delay);
            visit.work = Work::Backoff(timer);
            strand.position = Position::In(Box::new(visit));
            return Ok(Some(Progress::Waiting));
        }
        self.record_state_failure(&stay, &mishap, last);
        let catcher = state
            .catch
            .iter()
            .enumerate()
            .find(|(_, catcher)| mishap.failure.matches(&catcher.error_equals));
        let Some((index, catcher)) = catcher else {
            return Err(mishap.failure);
        };
        match self.caught(&stay, index, catcher, &mishap.failure, &chain) {
            Ok(completion) => {
                self.exit(strand, &visit, state, completion);
                Ok(None)
            }
            // A catcher that fails is not caught again.
            Err(second) => {
                self.record_evaluation(&stay, &second, last);
                Err(second.failure)
            }
        }
    }

    /// A failed expression has an event of its own, before anything is done about it.
    pub(super) fn record_evaluation(
        &mut self,
        stay: &Stay<'_, '_>,
        mishap: &Mishap,
        last: &mut u64,
    ) {
        if let Some(location) = &mishap.location {
            self.record(
                last,
                Happening::EvaluationFailed {
                    failure: mishap.failure.clone(),
                    location: location.clone(),
                    state: Arc::clone(&stay.state.name),
                },
            );
        }
    }

    /// A Parallel or a Map that is not tried again has an event for its failure. Not so for a field of its own that fails in
    /// a way nothing can catch: that ends the execution at once, as recorded.
    fn record_state_failure(&mut self, stay: &Stay<'_, '_>, mishap: &Mishap, last: &mut u64) {
        if mishap.failure.error() == name::RUNTIME && !mishap.is_inner {
            return;
        }
        let failure = mishap.failure.clone();
        match stay.state.kind {
            StateKind::Parallel(_) => self.record(last, Happening::ParallelStateFailed(failure)),
            StateKind::Map(_) => self.record(last, Happening::MapStateFailed(failure)),
            _ => {}
        }
    }

    fn exit(&mut self, strand: &mut Strand, visit: &Visit, state: &State, done: Completion) {
        debug_assert_eq!(visit.state, state.name);
        let assigned = done.assigned;
        self.record(
            &mut strand.last_event,
            Happening::StateExited {
                kind: state.kind.name(),
                name: Arc::clone(&state.name),
                output: Arc::clone(&done.output),
                assigned: assigned.clone(),
            },
        );
        strand.variables.extend(assigned);
        strand.position = match done.next {
            Some(next) => Position::Before {
                state: next,
                input: done.output,
            },
            None => Position::Done(done.output),
        };
    }

    /// One attempt, or its continuation.
    fn attempt(
        &mut self,
        stay: &Stay<'m, '_>,
        work: Work,
        chain: &Chain<'_>,
        last: &mut u64,
    ) -> Result<Attempt, Mishap> {
        match work {
            Work::Begin => self.begin(stay, chain, last),
            Work::Wait(_) | Work::Backoff(_) | Work::Task(_) => Ok(Attempt::Waiting(work)),
            Work::Waited => self.effective_input(stay, chain).map(Attempt::Result),
            Work::Succeeded(result) => Ok(Attempt::Result(result)),
            Work::Failed(failure) => Err(failure.into()),
            Work::Parallel(strands) => self.branches(strands, chain, last),
            Work::Map(map) => self.iterations(stay, map, chain, last),
            Work::MapRun(run) => self.map_run(stay, run, chain, last),
        }
    }

    fn begin(
        &mut self,
        stay: &Stay<'m, '_>,
        chain: &Chain<'_>,
        last: &mut u64,
    ) -> Result<Attempt, Mishap> {
        match &stay.state.kind {
            StateKind::Pass { result } => self.pass(stay, result.as_ref(), chain),
            StateKind::Succeed => self.effective_input(stay, chain).map(Attempt::Result),
            StateKind::Fail(fail) => Err(self.fail(stay, fail, chain)),
            StateKind::Wait(wait) => self.wait(stay, wait, chain),
            StateKind::Choice(choice) => self.choose(stay, choice, chain),
            StateKind::Task(task) => self.task(stay, task, chain, last),
            StateKind::Parallel(flows) => self.parallel(stay, flows, chain, last),
            StateKind::Map(map) => self.map(stay, map, chain, last),
        }
    }
}

/// What a state hands on.
pub(super) struct Completion {
    pub(super) output: Arc<Value>,
    pub(super) assigned: Vec<(Arc<str>, Arc<Value>)>,
    /// None: the flow ends.
    pub(super) next: Option<StateName>,
}
