//! History events: their order, ids and types are AWS's (aws-semantics 10.10).

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::failure::Failure;
use crate::definition::{Integration, Resource, StateName};

/// One event of an execution's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEvent {
    /// 1, 2, 3, ... in the order of appearance.
    pub id: u64,
    /// The event that led to this one; 0 for the first of an execution and of its first state.
    pub previous_id: u64,
    /// When.
    pub timestamp: Timestamp,
    /// What.
    pub what: Happening,
}

/// What an event reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// The execution began.
    ExecutionStarted {
        /// Its input.
        input: Arc<Value>,
        /// `RoleArn`.
        role: Arc<str>,
    },
    /// It ended with an output.
    ExecutionSucceeded {
        /// The output.
        output: Arc<Value>,
    },
    /// It ended with an error.
    ExecutionFailed(Failure),
    /// Its time was up.
    ExecutionTimedOut(Failure),
    /// Somebody stopped it.
    ExecutionAborted(Failure),
    /// A state was entered.
    StateEntered {
        /// The kind of state: `Pass`, `Task`, ...
        kind: &'static str,
        /// Which.
        name: StateName,
        /// Its raw input.
        input: Arc<Value>,
    },
    /// A state was left.
    StateExited {
        /// The kind of state: `Pass`, `Task`, ...
        kind: &'static str,
        /// Which.
        name: StateName,
        /// Its output.
        output: Arc<Value>,
        /// The variables it assigned, in order of names.
        assigned: Vec<(Arc<str>, Arc<Value>)>,
    },
    /// An expression has no usable value.
    EvaluationFailed {
        /// Why.
        failure: Failure,
        /// The field that holds the expression.
        location: String,
        /// The state.
        state: StateName,
    },
    /// A task went on.
    Task {
        /// What happened to it.
        stage: TaskStage,
        /// What is called; the names of the events follow from it.
        resource: Resource,
    },
    /// A Parallel began its branches.
    ParallelStateStarted,
    /// All branches ended.
    ParallelStateSucceeded,
    /// A branch failed, or the state did.
    ParallelStateFailed(Failure),
    /// A Map has its items.
    MapStateStarted {
        /// How many.
        length: u64,
    },
    /// All iterations ended.
    MapStateSucceeded,
    /// An iteration failed, or the state did.
    MapStateFailed(Failure),
    /// An iteration began.
    MapIterationStarted {
        /// The Map.
        name: StateName,
        /// Which iteration.
        index: u64,
    },
    /// An iteration ended.
    MapIterationSucceeded {
        /// The Map.
        name: StateName,
        /// Which iteration.
        index: u64,
    },
    /// An iteration failed.
    MapIterationFailed {
        /// The Map.
        name: StateName,
        /// Which iteration.
        index: u64,
        /// Why.
        failure: Failure,
    },
    /// An iteration was stopped, because another one failed.
    MapIterationAborted {
        /// The Map.
        name: StateName,
        /// Which iteration.
        index: u64,
    },
    /// A distributed Map began.
    MapRunStarted {
        /// Identifies the run.
        run: Arc<str>,
    },
    /// It ended.
    MapRunSucceeded,
    /// It failed.
    MapRunFailed(Failure),
}

/// What happened to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskStage {
    /// It was handed to the host.
    Scheduled {
        /// What it is called with.
        input: Arc<Value>,
        /// Its longest time, in seconds.
        timeout_seconds: Option<u64>,
        /// Its longest silence, in seconds.
        heartbeat_seconds: Option<u64>,
    },
    /// It began.
    Started {
        /// Who took it, for an activity.
        worker: Option<Arc<str>>,
    },
    /// The service accepted the request.
    Submitted {
        /// What it answered.
        output: Arc<Value>,
    },
    /// It has a result.
    Succeeded {
        /// The result.
        output: Arc<Value>,
    },
    /// It failed.
    Failed(Failure),
    /// It took too long, or was silent for too long.
    TimedOut(Failure),
}

impl TaskStage {
    fn name(&self) -> &'static str {
        match self {
            Self::Scheduled { .. } => "Scheduled",
            Self::Started { .. } => "Started",
            Self::Submitted { .. } => "Submitted",
            Self::Succeeded { .. } => "Succeeded",
            Self::Failed(_) => "Failed",
            Self::TimedOut(_) => "TimedOut",
        }
    }
}

impl Happening {
    /// The type, as AWS names it, such as `PassStateEntered`.
    pub fn type_name(&self) -> String {
        match self {
            Happening::ExecutionStarted { .. } => "ExecutionStarted".into(),
            Happening::ExecutionSucceeded { .. } => "ExecutionSucceeded".into(),
            Happening::ExecutionFailed(_) => "ExecutionFailed".into(),
            Happening::ExecutionTimedOut(_) => "ExecutionTimedOut".into(),
            Happening::ExecutionAborted(_) => "ExecutionAborted".into(),
            Happening::StateEntered { kind, .. } => format!("{kind}StateEntered"),
            Happening::StateExited { kind, .. } => format!("{kind}StateExited"),
            Happening::EvaluationFailed { .. } => "EvaluationFailed".into(),
            Happening::Task { stage, resource } => {
                format!("{}{}", family(resource), stage.name())
            }
            Happening::ParallelStateStarted => "ParallelStateStarted".into(),
            Happening::ParallelStateSucceeded => "ParallelStateSucceeded".into(),
            Happening::ParallelStateFailed(_) => "ParallelStateFailed".into(),
            Happening::MapStateStarted { .. } => "MapStateStarted".into(),
            Happening::MapStateSucceeded => "MapStateSucceeded".into(),
            Happening::MapStateFailed(_) => "MapStateFailed".into(),
            Happening::MapIterationStarted { .. } => "MapIterationStarted".into(),
            Happening::MapIterationSucceeded { .. } => "MapIterationSucceeded".into(),
            Happening::MapIterationFailed { .. } => "MapIterationFailed".into(),
            Happening::MapIterationAborted { .. } => "MapIterationAborted".into(),
            Happening::MapRunStarted { .. } => "MapRunStarted".into(),
            Happening::MapRunSucceeded => "MapRunSucceeded".into(),
            Happening::MapRunFailed(_) => "MapRunFailed".into(),
        }
    }
}

impl HistoryEvent {
    /// The type, as AWS names it, such as `PassStateEntered`.
    pub fn type_name(&self) -> String {
        self.what.type_name()
    }

    /// The event as `GetExecutionHistory` answers it.
    pub fn to_json(&self) -> Value {
        let type_name = self.type_name();
        let mut event = Map::new();
        event.insert("id".into(), self.id.into());
        event.insert("previousEventId".into(), self.previous_id.into());
        event.insert("timestamp".into(), format!("{:.3}", self.timestamp).into());
        let details = match &self.what {
            Happening::StateEntered { .. } => Some("stateEnteredEventDetails".to_owned()),
            Happening::StateExited { .. } => Some("stateExitedEventDetails".to_owned()),
            // These say all with their names.
            Happening::ParallelStateStarted
            | Happening::ParallelStateSucceeded
            | Happening::MapStateSucceeded
            | Happening::MapRunSucceeded => None,
            Happening::Task {
                stage: TaskStage::Started { .. },
                resource,
            } if *resource.integration() == Integration::Function => None,
            _ => {
                let (first, rest) = type_name.split_at(1);
                Some(format!("{}{rest}EventDetails", first.to_lowercase()))
            }
        };
        if let Some(details) = details {
            event.insert(details, self.details());
        }
        event.insert("type".into(), type_name.into());
        Value::Object(event)
    }

    fn details(&self) -> Value {
        match &self.what {
            Happening::ExecutionStarted { input, role } => {
                json!({"input": input.to_string(), "inputDetails": {"truncated": false}, "roleArn": &**role})
            }
            Happening::ExecutionSucceeded { output } => {
                json!({"output": output.to_string(), "outputDetails": {"truncated": false}})
            }
            Happening::ExecutionFailed(failure)
            | Happening::ExecutionTimedOut(failure)
            | Happening::ExecutionAborted(failure)
            | Happening::ParallelStateFailed(failure)
            | Happening::MapStateFailed(failure)
            | Happening::MapRunFailed(failure) => failed(failure),
            Happening::StateEntered { name, input, .. } => {
                json!({"name": &**name, "input": input.to_string(), "inputDetails": {"truncated": false}})
            }
            Happening::StateExited {
                name,
                output,
                assigned,
                ..
            } => {
                let mut details = json!({
                    "name": &**name, "output": output.to_string(), "outputDetails": {"truncated": false}
                });
                if !assigned.is_empty() {
                    let texts = assigned
                        .iter()
                        .map(|(name, value)| (name.to_string(), value.to_string().into()))
                        .collect::<Map<String, Value>>();
                    details["assignedVariables"] = Value::Object(texts);
                    details["assignedVariablesDetails"] = json!({"truncated": false});
                }
                details
            }
            Happening::EvaluationFailed {
                failure,
                location,
                state,
            } => {
                let mut details = failed(failure);
                details["location"] = location.as_str().into();
                details["state"] = (&**state).into();
                details
            }
            Happening::Task { stage, resource } => task_details(stage, resource),
            Happening::MapStateStarted { length } => json!({"length": length}),
            Happening::MapIterationStarted { name, index }
            | Happening::MapIterationSucceeded { name, index }
            | Happening::MapIterationFailed { name, index, .. }
            | Happening::MapIterationAborted { name, index } => {
                json!({"name": &**name, "index": index})
            }
            Happening::MapRunStarted { run } => json!({"mapRunArn": &**run}),
            Happening::ParallelStateStarted
            | Happening::ParallelStateSucceeded
            | Happening::MapStateSucceeded
            | Happening::MapRunSucceeded => json!({}),
        }
    }
}

fn failed(failure: &Failure) -> Value {
    let mut details = Map::new();
    if let Some(error) = &failure.error {
        details.insert("error".into(), (&**error).into());
    }
    if let Some(cause) = &failure.cause {
        details.insert("cause".into(), (&**cause).into());
    }
    Value::Object(details)
}

/// What the names of a task's events begin with.
fn family(resource: &Resource) -> &'static str {
    match resource.integration() {
        Integration::Function => "LambdaFunction",
        Integration::Activity => "Activity",
        Integration::Service { .. } | Integration::Named => "Task",
    }
}

/// The parts of a service resource that its events name: the action with its pattern, and the service.
fn service(resource: &Resource) -> (String, String) {
    match resource.integration() {
        Integration::Service { service, action } => (
            format!("{action}{}", resource.pattern().suffix()),
            service.to_string(),
        ),
        _ => (resource.as_str().to_owned(), "weir".to_owned()),
    }
}

fn task_details(stage: &TaskStage, resource: &Resource) -> Value {
    let is_service = family(resource) == "Task";
    let mut details = Map::new();
    if is_service {
        let (action, service) = service(resource);
        details.insert("resource".into(), action.into());
        details.insert("resourceType".into(), service.into());
    }
    match stage {
        TaskStage::Scheduled {
            input,
            timeout_seconds,
            heartbeat_seconds,
        } => {
            if is_service {
                details.insert("parameters".into(), input.to_string().into());
            } else {
                details.insert("resource".into(), resource.as_str().into());
                details.insert("input".into(), input.to_string().into());
                details.insert("inputDetails".into(), json!({"truncated": false}));
            }
            if let Some(seconds) = timeout_seconds {
                details.insert("timeoutInSeconds".into(), (*seconds).into());
            }
            if let Some(seconds) = heartbeat_seconds {
                details.insert("heartbeatInSeconds".into(), (*seconds).into());
            }
        }
        TaskStage::Started { worker } => {
            if let Some(worker) = worker {
                details.insert("workerName".into(), (&**worker).into());
            }
        }
        TaskStage::Submitted { output } | TaskStage::Succeeded { output } => {
            details.insert("output".into(), output.to_string().into());
            details.insert("outputDetails".into(), json!({"truncated": false}));
        }
        TaskStage::Failed(failure) | TaskStage::TimedOut(failure) => {
            if let Value::Object(fields) = failed(failure) {
                details.extend(fields);
            }
        }
    }
    Value::Object(details)
}
