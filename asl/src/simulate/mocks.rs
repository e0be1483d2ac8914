//! What tasks answer, said beforehand.
//!
//! ```json
//! {
//!   "Charge": [{"Throw": {"Error": "Declined", "Cause": "no funds"}}, {"Return": {"paid": true}}],
//!   "arn:aws:states:::sqs:sendMessage.waitForTaskToken": {"Return": "yes", "AfterSeconds": 3600},
//!   "reserve": {"Echo": true}
//! }
//! ```
//! A name is that of a state, a resource as the definition writes it, or a function; it is looked up in
//! this order. A list is used up call by call, and its last answer stays. The form of AWS's local mock
//! files, `{"0": {...}, "1-2": {...}}`, is understood too.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::definition::{StateKind, StateMachine};
use crate::problem::nearest;

/// Largest number of answers under one name.
const MAX_ANSWERS: usize = 10_000;

/// Longest `AfterSeconds`: as long as a state may last.
const MAX_SECONDS: u64 = crate::definition::MAX_SECONDS;

const FIELDS: &[&str] = &[
    "Return",
    "Throw",
    "Echo",
    "Never",
    "AfterSeconds",
    "HeartbeatEverySeconds",
];

/// Answers by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mocks {
    by_name: BTreeMap<String, Vec<Mock>>,
}

/// One answer of a task.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mock {
    pub(super) answer: Answer,
    /// How long it takes.
    pub(super) after_seconds: u64,
    /// How often the task gives a sign of life until then.
    pub(super) heartbeat_every_seconds: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Return(Value),
    /// The input is the result.
    Echo,
    Throw {
        error: String,
        cause: String,
    },
    /// It never answers.
    Never,
}

/// Why a value is no set of mocks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mocks{at}: {what}")]
pub struct ParseMocksError {
    /// Where: `.Charge[0].Throw`.
    at: String,
    /// What is wrong, and what to write.
    what: String,
}

impl Mocks {
    /// Reads mocks.
    pub fn from_json(value: &Value) -> Result<Self, ParseMocksError> {
        let Some(fields) = value.as_object() else {
            return Err(wrong(
                "",
                "must be an object: {\"<state or resource>\": {\"Return\": ...}}",
            ));
        };
        let mut by_name = BTreeMap::new();
        for (name, value) in fields {
            by_name.insert(name.clone(), answers(value, &format!(".{name}"))?);
        }
        Ok(Self { by_name })
    }

    /// The names that nothing in a machine has, each with the nearest name that something has.
    pub fn unknown(&self, machine: &StateMachine) -> Vec<(String, Option<String>)> {
        let mut known: Vec<&str> = Vec::new();
        for state in machine.states() {
            known.push(&state.name);
            match &state.kind {
                StateKind::Task(task) => {
                    known.push(task.resource.as_str());
                    known.extend(super::functions::function_name(task.resource.as_str()));
                }
                StateKind::Map(map) => {
                    known.extend(map.reader.as_ref().map(|reader| reader.resource.as_str()));
                    known.extend(
                        map.writer
                            .as_ref()
                            .and_then(|writer| Some(writer.resource.as_ref()?.as_str())),
                    );
                }
                _ => {}
            }
        }
        self.by_name
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
            .map(|name| {
                (
                    name.clone(),
                    nearest(name, known.iter().copied()).map(str::to_owned),
                )
            })
            .collect()
    }

    /// The first of these names that has answers, and the answer for its n-th call.
    pub(super) fn find<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
        calls: &mut BTreeMap<String, usize>,
    ) -> Option<&Mock> {
        let name = names
            .into_iter()
            .find(|name| self.by_name.contains_key(*name))?;
        let answers = &self.by_name[name];
        let call = calls.entry(name.to_owned()).or_default();
        let answer = answers.get(*call).or(answers.last());
        *call += 1;
        answer
    }
}

fn wrong(at: &str, what: impl Into<String>) -> ParseMocksError {
    ParseMocksError {
        at: at.to_owned(),
        what: what.into(),
    }
}

fn answers(value: &Value, at: &str) -> Result<Vec<Mock>, ParseMocksError> {
    let answers = match value {
        Value::Array(items) => {
            let one = |(i, item)| mock(item, &format!("{at}[{i}]"));
            items
                .iter()
                .enumerate()
                .map(one)
                .collect::<Result<Vec<_>, _>>()?
        }
        Value::Object(fields)
            if !fields.is_empty() && fields.keys().all(|key| range(key).is_some()) =>
        {
            by_call(fields, at)?
        }
        _ => vec![mock(value, at)?],
    };
    match answers.len() {
        0 => Err(wrong(at, "needs at least one answer: [{\"Return\": ...}]")),
        1..=MAX_ANSWERS => Ok(answers),
        _ => Err(wrong(at, format!("has more than {MAX_ANSWERS} answers"))),
    }
}

/// `0`, or `1-2`.
fn range(key: &str) -> Option<(usize, usize)> {
    let (first, last) = key.split_once('-').unwrap_or((key, key));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < MAX_ANSWERS).then_some((first, last))
}

fn by_call(fields: &Map<String, Value>, at: &str) -> Result<Vec<Mock>, ParseMocksError> {
    let mut calls: BTreeMap<usize, Mock> = BTreeMap::new();
    for (key, value) in fields {
        let mock = mock(value, &format!("{at}.{key}"))?;
        let (first, last) = range(key).unwrap_or_default();
        for call in first..=last {
            if calls.insert(call, mock.clone()).is_some() {
                return Err(wrong(at, format!("call {call} has two answers")));
            }
        }
    }
    if let Some(missing) = (0..calls.len()).find(|call| !calls.contains_key(call)) {
        return Err(wrong(
            at,
            format!("call {missing} has no answer; calls are counted from 0"),
        ));
    }
    Ok(calls.into_values().collect())
}

/// The words of a report are understood as well: `{"return": ...}`, `{"output": ...}`, and
/// `{"error": ..., "cause": ...}`, in either case.
fn spelled_out(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut full = Map::new();
    let mut thrown = Map::new();
    for (name, value) in fields {
        let (into, name) = match name.as_str() {
            "return" | "output" | "Output" => (&mut full, "Return"),
            "throw" => (&mut full, "Throw"),
            "error" | "Error" => (&mut thrown, "Error"),
            "cause" | "Cause" => (&mut thrown, "Cause"),
            other => (&mut full, other),
        };
        into.insert(name.to_owned(), value.clone());
    }
    if !thrown.is_empty() && !full.contains_key("Throw") {
        full.insert("Throw".to_owned(), Value::Object(thrown));
    }
    full
}

fn mock(value: &Value, at: &str) -> Result<Mock, ParseMocksError> {
    let fields = value.as_object().map(spelled_out);
    let Some(fields) = &fields else {
        return Err(wrong(
            at,
            "must be an object such as {\"Return\": ...} or {\"Throw\": {\"Error\": ...}}",
        ));
    };
    if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let hint = nearest(name, FIELDS.iter().copied()).map_or_else(
            || format!("; the fields are {}", FIELDS.join(", ")),
            |near| format!("; did you mean '{near}'?"),
        );
        return Err(wrong(at, format!("unknown field '{name}'{hint}")));
    }
    let kinds: Vec<&str> = FIELDS[..4]
        .iter()
        .copied()
        .filter(|f| fields.contains_key(*f))
        .collect();
    let [kind] = kinds[..] else {
        return Err(wrong(
            at,
            "needs exactly one of Return, Throw, Echo and Never",
        ));
    };
    let value = &fields[kind];
    let answer = match kind {
        "Return" => Answer::Return(value.clone()),
        "Throw" => throw(value, &format!("{at}.Throw"))?,
        _ if *value != Value::Bool(true) => {
            return Err(wrong(at, format!("{kind} can only be true")));
        }
        "Echo" => Answer::Echo,
        _ => Answer::Never,
    };
    Ok(Mock {
        answer,
        after_seconds: seconds(fields, "AfterSeconds", 0, at)?.unwrap_or_default(),
        heartbeat_every_seconds: seconds(fields, "HeartbeatEverySeconds", 1, at)?,
    })
}

fn throw(value: &Value, at: &str) -> Result<Answer, ParseMocksError> {
    let text = |name: &str| {
        let value = value.get(name).or_else(|| value.get(name.to_lowercase()))?;
        value.as_str().map(str::to_owned)
    };
    let Some(error) = text("Error") else {
        return Err(wrong(
            at,
            "must be {\"Error\": \"<name>\", \"Cause\": \"<text>\"}",
        ));
    };
    Ok(Answer::Throw {
        error,
        cause: text("Cause").unwrap_or_default(),
    })
}

fn seconds(
    fields: &Map<String, Value>,
    name: &str,
    low: u64,
    at: &str,
) -> Result<Option<u64>, ParseMocksError> {
    let Some(value) = fields.get(name) else {
        return Ok(None);
    };
    match value.as_u64() {
        Some(seconds) if (low..=MAX_SECONDS).contains(&seconds) => Ok(Some(seconds)),
        _ => Err(wrong(
            at,
            format!("{name} must be an integer from {low} to {MAX_SECONDS}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn returns(mocks: &Mocks, name: &str, calls: usize) -> Vec<Value> {
        let mut counts = BTreeMap::new();
        (0..calls)
            .map(|_| match &mocks.find([name], &mut counts).unwrap().answer {
                Answer::Return(value) => value.clone(),
                other => json!(format!("{other:?}")),
            })
            .collect()
    }

    #[test]
    fn a_list_is_used_up_and_its_last_answer_stays() {
        let mocks = Mocks::from_json(&json!({"A": [{"Return": 1}, {"Return": 2}]})).unwrap();
        assert_eq!(returns(&mocks, "A", 4), [1, 2, 2, 2]);
    }

    #[test]
    fn the_words_of_a_report_are_understood() {
        let mocks = Mocks::from_json(
            &json!({"A": [{"error": "E", "cause": "c"}, {"throw": {"error": "F"}}, {"return": 1}, {"output": 2}]}),
        )
        .unwrap();
        let thrown = |error: &str, cause: &str| {
            let (error, cause) = (error.to_owned(), cause.to_owned());
            format!("{:?}", Answer::Throw { error, cause })
        };
        assert_eq!(
            returns(&mocks, "A", 4),
            [
                json!(thrown("E", "c")),
                json!(thrown("F", "")),
                json!(1),
                json!(2)
            ]
        );
        assert!(Mocks::from_json(&json!({"A": {"return": 1, "error": "E"}})).is_err());
    }

    #[test]
    fn answers_may_be_given_by_numbers_of_calls() {
        let mocks = Mocks::from_json(
            &json!({"A": {"0": {"Return": 1}, "1-2": {"Return": 2}, "3": {"Return": 3}}}),
        );
        assert_eq!(returns(&mocks.unwrap(), "A", 5), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn the_first_name_that_has_answers_is_used() {
        let mocks = Mocks::from_json(&json!({"A": {"Return": 1}, "r": {"Return": 2}})).unwrap();
        let mut calls = BTreeMap::new();
        assert_eq!(
            mocks.find(["B", "r"], &mut calls).unwrap().answer,
            Answer::Return(json!(2))
        );
        assert_eq!(
            mocks.find(["A", "r"], &mut calls).unwrap().answer,
            Answer::Return(json!(1))
        );
        assert_eq!(mocks.find(["B"], &mut calls), None);
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let of = |value: Value| Mocks::from_json(&value).unwrap_err().to_string();
        assert!(of(json!([])).starts_with("mocks: must be an object"));
        assert!(
            of(json!({"A": [{"Retrun": 1}]}))
                .starts_with("mocks.A[0]: unknown field 'Retrun'; did you mean 'Return'?")
        );
        assert!(of(json!({"A": {}})).contains("exactly one of"));
        assert!(of(json!({"A": []})).contains("at least one answer"));
        assert!(of(json!({"A": {"Return": 1, "Echo": true}})).contains("exactly one of"));
        assert!(of(json!({"A": {"Throw": "E"}})).starts_with("mocks.A.Throw: must be"));
        assert!(of(json!({"A": {"Return": 1, "AfterSeconds": -1}})).contains("AfterSeconds"));
        assert!(
            of(json!({"A": {"0": {"Return": 1}, "2": {"Return": 1}}}))
                .contains("call 1 has no answer")
        );
        assert!(
            of(json!({"A": {"0-1": {"Return": 1}, "1": {"Return": 1}}}))
                .contains("call 1 has two answers")
        );
        assert!(of(json!({"A": {"Never": false}})).contains("only be true"));
    }
}
