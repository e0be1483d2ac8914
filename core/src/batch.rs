//! What a handler says about the messages of a batch (aws-semantics 4.8).
//!
//! A 2xx answer to a batch may name the messages that failed:
//! `{"batchItemFailures":[{"itemIdentifier":"<id>"}]}`. The identifier is the message's `Weir-Id`,
//! which every event of a batch carries as the extension attribute `weirid`. The event's own `id` is
//! accepted, too: it is what most handlers would write first, and for events that Weir made it *is*
//! the `Weir-Id`. Senders may give two events of a batch one `id` (only `source` and `id` together
//! are unique); then it names both, and at worst a message is handled again.
//!
//! The rules are those of AWS:
//!
//! - An empty body, an empty or null document, and an empty, null or absent list mean that every
//!   message succeeded. Other fields are ignored, so that `{"ok":true}` is a success.
//! - What cannot be trusted fails the *whole* batch: a body that is not JSON (`ok` as plain text,
//!   too), a document or a list of another type, an identifier that is empty, null, misnamed or not
//!   in the batch. Handling a message again is the safe side; losing it is not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::dead_letter::one_line;

/// What a 2xx answer to a batch means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchAnswer {
    /// Every message was handled.
    AllSucceeded,
    /// These identifiers failed; the others were handled. Never empty.
    Failed(BTreeSet<String>),
    /// The answer cannot be trusted: every message failed. Worth an Event on the object.
    WholeBatchFailed {
        /// For people, and what to write instead.
        why: String,
    },
}

impl BatchAnswer {
    /// Why the message `id` failed, as [`Outcome::FailedInBatch`](crate::decide::Outcome) holds it;
    /// `None` when it was handled.
    pub fn why_failed(&self, id: &str) -> Option<String> {
        match self {
            Self::AllSucceeded => None,
            Self::Failed(ids) => ids
                .contains(id)
                .then(|| "named in batchItemFailures".to_owned()),
            Self::WholeBatchFailed { why } => Some(why.clone()),
        }
    }
}

/// Reads the body of a 2xx answer to a batch of the messages `ids` (`Weir-Id` each).
pub fn parse_answer<S: AsRef<str>>(body: &[u8], ids: &[S]) -> BatchAnswer {
    answer(body, ids.iter().map(|id| (id.as_ref(), id.as_ref())))
}

/// Reads the body of a 2xx answer to a batch of events, each given as its `Weir-Id` and its event
/// `id`. Either may be named; the answer holds the `Weir-Id`.
pub fn parse_event_answer<S: AsRef<str>>(body: &[u8], events: &[(S, S)]) -> BatchAnswer {
    let both = |(id, event_id): &'_ (S, S)| {
        let id = id.as_ref().to_owned();
        [(id.clone(), id.clone()), (event_id.as_ref().to_owned(), id)]
    };
    let names: Vec<_> = events.iter().flat_map(both).collect();
    answer(
        body,
        names.iter().map(|(name, id)| (name.as_str(), id.as_str())),
    )
}

/// `names` are pairs of what may be written and the `Weir-Id` that it stands for.
fn answer<'a>(body: &[u8], names: impl Iterator<Item = (&'a str, &'a str)>) -> BatchAnswer {
    let mut known = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (name, id) in names {
        known.entry(name).or_default().insert(id);
    }
    match failed(body, &known) {
        Ok(failed) if failed.is_empty() => BatchAnswer::AllSucceeded,
        Ok(failed) => BatchAnswer::Failed(failed),
        Err(why) => BatchAnswer::WholeBatchFailed {
            why: one_line(&why),
        },
    }
}

fn failed(body: &[u8], known: &BTreeMap<&str, BTreeSet<&str>>) -> Result<BTreeSet<String>, String> {
    const ENTRY: &str = r#"write {"itemIdentifier":"<id of the message>"}"#;
    if body.trim_ascii().is_empty() {
        return Ok(BTreeSet::new());
    }
    let document: Value = serde_json::from_slice(body).map_err(|error| {
        format!("the answer is not JSON ({error}); answer with an empty body or batchItemFailures")
    })?;
    let list = match &document {
        Value::Null => return Ok(BTreeSet::new()),
        Value::Array(list) if list.is_empty() => return Ok(BTreeSet::new()),
        Value::String(text) if text.is_empty() => return Ok(BTreeSet::new()),
        Value::Object(fields) => match fields.get("batchItemFailures") {
            None | Some(Value::Null) => return Ok(BTreeSet::new()),
            Some(Value::Array(list)) => list,
            Some(_) => {
                return Err(format!(
                    "batchItemFailures is not a list; {ENTRY} in a list"
                ));
            }
        },
        _ => return Err("the answer is JSON, but not an object".to_owned()),
    };
    let mut failed = BTreeSet::new();
    for entry in list {
        match entry.get("itemIdentifier") {
            None => {
                return Err(format!(
                    "an entry of batchItemFailures has no itemIdentifier; {ENTRY}"
                ));
            }
            Some(Value::String(name)) if name.is_empty() => {
                return Err(format!(
                    "an itemIdentifier of batchItemFailures is empty; {ENTRY}"
                ));
            }
            Some(Value::String(name)) => match known.get(name.as_str()) {
                Some(ids) => failed.extend(ids.iter().map(|id| (*id).to_owned())),
                None => {
                    return Err(format!(
                        "batchItemFailures names {name:?}, which is not in the batch"
                    ));
                }
            },
            Some(_) => {
                return Err(format!(
                    "an itemIdentifier of batchItemFailures is no text; {ENTRY}"
                ));
            }
        }
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDS: [&str; 3] = ["a", "b", "c"];

    fn parse(body: &str) -> BatchAnswer {
        parse_answer(body.as_bytes(), &IDS)
    }

    #[test]
    fn empty_and_null_answers_mean_that_all_succeeded() {
        for body in [
            "",
            " \r\n",
            "null",
            "{}",
            "[]",
            "\"\"",
            r#"{"batchItemFailures":[]}"#,
            r#"{"batchItemFailures":null}"#,
            r#"{"ok":true}"#,
        ] {
            assert_eq!(parse(body), BatchAnswer::AllSucceeded, "{body}");
        }
    }

    #[test]
    fn answers_that_cannot_be_trusted_fail_the_whole_batch() {
        for (body, part) in [
            ("ok", "not JSON"),
            ("{", "not JSON"),
            ("{} {}", "not JSON"),
            ("\u{feff}{}", "not JSON"),
            ("true", "not an object"),
            ("\"ok\"", "not an object"),
            ("[{\"itemIdentifier\":\"a\"}]", "not an object"),
            (r#"{"batchItemFailures":"a"}"#, "not a list"),
            (r#"{"batchItemFailures":{}}"#, "not a list"),
            (r#"{"batchItemFailures":["a"]}"#, "no itemIdentifier"),
            (r#"{"batchItemFailures":[{}]}"#, "no itemIdentifier"),
            (r#"{"batchItemFailures":[{"id":"a"}]}"#, "no itemIdentifier"),
            (
                r#"{"batchItemFailures":[{"itemidentifier":"a"}]}"#,
                "no itemIdentifier",
            ),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
                "no text",
            ),
            (r#"{"batchItemFailures":[{"itemIdentifier":1}]}"#, "no text"),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
                "is empty",
            ),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":"d"}]}"#,
                "names \"d\"",
            ),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":""}]}"#,
                "is empty",
            ),
        ] {
            let answer = parse(body);
            let why = answer.why_failed("b").expect(body);
            assert!(why.contains(part), "{body}: {why}");
            assert!(matches!(answer, BatchAnswer::WholeBatchFailed { .. }));
        }
    }

    #[test]
    fn named_messages_fail_and_the_others_succeed() {
        let answer = parse(
            r#"{"batchItemFailures":[{"itemIdentifier":"c","why":"x"},{"itemIdentifier":"a"},{"itemIdentifier":"c"}],"n":1}"#,
        );
        assert_eq!(
            answer,
            BatchAnswer::Failed(["a".to_owned(), "c".to_owned()].into())
        );
        assert_eq!(
            answer.why_failed("a").as_deref(),
            Some("named in batchItemFailures")
        );
        assert_eq!(answer.why_failed("b"), None);
    }

    #[test]
    fn an_event_may_be_named_by_either_identifier() {
        let events = [
            ("w1", "order-1"),
            ("w2", "order-2"),
            ("w3", "order-1"),
            ("w4", "w4"),
        ];
        let failed = |name: &str| {
            let body = format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{name}"}}]}}"#);
            parse_event_answer(body.as_bytes(), &events)
        };
        assert_eq!(failed("w2"), BatchAnswer::Failed(["w2".to_owned()].into()));
        assert_eq!(
            failed("order-2"),
            BatchAnswer::Failed(["w2".to_owned()].into())
        );
        assert_eq!(failed("w4"), BatchAnswer::Failed(["w4".to_owned()].into()));
        // Two senders, one id: both are tried again.
        assert_eq!(
            failed("order-1"),
            BatchAnswer::Failed(["w1".to_owned(), "w3".to_owned()].into())
        );
        assert!(
            failed("order-3")
                .why_failed("w1")
                .unwrap()
                .contains("not in the batch")
        );
    }

    #[test]
    fn a_document_that_is_nested_too_deeply_is_not_json() {
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).why_failed("a").unwrap().contains("not JSON"));
    }

    #[test]
    fn the_reason_is_one_short_line_whatever_the_handler_writes() {
        let long = format!(
            r#"{{"batchItemFailures":[{{"itemIdentifier":"{}\r\n"}}]}}"#,
            "x".repeat(10_000)
        );
        let why = parse(&long).why_failed("a").unwrap();
        assert!(why.len() <= 512 && !why.contains(char::is_control));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(body: Vec<u8>) {
            let answer = parse_answer(&body, &IDS);
            if let BatchAnswer::Failed(ids) = answer {
                prop_assert!(!ids.is_empty());
            }
        }

        #[test]
        fn exactly_the_named_messages_fail(named in prop::collection::btree_set(0_usize..10, 0..10)) {
            let ids: Vec<String> = (0..10).map(|i| format!("id-{i}")).collect();
            let list: Vec<Value> =
                named.iter().map(|i| serde_json::json!({"itemIdentifier": ids[*i]})).collect();
            let body = serde_json::json!({"batchItemFailures": list}).to_string();
            let answer = parse_answer(body.as_bytes(), &ids);
            for (i, id) in ids.iter().enumerate() {
                prop_assert_eq!(answer.why_failed(id).is_some(), named.contains(&i));
            }
        }
    }
}
