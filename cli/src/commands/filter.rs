//! `weir filter test`: a pattern tried on an event, as the runtime would.

use serde_json::{Map, Value};
use weir_core::pattern::{Dialect, batch};

use crate::args::filter::{Filter, FilterTest};
use crate::batch::answer_lines;
use crate::failure::Failure;
use crate::files;
use crate::output::print;

/// Runs a command about filters.
pub fn filter(command: &Filter) -> Result<(), Failure> {
    let Filter::Test(arguments) = command;
    test(arguments)
}

fn test(arguments: &FilterTest) -> Result<(), Failure> {
    let dialect = Dialect::from(arguments.dialect);
    if let Some(from) = &arguments.batch {
        return answer_lines(from, |line| batch::answer(line, dialect));
    }
    let topic = dialect != Dialect::EventBridge;
    let (pattern, event) = if topic {
        ("policy", "message")
    } else {
        ("pattern", "event")
    };
    let mut case = Map::new();
    for (field, given) in [(pattern, &arguments.pattern), (event, &arguments.event)] {
        if let Some(given) = given {
            // As text, so that numbers and duplicate keys arrive as they were written.
            case.insert(field.to_owned(), files::value(given)?.into());
        }
    }
    if let Some(given) = &arguments.attributes {
        let text = files::value(given)?;
        let attributes: Value = serde_json::from_str(&text)
            .map_err(|why| Failure::usage(format!("--attributes: {why}")))?;
        case.insert("attributes".to_owned(), attributes);
    }
    let answer = batch::answer(Value::Object(case).to_string().as_bytes(), dialect);
    let mut answer: Value = serde_json::from_str(&answer).map_err(Failure::other)?;
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("id");
    }
    let result = answer["result"].as_str().unwrap_or_default().to_owned();
    let words = |document: &Value| match document["result"].as_str() {
        Some("match") => "match".to_owned(),
        Some("no_match") => "no match".to_owned(),
        _ => String::new(),
    };
    print(arguments.output, &answer, words, |document| {
        vec![document["result"].as_str().unwrap_or_default().to_owned()]
    })?;
    match result.as_str() {
        "match" => Ok(()),
        "no_match" => Err(Failure::silent(1)),
        _ => {
            let at = match (answer["line"].as_u64(), answer["column"].as_u64()) {
                (Some(line), Some(column)) => format!(" (line {line}, column {column})"),
                _ => String::new(),
            };
            let message = answer["message"].as_str().unwrap_or_default();
            Err(Failure::usage(format!("invalid: {message}{at}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pattern_given_as_text_is_read_as_it_was_written() {
        let case = json!({"pattern": r#"{"a": [1.0]}"#, "event": r#"{"a": 1}"#});
        let answer = batch::answer(case.to_string().as_bytes(), Dialect::EventBridge);
        assert!(answer.contains(r#""result":"match""#), "{answer}");
    }
}
