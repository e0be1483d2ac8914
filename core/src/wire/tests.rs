use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::headers::{Limits, from_http};

fn pairs(headers: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> + Clone {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn message(headers: &[(&str, &str)]) -> Message {
    Message {
        id: "017f22e2-79b0-7fff-bfff-ffffffffffff".to_owned(),
        accepted_at: time("2026-01-02T03:04:05.6Z"),
        headers: headers
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        body: Bytes::from_static(b"{}"),
        group: None,
    }
}

fn read(headers: &[(&str, &str)]) -> Stored {
    decode(
        headers.iter().copied(),
        Bytes::new(),
        "orders:7",
        time("2026-01-01T00:00:00Z"),
    )
}

#[test]
fn a_stored_message_can_be_read_by_people() {
    let message = message(&[
        ("content-type", "text/plain; charset=utf-8"),
        ("x-name", "J\u{fc}rgen "),
    ]);
    let text: Vec<_> = encode(&message, 2)
        .into_iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    assert_eq!(
        text,
        [
            "weir-id: 017f22e2-79b0-7fff-bfff-ffffffffffff",
            "weir-accepted-at: 2026-01-02T03:04:05.600Z",
            "weir-attempts: 2",
            "content-type: text/plain; charset=utf-8",
            "x-name: %%J%C3%BCrgen%20",
        ]
    );
}

#[test]
fn a_message_of_a_native_producer_gets_an_identity_and_a_time() {
    let stored = read(&[
        ("Content-Type", "text/plain"),
        ("Nats-Msg-Id", "1"),
        ("X-Name", "Jürgen €"),
    ]);
    assert_eq!(stored.attempts, 0);
    assert_eq!(stored.message.id, "orders:7");
    assert_eq!(stored.message.accepted_at, time("2026-01-01T00:00:00Z"));
    assert_eq!(stored.message.headers.len(), 2);
    assert_eq!(
        stored.message.headers.get("content-type"),
        Some("text/plain")
    );
    let http = crate::headers::to_http(&stored.message.headers);
    assert_eq!(
        http["x-name"].as_bytes(),
        "Jürgen €".as_bytes(),
        "the bytes are kept"
    );
}

#[test]
fn what_an_http_header_cannot_hold_is_encoded_on_the_way_in() {
    let stored = read(&[
        ("x-a", "1\r\nset-cookie: x"),
        ("x-b", "%%%0D%0Aset-cookie:%20x"),
        ("x-c", "%%%E2%82%AC"),
        ("x-d", "\u{0}\u{1b}\u{7f}\t"),
        ("my header", "x"),
        ("x\r\ny", "x"),
        ("", "x"),
    ]);
    let headers: Vec<_> = stored.message.headers.iter().collect();
    assert_eq!(
        headers,
        [
            ("x-a", "1%0D%0Aset-cookie: x"),
            ("x-b", "%%%0D%0Aset-cookie:%20x"),
            ("x-c", "%%%E2%82%AC"),
            ("x-d", "%00%1B%7F\t"),
            ("my%20header", "x"),
            ("x%0d%0ay", "x"),
        ]
    );
    assert_eq!(crate::headers::to_http(&stored.message.headers).len(), 6);
}

#[test]
fn damaged_headers_of_ours_count_as_missing() {
    let stored = read(&[
        ("weir-id", "a b"),
        ("weir-accepted-at", "yesterday"),
        ("weir-attempts", "-1"),
        ("weir-of-the-future", "x"),
    ]);
    assert_eq!(stored.message.id, "orders:7");
    assert_eq!(stored.message.accepted_at, time("2026-01-01T00:00:00Z"));
    assert_eq!(stored.attempts, 0);
    assert!(stored.message.headers.is_empty());
}

#[test]
fn a_dead_letter_holds_its_message_and_its_failure() {
    let letter = DeadLetter {
        message: message(&[("ce-id", "1")]),
        failure: Failure {
            reason: Reason::PermanentStatus,
            attempts: 3,
            failed_at: time("2026-01-02T04:00:00Z"),
            last_status: Some(422),
            message: "handler answered 422".to_owned(),
            answer: "no\n".to_owned(),
        },
    };
    let headers = encode_dead_letter(&letter);
    assert_eq!(
        headers.iter().filter(|(name, _)| name == ATTEMPTS).count(),
        1
    );
    let fallback = time("2026-01-03T00:00:00Z");
    let body = letter.message.body.clone();
    let read = decode_dead_letter(pairs(&headers), body.clone(), "x", fallback);
    assert_eq!(read, letter);

    let damaged = pairs(&headers).filter(|(name, _)| *name != "weir-reason");
    let read = decode_dead_letter(damaged, body, "x", fallback);
    assert_eq!(read.message, letter.message);
    assert_eq!(
        (read.failure.reason, read.failure.attempts),
        (Reason::Malformed, 3)
    );
    assert_eq!(read.failure.failed_at, fallback);
    assert_eq!(
        read.failure.message,
        "header weir-reason of the dead letter is missing"
    );
}

fn any_headers() -> impl Strategy<Value = Headers> {
    let name = prop_oneof![
        "[a-z0-9!#$%&'*+.^_`|~-]{1,20}",
        prop::sample::select(vec!["content-type", "ce-id", "weir-id", "nats-x", "cookie"])
            .prop_map(str::to_owned),
    ];
    let byte = any::<u8>().prop_filter("a byte of a header", |byte| {
        *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f)
    });
    let value = prop_oneof![
        prop::collection::vec(byte, 0..30),
        "[ %0-9a-fA-F]{0,10}".prop_map(String::into_bytes),
        "%%[ -~]{0,10}".prop_map(String::into_bytes),
    ];
    let pairs = prop::collection::vec((name, value), 0..10);
    (pairs, prop::option::of("/[ -~]{0,20}")).prop_map(|(pairs, path)| {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(&value).unwrap(),
            );
        }
        let mut headers = from_http(&map, Limits::default()).unwrap();
        if let Some(path) = path {
            headers.append(METHOD, "PUT");
            headers.append(PATH, path);
        }
        headers
    })
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (0_i64..253_402_207_000_000).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap()),
        (-100_000_000_000_i64..100_000_000_000, 0_i32..1_000_000_000).prop_map(|(second, nano)| {
            Timestamp::new(second, if second < 0 { 0 } else { nano }).unwrap()
        }),
    ]
}

proptest! {
    #[test]
    fn what_came_over_http_is_read_from_a_broker_as_it_was_written(
        headers in any_headers(),
        id in "[A-Za-z0-9_.:~-]{1,128}",
        accepted_at in any_time(),
        attempts: u32,
        body: Vec<u8>,
        group: Option<String>,
    ) {
        let message = Message { id, accepted_at, headers, body: body.into(), group };
        let written = encode(&message, attempts);
        let size: usize = pairs(&written).map(|(name, value)| name.len() + value.len() + 4).sum();
        prop_assert!(size + message.body.len() <= message.wire_len());
        for (_, value) in &written {
            prop_assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{}", value);
            prop_assert_eq!(value.trim(), value.as_str());
        }
        let read = decode(pairs(&written), message.body.clone(), "other", Timestamp::UNIX_EPOCH);
        prop_assert_eq!(read, Stored { message, attempts });
    }

    #[test]
    fn any_text_is_a_value_and_comes_back(text in any::<String>()) {
        let value = encode_value(&text);
        prop_assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        prop_assert_eq!(decode_text(&value), text);
    }

    #[test]
    fn whatever_others_wrote_becomes_headers_that_http_can_hold(
        written in prop::collection::vec((any::<String>(), any::<String>()), 0..10),
    ) {
        let stored = decode(pairs(&written), Bytes::new(), "id", Timestamp::UNIX_EPOCH);
        let http = crate::headers::to_http(&stored.message.headers);
        prop_assert_eq!(http.len(), stored.message.headers.len(), "{:?}", stored);
        // And it is stable: stored once more by us, it stays what it is.
        let again = encode(&stored.message, stored.attempts);
        let again = decode(pairs(&again), Bytes::new(), "other", Timestamp::MAX);
        prop_assert_eq!(again, stored);
    }
}
