//! The simulated host: carries out the commands of executions against a queue of what will happen.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::mocks::Answer;
use super::read::{elements, read_items};
use super::{Answers, Options, Report};
use crate::definition::{Map, Resource, StateKind, StateMachine, WorkflowType};
use crate::machine::{
    About, Command, Environment, Event, Execution, HistoryEvent, Id, Limits, Outcome, ReadItems,
    StartChild, WriteResults, step,
};
use crate::randomness::{Seeded, uuid};

/// How far ahead something is arranged at most.
const MAX_SECONDS_APART: u64 = crate::definition::MAX_SECONDS;

/// The number of an execution: 0 is the one that is asked for, the others are its children.
pub(super) type Number = usize;

pub(super) struct Host<'a> {
    machine: &'a StateMachine,
    options: &'a Options,
    pub(super) answers: Answers<'a>,
    now: Timestamp,
    pub(super) randomness: Seeded,
    /// What will happen, by time and then in the order in which it was arranged.
    agenda: BTreeMap<(Timestamp, u64), (Number, Event)>,
    arranged: u64,
    executions: Vec<Running>,
    /// How often each mock was used.
    pub(super) calls: BTreeMap<String, usize>,
    /// Items of distributed Maps, by execution and run, while they are read.
    items: BTreeMap<(Number, Id), Vec<Value>>,
    /// What was asked and will never be answered.
    pub(super) unanswered: Vec<String>,
    history: Vec<HistoryEvent>,
    limits: Limits,
}

struct Running {
    execution: Option<Execution>,
    /// Whose child it is, and under which id.
    parent: Option<(Number, Id)>,
}

impl<'a> Host<'a> {
    pub(super) fn new(
        machine: &'a StateMachine,
        options: &'a Options,
        answers: Answers<'a>,
    ) -> Self {
        Self {
            machine,
            options,
            answers,
            now: options.start_time,
            randomness: Seeded::new(options.seed),
            agenda: BTreeMap::new(),
            arranged: 0,
            executions: Vec::new(),
            calls: BTreeMap::new(),
            items: BTreeMap::new(),
            unanswered: Vec::new(),
            history: Vec::new(),
            limits: Limits::default(),
        }
    }

    pub(super) fn run(mut self, input: Value) -> Report {
        let about = self.about(self.options.execution_name.clone(), Arc::new(input));
        self.begin(about, None);
        for _ in 0..self.options.max_events {
            let Some(((at, _), (number, event))) = self.agenda.pop_first() else {
                let waits = self.unanswered.join(", ");
                return self.running(format!("Nothing answers: {waits}."));
            };
            self.now = self.now.max(at);
            if let Some(outcome) = self.tell(number, event) {
                return self.report(&outcome);
            }
        }
        let bound = self.options.max_events;
        self.running(format!("The simulation stopped after {bound} events."))
    }

    fn running(self, cause: String) -> Report {
        Report {
            status: "RUNNING",
            output: None,
            error: None,
            cause: Some(cause),
            history: self.history,
            end_time: self.now,
        }
    }

    fn report(self, outcome: &Outcome) -> Report {
        let (output, failure) = match outcome {
            Outcome::Succeeded(output) => (Some((**output).clone()), None),
            Outcome::Failed(failure) | Outcome::Aborted(failure) => (None, Some(failure)),
            // The status says it all: AWS gives no error to an execution whose time was up.
            Outcome::TimedOut(_) => (None, None),
        };
        let text = |part: Option<&Arc<str>>| part.map(ToString::to_string);
        Report {
            status: outcome.status(),
            output,
            error: failure.and_then(|failure| text(failure.error.as_ref())),
            cause: failure.and_then(|failure| text(failure.cause.as_ref())),
            history: self.history,
            end_time: self.now,
        }
    }

    fn about(&self, name: String, input: Arc<Value>) -> About {
        let machine = &self.options.machine_name;
        About {
            id: format!("arn:aws:states:us-east-1:111111111111:execution:{machine}:{name}").into(),
            name: name.into(),
            input,
            start_time: self.now,
            role: "arn:aws:iam::111111111111:role/simulation".into(),
            machine_id: format!("arn:aws:states:us-east-1:111111111111:stateMachine:{machine}")
                .into(),
            machine_name: machine.as_str().into(),
            is_express: self.options.workflow == WorkflowType::Express,
            processor_of: None,
            item: None,
        }
    }

    fn begin(&mut self, about: About, parent: Option<(Number, Id)>) {
        let number = self.executions.len();
        let execution = Execution::new(self.machine, about);
        self.executions.push(Running { execution, parent });
        self.arrange(0, number, Event::Start);
    }

    /// Lets something happen after some seconds.
    pub(super) fn arrange(&mut self, seconds: u64, number: Number, event: Event) {
        let delay = SignedDuration::from_secs(seconds.min(MAX_SECONDS_APART) as i64);
        let at = self.now.checked_add(delay).unwrap_or(Timestamp::MAX);
        self.arrange_at(at, number, event);
    }

    fn arrange_at(&mut self, at: Timestamp, number: Number, event: Event) {
        self.arranged += 1;
        self.agenda.insert((at, self.arranged), (number, event));
    }

    /// Tells an execution what happened. The outcome of the one that was asked for ends it all.
    fn tell(&mut self, number: Number, event: Event) -> Option<Outcome> {
        let execution = self.executions[number].execution.take()?;
        let mut environment = Environment {
            now: self.now,
            randomness: &mut self.randomness,
            limits: &self.limits,
        };
        let step = step(self.machine, execution, event, &mut environment);
        self.executions[number].execution = Some(step.execution);
        if number == 0 {
            self.history.extend(step.history);
        }
        for command in step.commands {
            if let Some(outcome) = self.carry_out(number, command) {
                return Some(outcome);
            }
        }
        None
    }

    fn carry_out(&mut self, number: Number, command: Command) -> Option<Outcome> {
        match command {
            Command::StartTask(task) => self.start_task(number, &task),
            Command::StartTimer { id, at } => {
                self.arrange_at(at, number, Event::TimerFired { id });
            }
            // What comes late finds nothing; the agenda is thrown away at the end.
            Command::CancelTask { .. } | Command::CancelTimer { .. } => {}
            Command::ReadItems(read) => self.read(number, &read),
            Command::StartChild(child) => self.start_child(number, *child),
            Command::StopChild { id } => {
                for child in &mut self.executions {
                    if child.parent == Some((number, id)) {
                        child.execution = None;
                    }
                }
            }
            Command::WriteResults(write) => self.write(number, &write),
            Command::Continue => self.arrange(0, number, Event::Continue),
            Command::End(outcome) => {
                let Some((parent, id)) = self.executions[number].parent else {
                    return Some(outcome);
                };
                self.executions[number].execution = None;
                let result = match outcome {
                    Outcome::Succeeded(output) => Ok((*output).clone()),
                    Outcome::Failed(failure)
                    | Outcome::TimedOut(failure)
                    | Outcome::Aborted(failure) => Err(failure),
                };
                self.arrange(0, parent, Event::ChildEnded { id, result });
            }
        }
        None
    }

    /// The Map of this name.
    fn map(&self, state: &str) -> Option<&'a Map> {
        match &self.machine.state(state)?.kind {
            StateKind::Map(map) => Some(map),
            _ => None,
        }
    }

    fn read(&mut self, number: Number, read: &ReadItems) {
        let id = read.id;
        if !self.items.contains_key(&(number, id)) {
            match self.all_items(&read.state) {
                Ok(items) => {
                    self.items.insert((number, id), items);
                }
                Err(cause) => {
                    return self.arrange(
                        0,
                        number,
                        Event::ItemsUnreadable {
                            id,
                            cause: cause.into(),
                        },
                    );
                }
            }
        }
        let items = &self.items[&(number, id)];
        let from = usize::try_from(read.skip)
            .unwrap_or(usize::MAX)
            .min(items.len());
        let limit = usize::try_from(read.limit).unwrap_or(usize::MAX);
        let to = from.saturating_add(limit).min(items.len());
        let (part, is_last) = (items[from..to].to_vec(), to == items.len());
        self.arrange(
            0,
            number,
            Event::ItemsRead {
                id,
                items: part,
                is_last,
            },
        );
    }

    /// What a mock says that a reader finds: a document, or the text of a file.
    fn all_items(&mut self, state: &str) -> Result<Vec<Value>, String> {
        let reader = self.map(state).and_then(|map| map.reader.as_ref());
        let Some(reader) = reader else {
            return Err(format!("'{state}' has no ItemReader"));
        };
        let names = [state, reader.resource.as_str()];
        let mock = self
            .answers
            .mocks
            .and_then(|mocks| mocks.find(names, &mut self.calls));
        match mock.map(|mock| &mock.answer) {
            Some(Answer::Return(Value::String(text))) => read_items(text, reader),
            Some(Answer::Return(value)) => elements(value.clone(), reader.items_pointer.as_deref()),
            Some(Answer::Throw { cause, .. }) => Err(cause.clone()),
            _ => Err(format!(
                "There is no mock for the ItemReader of '{state}': add \"{state}\": {{\"Return\": \
                 [...]}} to the mocks."
            )),
        }
    }

    fn start_child(&mut self, number: Number, child: StartChild) {
        let name = uuid(&mut self.randomness);
        let mut about = self.about(name, child.input);
        about.is_express = child.execution_type == crate::definition::ExecutionType::Express;
        about.processor_of = Some(child.state);
        about.item = child.item;
        self.begin(about, Some((number, child.id)));
    }

    fn write(&mut self, number: Number, write: &WriteResults) {
        let id = write.id;
        let resource = self
            .map(&write.state)
            .and_then(|map| map.writer.as_ref()?.resource.as_ref())
            .map(Resource::as_str);
        let mock = self
            .answers
            .mocks
            .and_then(|mocks| mocks.find(resource, &mut self.calls))
            .map(|mock| &mock.answer);
        let event = match mock {
            Some(Answer::Throw { cause, .. }) => Event::ResultsUnwritable {
                id,
                cause: cause.as_str().into(),
            },
            Some(Answer::Return(output)) => Event::ResultsWritten {
                id,
                output: output.clone(),
            },
            _ => Event::ResultsWritten {
                id,
                output: self.manifest(write),
            },
        };
        self.arrange(0, number, event);
    }

    /// Where results would be.
    fn manifest(&self, write: &WriteResults) -> Value {
        let machine = &self.options.machine_name;
        let run = format!("{}-{}", write.state, write.id.0);
        let part = |name: &str| write.arguments[name].as_str().unwrap_or_default();
        let prefix = part("Prefix").trim_end_matches('/');
        let separator = if prefix.is_empty() { "" } else { "/" };
        json!({
            "MapRunArn": format!("arn:aws:states:us-east-1:111111111111:mapRun:{machine}/{run}"),
            "ResultWriterDetails": {
                "Bucket": part("Bucket"),
                "Key": format!("{prefix}{separator}{run}/manifest.json"),
            },
        })
    }
}
