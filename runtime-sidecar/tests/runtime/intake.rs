//! What comes in over HTTP: what is stored, what is refused, and that nothing else happens.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use weir_core::config::{
    DeduplicateBy, DeduplicateConfig, DeduplicateScope, ObjectConfig, Protocol, SignatureScheme,
    VerifyConfig,
};
use weir_core::message::Message;
use weir_core::verify::{SigningKey, sign};

use crate::harness::{
    Answer, Handler, PATIENCE, Weir, consumed_by, consumer, get, queue, send, settings, until,
    webhook,
};

mod limits;
mod signatures;

/// What is stored and not yet handled.
async fn stored(weir: &Weir, object: &ObjectConfig) -> Vec<Message> {
    let page = weir.queue(object).peek(None, 100).await.unwrap();
    page.items.into_iter().map(|it| it.message).collect()
}

fn intake(object: &mut ObjectConfig) -> &mut weir_core::config::IntakeConfig {
    object.intake.as_mut().unwrap()
}

async fn post_with(weir: &Weir, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(weir.intake, request, body.to_owned()).await
}

/// Sends bytes as they are and reads until the peer closes, or says something and falls silent.
async fn raw(weir: &Weir, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(weir.intake).await.unwrap();
    // The peer may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        match timeout(PATIENCE, stream.read(&mut part))
            .await
            .expect("an answer or an end")
        {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend_from_slice(&part[..read]),
        }
        if answer.ends_with(b"}\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn paths_that_name_no_object_are_404_whatever_their_spelling() {
    let object = webhook("stripe");
    let weir = Weir::start(vec![object.clone()]).await;
    for path in [
        "/",
        "/webhooks",
        "/webhooks/other",
        "/queueconsumers/stripe",
        "//webhooks/stripe",
        "/webhooks//stripe",
        "/webhooks/x%2f..%2fstripe",
        "/webhooks/stripe%2fx",
        "/webhooks/stripe/../stripe",
        "/webhooks/%73tripe",
        "/webhooks/stripe;a",
    ] {
        let answer = weir.post(path, "x").await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (404, "NotFound"),
            "{path}"
        );
    }
    let answer = raw(
        &weir,
        b"POST /../webhooks/stripe HTTP/1.1\r\nhost: a\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(stored(&weir, &object).await.is_empty());
    assert!(
        weir.metric("weir_requests_rejected_total{reason=\"NotFound\"} ")
            .await
            > 11.0
    );
}

#[tokio::test]
async fn other_methods_are_405_and_told_which() {
    let mut object = webhook("in");
    intake(&mut object).methods = vec!["POST".to_owned(), "PUT".to_owned()];
    let weir = Weir::start(vec![object.clone()]).await;
    let answer = get(weir.intake, "/webhooks/in").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST, PUT"));
    assert_eq!(
        send(weir.intake, Request::put("/webhooks/in"), "x")
            .await
            .status,
        202
    );
}

#[tokio::test]
async fn a_webhook_keeps_raw_bytes_of_any_type_and_the_senders_headers() {
    let object = webhook("in");
    let weir = Weir::start(vec![object.clone()]).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let request = Request::post("/webhooks/in/path?x=1")
        .header("content-type", "application/x-nothing-known; q=\"")
        .header("x-event", "a")
        .header("authorization", "Bearer canary")
        .header("weir-delay-seconds", "900")
        .header("ce-id", "");
    assert_eq!(send(weir.intake, request, bytes.clone()).await.status, 202);
    let message = &stored(&weir, &object).await[0];
    assert_eq!(message.body, Bytes::from(bytes));
    assert_eq!(message.headers.get("x-event"), Some("a"));
    assert_eq!(message.headers.get("weir-path"), Some("/path?x=1"));
    assert!(message.headers.get("traceparent").is_some());
    assert_eq!(message.headers.get("authorization"), None);
    assert_eq!(
        weir.depth(&object).await.delayed,
        0,
        "strangers cannot ask for a delay"
    );
}

#[tokio::test]
async fn the_protocol_http_shows_the_request_as_it_came() {
    let handler = Handler::answering(200).await;
    let mut object = consumed_by(webhook("in"), handler.address);
    consumer(&mut object).protocol = Protocol::Http;
    intake(&mut object).methods = vec!["PUT".to_owned()];
    let weir = Weir::start(vec![object.clone()]).await;
    let request = Request::put("/webhooks/in/a/b?x=1")
        .header("x-event", "paid")
        .header("accept-encoding", "gzip");
    send(weir.intake, request, "body").await;
    handler.called(1).await;
    let call = &handler.calls()[0];
    assert_eq!(
        (call.method.as_str(), call.path.as_str()),
        ("PUT", "/in/a/b?x=1")
    );
    assert_eq!((call.header("x-event"), call.text()), ("paid", "body"));
    assert!(call.headers.get("ce-id").is_none());
    assert!(
        call.headers.get("accept-encoding").is_none(),
        "answers are read here, not by the sender"
    );
}

fn deduplicated(mut object: ObjectConfig, by: DeduplicateBy) -> ObjectConfig {
    intake(&mut object).deduplicate = Some(DeduplicateConfig {
        by,
        header: (by == DeduplicateBy::Header).then(|| "x-id".to_owned()),
        window_seconds: 300,
        scope: DeduplicateScope::Queue,
    });
    object
}

#[tokio::test]
async fn a_second_request_with_the_same_identity_stores_nothing_and_gets_the_first_id() {
    for (by, header) in [
        (DeduplicateBy::MessageId, "idempotency-key"),
        (DeduplicateBy::Header, "x-id"),
        (DeduplicateBy::ContentHash, "x-unused"),
    ] {
        let object = deduplicated(queue("in"), by);
        let weir = Weir::start(vec![object.clone()]).await;
        let path = "/queueconsumers/in";
        let first = post_with(&weir, path, &[(header, "1")], "same").await;
        let second = post_with(&weir, path, &[(header, "1")], "same").await;
        assert_eq!((first.status, second.status), (202, 202));
        let id = first.json()["id"].clone();
        assert_eq!(first.json(), json!({"id": id}));
        assert_eq!(second.json(), json!({"id": id, "duplicate": true}));
        let third = post_with(&weir, path, &[(header, "2")], "other").await;
        assert_eq!(third.json().get("duplicate"), None);
        assert_eq!(stored(&weir, &object).await.len(), 2);
    }
}

#[tokio::test]
async fn a_message_without_the_identity_that_is_asked_for_is_400_and_told_what_to_send() {
    for (by, what) in [
        (DeduplicateBy::MessageId, "idempotency-key"),
        (DeduplicateBy::Header, "x-id"),
    ] {
        let object = deduplicated(queue("in"), by);
        let weir = Weir::start(vec![object.clone()]).await;
        let answer = post_with(&weir, "/queueconsumers/in", &[], "x").await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (400, "IdentityMissing")
        );
        assert!(answer.text().contains(what), "{}", answer.text());
        assert!(stored(&weir, &object).await.is_empty());
    }
}

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

#[tokio::test]
async fn structured_and_binary_events_reach_the_handler_alike() {
    let handler = Handler::answering(200).await;
    let object = consumed_by(queue("in"), handler.address);
    let weir = Weir::start(vec![object.clone()]).await;
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/test", "type": "order.paid",
        "datacontenttype": "application/json", "data": {"amount": 5},
    });
    let path = "/queueconsumers/in";
    assert_eq!(
        post_with(&weir, path, &[STRUCTURED], &event.to_string())
            .await
            .status,
        202
    );
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/test"),
        ("ce-type", "order.paid"),
        ("content-type", "application/json"),
    ];
    assert_eq!(
        post_with(&weir, path, &binary, r#"{"amount":5}"#)
            .await
            .status,
        202
    );
    handler.called(2).await;
    for call in handler.calls() {
        for (name, value) in binary {
            assert_eq!(call.header(name), value);
        }
        assert_eq!(call.text(), r#"{"amount":5}"#);
        assert_ne!(call.header("weir-id"), "1");
    }
}

#[tokio::test]
async fn what_claims_to_be_an_event_and_is_not_is_400_and_told_why() {
    let object = queue("in");
    let weir = Weir::start(vec![object.clone()]).await;
    let path = "/queueconsumers/in";
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\u{0}",
        r#"{"specversion":"1.0"}"#,
        &deep,
    ] {
        let answer = post_with(&weir, path, &[STRUCTURED], body).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (400, "MalformedEvent"),
            "{body}"
        );
    }
    let answer = send(
        weir.intake,
        Request::post(path).header(STRUCTURED.0, STRUCTURED.1),
        vec![0xff, 0xfe],
    )
    .await;
    assert_eq!(answer.status, 400);
    let answer = post_with(&weir, path, &[("ce-id", "1")], "x").await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (400, "MalformedEvent")
    );
    let unknown = [("content-type", "application/cloudevents+avro")];
    assert_eq!(post_with(&weir, path, &unknown, "x").await.status, 415);
    assert!(stored(&weir, &object).await.is_empty());
}

#[tokio::test]
async fn a_batch_is_answered_item_by_item() {
    let object = deduplicated(queue("in"), DeduplicateBy::MessageId);
    let weir = Weir::start(vec![object.clone()]).await;
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/test", "type": "t", "data": id});
    let all = json!([event("1"), event("2")]).to_string();
    let answer = post_with(&weir, "/queueconsumers/in", &[BATCH], &all).await;
    assert_eq!(answer.status, 202);
    let ids = answer.json();
    assert_eq!(ids["results"].as_array().unwrap().len(), 2);

    let mixed = json!([event("1"), {"specversion": "1.0"}, event("3")]).to_string();
    let answer = post_with(&weir, "/queueconsumers/in", &[BATCH], &mixed).await;
    assert_eq!(answer.status, 207);
    let items = answer.json();
    assert_eq!(items["results"][0]["id"], ids["results"][0]["id"]);
    assert_eq!(items["results"][0]["duplicate"], true);
    assert_eq!(items["results"][1]["error"], "MalformedEvent");
    assert_eq!(items["results"][1]["status"], 400);
    assert!(items["results"][2]["id"].is_string());
    assert_eq!(stored(&weir, &object).await.len(), 3);
}

#[tokio::test]
async fn a_sender_may_ask_for_a_delay_within_bounds() {
    let mut object = queue("in");
    intake(&mut object).delay_seconds = 600;
    let weir = Weir::start(vec![object.clone()]).await;
    let path = "/queueconsumers/in";
    assert_eq!(
        post_with(&weir, path, &[("weir-delay-seconds", "0")], "now")
            .await
            .status,
        202
    );
    assert_eq!(weir.depth(&object).await.ready, 1);
    assert_eq!(post_with(&weir, path, &[], "later").await.status, 202);
    assert_eq!(weir.depth(&object).await.delayed, 1);
    for wrong in ["-1", "x", "901", "1.5", ""] {
        let answer = post_with(&weir, path, &[("weir-delay-seconds", wrong)], "x").await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (400, "BadHeader"),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_full_queue_is_429_until_there_is_room() {
    let mut object = webhook("in");
    object.queue.capacity = 5;
    let weir = Weir::start(vec![object.clone()]).await;
    for _ in 0..5 {
        assert_eq!(weir.post("/webhooks/in", "x").await.status, 202);
    }
    until("the depth is known", || async {
        weir.object("in").await["intake"]["full"] == true
    })
    .await;
    let answer = weir.post("/webhooks/in", "x").await;
    assert_eq!((answer.status, answer.error().as_str()), (429, "QueueFull"));
    assert!(!answer.header("retry-after").is_empty());
    object.queue.capacity = 10;
    weir.reconfigure(vec![object.clone()]).await;
    until("there is room", || async {
        weir.post("/webhooks/in", "x").await.status == 202
    })
    .await;
}

#[tokio::test]
async fn a_message_over_the_brokers_limit_is_413_with_that_limit() {
    let mut object = webhook("in");
    intake(&mut object).max_body_bytes = 100_000_000;
    let weir = Weir::start(vec![object.clone()]).await;
    let limit = weir.queue(&object).max_message_bytes();
    let answer = weir.post("/webhooks/in", vec![b'x'; limit]).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (413, "MessageTooLarge")
    );
    assert!(answer.text().contains(&limit.to_string()));
}

#[tokio::test]
async fn without_a_broker_requests_are_503_at_once_and_work_again_later() {
    let object = webhook("in");
    let weir = Weir::start(vec![object.clone()]).await;
    assert_eq!(weir.post("/webhooks/in", "before").await.status, 202);
    weir.broker.set_reachable(false);
    let answer = timeout(Duration::from_secs(1), weir.post("/webhooks/in", "during"))
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (503, "BrokerUnreachable")
    );
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(get(weir.admin, "/ready").await.status, 200);
    assert_eq!(get(weir.admin, "/live").await.status, 200);
    weir.broker.set_reachable(true);
    assert_eq!(weir.post("/webhooks/in", "after").await.status, 202);
    let bodies: Vec<Bytes> = stored(&weir, &object)
        .await
        .into_iter()
        .map(|it| it.body)
        .collect();
    assert_eq!(bodies, ["before", "after"]);
}

#[tokio::test]
async fn without_topology_requests_are_503_until_it_is_there() {
    let object = webhook("in");
    let broker = weir_broker::MemoryBroker::new(std::sync::Arc::new(weir_broker::SystemClock));
    let weir = Weir::start_on(broker, vec![object.clone()], settings()).await;
    let answer = weir.post("/webhooks/in", "x").await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (503, "TopologyMissing")
    );
    crate::harness::apply(&weir.broker, &object).await;
    assert_eq!(weir.post("/webhooks/in", "x").await.status, 202);
}
