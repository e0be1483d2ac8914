//! Reads a definition: every problem is found, or a [`StateMachine`] is made.
//!
//! Reading goes over the JSON once and builds the model as it goes; what is wrong is noted and the
//! reading goes on. What concerns several states together, as transitions and names, is judged by
//! [`crate::validate`] at the end. The words are AWS's where they are recorded
//! (aws-semantics 10.2).

mod choice;
mod context;
mod fields;
mod flow;
mod map;
mod retry;
mod scalar;
mod state;
mod task;
mod template;
mod twice;
mod variables;

use serde_json::Value;

use context::Context;
pub(crate) use context::Outline;
use fields::Fields;

use crate::definition::{QueryLanguage, StateMachine, WorkflowType};
use crate::problem::{Code, Problem, Rejection, complaint, nearest};
use crate::validate;

/// Largest definition, in bytes.
pub const MAX_BYTES: usize = 1_048_576;

/// Deepest nesting of JSON values in a definition.
pub const MAX_DEPTH: usize = 128;

/// How many states a machine may have, with all its branches.
pub const MAX_STATES: usize = 20_000;

const FIELDS: &[&str] = &[
    "Comment",
    "QueryLanguage",
    "StartAt",
    "States",
    "TimeoutSeconds",
    "Version",
];

/// Reads a definition from its text.
pub fn parse(text: &str, workflow: WorkflowType) -> Result<StateMachine, Rejection> {
    if text.trim().is_empty() {
        return Err(single(
            Code::MissingDescription,
            "The definition is empty".into(),
        ));
    }
    if text.len() > MAX_BYTES {
        return Err(single(
            Code::TooDeeplyNested,
            format!(
                "The definition has {} bytes; at most {MAX_BYTES} are allowed",
                text.len()
            ),
        ));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) => judge(&value, workflow, &twice::states(text)),
        Err(error) => Err(single(
            Code::InvalidJsonDescription,
            complaint(text, &error),
        )),
    }
}

/// Reads a definition that is already a JSON value.
pub fn from_value(value: &Value, workflow: WorkflowType) -> Result<StateMachine, Rejection> {
    judge(value, workflow, &[])
}

/// `twice` are the places of states that the text named before.
fn judge(
    value: &Value,
    workflow: WorkflowType,
    twice: &[String],
) -> Result<StateMachine, Rejection> {
    if let Some(problem) = outsized(value) {
        return Err(single(Code::TooDeeplyNested, problem));
    }
    let cx = Context::new(workflow);
    for place in twice {
        let name = place.rsplit('/').next().unwrap_or_default();
        cx.report(Problem {
            path: place.clone(),
            code: Code::DuplicateStateName,
            message: format!("State name '{name}' is duplicated"),
            hint: Some("it stands before in the same 'States'".into()),
        });
    }
    let machine = machine(value, &cx);
    let (mut problems, outline) = cx.finish();
    if let Some(outline) = &outline {
        validate::machine(outline, &mut problems);
    }
    match machine {
        Some(machine) if problems.is_empty() => Ok(machine),
        _ => {
            problems.truncate(Rejection::MAX_PROBLEMS);
            Err(Rejection { problems })
        }
    }
}

fn machine(value: &Value, cx: &Context) -> Option<StateMachine> {
    let fields = Fields::root(value, cx)?;
    fields.only(FIELDS);
    let language = language(&fields).unwrap_or_default();
    cx.set_machine_language(language);
    let comment = fields.text("Comment");
    let version = fields.text("Version");
    let timeout_seconds = fields.integer("TimeoutSeconds", 1..=crate::definition::MAX_SECONDS);
    let (flow, outline) = flow::flow(&fields, cx.workflow(), &variables::Scope::default());
    cx.set_outline(outline);
    Some(StateMachine::new(
        flow?,
        language,
        timeout_seconds,
        comment,
        version,
    ))
}

/// `QueryLanguage` of a machine or a state. Only the exact name `JSONPath` is JSONPath, so that a
/// wrong value is one problem and not one more for every field.
fn language(fields: &Fields<'_>) -> Option<QueryLanguage> {
    let value = fields.get("QueryLanguage")?;
    match value.as_str() {
        Some("JSONPath") => Some(QueryLanguage::JsonPath),
        Some("JSONata") => Some(QueryLanguage::Jsonata),
        Some(other) => {
            let hint =
                nearest(other, ["JSONPath", "JSONata"]).map(|n| format!("did you mean '{n}'?"));
            fields.cx().report(Problem {
                path: fields.at("QueryLanguage"),
                code: Code::SchemaValidationFailed,
                message: format!("Value '{other}' is not one of [JSONPath, JSONata]"),
                hint,
            });
            Some(QueryLanguage::Jsonata)
        }
        None => {
            fields.problem_at("QueryLanguage", "Expected value of type String");
            Some(QueryLanguage::Jsonata)
        }
    }
}

fn single(code: Code, message: String) -> Rejection {
    Rejection {
        problems: vec![Problem {
            path: "/".into(),
            code,
            message,
            hint: None,
        }],
    }
}

/// What is too much about a value; looks no further than that.
pub(crate) fn outsized(value: &Value) -> Option<String> {
    let mut open = vec![(value, 1)];
    let mut bytes = 0;
    while let Some((value, level)) = open.pop() {
        if level > MAX_DEPTH {
            return Some(format!(
                "The definition is nested deeper than {MAX_DEPTH} levels"
            ));
        }
        // What a value takes at least as text.
        bytes += match value {
            Value::String(text) => text.len() + 2,
            Value::Object(fields) => fields.keys().map(|key| key.len() + 4).sum::<usize>() + 2,
            Value::Array(items) => items.len() + 1,
            _ => 1,
        };
        if bytes > MAX_BYTES {
            return Some(format!("The definition has more than {MAX_BYTES} bytes"));
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|v| (v, level + 1))),
            Value::Object(fields) => open.extend(fields.values().map(|v| (v, level + 1))),
            _ => {}
        }
    }
    None
}
