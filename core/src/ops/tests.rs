use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::dead_letter::{DeadLetter, Failure, Reason};
use crate::message::Message;
use crate::object::Kind;

fn letter(body: Bytes) -> DeadLetter {
    DeadLetter {
        message: Message {
            id: "a".to_owned(),
            accepted_at: "2026-01-02T03:04:05.678912345Z".parse().unwrap(),
            headers: [
                ("ce-type".to_owned(), "paid".to_owned()),
                ("x-a".to_owned(), "1".to_owned()),
                ("x-a".to_owned(), "\u{e9} \t".to_owned()),
                ("weir-path".to_owned(), "/b?c".to_owned()),
            ]
            .into_iter()
            .collect(),
            group: Some("g 1".to_owned()),
            body,
        },
        failure: Failure {
            reason: Reason::MaxAttempts,
            attempts: 3,
            failed_at: "2026-01-02T03:05:00Z".parse().unwrap(),
            last_status: Some(500),
            message: "handler answered 500".to_owned(),
            answer: "no\n\0".to_owned(),
        },
    }
}

proptest! {
    #[test]
    fn a_line_of_an_export_is_the_letter(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let letter = letter(body.into());
        let line = serde_json::to_string(&Letter::of(&letter, 7)).unwrap();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(Letter::parse(line.as_bytes()), Ok(letter));
    }
}

#[test]
fn what_is_no_letter_is_told_why() {
    let good = serde_json::to_value(Letter::of(&letter("x".into()), 7)).unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut changed = good.clone();
        changed[field] = value;
        Letter::parse(changed.to_string().as_bytes())
            .unwrap_err()
            .to_string()
    };
    for (field, value, wanted) in [
        ("id", "a b".into(), "letters, digits"),
        ("body", serde_json::Value::Null, "exactly one of body"),
        ("bodyBase64", "eA==".into(), "exactly one of body"),
        ("headers", serde_json::json!([["weir-id", "x"]]), "weir-id"),
        ("headers", serde_json::json!([["X-A", "x"]]), "X-A"),
        ("headers", serde_json::json!([["a", "x\r\ny: z"]]), "\"a\""),
        ("headers", serde_json::json!([["a b", "x"]]), "a b"),
        ("headers", serde_json::json!([["a", "\u{20ac}"]]), "\"a\""),
        ("extra", 1.into(), "unknown field `extra`"),
        (
            "failure",
            1.into(),
            "not a dead letter as `export` writes it",
        ),
    ] {
        let error = with(field, value);
        assert!(error.contains(wanted), "{field}: {error}");
    }
    assert!(Letter::parse(b"{").is_err() && Letter::parse(b"\xff").is_err());
}

#[test]
fn a_redrive_that_makes_no_sense_is_told_what_to_write() {
    let check = |request: serde_json::Value| {
        let request: StartRedrive = serde_json::from_value(request).unwrap();
        request.check()
    };
    for (request, wanted) in [
        (serde_json::json!({"rate": 0}), "1 to 5000"),
        (serde_json::json!({"rate": 5001}), "1 to 5000"),
        (
            serde_json::json!({"where": "x"}),
            "where: `x` is no condition",
        ),
        (
            serde_json::json!({"ids": ["a b"]}),
            "\"a b\" cannot be the id",
        ),
        (serde_json::json!({"ids": vec!["a"; 1001]}), "at most 1000"),
        (serde_json::json!({"after": 3}), "only a dry run"),
        (serde_json::json!({"edit": {"body": "x"}}), "exactly one id"),
        (
            serde_json::json!({"edit": {"body": "x"}, "ids": ["a", "b"]}),
            "exactly one id",
        ),
        (
            serde_json::json!({"edit": {}, "ids": ["a"]}),
            "exactly one of body",
        ),
        (
            serde_json::json!({"to": "ledger"}),
            "no KIND/NAME; kinds: webhook",
        ),
        (serde_json::json!({"to": "webhook/"}), "no KIND/NAME"),
        (serde_json::json!({"to": "topic/x"}), "no KIND/NAME"),
    ] {
        let error = check(request.clone()).unwrap_err();
        assert!(error.contains(wanted), "{request}: {error}");
    }
    let all = check(serde_json::json!({})).unwrap();
    assert!(all.ids.is_empty() && all.filter.is_everything() && all.dry_run.is_none());
    let some = serde_json::json!({
        "ids": ["a", "b", "a"], "rate": 20, "to": "qc/ledger", "dryRun": true, "after": 4,
        "where": "status=500",
    });
    let some = check(some).unwrap();
    assert_eq!(some.ids, ["a", "b"]);
    assert_eq!(some.to, Some((Kind::QueueConsumer, "ledger".to_owned())));
    assert_eq!(some.dry_run, Some(Some(4)));
    let edit = serde_json::json!({"ids": ["a"], "edit": {"bodyBase64": "/wA="}});
    assert_eq!(
        check(edit).unwrap().edit,
        Some(Bytes::from_static(b"\xff\x00"))
    );
    let typo = serde_json::json!({"dry_run": true});
    assert!(serde_json::from_value::<StartRedrive>(typo).is_err());
}

#[test]
fn a_summary_in_parts_is_that_of_the_whole() {
    let mut letters = Vec::new();
    for (number, status) in [Some(500), None, Some(500), Some(422)]
        .into_iter()
        .enumerate()
    {
        let mut one = letter("x".into());
        one.failure.last_status = status;
        one.failure.failed_at = Timestamp::from_second(number as i64).unwrap();
        letters.push(one);
    }
    let count = |letters: &[DeadLetter]| {
        let mut summary = Summary::default();
        for letter in letters {
            summary.add(By::Status, letter);
        }
        summary
    };
    let mut parts = count(&letters[..2]);
    parts.extend(count(&letters[2..]));
    parts.sort();
    let keys: Vec<_> = parts
        .counts
        .iter()
        .map(|c| (c.key.as_str(), c.count))
        .collect();
    assert_eq!(keys, [("500", 2), ("-", 1), ("422", 1)]);
    assert_eq!(parts.counts[0].newest.as_second(), 2);
    assert_eq!(parts.looked_at, 4);
    let mut many = Summary::default();
    for number in 0..1500 {
        let mut one = letter("x".into());
        one.message.headers.set("ce-type", format!("t{number}"));
        many.add(By::Type, &one);
    }
    many.sort();
    assert_eq!((many.counts.len(), many.counts[0].count), (1001, 500));
    assert_eq!(many.counts[0].key, "(others)");
}
