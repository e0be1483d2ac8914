//! Which group a message is of, and which messages are refused.

use super::*;

#[tokio::test]
async fn without_group_by_all_messages_are_one_group_unless_their_sender_says_otherwise() {
    let handler = Handler::start(|_, _| async {
        sleep(Duration::from_millis(2)).await;
        status_of(200)
    })
    .await;
    let mut object = ordered(&handler);
    object.intake.as_mut().unwrap().group = None;
    let weir = run(&mut object, &many(&["x", "y"], 10)).await;
    weir.settled(&object).await;
    assert_eq!(handler.most(), 1);
    let all: Vec<(String, usize)> = handler.calls().iter().flat_map(messages).collect();
    let stored = many(&["x", "y"], 10);
    let stored: Vec<(String, usize)> = stored.iter().map(|it| (it.0.to_owned(), it.1)).collect();
    assert_eq!(all, stored);
    assert_eq!(handler.calls()[0].header("ce-partitionkey"), "");
    let request = Request::post("/fifoconsumers/ledger").header("weir-group", "own");
    assert_eq!(send(weir.intake, request, body("z", 1)).await.status, 202);
    handler.called(21).await;
    assert_eq!(handler.calls()[20].header("ce-partitionkey"), "own");
}

#[tokio::test]
async fn a_message_without_a_group_is_refused_with_what_is_wrong_and_nothing_is_stored() {
    let handler = Handler::answering(200).await;
    let mut object = ordered(&handler);
    consumer(&mut object).paused = true;
    let weir = Weir::start(vec![object.clone()]).await;
    let long = json!({"group": "x".repeat(10_240)}).to_string();
    for (body, part) in [
        ("{}", "gave nothing"),
        ("", "gave nothing"),
        ("not json", "gave nothing"),
        (r#"{"group": null}"#, "gave null"),
        (r#"{"group": {"a": 1}}"#, "gave an object"),
        (r#"{"group": [1, 2]}"#, "gave a list"),
        (r#"{"group": ""}"#, "is empty"),
        (r#"{"group": "a b"}"#, "U+0020 at place 2"),
        (r#"{"group": "a\nb"}"#, "U+000A at place 2"),
        (&long, "10240 bytes"),
    ] {
        let answer = weir.post("/fifoconsumers/ledger", body.to_owned()).await;
        assert_eq!(answer.status, 400, "{body}");
        let said = answer.json();
        assert_eq!(said["error"], "GroupInvalid");
        assert!(said["message"].as_str().unwrap().contains(part), "{said}");
    }
    assert_eq!(weir.depth(&object).await.ready, 0);
    for group in ["*", ">", "a.b", "$", "%20", "a*>"] {
        assert_eq!(post(&weir, group, 0).await.status, 202, "{group}");
    }
    consumer(&mut object).paused = false;
    weir.reconfigure(vec![object.clone()]).await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!(handler.count(), 6);
}

#[tokio::test]
async fn a_header_can_say_the_group() {
    let handler = Handler::answering(200).await;
    let mut object = ordered(&handler);
    object.intake.as_mut().unwrap().group = Some(GroupBy::Header {
        name: "x-group".to_owned(),
    });
    let weir = Weir::start(vec![object.clone()]).await;
    assert_eq!(post(&weir, "a", 0).await.status, 400);
    let request = Request::post("/fifoconsumers/ledger").header("X-Group", "eu");
    assert_eq!(send(weir.intake, request, body("a", 0)).await.status, 202);
    handler.called(1).await;
    assert_eq!(handler.calls()[0].header("ce-partitionkey"), "eu");
}

#[tokio::test]
async fn a_message_cannot_be_delayed_alone() {
    let handler = Handler::answering(200).await;
    let object = ordered(&handler);
    let weir = Weir::start(vec![object.clone()]).await;
    let delayed = |seconds: &str| {
        let request = Request::post("/fifoconsumers/ledger").header("weir-delay-seconds", seconds);
        send(weir.intake, request, body("a", 0))
    };
    let refused = delayed("5").await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("in order"), "{}", refused.text());
    assert_eq!(delayed("0").await.status, 202);
}

#[tokio::test]
async fn an_identity_counts_in_the_queue_or_in_the_group() {
    for (scope, stored) in [(DeduplicateScope::Queue, 1), (DeduplicateScope::Group, 2)] {
        let handler = Handler::answering(200).await;
        let mut object = ordered(&handler);
        object.intake.as_mut().unwrap().deduplicate = Some(DeduplicateConfig {
            by: DeduplicateBy::MessageId,
            header: None,
            window_seconds: 300,
            scope,
        });
        let weir = Weir::start(vec![object.clone()]).await;
        let mut new = 0;
        for group in ["a", "b", "a", "b"] {
            let request = Request::post("/fifoconsumers/ledger").header("idempotency-key", "k");
            let answer = send(weir.intake, request, body(group, 0)).await;
            assert_eq!(answer.status, 202);
            new += usize::from(answer.json().get("duplicate").is_none());
        }
        assert_eq!(new, stored, "{scope:?}");
        weir.settled(&object).await;
        assert_eq!(handler.count(), stored);
    }
}

#[tokio::test]
async fn a_batch_of_events_is_stored_in_the_order_of_the_request() {
    let handler = Handler::answering(200).await;
    let object = ordered(&handler);
    let weir = Weir::start(vec![object.clone()]).await;
    let event = |group: Value, number: usize| {
        json!({"specversion": "1.0", "id": format!("{number}"), "source": "/s", "type": "t",
               "data": {"group": group, "number": number}})
    };
    let events: Vec<Value> = (0..40)
        .map(|number| match number {
            13 => event(Value::Null, number),
            _ => event(json!(if number % 2 == 0 { "even" } else { "odd" }), number),
        })
        .collect();
    let request = Request::post("/fifoconsumers/ledger")
        .header("content-type", "application/cloudevents-batch+json");
    let answer = send(weir.intake, request, json!(events).to_string()).await;
    assert_eq!(answer.status, 207);
    let results = answer.json()["results"].as_array().unwrap().clone();
    assert_eq!(results.len(), 40);
    assert_eq!(results[13]["error"], "GroupInvalid");
    assert!(
        results
            .iter()
            .enumerate()
            .all(|(n, it)| n == 13 || it["id"].is_string())
    );
    weir.settled(&object).await;
    assert_eq!(
        numbers_of(&handler, "even"),
        (0..40).step_by(2).collect::<Vec<_>>()
    );
    let odd: Vec<usize> = (1..40).step_by(2).filter(|n| *n != 13).collect();
    assert_eq!(numbers_of(&handler, "odd"), odd);
}

#[tokio::test]
async fn an_expression_that_cannot_be_used_is_shown_and_accepts_nothing() {
    let handler = Handler::answering(200).await;
    let mut object = ordered(&handler);
    grouped_by(&mut object, "data.");
    let weir = Weir::start(vec![object.clone()]).await;
    assert_eq!(post(&weir, "a", 0).await.status, 503);
    let shown = weir.object("ledger").await;
    assert_eq!(shown["problems"][0]["reason"], "GroupByInvalid");
    grouped_by(&mut object, "data.group");
    weir.reconfigure(vec![object.clone()]).await;
    until("it is corrected", || async {
        post(&weir, "a", 0).await.status == 202
    })
    .await;
    let shown = weir.object("ledger").await;
    assert_eq!(shown["problems"].as_array().map(Vec::len), Some(0));
}
