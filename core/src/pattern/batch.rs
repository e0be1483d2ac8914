//! Patterns tried on events line by line, as `weir filter test --batch` does.
//!
//! A line is a JSON object. For [`Dialect::EventBridge`] it has `id`, `event` and `pattern`; for the dialects of topics `id`,
//! `policy`, `message` and `attributes` (an object of `{"DataType": …, "StringValue": …}`), of which the last two may be missing.
//! A line's `scope` (`MessageAttributes` or `MessageBody`) overrides the dialect. Pattern, policy, event and message may be given
//! as JSON or as strings that hold it.
//!
//! The answer is a JSON object with the line's `id`; `result`, which is `match`, `no_match` or `invalid`; with `invalid` a
//! `message` that says why, for a pattern in AWS's words; and `line` and `column` where a pattern was refused, if that is known.
//! A line that cannot be read is answered `invalid` as well, so that one bad line does not stop the others.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Attribute, Dialect, Pattern, PatternError, Policy, PolicyScope, Set};

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    id: Value,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    pattern: Option<&'a RawValue>,
    #[serde(borrow)]
    policy: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(default)]
    attributes: Option<serde_json::Map<String, Value>>,
    scope: Option<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a Value,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

enum Refusal {
    Pattern(PatternError),
    Other(String),
}

impl From<PatternError> for Refusal {
    fn from(error: PatternError) -> Self {
        Self::Pattern(error)
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Other(message)
    }
}

/// Answers one line; the answer is one line too, without a newline at its end.
pub fn answer(line: &[u8], dialect: Dialect) -> String {
    let read = serde_json::from_slice::<Line>(line);
    let (id, outcome) = match read {
        Ok(line) => {
            let outcome = if line.scope.is_some() || dialect.is_topic() {
                policy(&line, dialect)
            } else {
                event(&line)
            };
            (line.id, outcome)
        }
        Err(error) => {
            let shape = match dialect {
                Dialect::EventBridge => r#"{"id": …, "event": …, "pattern": …}"#,
                _ => r#"{"id": …, "policy": …, "message": …, "attributes": …}"#,
            };
            // What can be saved of a line with a wrong member is its id.
            let id = serde_json::from_slice::<Value>(line)
                .ok()
                .and_then(|line| line.get("id").cloned())
                .unwrap_or_default();
            (
                id,
                Err(Refusal::Other(format!(
                    "The line cannot be read: {error}. Write {shape}"
                ))),
            )
        }
    };
    let mut answer = Answer {
        id: &id,
        result: "invalid",
        message: None,
        line: None,
        column: None,
    };
    match outcome {
        Ok(matched) => answer.result = if matched { "match" } else { "no_match" },
        Err(Refusal::Other(message)) => answer.message = Some(message),
        Err(Refusal::Pattern(error)) => {
            answer.message = Some(error.to_string());
            answer.line = error.position().map(|position| position.line);
            answer.column = error.position().map(|position| position.column);
        }
    }
    serde_json::to_string(&answer)
        .unwrap_or_else(|error| format!("{{\"result\":\"invalid\",\"message\":\"{error}\"}}"))
}

fn event(line: &Line) -> Result<bool, Refusal> {
    let pattern = line
        .pattern
        .ok_or_else(|| "The line has no pattern".to_owned())?;
    let pattern = Pattern::parse(&text(pattern), Dialect::EventBridge)?;
    let event = line
        .event
        .ok_or_else(|| "The line has no event".to_owned())?;
    let set = Set::new([&pattern]).map_err(|error| error.to_string())?;
    match set.matches(text(event).as_bytes(), &mut set.scratch()) {
        Ok(matched) => Ok(!matched.is_empty()),
        Err(error) => Err(error.to_string().into()),
    }
}

fn policy(line: &Line, dialect: Dialect) -> Result<bool, Refusal> {
    let scope = match line.scope.as_deref() {
        Some("MessageAttributes") => PolicyScope::MessageAttributes,
        Some("MessageBody") => PolicyScope::MessageBody,
        Some(other) => {
            return Err(
                format!("Unknown scope {other}: write MessageAttributes or MessageBody").into(),
            );
        }
        None if dialect == Dialect::TopicBody => PolicyScope::MessageBody,
        None => PolicyScope::MessageAttributes,
    };
    let policy = line
        .policy
        .or(line.pattern)
        .ok_or_else(|| "The line has no policy".to_owned())?;
    let policy = Policy::parse(&text(policy), scope)?;
    let body = line.message.map(text).unwrap_or_default();
    let attributes = line
        .attributes
        .iter()
        .flatten()
        .map(|(name, attribute)| Attribute {
            name,
            data_type: member(attribute, ["DataType", "Type"]),
            value: member(attribute, ["StringValue", "Value"]),
        });
    let attributes: Vec<_> = attributes.collect();
    policy
        .delivers(body.as_bytes(), &attributes, &mut policy.scratch())
        .map_err(|error| error.to_string().into())
}

/// The first of two names that the attribute has.
fn member<'a>(attribute: &'a Value, names: [&str; 2]) -> &'a str {
    names
        .iter()
        .find_map(|name| attribute[*name].as_str())
        .unwrap_or_default()
}

/// A string's content; of anything else its JSON, without the white space a line may have in it.
fn text(value: &RawValue) -> Cow<'_, str> {
    let json = value.get();
    if json.starts_with('"') {
        return serde_json::from_str::<String>(json).map_or(Cow::Borrowed(json), Cow::Owned);
    }
    let (mut in_string, mut escaped) = (false, false);
    let is_space = |character: char| {
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
            return false;
        }
        in_string = character == '"';
        character.is_ascii_whitespace()
    };
    let mut is_space = is_space;
    Cow::Owned(
        json.chars()
            .filter(|character| !is_space(*character))
            .collect(),
    )
}
