//! What a host tells an execution.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::Failure;
use crate::definition::StateName;

/// Identifies what a command started, within one execution. Never used twice in it, so that an answer that comes late, or
/// a second time, finds nothing and changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The execution begins.
    Start,
    /// The host answers [`super::Command::Continue`].
    Continue,
    /// Somebody took the task: a worker of an activity.
    TaskStarted {
        /// Which task.
        id: Id,
        /// Who; kept in the history.
        worker: Option<Arc<str>>,
    },
    /// The service accepted a request whose job, or whose token's holder, has yet to answer.
    TaskSubmitted {
        /// Which task.
        id: Id,
        /// What the service answered.
        output: Value,
    },
    /// The task is alive.
    TaskHeartbeat {
        /// Which task.
        id: Id,
    },
    /// The task has a result.
    TaskSucceeded {
        /// Which task.
        id: Id,
        /// The result.
        output: Value,
    },
    /// The task failed.
    TaskFailed {
        /// Which task.
        id: Id,
        /// Why.
        failure: Failure,
    },
    /// A timer's time has come.
    TimerFired {
        /// Which timer.
        id: Id,
    },
    /// Items of a distributed Map were read.
    ItemsRead {
        /// Which Map run.
        id: Id,
        /// The next items, in order.
        items: Vec<Value>,
        /// Whether these are the last ones.
        is_last: bool,
    },
    /// The items of a distributed Map cannot be read.
    ItemsUnreadable {
        /// Which Map run.
        id: Id,
        /// Why, in words.
        cause: Arc<str>,
    },
    /// A child execution of a distributed Map ended.
    ChildEnded {
        /// Which child.
        id: Id,
        /// Its output, or why it has none.
        result: Result<Value, Failure>,
    },
    /// The results of a distributed Map were written.
    ResultsWritten {
        /// Which Map run.
        id: Id,
        /// What the state's result is: where the results are.
        output: Value,
    },
    /// The results of a distributed Map cannot be written.
    ResultsUnwritable {
        /// Which Map run.
        id: Id,
        /// Why, in words.
        cause: Arc<str>,
    },
    /// Somebody stops the execution.
    Stop {
        /// Error and cause, as given.
        failure: Failure,
    },
}

/// What is known of an execution before it begins; the context object shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// `$$.Execution.Id`.
    pub id: Arc<str>,
    /// `$$.Execution.Name`.
    pub name: Arc<str>,
    /// `$$.Execution.Input`.
    pub input: Arc<Value>,
    /// `$$.Execution.StartTime`.
    pub start_time: Timestamp,
    /// `$$.Execution.RoleArn`.
    pub role: Arc<str>,
    /// `$$.StateMachine.Id`.
    pub machine_id: Arc<str>,
    /// `$$.StateMachine.Name`.
    pub machine_name: Arc<str>,
    /// Whether the execution is an express one: its history is not bounded, its time is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_express: bool,
    /// For a child of a distributed Map: the Map state whose processor it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor_of: Option<StateName>,
    /// For a child of a distributed Map: `$$.Map.Item`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
}

/// One item of a Map: `$$.Map.Item`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Its place, from 0.
    pub index: u64,
    /// Its name, where the Map goes over an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// Itself.
    pub value: Arc<Value>,
}
