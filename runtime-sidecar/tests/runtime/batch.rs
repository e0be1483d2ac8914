//! Batches: one call for many messages, and what an answer says about each.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::sleep;
use weir_core::config::ObjectConfig;
use weir_core::dead_letter::Reason;

use crate::harness::{
    Call, Handler, Reply, Weir, consumed_by, consumer, status_of, until, webhook,
};

fn answer(body: impl Into<bytes::Bytes>) -> Reply {
    let mut answer = status_of(200);
    *answer.body_mut() = Full::new(body.into());
    answer
}

/// The events of a call: what identifies them and their data.
fn events(call: &Call) -> Vec<(String, String)> {
    assert_eq!(
        call.header("content-type"),
        "application/cloudevents-batch+json"
    );
    let events: Vec<Value> = serde_json::from_slice(&call.body).unwrap();
    let event = |event: &Value| {
        // These bodies have no content type, so they come as bytes.
        let data = STANDARD
            .decode(event["data_base64"].as_str().unwrap())
            .unwrap();
        (
            event["weirid"].as_str().unwrap().to_owned(),
            String::from_utf8(data).unwrap(),
        )
    };
    events.iter().map(event).collect()
}

fn batched(handler: &Handler, most: u32) -> ObjectConfig {
    let mut object = consumed_by(webhook("in"), handler.address);
    object.queue.batch_max = most;
    object.queue.limit = 1;
    object
}

/// Stores messages first and lets them be consumed then, so that batches are full.
async fn run(object: &mut ObjectConfig, messages: usize) -> Weir {
    consumer(object).paused = true;
    let weir = Weir::start(vec![object.clone()]).await;
    for number in 0..messages {
        weir.post("/webhooks/in", format!("{number}")).await;
    }
    consumer(object).paused = false;
    weir.reconfigure(vec![object.clone()]).await;
    weir
}

#[tokio::test]
async fn messages_come_in_full_batches_one_call_at_a_time() {
    let handler = Handler::start(|_, _| async {
        sleep(Duration::from_millis(20)).await;
        status_of(200)
    })
    .await;
    let mut object = batched(&handler, 10);
    let weir = run(&mut object, 45).await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    let sizes: Vec<usize> = handler
        .calls()
        .iter()
        .map(|call| events(call).len())
        .collect();
    assert_eq!(sizes, [10, 10, 10, 10, 5]);
    assert_eq!(handler.most(), 1);
    let all: BTreeSet<_> = handler.calls().iter().flat_map(events).collect();
    assert_eq!(all.len(), 45);
}

#[tokio::test]
async fn only_the_messages_that_the_answer_names_are_retried() {
    let handler = Handler::start(|number, call| async move {
        if number > 0 {
            return status_of(200);
        }
        let failed: Vec<Value> = events(&call)
            .iter()
            .filter(|(_, data)| ["3", "7"].contains(&data.as_str()))
            .map(|(id, _)| json!({"itemIdentifier": id}))
            .collect();
        answer(json!({"batchItemFailures": failed}).to_string())
    })
    .await;
    let mut object = batched(&handler, 10);
    let weir = run(&mut object, 10).await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    let calls = handler.calls();
    let again: BTreeSet<String> = calls[1..].iter().flat_map(events).map(|it| it.1).collect();
    assert_eq!(again, BTreeSet::from(["3".to_owned(), "7".to_owned()]));
    let handled: usize = calls[1..].iter().map(|call| events(call).len()).sum();
    assert_eq!(handled, 2);
}

#[tokio::test]
async fn answers_mean_what_they_mean_on_aws() {
    // What the first call of a batch of 3 answers, and whether the whole batch is retried.
    let cases: [(&str, bool); 12] = [
        ("", false),
        ("{}", false),
        ("null", false),
        (r#"{"batchItemFailures":[]}"#, false),
        (r#"{"batchItemFailures":null}"#, false),
        (r#"{"ok":true}"#, false),
        ("handled", true),
        (r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#, true),
        (r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#, true),
        (r#"{"batchItemFailures":[{"id":"x"}]}"#, true),
        (
            r#"{"batchItemFailures":[{"itemIdentifier":"unknown"}]}"#,
            true,
        ),
        (r#"{"batchItemFailures":[{"itemIdentifier"#, true),
    ];
    for (text, again) in cases {
        let handler = Handler::start(move |number, _| async move {
            if number == 0 {
                answer(text)
            } else {
                status_of(200)
            }
        })
        .await;
        let mut object = batched(&handler, 3);
        let weir = run(&mut object, 3).await;
        assert_eq!(weir.settled(&object).await.dead, 0, "{text}");
        let handled: usize = handler.calls().iter().map(|call| events(call).len()).sum();
        let first = events(&handler.calls()[0]).len();
        assert_eq!(handled, 3 + if again { first } else { 0 }, "{text}");
    }
}

#[tokio::test]
async fn a_batch_that_always_fails_dead_letters_each_message() {
    let handler = Handler::answering(500).await;
    let mut object = batched(&handler, 5);
    let weir = run(&mut object, 5).await;
    assert_eq!(weir.settled(&object).await.dead, 5);
    let letters = weir.queue(&object).dead_letters(None, 10).await.unwrap();
    for letter in letters.items {
        assert_eq!(letter.letter.failure.reason, Reason::MaxAttempts);
        assert_eq!(letter.letter.failure.attempts, 3);
    }
}

#[tokio::test]
async fn a_refused_batch_is_not_an_attempt() {
    let handler =
        Handler::start(|number, _| async move { status_of(if number == 0 { 503 } else { 200 }) })
            .await;
    let mut object = batched(&handler, 5);
    consumer(&mut object).retry.max_attempts = 1;
    let weir = run(&mut object, 10).await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    let handled: usize = handler.calls()[1..]
        .iter()
        .map(|call| events(call).len())
        .sum();
    assert_eq!(handled, 10);
}

#[tokio::test]
async fn a_window_gathers_what_comes_within_it() {
    let handler = Handler::answering(200).await;
    let mut object = batched(&handler, 100);
    consumer(&mut object).batch_window_seconds = 1;
    object.queue.lease_seconds = 1;
    let weir = Weir::start(vec![object.clone()]).await;
    for number in 0..5 {
        weir.post("/webhooks/in", format!("{number}")).await;
        sleep(Duration::from_millis(50)).await;
    }
    weir.settled(&object).await;
    assert_eq!(
        handler.count(),
        1,
        "the window outlives the lease, and the messages are kept"
    );
    assert_eq!(events(&handler.calls()[0]).len(), 5);
}

#[tokio::test]
async fn an_idle_batch_follows_a_new_configuration() {
    let old = Handler::answering(200).await;
    let new = Handler::answering(200).await;
    let mut object = batched(&old, 5);
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "one").await;
    old.called(1).await;
    weir.settled(&object).await;
    let target = consumed_by(webhook("in"), new.address)
        .consumer
        .unwrap()
        .target;
    consumer(&mut object).target = target;
    weir.reconfigure(vec![object.clone()]).await;
    until("the new handler is asked", || async {
        weir.post("/webhooks/in", "more").await;
        new.count() > 0
    })
    .await;
    weir.settled(&object).await;
}

#[tokio::test]
async fn two_replicas_share_the_permits_and_nothing_is_held_back() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let handler = Handler::start({
        let seen = seen.clone();
        move |_, call| {
            seen.lock()
                .unwrap()
                .extend(events(&call).into_iter().map(|it| it.1));
            async move {
                sleep(Duration::from_millis(10)).await;
                status_of(200)
            }
        }
    })
    .await;
    let mut object = batched(&handler, 4);
    object.queue.limit = 2;
    let one = Weir::start(vec![object.clone()]).await;
    let two = Weir::start_on(
        one.broker.clone(),
        vec![object.clone()],
        crate::harness::settings(),
    )
    .await;
    for number in 0..50 {
        let weir = if number % 2 == 0 { &one } else { &two };
        weir.post("/webhooks/in", format!("{number}")).await;
    }
    assert_eq!(one.settled(&object).await.dead, 0);
    assert!(handler.most() <= 2);
    assert_eq!(seen.lock().unwrap().len(), 50);
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}
