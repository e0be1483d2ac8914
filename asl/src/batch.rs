//! Many cases, a line of JSON each: what `weir sm test` and `weir sm lint` answer to a stream.
//!
//! A line that is no case is answered by a line with an `error`; it never stops the others.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::definition::WorkflowType;
use crate::parse;
use crate::problem::{Problem, Rejection};
use crate::simulate::{Answers, Behaviours, Functions, Mocks, Options, Report, alone, simulate};
use crate::validate::warnings;

/// Longest line, in bytes: a definition, an input and mocks.
pub const MAX_LINE_BYTES: usize = 8 * 1_048_576;

/// Answers `{id, definition, input, type, mocks?}` with `{id, status, output | error, cause, events}`,
/// or with `rejected` where the definition is refused. `behaviours` are those of the functions that a
/// case lists as `lambda_functions: [{name, handler}]`.
///
/// With `state` in the case that state is run by itself: its output is the answer's, and `next` is the
/// state that it leads to, if it leads to one.
pub fn test(line: &str, behaviours: Option<&Behaviours>) -> String {
    answer(line, |case| tested(case, behaviours))
}

/// Answers `{id, definition}` with `{id, valid, problems: [{path, code, message}]}`, and `warnings` of the
/// same form where something is probably meant otherwise.
pub fn lint(line: &str) -> String {
    answer(line, linted)
}

fn answer(line: &str, of: impl FnOnce(&Map<String, Value>) -> Result<Value, String>) -> String {
    let (id, result) = match read(line) {
        Ok(case) => {
            let id = case.get("id").cloned().unwrap_or_default();
            // Nothing in here panics on input; a library that did must not take the other cases along.
            let result = catch_unwind(AssertUnwindSafe(|| of(&case)));
            (
                id,
                result.unwrap_or_else(|_| Err("the case could not be judged".into())),
            )
        }
        Err(error) => (Value::Null, Err(error)),
    };
    let mut answer = Map::new();
    answer.insert("id".into(), id);
    match result {
        Ok(Value::Object(fields)) => answer.extend(fields),
        Ok(other) => {
            answer.insert("result".into(), other);
        }
        Err(error) => {
            answer.insert("error".into(), error.into());
        }
    }
    Value::Object(answer).to_string()
}

fn read(line: &str) -> Result<Map<String, Value>, String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!(
            "the line has {} bytes; at most {MAX_LINE_BYTES} are read",
            line.len()
        ));
    }
    match serde_json::from_str(line) {
        Ok(Value::Object(case)) => Ok(case),
        Ok(_) => Err("a line must be an object: {\"id\": ..., \"definition\": {...}}".into()),
        Err(error) => Err(format!("the line is not JSON: {error}")),
    }
}

fn linted(case: &Map<String, Value>) -> Result<Value, String> {
    let problems = match definition(case, workflow(case)?)? {
        Ok(_) => Vec::new(),
        Err(rejection) => rejection.problems,
    };
    let mut told = json!({"valid": problems.is_empty(), "problems": list(&problems)});
    let doubts = match case.get("definition") {
        Some(Value::String(text)) => serde_json::from_str(text).map(|v| warnings(&v)).ok(),
        Some(value) => Some(warnings(value)),
        None => None,
    }
    .unwrap_or_default();
    if !doubts.is_empty() {
        told["warnings"] = list(&doubts);
    }
    Ok(told)
}

fn list(problems: &[Problem]) -> Value {
    problems
        .iter()
        .map(|p| json!({"path": p.path, "code": p.code.name(), "message": p.advice()}))
        .collect()
}

/// The definition of a case: an object, or a text that holds one.
fn definition(
    case: &Map<String, Value>,
    workflow: WorkflowType,
) -> Result<Result<crate::definition::StateMachine, Rejection>, String> {
    match case.get("definition") {
        None => Err("the case has no 'definition'".into()),
        Some(Value::String(text)) => Ok(parse::parse(text, workflow)),
        Some(value) => Ok(parse::from_value(value, workflow)),
    }
}

fn workflow(case: &Map<String, Value>) -> Result<WorkflowType, String> {
    match case.get("type") {
        None | Some(Value::Null) => Ok(WorkflowType::Standard),
        Some(value) => value
            .as_str()
            .and_then(WorkflowType::from_name)
            .ok_or_else(|| format!("'type' must be STANDARD or EXPRESS, not {value}")),
    }
}

fn tested(case: &Map<String, Value>, behaviours: Option<&Behaviours>) -> Result<Value, String> {
    let workflow = workflow(case)?;
    let mocks = case
        .get("mocks")
        .filter(|mocks| !mocks.is_null())
        .map(Mocks::from_json)
        .transpose()
        .map_err(|error| error.to_string())?;
    let functions = functions(case, behaviours)?;
    let options = Options {
        workflow,
        ..options(case)?
    };
    let single = single_state(case)?;
    let machine = match definition(single.as_ref().unwrap_or(case), workflow)? {
        Ok(machine) => machine,
        Err(rejection) => {
            return Ok(json!({
                "status": "REJECTED",
                "rejected": {"code": rejection.code(), "message": rejection.to_string()},
            }));
        }
    };
    let input = case.get("input").cloned().unwrap_or_else(|| json!({}));
    let answers = Answers {
        mocks: mocks.as_ref(),
        functions: functions.as_ref(),
    };
    let ran = simulate(&machine, input, &options, answers);
    let last = ran.last_state().map(str::to_owned);
    let mut told = report(ran);
    if let (Some(Value::String(state)), Some(last)) = (case.get("state"), last)
        && last != *state
    {
        told["next"] = last.into();
    }
    let unknown = mocks
        .map(|mocks| mocks.unknown(&machine))
        .unwrap_or_default();
    if !unknown.is_empty() {
        let warnings = unknown.into_iter().map(|(name, near)| {
            let hint = near
                .map(|near| format!("; did you mean '{near}'?"))
                .unwrap_or_default();
            format!("mocks: no state, resource or function is named '{name}'{hint}")
        });
        told["warnings"] = warnings.collect::<Vec<_>>().into();
    }
    Ok(told)
}

/// The case with the one state that it asks for, if it does.
fn single_state(case: &Map<String, Value>) -> Result<Option<Map<String, Value>>, String> {
    let Some(state) = case.get("state").filter(|state| !state.is_null()) else {
        return Ok(None);
    };
    let state = state
        .as_str()
        .ok_or("'state' must be the name of a state")?;
    let given = case
        .get("definition")
        .ok_or("the case has no 'definition'")?;
    let parsed;
    let definition = match given {
        Value::String(text) => {
            parsed =
                serde_json::from_str(text).map_err(|error| format!("'definition': {error}"))?;
            &parsed
        }
        value => value,
    };
    let taken = alone(definition, state).map_err(|error| error.to_string())?;
    Ok(Some(Map::from_iter([("definition".to_owned(), taken)])))
}

fn report(report: Report) -> Value {
    let events = report.event_types();
    let mut told = json!({"status": report.status});
    if let Some(output) = report.output {
        told["output"] = output;
    }
    if let Some(error) = report.error {
        told["error"] = error.into();
    }
    if let Some(cause) = report.cause {
        told["cause"] = cause.into();
    }
    told["events"] = events.into();
    told
}

/// `options: {startTime?, seed?, executionName?, machineName?}`
fn options(case: &Map<String, Value>) -> Result<Options, String> {
    let mut options = Options::default();
    let Some(given) = case.get("options").filter(|given| !given.is_null()) else {
        return Ok(options);
    };
    let given = given.as_object().ok_or("'options' must be an object")?;
    for (name, value) in given {
        match (name.as_str(), value) {
            ("startTime", Value::String(text)) => {
                options.start_time = text
                    .parse::<Timestamp>()
                    .map_err(|_| format!("options.startTime must be RFC 3339, not '{text}'"))?;
            }
            ("seed", value) if value.is_u64() => options.seed = value.as_u64().unwrap_or_default(),
            ("executionName", Value::String(text)) => options.execution_name.clone_from(text),
            ("machineName", Value::String(text)) => options.machine_name.clone_from(text),
            _ => {
                return Err(format!(
                    "options.{name} is unknown or of a wrong type; there are startTime, seed, \
                     executionName and machineName"
                ));
            }
        }
    }
    Ok(options)
}

fn functions<'b>(
    case: &Map<String, Value>,
    behaviours: Option<&'b Behaviours>,
) -> Result<Option<Functions<'b>>, String> {
    let (Some(list), Some(behaviours)) = (case.get("lambda_functions"), behaviours) else {
        return Ok(None);
    };
    let list = list
        .as_array()
        .ok_or("'lambda_functions' must be an array of {name, handler}")?;
    let names = list
        .iter()
        .map(|function| {
            let text = |name: &str| function[name].as_str().map(str::to_owned);
            Some((text("name")?, text("handler")?))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or("'lambda_functions' must be an array of {name, handler}")?;
    Ok(Some(Functions::new(behaviours, names)))
}
