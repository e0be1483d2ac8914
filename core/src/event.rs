//! A message as expressions and filters see it.
//!
//! One document for every message, event or not:
//!
//! ```json
//! {"id": "...", "source": "...", "type": "...", "subject": "...", "time": "...",
//!  "attributes": {"partitionkey": "eu"}, "data": {"accountId": 7}}
//! ```
//!
//! `attributes` are the event's extension attributes, with `datacontenttype` and `dataschema`; only
//! there is a name that the sender chose. `subject` is absent where the event has none, and `data`
//! where there is no body. What is no CloudEvent is wrapped as for a handler, so that `id` is its
//! `Weir-Id`.
//!
//! `data` is the body as JSON where it *is* JSON, whatever its content type says (senders forget to
//! say it); any other text is a string, and bytes that are no text are a string in base64.

use serde_json::{Map, Value};

use crate::cloudevents::{attributes_of, body_as_json};
use crate::encoding::base64;
use crate::message::Message;
use crate::object::ObjectKey;

/// The document of one message that `object` received. Its JSON is nested at most
/// [`DEEPEST_JSON`](crate::cloudevents::DEEPEST_JSON) deep below `data`.
pub fn document(object: &ObjectKey, message: &Message) -> Value {
    let mut document = Map::new();
    let mut extensions = Map::new();
    for (name, value) in attributes_of(object, message) {
        let value = Value::String(value);
        match name.as_str() {
            "id" | "source" | "type" | "subject" | "time" => document.insert(name, value),
            "specversion" => None,
            _ => extensions.insert(name, value),
        };
    }
    if let Some(content_type) = message.headers.get("content-type") {
        extensions.insert("datacontenttype".to_owned(), content_type.into());
    }
    document.insert("attributes".to_owned(), Value::Object(extensions));
    if let Some(data) = data(&message.body) {
        document.insert("data".to_owned(), data);
    }
    Value::Object(document)
}

fn data(body: &[u8]) -> Option<Value> {
    if body.is_empty() {
        return None;
    }
    let text = || match std::str::from_utf8(body) {
        Ok(text) => text.to_owned(),
        Err(_) => base64(body),
    };
    Some(body_as_json(body).unwrap_or_else(|| Value::String(text())))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::object::Kind;

    fn of(headers: &[(&str, &str)], body: &[u8]) -> Value {
        let pairs = headers.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        let message = Message {
            id: "w1".to_owned(),
            accepted_at: Timestamp::UNIX_EPOCH,
            headers: pairs.collect(),
            body: Bytes::copy_from_slice(body),
            group: None,
        };
        let object = ObjectKey::new(Kind::FifoConsumer, "shop", "ledger");
        document(&object, &message)
    }

    #[test]
    fn an_event_has_its_own_attributes_and_extensions_apart() {
        let event = [
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-source", "/shop"),
            ("ce-type", "paid"),
            ("ce-subject", "a%20b"),
            ("ce-partitionkey", "eu"),
            ("content-type", "application/json"),
            ("x-group", "not an attribute"),
        ];
        assert_eq!(
            of(&event, br#"{"accountId": 7}"#),
            json!({
                "id": "7", "source": "/shop", "type": "paid", "subject": "a b",
                "attributes": {"partitionkey": "eu", "datacontenttype": "application/json"},
                "data": {"accountId": 7},
            })
        );
    }

    #[test]
    fn what_is_no_event_is_wrapped_as_for_a_handler() {
        assert_eq!(
            of(&[("ce-id", "no event")], b""),
            json!({
                "id": "w1", "source": "/fifoconsumers/shop/ledger",
                "type": "weir.fifoconsumer.received", "time": "1970-01-01T00:00:00.000Z",
                "attributes": {},
            })
        );
    }

    #[test]
    fn data_is_json_where_it_is_json_else_text_else_base64() {
        let data = |body: &[u8]| of(&[("content-type", "text/plain")], body)["data"].clone();
        assert_eq!(data(b" [1, null] "), json!([1, null]));
        assert_eq!(data(b"7"), json!(7));
        assert_eq!(data(b"a=1&b=2"), json!("a=1&b=2"));
        assert_eq!(data(b"{\"a\":1} x"), json!("{\"a\":1} x"));
        assert_eq!(data(&[0xff, 0xfe]), json!("//4="));
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert_eq!(data(deep.as_bytes()), json!(deep));
    }

    proptest! {
        #[test]
        fn any_body_has_a_document(body: Vec<u8>) {
            prop_assert!(of(&[], &body)["id"].is_string());
        }
    }
}
