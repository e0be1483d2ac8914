//! Warnings: what is allowed, and probably meant otherwise (the warnings of AWS's
//! `ValidateStateMachineDefinition`). Only JSONPath is looked at; JSONata marks its expressions.

use serde_json::{Map, Value};

use crate::parse::outsized;
use crate::problem::{Code, Problem, Rejection};

/// Fields whose `…Path` form takes a path.
const PATH_FORMS: &[&str] = &["Seconds", "Timestamp", "TimeoutSeconds", "Error", "Cause"];

/// What is doubtful about a definition, whether it is sound or not.
pub fn warnings(definition: &Value) -> Vec<Problem> {
    let mut found = Vec::new();
    let in_jsonata = definition.get("QueryLanguage").and_then(Value::as_str) == Some("JSONata");
    if !in_jsonata && outsized(definition).is_none() {
        flow(definition, "", &mut found);
    }
    found.truncate(Rejection::MAX_PROBLEMS);
    found
}

fn flow(flow_value: &Value, path: &str, found: &mut Vec<Problem>) {
    let Some(states) = flow_value.get("States").and_then(Value::as_object) else {
        return;
    };
    for (name, value) in states {
        let path = format!("{path}/States/{name}");
        let Some(fields) = value.as_object() else {
            continue;
        };
        let language = fields.get("QueryLanguage").and_then(Value::as_str);
        if language != Some("JSONata") {
            state(fields, &path, found);
        }
        for body in ["ItemProcessor", "Iterator"] {
            if let Some(inner) = fields.get(body) {
                flow(inner, &format!("{path}/{body}"), found);
            }
        }
        let branches = fields.get("Branches").and_then(Value::as_array);
        for (i, branch) in branches.into_iter().flatten().enumerate() {
            flow(branch, &format!("{path}/Branches[{i}]"), found);
        }
    }
}

fn state(fields: &Map<String, Value>, path: &str, found: &mut Vec<Problem>) {
    for name in ["Parameters", "ItemSelector", "ResultSelector", "Assign"] {
        if let Some(template) = fields.get(name) {
            undollared(template, &format!("{path}/{name}"), found);
        }
    }
    if let Some(result) = fields
        .get("Result")
        .filter(|result| looks_evaluated(result))
    {
        found.push(Problem {
            path: format!("{path}/Result"),
            code: Code::PassResultIsStatic,
            message: "Attempt to use a path in the result of a pass state.".into(),
            hint: Some(format!(
                "nothing in it is evaluated; use 'Parameters' for {result}"
            )),
        });
    }
    for name in PATH_FORMS {
        if fields
            .get(*name)
            .is_some_and(|value| value.as_str().is_some_and(is_path))
        {
            found.push(Problem {
                path: format!("{path}/{name}"),
                code: Code::NoPath,
                message: "Field value looks like a path, but field name does not end with 'Path'."
                    .into(),
                hint: Some(format!("write '{name}Path'")),
            });
        }
    }
}

/// Values that would be evaluated if their names ended in `.$`.
fn undollared(template: &Value, path: &str, found: &mut Vec<Problem>) {
    match template {
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(key, _)| !key.ends_with(".$")) {
                match value.as_str() {
                    Some(text) if is_path(text) || is_call(text) => found.push(Problem {
                        path: format!("{path}/{key}"),
                        code: Code::NoDollar,
                        message:
                            "No .$ on a field that appears to be a JSONPath or Intrinsic Function."
                                .into(),
                        hint: Some(format!("write '{key}.$'")),
                    }),
                    _ => undollared(value, &format!("{path}/{key}"), found),
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                undollared(item, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

fn looks_evaluated(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.ends_with(".$") || looks_evaluated(value)),
        Value::Array(items) => items.iter().any(looks_evaluated),
        _ => false,
    }
}

fn is_path(text: &str) -> bool {
    text == "$"
        || text == "$$"
        || text.starts_with("$.")
        || text.starts_with("$$.")
        || text.starts_with("$[")
}

fn is_call(text: &str) -> bool {
    text.starts_with("States.") && text.ends_with(')')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(state: &Value) -> Vec<(Code, String)> {
        let found = warnings(&json!({"States": {"S": state}}));
        found
            .into_iter()
            .map(|problem| (problem.code, problem.path))
            .collect()
    }

    #[test]
    fn a_path_under_a_plain_name_is_doubtful() {
        assert_eq!(
            of(
                &json!({"Parameters": {"a": "$.x", "b.$": "$.x", "c": [{"d": "States.UUID()"}], "e": "$5"}})
            ),
            [
                (Code::NoDollar, "/States/S/Parameters/a".to_owned()),
                (Code::NoDollar, "/States/S/Parameters/c[0]/d".to_owned())
            ]
        );
        assert_eq!(
            of(&json!({"Parameters": {"a": "$.x"}, "QueryLanguage": "JSONata"})),
            []
        );
        assert_eq!(of(&json!({"Parameters": {}, "Comment": "$.x"})), []);
    }

    #[test]
    fn a_result_that_looks_evaluated_is_doubtful() {
        assert_eq!(
            of(&json!({"Result": {"a": {"b.$": "$.x"}}})),
            [(Code::PassResultIsStatic, "/States/S/Result".to_owned())]
        );
        assert_eq!(of(&json!({"Result": {"a": 1}})), []);
    }

    #[test]
    fn a_path_in_a_field_that_takes_none_is_doubtful() {
        assert_eq!(
            of(&json!({"Seconds": "$.n"})),
            [(Code::NoPath, "/States/S/Seconds".to_owned())]
        );
        assert_eq!(of(&json!({"Cause": "costs $.5"})), []);
    }

    #[test]
    fn states_of_nested_flows_are_looked_at() {
        let inner = json!({"States": {"I": {"Result": {"x.$": "$"}}}});
        assert_eq!(of(&json!({"ItemProcessor": inner})).len(), 1);
        assert_eq!(
            of(&json!({"Branches": [{}, inner]}))[0].1,
            "/States/S/Branches[1]/States/I/Result"
        );
        assert!(
            warnings(&json!({"QueryLanguage": "JSONata", "States": {"S": {"Result": {"x.$": 1}}}}))
                .is_empty()
        );
        assert!(warnings(&json!(5)).is_empty());
    }
}
