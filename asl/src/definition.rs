//! The typed model of a state machine: what the parser makes of a definition and the interpreter runs.
//!
//! Every path, template and expression is parsed here, so that running a machine parses nothing. A
//! [`StateMachine`] is cheap to clone and may be shared between threads. Values of this model are
//! only made by [`crate::parse`]: what holds for them (every target exists, names are unique over
//! the whole machine, every flow ends) has been checked.
//!
//! Fields that only one query language knows have their neutral value in the other one: an
//! `InputPath` is `$`, an `Output` is absent.

mod choice;
mod map;
mod resource;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub use choice::{Choice, Comparison, Condition, Domain, Kind, Operand, Relation, Rule, Test};
pub use map::{
    Batcher, ExecutionType, HeaderLocation, InputType, Items, Map, Mode, OutputType, Reader,
    Transformation, Writer, WriterTransformation,
};
pub use resource::{Integration, Pattern, Resource};
pub use task::{Catcher, Jitter, Retrier, Task};

use crate::intrinsic::Call;
use crate::jsonata::Expression;
use crate::path::{Path, ReferencePath};
use crate::template::Template;

/// The name of a state: 1 to 80 characters, unique over the whole machine with all its branches.
pub type StateName = Arc<str>;

/// Longest time a state or an execution may be told to take, in seconds (about three years).
pub const MAX_SECONDS: u64 = 99_999_999;

/// The language of the paths, templates and expressions of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueryLanguage {
    /// Paths (`$.a`) and intrinsic functions (`States.Format(...)`); the default.
    #[default]
    JsonPath,
    /// Expressions in strings: `{% $states.input.a %}`.
    Jsonata,
}

impl QueryLanguage {
    /// The name that a definition uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonPath => "JSONPath",
            Self::Jsonata => "JSONata",
        }
    }
}

/// What kind of executions a machine has (aws-semantics 10.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WorkflowType {
    /// Durable, up to a year, every state once.
    #[default]
    Standard,
    /// Up to five minutes, no `.sync`, no `.waitForTaskToken`, no activities.
    Express,
}

impl WorkflowType {
    /// The name that the API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Express => "EXPRESS",
        }
    }

    /// The type with this name, as the API spells it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "STANDARD" => Some(Self::Standard),
            "EXPRESS" => Some(Self::Express),
            _ => None,
        }
    }
}

/// A whole state machine. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct StateMachine {
    inner: Arc<Machine>,
}

#[derive(Debug)]
struct Machine {
    comment: Option<Arc<str>>,
    version: Option<Arc<str>>,
    language: QueryLanguage,
    timeout_seconds: Option<u64>,
    flow: Arc<Flow>,
    by_name: BTreeMap<StateName, Arc<State>>,
}

impl StateMachine {
    /// A machine of a checked flow.
    pub(crate) fn new(
        flow: Flow,
        language: QueryLanguage,
        timeout_seconds: Option<u64>,
        comment: Option<Arc<str>>,
        version: Option<Arc<str>>,
    ) -> Self {
        let mut by_name = BTreeMap::new();
        flow.collect(&mut by_name);
        let flow = Arc::new(flow);
        Self {
            inner: Arc::new(Machine {
                comment,
                version,
                language,
                timeout_seconds,
                flow,
                by_name,
            }),
        }
    }

    /// The outermost flow.
    pub fn flow(&self) -> &Arc<Flow> {
        &self.inner.flow
    }

    /// The state of this name, in whichever branch it stands: names are unique over the machine.
    pub fn state(&self, name: &str) -> Option<&Arc<State>> {
        self.inner.by_name.get(name)
    }

    /// Every state, those of branches and iterations too, in order of names.
    pub fn states(&self) -> impl Iterator<Item = &Arc<State>> {
        self.inner.by_name.values()
    }

    /// The query language of states that do not name one.
    pub fn language(&self) -> QueryLanguage {
        self.inner.language
    }

    /// Longest time of one execution in seconds; absent means 99,999,999 (aws-semantics 10.1.5).
    pub fn timeout_seconds(&self) -> Option<u64> {
        self.inner.timeout_seconds
    }

    /// The comment of the definition.
    pub fn comment(&self) -> Option<&str> {
        self.inner.comment.as_deref()
    }

    /// The version of the language, as the definition gives it.
    pub fn version(&self) -> Option<&str> {
        self.inner.version.as_deref()
    }
}

/// States that lead to each other: the machine itself, one branch, or the body of a Map.
#[derive(Debug)]
pub struct Flow {
    /// Where it begins; always one of `states`.
    pub start_at: StateName,
    /// The states by name.
    pub states: BTreeMap<StateName, Arc<State>>,
}

impl Flow {
    /// The state of this name in this flow.
    pub fn state(&self, name: &str) -> Option<&Arc<State>> {
        self.states.get(name)
    }

    fn collect(&self, into: &mut BTreeMap<StateName, Arc<State>>) {
        for (name, state) in &self.states {
            into.insert(Arc::clone(name), Arc::clone(state));
            match &state.kind {
                StateKind::Parallel(branches) => branches.iter().for_each(|b| b.collect(into)),
                StateKind::Map(map) => map.processor.collect(into),
                _ => {}
            }
        }
    }
}

/// One state: what all kinds share, and what is particular to its kind.
#[derive(Debug)]
pub struct State {
    /// Its name.
    pub name: StateName,
    /// Its comment.
    pub comment: Option<Arc<str>>,
    /// Its query language: its own, or that of the machine.
    pub language: QueryLanguage,
    /// `InputPath`; JSONPath only. Default `$`.
    pub input_path: Selection,
    /// `Parameters` (JSONPath) or `Arguments` (JSONata) of Task, Parallel and Pass. The item template
    /// of a Map is [`Map::item_selector`].
    pub arguments: Option<Template>,
    /// `ResultSelector`; JSONPath only.
    pub result_selector: Option<Template>,
    /// `ResultPath`; JSONPath only. Default `$`.
    pub result_path: ResultPath,
    /// `OutputPath`; JSONPath only. Default `$`.
    pub output_path: Selection,
    /// `Output`; JSONata only. A Choice rule and a Catcher may have their own.
    pub output: Option<Template>,
    /// `Assign`: variables for the states that follow. The template is an object.
    pub assign: Option<Template>,
    /// `Retry` of Task, Parallel and Map, in the order in which they are tried.
    pub retry: Vec<Retrier>,
    /// `Catch` of Task, Parallel and Map, in the order in which they are tried.
    pub catch: Vec<Catcher>,
    /// Where it leads when it is done. Choice, Succeed and Fail have [`Transition::End`]: the rule
    /// that matched says more.
    pub transition: Transition,
    /// What is particular to its kind.
    pub kind: StateKind,
}

/// What comes after a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The state of this name in the same flow.
    Next(StateName),
    /// The flow ends with the output of this state.
    End,
}

/// An `InputPath` or `OutputPath`.
#[derive(Clone, Debug)]
pub enum Selection {
    /// Everything: `$`, the default.
    All,
    /// What the path finds.
    Path(Path),
    /// `null`: an empty object.
    Discard,
}

/// A `ResultPath`.
#[derive(Clone, Debug)]
pub enum ResultPath {
    /// The result replaces everything: `$`, the default.
    Replace,
    /// The result is put here.
    At(ReferencePath),
    /// `null`: the result is dropped and the input goes on.
    Discard,
}

/// A scalar that the definition states, or that is found when the state is entered.
#[derive(Clone, Debug)]
pub enum Source<T> {
    /// Stated.
    Literal(T),
    /// Found by a path: the `...Path` form of the field.
    Path(Path),
    /// Computed by an intrinsic function: `ErrorPath` and `CausePath` only.
    Call(Call),
    /// Computed by a JSONata expression.
    Expression(Expression),
}

/// What is particular to a kind of state.
#[derive(Debug)]
pub enum StateKind {
    /// Passes its input on, or a fixed result.
    Pass {
        /// `Result`: taken literally; nothing in it is evaluated (aws-semantics 10.3.2).
        result: Option<Arc<Value>>,
    },
    /// Calls something.
    Task(Box<Task>),
    /// Goes where the first matching rule leads.
    Choice(Choice),
    /// Waits.
    Wait(Wait),
    /// Ends its flow with success.
    Succeed,
    /// Ends its flow with an error.
    Fail(Fail),
    /// Runs branches beside each other; at least one.
    Parallel(Vec<Arc<Flow>>),
    /// Runs one flow for each item.
    Map(Box<Map>),
}

impl StateKind {
    /// The name in the field `Type`, which is also the first word of its history events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pass { .. } => "Pass",
            Self::Task(_) => "Task",
            Self::Choice(_) => "Choice",
            Self::Wait(_) => "Wait",
            Self::Succeed => "Succeed",
            Self::Fail(_) => "Fail",
            Self::Parallel(_) => "Parallel",
            Self::Map(_) => "Map",
        }
    }
}

/// How long a Wait state waits.
#[derive(Clone, Debug)]
pub enum Wait {
    /// A number of seconds, 0 to 99,999,999.
    Seconds(Source<u64>),
    /// Until an instant, RFC 3339 with `T` and a zone. The literal has been checked.
    Timestamp(Source<Arc<str>>),
}

/// What a Fail state reports.
#[derive(Clone, Debug, Default)]
pub struct Fail {
    /// `Error` or `ErrorPath`.
    pub error: Option<Source<Arc<str>>>,
    /// `Cause` or `CausePath`.
    pub cause: Option<Source<Arc<str>>>,
}
