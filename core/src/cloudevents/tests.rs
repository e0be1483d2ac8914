use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::message::Message;
use crate::object::{Kind, ObjectKey};

mod build;
mod properties;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn request(pairs: &[(&str, &str)], body: &str) -> Result<Parsed, InvalidEvent> {
    parse(
        headers(pairs),
        Bytes::copy_from_slice(body.as_bytes()),
        Limits::default(),
    )
}

fn structured(document: &str) -> Result<Parts, InvalidEvent> {
    match request(
        &[(
            "content-type",
            "application/cloudevents+json; charset=UTF-8",
        )],
        document,
    )? {
        Parsed::Event(parts) => Ok(parts),
        other => panic!("not one event: {other:?}"),
    }
}

fn binary(more: &[(&str, &str)]) -> Result<Parsed, InvalidEvent> {
    let mut pairs = vec![
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
    ];
    pairs.extend(more);
    request(&pairs, "body")
}

/// An event of the JSON format with these further fields.
fn event(more: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{more}}}"#)
}

fn list(headers: &Headers) -> Vec<(&str, &str)> {
    headers.iter().collect()
}

fn reason<T: std::fmt::Debug>(result: Result<T, InvalidEvent>) -> &'static str {
    result.unwrap_err().reason()
}

fn message(headers_of: &[(&str, &str)], body: &'static [u8]) -> Message {
    Message {
        id: "w1".to_owned(),
        accepted_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        headers: headers(headers_of),
        body: Bytes::from_static(body),
        group: None,
    }
}

fn object() -> ObjectKey {
    ObjectKey::new(Kind::Webhook, "shop", "stripe")
}

const CONTRACT: Contract = Contract {
    attempt: 2,
    max_attempts: 5,
    deadline: Timestamp::constant(1_767_322_800, 0),
};

#[test]
fn what_is_not_an_event_stays_as_it_came() {
    let pairs = [("content-type", "application/json"), ("x-a", "1")];
    let parts = Parts {
        headers: headers(&pairs),
        body: Bytes::from_static(b"not { json"),
    };
    assert_eq!(request(&pairs, "not { json"), Ok(Parsed::Plain(parts)));
}

#[test]
fn a_binary_event_stays_as_it_came() {
    let pairs = [
        ("ce-specversion", "1.0"),
        ("ce-id", "Euro%20%E2%82%AC"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-time", "2018-04-05T17:31:00+02:00"),
        ("ce-comexampleextension1", "\"a \\\" b\""),
        ("content-type", "text/plain"),
    ];
    let parts = Parts {
        headers: headers(&pairs),
        body: Bytes::from_static(b"\x00x"),
    };
    assert_eq!(request(&pairs, "\u{0}x"), Ok(Parsed::Event(parts)));
}

#[test]
fn an_incomplete_or_broken_binary_event_is_refused_with_what_to_write() {
    for missing in ["ce-specversion", "ce-id", "ce-source", "ce-type"] {
        let mut pairs = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
        ]);
        pairs.remove(missing);
        let error = parse(pairs, Bytes::new(), Limits::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("attribute {} is missing", &missing[3..]))
        );
        assert_eq!(error.status(), 400);
    }
    for (name, value, expected) in [
        ("ce-specversion", "1.0", "Attribute"),
        ("ce-id", "2", "Attribute"),
        ("ce-subject", "a%0d%0ab", "Attribute"),
        ("ce-subject", "a%00", "Attribute"),
        ("ce-subject", "%C0%A0", "Attribute"),
        ("ce-subject", "\u{ff}", "Attribute"),
        ("ce-subject", "%C2%85", "Attribute"),
        ("ce-time", "yesterday", "Attribute"),
        ("ce-dataschema", "a b", "Attribute"),
        ("ce-datacontenttype", "text/plain", "Attribute"),
        ("ce-data", "x", "AttributeName"),
        ("ce-data_base64", "x", "AttributeName"),
        ("ce-foo-bar", "x", "AttributeName"),
        ("ce-", "x", "AttributeName"),
        ("ce-abcdefghijklmnopqrstu", "x", "AttributeName"),
    ] {
        assert_eq!(
            reason(binary(&[(name, value)])),
            expected,
            "{name}: {value}"
        );
    }
    let version = request(&[("ce-specversion", "0.3")], "").unwrap_err();
    assert_eq!(version.to_string(), "specversion is \"0.3\": write 1.0");
    for empty in ["ce-id", "ce-source", "ce-type"] {
        let mut pairs = vec![("ce-specversion", "1.0")];
        let others = ["ce-id", "ce-source", "ce-type"].into_iter();
        pairs.extend(others.map(|name| (name, if name == empty { "" } else { "x" })));
        assert_eq!(reason(request(&pairs, "")), "Attribute", "{empty}");
    }
}

/// The examples of the JSON format, 3.2, re-encoded in binary mode as it shows them.
#[test]
fn the_examples_of_the_specification_become_binary_events() {
    let common = r#"
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "unsetextension": null,
        "subject": null,"#;
    for (rest, content_type, body) in [
        (
            r#""datacontenttype": "application/vnd.apache.thrift.binary", "data_base64": "AAH/""#,
            Some("application/vnd.apache.thrift.binary"),
            &b"\x00\x01\xff"[..],
        ),
        (
            r#""datacontenttype": "application/xml", "data": "<much wow=\"xml\"/>""#,
            Some("application/xml"),
            b"<much wow=\"xml\"/>",
        ),
        (
            r#""datacontenttype": "application/json", "data": { "b" : 1e400,  "a":[12345678901234567890123] }"#,
            Some("application/json"),
            br#"{ "b" : 1e400,  "a":[12345678901234567890123] }"#,
        ),
        (
            r#""data": "I'm just a string""#,
            Some("application/json"),
            b"\"I'm just a string\"",
        ),
        (r#""data": null"#, Some("application/json"), b"null"),
        (
            r#""datacontenttype": "text/plain", "data": null"#,
            Some("text/plain"),
            b"",
        ),
        (
            r#""datacontenttype": "application/json", "data_base64": "e30=""#,
            Some("application/json"),
            b"{}",
        ),
        (r#""data_base64": null"#, None, b""),
    ] {
        let parts = structured(&format!("{{{common}\"id\": \"A234-1234-1234\",{rest}}}")).unwrap();
        let mut expected = vec![
            ("ce-specversion", "1.0"),
            ("ce-type", "com.example.someevent"),
            ("ce-source", "/mycontext"),
            ("ce-time", "2018-04-05T17:31:00Z"),
            ("ce-comexampleextension1", "value"),
            ("ce-comexampleothervalue", "5"),
            ("ce-id", "A234-1234-1234"),
        ];
        expected.extend(content_type.map(|value| ("content-type", value)));
        assert_eq!(list(&parts.headers), expected);
        assert_eq!(parts.body, body);
        assert!(is_event(&parts.headers));
    }
}

#[test]
fn values_of_structured_attributes_are_written_as_the_binding_says() {
    let parts = structured(&event(
        r#","subject":"Euro € 😀 \"%","flag":true,"big":-2147483648"#,
    ));
    let headers = parts.unwrap().headers;
    assert_eq!(
        headers.get("ce-subject"),
        Some("Euro%20%E2%82%AC%20%F0%9F%98%80%20%22%25"),
        "the example of the HTTP binding, 3.1.3.2, and more"
    );
    assert_eq!(
        (headers.get("ce-flag"), headers.get("ce-big")),
        (Some("true"), Some("-2147483648"))
    );
}

#[test]
fn a_structured_event_keeps_the_other_headers_of_its_request() {
    let pairs = [
        ("content-type", "Application/CloudEvents+JSON"),
        ("content-language", "de"),
        ("digest", "x"),
        ("ce-id", "of the request"),
        ("ce-bad-name", "x"),
        ("traceparent", "t"),
        ("idempotency-key", "k"),
    ];
    let Parsed::Event(parts) = request(&pairs, &event(r#","data":1"#)).unwrap() else {
        panic!("one event");
    };
    assert_eq!(
        list(&parts.headers)[4..],
        [
            ("content-type", "application/json"),
            ("traceparent", "t"),
            ("idempotency-key", "k")
        ]
    );
}

#[test]
fn broken_structured_events_are_refused_with_what_to_write() {
    for (document, expected) in [
        (String::new(), "NotJson"),
        ("{".to_owned(), "NotJson"),
        ("[]".to_owned(), "NotJson"),
        ("\"x\"".to_owned(), "NotJson"),
        (format!("{} x", event("")), "NotJson"),
        ("{}".to_owned(), "MissingAttribute"),
        (event("").replace("\"id\":\"1\",", ""), "MissingAttribute"),
        (
            event("").replace("\"id\":\"1\"", "\"id\":null"),
            "MissingAttribute",
        ),
        (event("").replace("1.0", "1.1"), "Version"),
        (event("").replace("\"1.0\"", "1.0"), "Attribute"),
        (event(r#","id":"2""#), "Attribute"),
        (event(r#","subject":"a\r\nb""#), "Attribute"),
        (event(r#","subject":"a\u0000""#), "Attribute"),
        (event(r#","subject":{}"#), "Attribute"),
        (event(r#","subject":1.5"#), "Attribute"),
        (event(r#","subject":"\ud800""#), "Attribute"),
        (event(r#","Subject":"a""#), "AttributeName"),
        (event(r#","foo_bar":"a""#), "AttributeName"),
        (event(r#","":"a""#), "AttributeName"),
        (event(r#","x\r\ny":"a""#), "AttributeName"),
        (event(r#","datacontenttype":"text/plain\r\n""#), "Attribute"),
        (event(r#","datacontenttype":"tëxt/plain""#), "Attribute"),
        (
            event(r#","datacontenttype":"text/plain","data":{}"#),
            "Data",
        ),
        (event(r#","data":1,"data_base64":"AA==""#), "Data"),
        (event(r#","data":1,"data":2"#), "Attribute"),
        (event(r#","data_base64":"no base64""#), "Data"),
        (event(r#","data_base64":7"#), "Data"),
    ] {
        assert_eq!(reason(structured(&document)), expected, "{document}");
    }
    let other = request(&[("content-type", "application/cloudevents+avro")], "").unwrap_err();
    assert_eq!((other.reason(), other.status()), ("UnsupportedFormat", 415));
}

#[test]
fn depth_count_and_size_are_bounded() {
    let nested = |depth: usize| {
        event(&format!(
            r#","data":{}"#,
            "[".repeat(depth) + &"]".repeat(depth)
        ))
    };
    assert!(structured(&nested(DEEPEST_JSON - 1)).is_ok());
    assert_eq!(reason(structured(&nested(DEEPEST_JSON))), "NotJson");
    assert_eq!(reason(structured(&nested(200_000))), "NotJson");
    assert!(structured(&event(&format!(r#","data":"{}\"[""#, "[".repeat(1000)))).is_ok());

    // Brackets in strings are text, wherever the string seems to end.
    let escaped = r#","subject":"\"[","#;
    assert!(structured(&event(&format!(r#","data":"\"{}""#, "[".repeat(1000)))).is_ok());
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert_eq!(
        reason(structured(&event(&format!(r#"{escaped}"data":{deep}"#)))),
        "NotJson"
    );
    let deep = r#"["]","#.repeat(200) + "1" + &"]".repeat(200);
    assert_eq!(
        reason(structured(&event(&format!(r#","data":{deep}"#)))),
        "NotJson"
    );
    let siblings = format!("[{}]", vec!["[{}]"; 500].join(","));
    assert!(structured(&event(&format!(r#","data":{siblings}"#))).is_ok());

    let many: Vec<String> = (0..97).map(|i| format!(",\"a{i}\":1")).collect();
    assert_eq!(reason(structured(&event(&many.concat()))), "TooManyHeaders");
    let long = event(&format!(r#","subject":"{}""#, "é".repeat(3000)));
    let error = structured(&long).unwrap_err();
    assert_eq!((error.reason(), error.status()), ("HeadersTooLong", 431));

    let batch = |count: usize| format!("[{}]", vec![event(""); count].join(","));
    let batched = |document: &str| request(&[("content-type", BATCHED)], document);
    assert!(matches!(batched(&batch(100)), Ok(Parsed::Batch(events)) if events.len() == 100));
    let error = batched(&batch(101)).unwrap_err();
    assert_eq!((error.reason(), error.status()), ("TooManyEvents", 413));
}

#[test]
fn each_event_of_a_batch_is_good_or_bad_for_itself_and_shares_only_the_trace() {
    let pairs = [
        (
            "content-type",
            "application/cloudevents-batch+json; charset=utf-8",
        ),
        ("traceparent", "t"),
        ("idempotency-key", "one for all would make them duplicates"),
        ("x-other", "x"),
    ];
    let body = format!(
        "[{}, {{}}, 7, {}]",
        event(r#","data":{}"#),
        event(r#","subject":"s""#)
    );
    let Parsed::Batch(events) = request(&pairs, &body).unwrap() else {
        panic!("a batch")
    };
    assert_eq!(events.len(), 4);
    let first = events[0].as_ref().unwrap();
    assert_eq!(
        list(&first.headers)[4..],
        [("content-type", "application/json"), ("traceparent", "t")]
    );
    assert_eq!(reason(events[1].clone()), "MissingAttribute");
    assert_eq!(reason(events[2].clone()), "NotJson");
    assert_eq!(
        events[3].as_ref().unwrap().headers.get("ce-subject"),
        Some("s")
    );
    assert_eq!(request(&pairs, "[]"), Ok(Parsed::Batch(Vec::new())));
    assert_eq!(reason(request(&pairs, "{}")), "NotJson");
}
