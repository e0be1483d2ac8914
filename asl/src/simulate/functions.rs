//! Functions that a simulation can call, described by what they do.
//!
//! A behaviours file maps the name of a handler to `{"returns": <value>}` or
//! `{"raises": {"errorType": ..., "errorMessage": ...}}`, with `"sleeps_s": <seconds>` beside it. Of the
//! texts that describe a return value instead of being one, these are understood: *the input event
//! unchanged*; *string '…' followed by Python repr of event*; *Python bytes value …* (no JSON: the
//! function fails with `Runtime.MarshalError`); *a value over 256 KB …*.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::mocks::Answer;

/// What handlers do, by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behaviours {
    by_handler: BTreeMap<String, Behaviour>,
}

#[derive(Clone, Debug, PartialEq)]
struct Behaviour {
    work: Work,
    sleeps_seconds: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Work {
    Return(Value),
    Echo,
    /// A text before the event as Python writes it.
    Decorate(String),
    Raise {
        kind: String,
        message: String,
    },
}

/// Why a value is no set of behaviours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseBehavioursError {
    /// It is no object.
    #[error("behaviours must be an object: {{\"<handler>\": {{\"returns\": ...}}}}")]
    LackHandlers,
    /// A handler neither returns nor raises.
    #[error(
        "handler '{0}' must have 'returns' or 'raises': {{\"errorType\": ..., \"errorMessage\": ...}}"
    )]
    LackOutcome(String),
}

impl Behaviours {
    /// Reads a behaviours file.
    pub fn from_json(value: &Value) -> Result<Self, ParseBehavioursError> {
        let handlers = value
            .as_object()
            .ok_or(ParseBehavioursError::LackHandlers)?;
        let mut by_handler = BTreeMap::new();
        for (handler, value) in handlers {
            let work =
                work(value).ok_or_else(|| ParseBehavioursError::LackOutcome(handler.clone()))?;
            let sleeps_seconds = value["sleeps_s"].as_u64().unwrap_or_default();
            by_handler.insert(
                handler.clone(),
                Behaviour {
                    work,
                    sleeps_seconds,
                },
            );
        }
        Ok(Self { by_handler })
    }
}

fn work(value: &Value) -> Option<Work> {
    if let Some(raised) = value.get("raises") {
        return Some(Work::Raise {
            kind: raised["errorType"].as_str()?.to_owned(),
            message: raised["errorMessage"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        });
    }
    let returned = value.get("returns")?;
    let Some(text) = returned.as_str() else {
        return Some(Work::Return(returned.clone()));
    };
    if text == "the input event unchanged" {
        return Some(Work::Echo);
    }
    if let Some((prefix, _)) = text
        .strip_prefix("string '")
        .and_then(|rest| rest.split_once("' followed by Python repr"))
    {
        return Some(Work::Decorate(prefix.to_owned()));
    }
    if text.starts_with("Python bytes value") {
        return Some(Work::Raise {
            kind: "Runtime.MarshalError".into(),
            message: "Unable to marshal response: Object of type bytes is not JSON serializable"
                .into(),
        });
    }
    if text.starts_with("a value over 256 KB") {
        return Some(Work::Return(Value::String("a".repeat(300 * 1024))));
    }
    Some(Work::Return(returned.clone()))
}

/// Functions by name, each with a handler.
#[derive(Clone, Debug, Default)]
pub struct Functions<'a> {
    behaviours: Option<&'a Behaviours>,
    /// Function, handler.
    names: BTreeMap<String, String>,
}

impl<'a> Functions<'a> {
    /// Functions with these names and handlers.
    pub fn new(
        behaviours: &'a Behaviours,
        names: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self {
            behaviours: Some(behaviours),
            names: names.into_iter().collect(),
        }
    }

    /// What a function does with an event, and how many seconds it takes. None: there is no such
    /// function.
    pub(super) fn call(
        &self,
        name: &str,
        event: &Value,
        request_id: &str,
    ) -> Option<(Answer, u64)> {
        let behaviour = self.behaviours?.by_handler.get(self.names.get(name)?)?;
        let answer = match &behaviour.work {
            Work::Return(value) => Answer::Return(value.clone()),
            Work::Echo => Answer::Return(event.clone()),
            Work::Decorate(prefix) => {
                let mut text = prefix.clone();
                write_repr(event, &mut text);
                Answer::Return(Value::String(text))
            }
            Work::Raise { kind, message } => Answer::Throw {
                error: kind.clone(),
                cause: json!({
                    "errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": [],
                })
                .to_string(),
            },
        };
        Some((answer, behaviour.sleeps_seconds))
    }
}

/// The name of a function in its ARN, or the text itself if it is no ARN; without a version or alias.
pub(super) fn function_name(text: &str) -> Option<&str> {
    let name = match text.split_once(":function:") {
        Some((_, name)) => name,
        None if text.starts_with("arn:") => return None,
        None => text,
    };
    name.split(':').next().filter(|name| !name.is_empty())
}

/// What the service answers about a function that does not exist.
pub(super) fn no_function(name: &str, request_id: &str) -> Answer {
    let arn = format!("arn:aws:lambda:us-east-1:111111111111:function:{name}");
    Answer::Throw {
        error: "Lambda.ResourceNotFoundException".into(),
        cause: format!(
            "Function not found: {arn} (Service: Lambda, Status Code: 404, Request ID: {request_id})"
        ),
    }
}

/// What `lambda:invoke` answers when a function returned this.
pub(super) fn invocation(payload: &Value, request_id: &str) -> Value {
    let length = payload.to_string().len().to_string();
    let headers = json!({
        "Connection": "keep-alive",
        "Content-Length": length,
        "Content-Type": "application/json",
        "Date": "Mon, 01 Jan 2024 00:00:00 GMT",
        "X-Amz-Executed-Version": "$LATEST",
        "X-Amzn-Trace-Id": "root=1-00000000-000000000000000000000000;sampled=0",
        "x-amzn-Remapped-Content-Length": "0",
        "x-amzn-RequestId": request_id,
    });
    let all: serde_json::Map<String, Value> = headers
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), json!([value])))
        .collect();
    json!({
        "ExecutedVersion": "$LATEST",
        "Payload": payload,
        "SdkHttpMetadata": {"AllHttpHeaders": all, "HttpHeaders": headers, "HttpStatusCode": 200},
        "SdkResponseMetadata": {"RequestId": request_id},
        "StatusCode": 200,
    })
}

/// A value as Python's `repr` writes it.
fn write_repr(value: &Value, into: &mut String) {
    match value {
        Value::Null => into.push_str("None"),
        Value::Bool(true) => into.push_str("True"),
        Value::Bool(false) => into.push_str("False"),
        Value::Number(number) => {
            let _ = write!(into, "{number}");
        }
        Value::String(text) => write_repr_text(text, into),
        Value::Array(items) => {
            into.push('[');
            for (i, item) in items.iter().enumerate() {
                into.push_str(if i == 0 { "" } else { ", " });
                write_repr(item, into);
            }
            into.push(']');
        }
        Value::Object(fields) => {
            into.push('{');
            for (i, (key, value)) in fields.iter().enumerate() {
                into.push_str(if i == 0 { "" } else { ", " });
                write_repr_text(key, into);
                into.push_str(": ");
                write_repr(value, into);
            }
            into.push('}');
        }
    }
}

fn write_repr_text(text: &str, into: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    into.push(quote);
    for c in text.chars() {
        match c {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            c if c == quote => {
                into.push('\\');
                into.push(c);
            }
            c => into.push(c),
        }
    }
    into.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behaviours() -> Behaviours {
        Behaviours::from_json(&json!({
            "id.py": {"returns": "the input event unchanged", "sleeps_s": 60},
            "fixed.py": {"returns": {"a": 1}},
            "decorated.py": {"returns": "string 'input-event-' followed by Python repr of event"},
            "bytes.py": {"returns": "Python bytes value b'x' (not JSON serialisable)"},
            "raise.py": {"raises": {"errorType": "Exception", "errorMessage": "no"}},
        }))
        .unwrap()
    }

    fn call(handler: &str, event: &Value) -> (Answer, u64) {
        let behaviours = behaviours();
        let functions = Functions::new(&behaviours, [("f".to_owned(), handler.to_owned())]);
        assert_eq!(functions.call("g", event, "r"), None);
        functions.call("f", event, "r").unwrap()
    }

    #[test]
    fn a_function_does_what_is_said_of_it() {
        assert_eq!(call("id.py", &json!([1])), (Answer::Return(json!([1])), 60));
        assert_eq!(
            call("fixed.py", &json!(0)),
            (Answer::Return(json!({"a": 1})), 0)
        );
        assert_eq!(
            call("decorated.py", &json!({"a": [true, null, 1.5, "it's"]})).0,
            Answer::Return(json!("input-event-{'a': [True, None, 1.5, \"it's\"]}"))
        );
        let Answer::Throw { error, cause } = call("raise.py", &json!({})).0 else {
            panic!("raises")
        };
        assert_eq!(error, "Exception");
        assert!(cause.contains("\"errorMessage\":\"no\""), "{cause}");
        assert!(
            matches!(call("bytes.py", &json!(1)).0, Answer::Throw { error, .. } if error == "Runtime.MarshalError")
        );
    }

    #[test]
    fn a_function_is_found_by_its_name_in_an_arn() {
        assert_eq!(
            function_name("arn:aws:lambda:us-east-1:1:function:f"),
            Some("f")
        );
        assert_eq!(
            function_name("arn:aws:lambda:us-east-1:1:function:f:$LATEST"),
            Some("f")
        );
        assert_eq!(function_name("f:3"), Some("f"));
        assert_eq!(function_name("arn:aws:states:::lambda:invoke"), None);
        assert_eq!(function_name(""), None);
    }

    #[test]
    fn a_file_of_another_form_is_refused() {
        assert!(Behaviours::from_json(&json!([])).is_err());
        assert!(
            Behaviours::from_json(&json!({"a": {}}))
                .unwrap_err()
                .to_string()
                .contains("'a'")
        );
    }
}
