//! What an execution asks of its host.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::Outcome;
use super::event::{Id, Item};
use crate::definition::{ExecutionType, Pattern, StateName};

/// Something to do. Commands of one step are to be carried out after the step's state is stored; carrying one out twice is
/// harmless where the host uses the [`Id`] as idempotency key.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Call something; answered by `TaskSucceeded` or `TaskFailed`.
    StartTask(Box<StartTask>),
    /// The task's answer is not awaited any more.
    CancelTask {
        /// Which.
        id: Id,
    },
    /// Send `TimerFired` at that time.
    StartTimer {
        /// Which.
        id: Id,
        /// When.
        at: Timestamp,
    },
    /// The timer is not needed any more. One that fires all the same does no harm.
    CancelTimer {
        /// Which.
        id: Id,
    },
    /// Read the next items of a distributed Map; answered by `ItemsRead` or `ItemsUnreadable`.
    ReadItems(Box<ReadItems>),
    /// Start a child execution of a distributed Map; answered by `ChildEnded`.
    StartChild(Box<StartChild>),
    /// Stop a child execution; its end is not awaited any more.
    StopChild {
        /// Which.
        id: Id,
    },
    /// Write the results of a distributed Map; answered by `ResultsWritten` or `ResultsUnwritable`.
    WriteResults(Box<WriteResults>),
    /// The bound of transitions in one step was reached: call again with `Continue`.
    Continue,
    /// The execution is over.
    End(Outcome),
}

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub struct StartTask {
    /// Identifies this attempt.
    pub id: Id,
    /// The state that calls.
    pub state: StateName,
    /// Which attempt this is, from 0.
    pub attempt: u64,
    /// What is called, as the definition writes it.
    pub resource: Arc<str>,
    /// When the call counts as answered.
    pub pattern: Pattern,
    /// What it is called with.
    pub input: Arc<Value>,
    /// The task token, for `.waitForTaskToken` and activities.
    pub token: Option<Arc<str>>,
    /// `Credentials`, evaluated.
    pub credentials: Option<Value>,
    /// When the attempt times out; a timer for it is started too.
    pub deadline: Option<Timestamp>,
    /// The longest silence, in seconds; a timer for it is started too.
    pub heartbeat_seconds: Option<u64>,
}

/// A part of the items of a distributed Map.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadItems {
    /// Identifies the Map run.
    pub id: Id,
    /// The Map state; its `ItemReader` says how to read.
    pub state: StateName,
    /// `Parameters` or `Arguments` of the reader, evaluated.
    pub arguments: Value,
    /// How many items have been read.
    pub skip: u64,
    /// How many items to read at most.
    pub limit: u64,
}

/// A child execution of a distributed Map.
#[derive(Debug, Clone, PartialEq)]
pub struct StartChild {
    /// Identifies the child.
    pub id: Id,
    /// The Map run it belongs to.
    pub run: Id,
    /// The Map state whose processor it runs.
    pub state: StateName,
    /// What kind of execution.
    pub execution_type: ExecutionType,
    /// Its input.
    pub input: Arc<Value>,
    /// Its item; none for a batch.
    pub item: Option<Item>,
}

/// The results of a distributed Map. The host has them: they are its children's.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteResults {
    /// Identifies the Map run.
    pub id: Id,
    /// The Map state; its `ResultWriter` says how to write.
    pub state: StateName,
    /// `Parameters` or `Arguments` of the writer, evaluated.
    pub arguments: Value,
}
