//! One state: what all kinds share, and the way to what is particular to each.

use std::sync::Arc;

use serde_json::Value;

use super::context::StateOutline;
use super::fields::Fields;
use super::variables::{self, Scope};
use super::{choice, flow, language, map, retry, scalar, task, template};
use crate::definition::{
    Fail, QueryLanguage, ResultPath, Selection, State, StateKind, Transition, Wait, WorkflowType,
};
use crate::problem::{Code, Problem, nearest};

/// Longest name of a state, in characters.
const MAX_NAME: usize = 80;

const TYPES: [&str; 8] = [
    "Task", "Pass", "Choice", "Wait", "Succeed", "Fail", "Parallel", "Map",
];

const COMMON: &[&str] = &["Type", "Comment", "QueryLanguage"];
const FLOW: &[&str] = &["Next", "End"];
const DATA: &[&str] = &["InputPath", "OutputPath", "Output"];
const RESULT: &[&str] = &["ResultPath", "ResultSelector", "Parameters", "Arguments"];
const ERRORS: &[&str] = &["Retry", "Catch"];

/// The fields of a kind of state, by groups.
fn groups(kind: &str) -> Vec<&'static [&'static str]> {
    match kind {
        "Task" => vec![
            COMMON,
            FLOW,
            DATA,
            RESULT,
            ERRORS,
            task::FIELDS,
            &["Assign"],
        ],
        "Pass" => vec![
            COMMON,
            FLOW,
            DATA,
            &["Parameters", "Result", "ResultPath", "Assign"],
        ],
        "Choice" => vec![COMMON, DATA, &["Choices", "Default", "Assign"]],
        "Wait" => vec![COMMON, FLOW, DATA, WAIT, &["Assign"]],
        "Succeed" => vec![COMMON, DATA],
        "Fail" => vec![COMMON, &["Error", "ErrorPath", "Cause", "CausePath"]],
        "Parallel" => vec![COMMON, FLOW, DATA, RESULT, ERRORS, &["Branches", "Assign"]],
        "Map" => vec![
            COMMON,
            FLOW,
            DATA,
            &["ResultPath", "ResultSelector", "Parameters", "Assign"],
            ERRORS,
            map::FIELDS,
        ],
        _ => Vec::new(),
    }
}

const WAIT: &[&str] = &["Seconds", "SecondsPath", "Timestamp", "TimestampPath"];

/// The language that alone knows a field.
fn only_in(field: &str) -> Option<QueryLanguage> {
    match field {
        "Arguments" | "Output" | "Items" => Some(QueryLanguage::Jsonata),
        "Parameters" | "ResultSelector" | "Result" => Some(QueryLanguage::JsonPath),
        _ if field.ends_with("Path") => Some(QueryLanguage::JsonPath),
        _ => None,
    }
}

/// Reads a state; notes of it what is judged together with others.
pub(super) fn state(
    name: &str,
    fields: &Fields<'_>,
    workflow: WorkflowType,
    scope: &Scope,
    noted: &mut StateOutline,
) -> Option<State> {
    check_name(name, fields);
    let language = query_language(fields);
    fields.required(&["Type"]);
    let Some(kind) = kind_name(fields) else {
        // What it leads to is still of use to the judgement of the others.
        note_next(fields, noted);
        noted.terminal = true;
        return None;
    };
    check_fields(fields, kind, language);
    let transition = match kind {
        "Choice" => Some(Transition::End),
        "Succeed" | "Fail" => {
            noted.terminal = true;
            Some(Transition::End)
        }
        _ => transition(fields, noted),
    };
    let catches = matches!(kind, "Task" | "Parallel" | "Map");
    let retry = if catches {
        retry::retriers(fields)
    } else {
        Some(Vec::new())
    };
    let catch = if catches {
        retry::catchers(fields, language, scope, noted)
    } else {
        Some(Vec::new())
    };
    let kind = match kind {
        "Task" => task::task(fields, language, workflow).map(|t| StateKind::Task(Box::new(t))),
        "Pass" => Some(StateKind::Pass {
            result: fields.get("Result").cloned().map(std::sync::Arc::new),
        }),
        "Choice" => choice::choice(fields, language, scope, noted).map(StateKind::Choice),
        "Wait" => wait(fields, language).map(StateKind::Wait),
        "Succeed" => Some(StateKind::Succeed),
        "Fail" => Some(StateKind::Fail(fail(fields, language))),
        "Parallel" => parallel(fields, workflow, scope, noted).map(StateKind::Parallel),
        _ => {
            map::map(fields, language, workflow, scope, noted).map(|m| StateKind::Map(Box::new(m)))
        }
    };
    let arguments = match &kind {
        // A Map's `Parameters` are its item selector.
        Some(StateKind::Map(_)) => None,
        _ => template::template(fields, "Parameters", QueryLanguage::JsonPath)
            .or_else(|| template::template(fields, "Arguments", QueryLanguage::Jsonata)),
    };
    variables::check(fields, language, scope);
    Some(State {
        name: name.into(),
        comment: fields.text("Comment"),
        language,
        input_path: selection(fields, "InputPath"),
        arguments,
        result_selector: template::template(fields, "ResultSelector", language),
        result_path: result_path(fields),
        output_path: selection(fields, "OutputPath"),
        output: template::template(fields, "Output", language),
        assign: template::template(fields, "Assign", language),
        retry: retry?,
        catch: catch?,
        transition: transition?,
        kind: kind?,
    })
}

fn check_name(name: &str, fields: &Fields<'_>) {
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME {
        fields.cx().report(Problem {
            path: fields.path().to_owned(),
            code: Code::InvalidStateName,
            message: format!(
                "A state name must have 1 to {MAX_NAME} characters; this one has {length}"
            ),
            hint: None,
        });
    }
}

fn query_language(fields: &Fields<'_>) -> QueryLanguage {
    let machine = fields.cx().machine_language();
    let Some(own) = language(fields) else {
        return machine;
    };
    if own == QueryLanguage::JsonPath && machine == QueryLanguage::Jsonata {
        fields.problem(
            "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine",
        );
    }
    own
}

fn kind_name(fields: &Fields<'_>) -> Option<&'static str> {
    let text = fields.text("Type")?;
    let found = TYPES.into_iter().find(|kind| **kind == *text);
    if found.is_none() {
        let hint = nearest(&text, TYPES).map(|near| format!("did you mean '{near}'?"));
        fields.cx().report(Problem {
            path: fields.at("Type"),
            code: Code::SchemaValidationFailed,
            message: format!("Value '{text}' is not one of [{}]", TYPES.join(", ")),
            hint,
        });
    }
    found
}

fn check_fields(fields: &Fields<'_>, kind: &str, language: QueryLanguage) {
    let known: Vec<&str> = groups(kind).concat();
    fields.only(&known);
    for (name, _) in fields
        .iter()
        .filter(|(name, _)| known.contains(&name.as_str()))
    {
        if let Some(only) = only_in(name).filter(|only| *only != language) {
            fields.problem(format!(
                "The QueryLanguage is set to '{}', but field '{name}' is only supported for the \
                 '{}' QueryLanguage",
                language.name(),
                only.name()
            ));
        }
    }
}

fn note_next(fields: &Fields<'_>, noted: &mut StateOutline) -> Option<Arc<str>> {
    let next = fields.text("Next")?;
    noted.targets.push((fields.at("Next"), next.to_string()));
    Some(next)
}

fn transition(fields: &Fields<'_>, noted: &mut StateOutline) -> Option<Transition> {
    fields.exactly_one(FLOW);
    let next = note_next(fields, noted);
    let end = fields.boolean("End");
    if end == Some(false) && next.is_none() {
        fields.problem_at("End", "A state without 'Next' must have \"End\": true");
    }
    // A field of the wrong form is a problem of its own, and no reason to say that the flow has no end.
    noted.terminal = next.is_none() || end == Some(true);
    match (next, end) {
        (Some(next), None | Some(false)) => Some(Transition::Next(next)),
        (None, Some(true)) => Some(Transition::End),
        _ => None,
    }
}

fn selection(fields: &Fields<'_>, name: &str) -> Selection {
    match fields.get(name) {
        None => Selection::All,
        Some(Value::Null) => Selection::Discard,
        Some(_) => match template::path(fields, name) {
            Some(path) if !path.is_whole_input() => Selection::Path(path),
            _ => Selection::All,
        },
    }
}

/// `ResultPath` of a state or a catcher.
pub(super) fn result_path(fields: &Fields<'_>) -> ResultPath {
    match fields.get("ResultPath") {
        None => ResultPath::Replace,
        Some(Value::Null) => ResultPath::Discard,
        Some(_) => match template::reference_path(fields, "ResultPath") {
            Some(path) if !path.is_whole_input() => ResultPath::At(path),
            _ => ResultPath::Replace,
        },
    }
}

fn wait(fields: &Fields<'_>, language: QueryLanguage) -> Option<Wait> {
    fields.exactly_one(WAIT);
    let bounds = 0..=crate::definition::MAX_SECONDS;
    let seconds = scalar::integer(fields, "Seconds", Some("SecondsPath"), language, bounds);
    let timestamp = scalar::timestamp(fields, "Timestamp", Some("TimestampPath"), language);
    seconds
        .map(Wait::Seconds)
        .or(timestamp.map(Wait::Timestamp))
}

fn fail(fields: &Fields<'_>, language: QueryLanguage) -> Fail {
    fields.at_most_one(&["Error", "ErrorPath"]);
    fields.at_most_one(&["Cause", "CausePath"]);
    Fail {
        error: scalar::text(fields, "Error", "ErrorPath", language),
        cause: scalar::text(fields, "Cause", "CausePath", language),
    }
}

fn parallel(
    fields: &Fields<'_>,
    workflow: WorkflowType,
    scope: &Scope,
    noted: &mut StateOutline,
) -> Option<Vec<Arc<crate::definition::Flow>>> {
    fields.required(&["Branches"]);
    let count = fields.array("Branches")?.len();
    if count == 0 {
        fields.problem_at("Branches", "At least one branch is required");
    }
    let mut branches = Vec::new();
    for branch in fields.objects("Branches") {
        branch.only(&["Comment", "StartAt", "States"]);
        let (flow, outline) = flow::flow(&branch, workflow, scope);
        noted.flows.push(outline);
        branches.extend(flow.map(Arc::new));
    }
    (branches.len() == count).then_some(branches)
}
