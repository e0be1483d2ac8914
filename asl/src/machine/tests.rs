mod bounds;
mod branches;
mod runs;
mod tasks;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::definition::WorkflowType;
use crate::parse;
use crate::randomness::Seeded;

/// An execution whose world is driven by hand.
struct Bench {
    machine: StateMachine,
    execution: Option<Execution>,
    now: Timestamp,
    limits: Limits,
    tasks: BTreeMap<Id, StartTask>,
    timers: BTreeMap<Id, Timestamp>,
    children: BTreeMap<Id, StartChild>,
    others: Vec<Command>,
    history: Vec<HistoryEvent>,
}

impl Bench {
    fn new(definition: &Value, input: Value) -> Self {
        Self::with(definition, input, Limits::default())
    }

    fn with(definition: &Value, input: Value, limits: Limits) -> Self {
        let machine = parse::from_value(definition, WorkflowType::Standard).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let about = About {
            id: "arn:e".into(),
            name: "e".into(),
            input: Arc::new(input),
            start_time: now,
            role: "arn:r".into(),
            machine_id: "arn:m".into(),
            machine_name: "m".into(),
            is_express: false,
            processor_of: None,
            item: None,
        };
        let execution = Execution::new(&machine, about);
        let mut bench = Self {
            machine,
            execution,
            now,
            limits,
            tasks: BTreeMap::new(),
            timers: BTreeMap::new(),
            children: BTreeMap::new(),
            others: Vec::new(),
            history: Vec::new(),
        };
        bench.tell(Event::Start);
        bench
    }

    fn tell(&mut self, event: Event) {
        let mut randomness = Seeded::new(self.history.len() as u64);
        let mut environment = Environment {
            now: self.now,
            randomness: &mut randomness,
            limits: &self.limits,
        };
        let execution = self.execution.take().unwrap();
        let made = step(&self.machine, execution, event, &mut environment);
        self.execution = Some(made.execution);
        self.history.extend(made.history);
        for command in made.commands {
            match command {
                Command::StartTask(task) => drop(self.tasks.insert(task.id, *task)),
                Command::CancelTask { id } => drop(self.tasks.remove(&id)),
                Command::StartTimer { id, at } => drop(self.timers.insert(id, at)),
                Command::CancelTimer { id } => drop(self.timers.remove(&id)),
                Command::StartChild(child) => drop(self.children.insert(child.id, *child)),
                Command::StopChild { id } => drop(self.children.remove(&id)),
                other => self.others.push(other),
            }
        }
    }

    /// The only task that waits, and is not waited for any more.
    fn task(&mut self) -> StartTask {
        assert_eq!(self.tasks.len(), 1, "{:?}", self.tasks);
        self.tasks.pop_first().unwrap().1
    }

    fn succeed(&mut self, output: Value) {
        let id = self.task().id;
        self.tell(Event::TaskSucceeded { id, output });
    }

    fn fail(&mut self, error: &str) {
        let id = self.task().id;
        self.tell(Event::TaskFailed {
            id,
            failure: Failure::new(error, "cause"),
        });
    }

    /// Lets the next timer fire; gives the seconds until then.
    fn wait(&mut self) -> i64 {
        let (at, id) = self.timers.iter().map(|(id, at)| (*at, *id)).min().unwrap();
        self.timers.remove(&id);
        let seconds = at.duration_since(self.now).as_secs();
        self.now = at;
        self.tell(Event::TimerFired { id });
        seconds
    }

    fn outcome(&self) -> Option<&Outcome> {
        self.execution.as_ref().unwrap().outcome()
    }

    fn output(&self) -> &Value {
        match self.outcome() {
            Some(Outcome::Succeeded(output)) => output,
            other => panic!("{other:?}"),
        }
    }

    fn failure(&self) -> (&str, &str) {
        match self.outcome() {
            Some(
                Outcome::Failed(failure) | Outcome::TimedOut(failure) | Outcome::Aborted(failure),
            ) => (
                failure.error(),
                failure.cause.as_deref().unwrap_or_default(),
            ),
            other => panic!("{other:?}"),
        }
    }

    fn types(&self) -> Vec<String> {
        self.history.iter().map(HistoryEvent::type_name).collect()
    }

    /// Type and previous id of each event.
    fn links(&self) -> Vec<(String, u64)> {
        self.history
            .iter()
            .map(|event| (event.type_name(), event.previous_id))
            .collect()
    }
}

const SERVICE: &str = "arn:aws:states:::lambda:invoke";

fn single(state: &Value) -> Value {
    json!({"StartAt": "S", "States": {"S": state}})
}
