use proptest::prelude::*;

use super::*;
use crate::dead_letter::Failure;
use crate::message::Headers;

fn letter(id: &str, reason: Reason, status: Option<u16>, type_: &str, at: &str) -> DeadLetter {
    let mut headers = Headers::new();
    if !type_.is_empty() {
        headers.append(TYPE, type_);
    }
    let mut message = crate::redrive::tests::message(id);
    message.headers = headers;
    let failed_at = at.parse().unwrap();
    DeadLetter {
        message,
        failure: Failure {
            reason,
            attempts: 1,
            failed_at,
            last_status: status,
            message: String::new(),
            answer: String::new(),
        },
    }
}

fn matching(filter: &str) -> String {
    let letters = [
        letter(
            "a1",
            Reason::MaxAttempts,
            Some(500),
            "shop.paid",
            "2026-01-01T10:00:00Z",
        ),
        letter(
            "a2",
            Reason::MaxAttempts,
            Some(503),
            "shop.sent",
            "2026-01-01T11:00:00Z",
        ),
        letter(
            "b1",
            Reason::PermanentStatus,
            Some(422),
            "",
            "2026-01-02T00:00:00Z",
        ),
        letter(
            "b2",
            Reason::NoOutcome,
            None,
            "a,\"b\"",
            "2026-01-02T09:00:00Z",
        ),
    ];
    let filter: Filter = filter.parse().unwrap();
    let found = letters.iter().filter(|letter| filter.matches(letter));
    found
        .map(|letter| letter.message.id.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn conditions_of_different_keys_must_all_hold_and_of_one_key_one() {
    for (filter, found) in [
        ("", "a1 a2 b1 b2"),
        ("  ", "a1 a2 b1 b2"),
        ("reason=MaxAttempts", "a1 a2"),
        ("reason=maxattempts , status=503", "a2"),
        ("reason=PermanentStatus,reason=NoOutcome", "b1 b2"),
        ("status=5xx", "a1 a2"),
        ("status=-", "b2"),
        ("status=422,status=-", "b1 b2"),
        ("type=shop.paid", "a1"),
        ("type=shop.*", "a1 a2"),
        ("type=-", "b1"),
        (r#"type="a,\"b\"""#, "b2"),
        (r#"type="a,\"b\"",status=-"#, "b2"),
        ("id=a1,id=b*", "a1 b1 b2"),
        ("failedAfter=2026-01-02", "b1 b2"),
        ("failedBefore=2026-01-02", "a1 a2"),
        (
            "failedAfter=2026-01-01T11:00:00Z,failedBefore=2026-01-02T09:00:00Z",
            "a2 b1",
        ),
        ("failedAfter=2026-01-01T13:00:00+02:00", "a2 b1 b2"),
        ("id=none", ""),
    ] {
        assert_eq!(matching(filter), found, "{filter}");
    }
}

#[test]
fn what_is_no_filter_is_told_what_to_write() {
    for (text, wanted) in [
        ("reason", "write key=value"),
        ("reason=MaxAttempts,", "write key=value"),
        (",reason=MaxAttempts", "write key=value"),
        ("reasons=MaxAttempts", "did you mean `reason`?"),
        ("failedafter=2026-01-01", "did you mean `failedAfter`?"),
        ("body=x", "keys: reason, status"),
        ("reason=Bad", "one of MaxAttempts, PermanentStatus"),
        ("reason=", "one of MaxAttempts"),
        ("status=5x", "a class (5xx)"),
        ("status=9xx", "a class (5xx)"),
        ("status=+50", "a class (5xx)"),
        ("status=50000", "a class (5xx)"),
        ("type=", "or - for none"),
        ("id=", "an id"),
        ("failedAfter=yesterday", "2026-01-31T12:00:00Z"),
        ("failedAfter=20260101", "2026-01-31T12:00:00Z"),
        (
            "failedAfter=2026-01-01,failedAfter=2026-01-02",
            "given once",
        ),
        (
            "failedAfter=2026-01-02,failedBefore=2026-01-02",
            "no letter can match",
        ),
        ("type=\"a", "not closed"),
        ("type=\"a\\", "not closed"),
        ("type=\"a\"b", "enclose the whole value"),
        ("type=a\"b", "enclose the whole value"),
    ] {
        let error = text.parse::<Filter>().unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    let long = format!("type={}", "x".repeat(LONGEST));
    assert!(
        long.parse::<Filter>()
            .unwrap_err()
            .to_string()
            .contains("4096")
    );
    let many = vec!["status=500"; 65].join(",");
    assert_eq!(many.parse::<Filter>(), Err(ParseFilterError::TooMany));
}

proptest! {
    #[test]
    fn a_filter_reads_what_it_writes(
        reasons in prop::collection::vec(prop::sample::select(&Reason::ALL[..]), 0..3),
        types in prop::collection::vec("\\PC{1,12}", 0..3),
        ids in prop::collection::vec("[ -~]{1,12}", 0..3),
        status in prop::option::of(100_u16..600),
        after in prop::option::of(0_i64..4_000_000_000),
    ) {
        let filter = Filter {
            reasons,
            types: types.iter().filter_map(|text| Text::parse(text, true)).collect(),
            ids: ids.iter().filter_map(|text| Text::parse(text, false)).collect(),
            statuses: status.map(Status::Exactly).into_iter().collect(),
            after: after.map(|second| Timestamp::from_second(second).unwrap()),
            before: None,
        };
        let written = filter.to_string();
        prop_assert_eq!(written.parse::<Filter>(), Ok(filter), "{}", written);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        drop(text.parse::<Filter>());
    }
}
