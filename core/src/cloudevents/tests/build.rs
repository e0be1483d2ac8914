//! Messages into requests to a handler.

use super::*;

#[test]
fn what_is_no_event_is_wrapped_and_its_body_untouched() {
    let message = message(
        &[
            ("content-type", "text/plain"),
            ("ce-id", "an incomplete event"),
            ("weir-path", "/a"),
            ("x-a", "1"),
            ("traceparent", "t"),
        ],
        b"hello",
    );
    assert_eq!(
        list(&event_headers(&object(), &message, &CONTRACT)),
        [
            ("content-type", "text/plain"),
            ("x-a", "1"),
            ("traceparent", "t"),
            ("ce-specversion", "1.0"),
            ("ce-id", "w1"),
            ("ce-source", "/webhooks/shop/stripe"),
            ("ce-type", "weir.webhook.received"),
            ("ce-time", "2026-01-02T03:04:05.678Z"),
            ("weir-id", "w1"),
            ("weir-attempt", "2"),
            ("weir-max-attempts", "5"),
            ("weir-deadline-ms", "1767322800000"),
        ]
    );
    assert_eq!(event_id(&message), "w1");
    assert!(is_event(&event_headers(&object(), &message, &CONTRACT)));
}

#[test]
fn an_event_is_handed_on_with_its_own_attributes() {
    let pairs = [
        ("ce-specversion", "1.0"),
        ("ce-id", "a%20b"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("content-type", "application/json"),
    ];
    let message = message(&pairs, b"{}");
    let headers = event_headers(&object(), &message, &CONTRACT);
    assert_eq!(list(&headers)[..5], pairs);
    assert_eq!(headers.get("weir-id"), Some("w1"));
    assert_eq!(event_id(&message), "a b");
    let plain = plain_headers(&message, &CONTRACT);
    assert_eq!(plain, headers);
}

#[test]
fn quoted_attributes_of_older_senders_are_unquoted() {
    for (header, id) in [
        (r#""a b""#, "a b"),
        (r#""a \" \\b""#, r#"a " \b"#),
        (r#""%20""#, " "),
        (r#""a"#, r#""a"#),
        (r"a\b", r"a\b"),
        ("\u{e2}\u{82}\u{ac}", "€"),
    ] {
        let pairs = [
            ("ce-specversion", "1.0"),
            ("ce-id", header),
            ("ce-source", "/s"),
            ("ce-type", "t"),
        ];
        assert_eq!(event_id(&message(&pairs, b"")), id, "{header}");
    }
}

#[test]
fn a_structured_body_that_was_stored_untouched_gets_no_contradicting_attributes() {
    let message = message(
        &[
            ("content-type", "application/cloudevents+json"),
            ("ce-id", "x"),
        ],
        b"{}",
    );
    let headers = event_headers(&object(), &message, &CONTRACT);
    assert!(!headers.iter().any(|(name, _)| name.starts_with("ce-")));
}

#[test]
fn a_batch_is_one_document_whose_events_say_their_identity_and_attempt() {
    let json_type = ("content-type", "application/json");
    let wrapped = message(&[json_type, ("traceparent", "t")], br#"{ "n": 1.0 }"#);
    let event = message(
        &[
            ("ce-specversion", "1.0"),
            ("ce-id", "%E2%82%AC"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("ce-weirid", "forged"),
            ("ce-traceparent", "own"),
            ("traceparent", "t"),
        ],
        b"\xff",
    );
    let broken = message(&[json_type], b"{");
    let empty = message(&[], b"");
    let messages = [(&wrapped, 1), (&event, 3), (&broken, 1), (&empty, 1)];
    let document = batch_document(&object(), messages);
    assert!(
        document.windows(12).any(|part| part == br#"{ "n": 1.0 }"#),
        "bytes are kept"
    );
    let events: Vec<Value> = serde_json::from_slice(&document).unwrap();
    assert_eq!(
        events[0],
        json!({
            "specversion": "1.0", "id": "w1", "source": "/webhooks/shop/stripe",
            "type": "weir.webhook.received", "time": "2026-01-02T03:04:05.678Z",
            "traceparent": "t", "datacontenttype": "application/json",
            "weirid": "w1", "weirattempt": 1, "data": {"n": 1.0},
        })
    );
    assert_eq!(
        events[1],
        json!({
            "specversion": "1.0", "id": "€", "source": "/s", "type": "t", "traceparent": "own",
            "weirid": "w1", "weirattempt": 3, "data_base64": "/w==",
        })
    );
    assert_eq!(events[2]["data_base64"], "ew==");
    assert!(events[3].get("data").is_none() && events[3].get("data_base64").is_none());
    assert_eq!(batch_document(&object(), []), "[]");
    assert_eq!(batch_headers(&CONTRACT).get("content-type"), Some(BATCHED));
    assert_eq!(batch_headers(&CONTRACT).get("weir-attempt"), Some("2"));
}

#[test]
fn a_handler_sees_the_group_of_a_message_whatever_the_sender_wrote_there() {
    let pairs = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-partitionkey", "the sender's"),
    ];
    for headers in [&pairs[..], &[]] {
        let mut grouped = message(headers, b"{}");
        grouped.group = Some("acc 7".to_owned());
        let headers = event_headers(&object(), &grouped, &CONTRACT);
        assert_eq!(
            headers.get_all("ce-partitionkey").collect::<Vec<_>>(),
            ["acc%207"]
        );
        assert_eq!(headers.get("weir-group"), None, "another queue has its own");
        let batch = batch_document(&object(), [(&grouped, 1)]);
        let batch: serde_json::Value = serde_json::from_slice(&batch).unwrap();
        assert_eq!(batch[0]["partitionkey"], "acc 7");
        let plain = plain_headers(&grouped, &CONTRACT);
        assert_eq!(plain.get("weir-group"), Some("acc 7"));
    }
    let alone = message(&pairs, b"{}");
    let headers = event_headers(&object(), &alone, &CONTRACT);
    assert_eq!(headers.get("ce-partitionkey"), Some("the sender's"));
}
