//! The state of an execution: everything a host has to keep between two steps.
//!
//! It holds names, not the definition. An execution is a tree of strands: the flow of the machine itself, and under a
//! Parallel or an inline Map one strand for each branch or iteration that runs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{About, Id, Item};
use super::failure::Failure;
use crate::definition::StateName;

/// An execution at rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    pub(super) about: Arc<About>,
    pub(super) root: Strand,
    /// The id of the next history event.
    pub(super) next_event: u64,
    /// The next [`Id`].
    pub(super) next_id: u64,
    /// The timer of the machine's `TimeoutSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<Outcome>,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// With an output.
    Succeeded(Arc<Value>),
    /// With an error that nothing caught.
    Failed(Failure),
    /// Its time was up.
    TimedOut(Failure),
    /// Somebody stopped it.
    Aborted(Failure),
}

impl Outcome {
    /// As AWS names it.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "SUCCEEDED",
            Self::Failed(_) => "FAILED",
            Self::TimedOut(_) => "TIMED_OUT",
            Self::Aborted(_) => "ABORTED",
        }
    }
}

pub(super) type Variables = BTreeMap<Arc<str>, Arc<Value>>;

/// One line of control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Strand {
    pub(super) position: Position,
    /// What the states of this strand assigned; those of outer strands are theirs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) variables: Variables,
    /// The item of an iteration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<Item>,
    /// The event that the next one follows.
    pub(super) last_event: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Position {
    /// Before a state.
    Before { state: StateName, input: Arc<Value> },
    /// In a state that has to wait for something.
    In(Box<Visit>),
    /// At the end.
    Done(Arc<Value>),
}

/// A stay in a state, from its entry to its exit, with all its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Visit {
    pub(super) state: StateName,
    /// The raw input.
    pub(super) input: Arc<Value>,
    pub(super) entered_event: u64,
    pub(super) entered_at: Timestamp,
    /// How often each retrier was used; shorter than the list of retriers until they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) retries: Vec<u64>,
    pub(super) work: Work,
}

impl Visit {
    pub(super) fn retry_count(&self) -> u64 {
        self.retries.iter().sum()
    }
}

/// What a visit waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Work {
    /// Nothing yet: an attempt is to be made.
    Begin,
    /// The time of a Wait state.
    Wait(Id),
    /// Nothing more: that time has come.
    Waited,
    /// The time before the next attempt.
    Backoff(Id),
    Task(TaskWork),
    Parallel(Vec<Strand>),
    Map(Box<MapWork>),
    MapRun(Box<MapRunWork>),
    /// An answer that has arrived.
    Succeeded(Arc<Value>),
    /// An error that has arrived.
    Failed(Failure),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TaskWork {
    pub(super) id: Id,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) heartbeat: Option<Heartbeat>,
    /// An activity that nobody took yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_waiting_for_worker: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Heartbeat {
    /// None while an activity waits for a worker: silence counts from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timer: Option<Id>,
    pub(super) seconds: u64,
}

/// An inline Map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MapWork {
    /// What the item template sees as `$`.
    pub(super) input: Arc<Value>,
    pub(super) items: Arc<Items>,
    /// How many iterations have begun.
    pub(super) begun: u64,
    pub(super) max_concurrency: u64,
    pub(super) running: Vec<Strand>,
    /// Outputs by index, as they come.
    pub(super) results: BTreeMap<u64, Arc<Value>>,
    /// How large they are together.
    pub(super) result_bytes: usize,
}

/// The items of a Map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Items {
    pub(super) values: Vec<Arc<Value>>,
    /// Names, where the Map goes over an object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) keys: Vec<Arc<str>>,
}

impl Items {
    pub(super) fn item(&self, index: u64) -> Option<Item> {
        let value = self.values.get(usize::try_from(index).ok()?)?;
        Some(Item {
            index,
            key: self.keys.get(index as usize).cloned(),
            value: value.clone(),
        })
    }
}

/// A distributed Map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MapRunWork {
    pub(super) id: Id,
    pub(super) phase: Phase,
    /// What the item template sees as `$`.
    pub(super) input: Arc<Value>,
    /// Items that no child was started for.
    pub(super) waiting: VecDeque<Item>,
    /// How many items were read.
    pub(super) read: u64,
    /// Whether more items can be read.
    pub(super) has_more: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_reading: bool,
    pub(super) settings: RunSettings,
    /// Children that run.
    pub(super) running: BTreeMap<Id, Child>,
    pub(super) children: u64,
    pub(super) failed_items: u64,
    /// Outputs by child; not kept where a writer takes them.
    pub(super) results: BTreeMap<u64, Arc<Value>>,
    pub(super) result_bytes: usize,
}

/// A child execution that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Child {
    /// Its number, by which results are ordered.
    pub(super) number: u64,
    /// How many items it has.
    pub(super) items: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    Running,
    Writing,
}

/// What the fields of a distributed Map came to when it was entered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RunSettings {
    pub(super) max_concurrency: u64,
    pub(super) tolerated_count: Option<u64>,
    pub(super) tolerated_percentage: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_items: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reader_arguments: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) batch_items: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) batch_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) batch_input: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) writer_arguments: Option<Value>,
}
