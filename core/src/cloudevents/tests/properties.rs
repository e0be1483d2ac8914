use proptest::prelude::*;

use super::*;
use crate::headers::to_http;

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{1,20}", "[ -~]{1,20}", "[%0-9a-f\"\\\\]{1,10}"]
        .prop_filter("attributes have no control characters", |text: &String| {
            !text.contains(char::is_control)
        })
}

/// Bytes that look more or less like a document.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "1",
        "\"id\"",
        "\"data\"",
        "\"specversion\"",
        "\"1.0\"",
        "\"source\"",
        "\"type\"",
        "\"data_base64\"",
        "\r\n",
        "\u{0}",
        "é",
        " ",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat().into_bytes()),
        "(,\"[a-z]{1,3}\":\\PC{0,10}){0,3}".prop_map(|more| event(&more).into_bytes()),
    ]
}

proptest! {
    #[test]
    fn structured_events_survive_storing_and_batching(
        values in prop::collection::btree_map("[a-z0-9]{1,20}", any_text(), 0..6),
        id in any_text(),
        body in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut document = json!({
            "specversion": "1.0", "id": id, "source": "/s", "type": "t",
            "data_base64": crate::encoding::base64(&body),
        });
        let reserved = [
            "specversion", "id", "source", "type", "time", "datacontenttype", "dataschema", "data",
            "weirid", "weirattempt",
        ];
        for (name, value) in values {
            if !reserved.contains(&name.as_str()) {
                document[name] = value.into();
            }
        }
        let parts = structured(&document.to_string()).unwrap();
        prop_assert_eq!(&parts.body, &body);
        prop_assert_eq!(to_http(&parts.headers).len(), parts.headers.len());
        let Parsed::Event(again) = parse(parts.headers.clone(), parts.body.clone(), Limits::default())
            .unwrap() else { panic!("an event") };
        prop_assert_eq!(&again, &parts);

        let message = Message {
            id: "w1".to_owned(),
            accepted_at: Timestamp::UNIX_EPOCH,
            headers: parts.headers,
            body: parts.body,
            group: None,
        };
        prop_assert_eq!(event_id(&message), id);
        let batch = batch_document(&object(), [(&message, 1)]);
        let mut events: Vec<Value> = serde_json::from_slice(&batch).unwrap();
        let event = events[0].as_object_mut().unwrap();
        prop_assert_eq!(event.remove("weirid"), Some("w1".into()));
        prop_assert_eq!(event.remove("weirattempt"), Some(1.into()));
        let expected = document.as_object_mut().unwrap();
        if body.is_empty() {
            expected.remove("data_base64");
        }
        prop_assert_eq!(&*event, &*expected);
    }

    #[test]
    fn any_request_is_read_without_a_panic_and_no_control_character_reaches_a_header(
        content_type in prop::sample::select(vec![STRUCTURED, BATCHED, "text/plain", "application/cloudevents"]),
        attributes in prop::collection::vec(("ce-[a-z-]{0,12}", "[\u{20}-\u{7e}\u{80}-\u{ff}]{0,10}"), 0..5),
        body in any_body(),
    ) {
        let mut given = headers(&[("content-type", content_type)]);
        for (name, value) in attributes {
            given.append(&name, value);
        }
        let parts = match parse(given, body.into(), Limits::default()) {
            Ok(Parsed::Plain(parts) | Parsed::Event(parts)) => vec![parts],
            Ok(Parsed::Batch(events)) => events.into_iter().flatten().collect(),
            Err(error) => {
                prop_assert!(!error.to_string().contains(char::is_control), "{}", error);
                vec![]
            }
        };
        for parts in parts {
            prop_assert_eq!(to_http(&parts.headers).len(), parts.headers.len());
            prop_assert!(!parts.headers.iter().any(|(_, value)| value.contains(['\r', '\n', '\0'])));
        }
    }

    #[test]
    fn any_message_makes_a_request_and_a_batch_that_can_be_read(
        stored in prop::collection::vec(("(ce-|weir-)?[a-z]{1,10}", "[\u{20}-\u{7e}\u{80}-\u{ff}]{0,10}"), 0..8),
        json: bool,
        body in any_body(),
    ) {
        let mut headers: Headers = stored.into_iter().collect();
        if json {
            headers.set("content-type", "application/json");
        }
        let message = Message {
            id: "w1".to_owned(),
            accepted_at: Timestamp::UNIX_EPOCH,
            headers,
            body: body.into(),
            group: None,
        };
        let request = event_headers(&object(), &message, &CONTRACT);
        prop_assert!(is_event(&request));
        prop_assert_eq!(to_http(&request).len(), request.len());
        let batch = batch_document(&object(), [(&message, 1), (&message, 2)]);
        let Parsed::Batch(events) =
            parse(super::headers(&[("content-type", BATCHED)]), batch, Limits::default()).unwrap()
        else {
            panic!("a batch");
        };
        for (index, event) in events.into_iter().enumerate() {
            let event = event.unwrap();
            prop_assert_eq!(event.headers.get("ce-weirid"), Some("w1"));
            let attempt = (index + 1).to_string();
            prop_assert_eq!(event.headers.get("ce-weirattempt"), Some(attempt.as_str()));
            // White space around a document of JSON is not part of it.
            prop_assert_eq!(event.body.trim_ascii(), message.body.trim_ascii());
        }
    }
}
