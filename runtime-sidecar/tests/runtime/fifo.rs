//! Order within groups: turns, retries in place, partial failures, and what becomes of a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::sleep;
use weir_broker::fifo::{FifoQueue, Hold};
use weir_core::config::{
    DeduplicateBy, DeduplicateConfig, DeduplicateScope, FifoConfig, GroupBy, ObjectConfig,
    WhenExhausted,
};
use weir_core::dead_letter::Reason;
use weir_core::object::Kind;

use crate::harness::{
    Answer, Call, Handler, Reply, Weir, consumed_by, consumer, queue, send, settings, status_of,
    until,
};

/// An ordered queue, its groups by `data.group`.
fn ordered(handler: &Handler) -> ObjectConfig {
    let mut object = consumed_by(queue("ledger"), handler.address);
    object.object.kind = Kind::FifoConsumer;
    object.queue.fifo = Some(FifoConfig { partitions: 4 });
    grouped_by(&mut object, "data.group");
    object
}

fn grouped_by(object: &mut ObjectConfig, expression: &str) {
    object.intake.as_mut().unwrap().group = Some(GroupBy::Expression {
        text: expression.to_owned(),
    });
}

fn body(group: &str, number: usize) -> String {
    json!({"group": group, "number": number}).to_string()
}

async fn post(weir: &Weir, group: &str, number: usize) -> Answer {
    weir.post("/fifoconsumers/ledger", body(group, number))
        .await
}

/// Stores messages while nothing is delivered, then lets go.
async fn run(object: &mut ObjectConfig, messages: &[(&str, usize)]) -> Weir {
    consumer(object).paused = true;
    let weir = Weir::start(vec![object.clone()]).await;
    for (group, number) in messages {
        assert_eq!(post(&weir, group, *number).await.status, 202);
    }
    consumer(object).paused = false;
    weir.reconfigure(vec![object.clone()]).await;
    weir
}

/// Group and number of each message of a call.
fn messages(call: &Call) -> Vec<(String, usize)> {
    let value: Value = serde_json::from_slice(&call.body).unwrap();
    let one = |data: &Value| {
        let number = data["number"].as_u64().unwrap() as usize;
        (data["group"].as_str().unwrap().to_owned(), number)
    };
    match &value {
        // These bodies have no content type, so in a batch they come as bytes.
        Value::Array(events) => events.iter().map(|event| one(&data_of(event))).collect(),
        data => vec![one(data)],
    }
}

fn data_of(event: &Value) -> Value {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(event["data_base64"].as_str().unwrap())
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn numbers_of(handler: &Handler, group: &str) -> Vec<usize> {
    let calls = handler.calls();
    let all = calls.iter().flat_map(messages);
    all.filter(|(of, _)| of == group)
        .map(|(_, number)| number)
        .collect()
}

fn answer(body: impl Into<bytes::Bytes>) -> Reply {
    let mut answer = status_of(200);
    *answer.body_mut() = Full::new(body.into());
    answer
}

fn fifo(weir: &Weir, object: &ObjectConfig) -> Arc<dyn FifoQueue> {
    weir.queue(object).fifo().unwrap()
}

/// Fails every message with this number.
async fn failing_at(number: usize, status: u16) -> Handler {
    Handler::start(move |_, call| async move {
        let bad = messages(&call).iter().any(|(_, it)| *it == number);
        status_of(if bad { status } else { 200 })
    })
    .await
}

fn many(groups: &[&'static str], count: usize) -> Vec<(&'static str, usize)> {
    (0..count)
        .flat_map(|number| groups.iter().map(move |group| (*group, number)))
        .collect()
}

#[tokio::test]
async fn a_group_is_handled_in_order_and_one_at_a_time_and_groups_run_together() {
    let running = Arc::new(Mutex::new(BTreeSet::new()));
    let overlapped = Arc::new(AtomicBool::new(false));
    let handler = Handler::start({
        let (running, overlapped) = (running.clone(), overlapped.clone());
        move |_, call| {
            let (running, overlapped) = (running.clone(), overlapped.clone());
            async move {
                let (group, _) = messages(&call).remove(0);
                if !running.lock().unwrap().insert(group.clone()) {
                    overlapped.store(true, Ordering::SeqCst);
                }
                sleep(Duration::from_millis(5)).await;
                running.lock().unwrap().remove(&group);
                status_of(200)
            }
        }
    })
    .await;
    let mut object = ordered(&handler);
    let groups = ["a", "b", "c", "d"];
    let weir = run(&mut object, &many(&groups, 20)).await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert!(
        !overlapped.load(Ordering::SeqCst),
        "one call of a group at a time"
    );
    assert!((2..=4).contains(&handler.most()), "{}", handler.most());
    for group in groups {
        assert_eq!(numbers_of(&handler, group), (0..20).collect::<Vec<_>>());
    }
    let call = &handler.calls()[0];
    assert_eq!(call.header("ce-partitionkey"), messages(call)[0].0);
}

#[tokio::test]
async fn a_poisoned_message_is_retried_in_place_then_its_group_goes_on_and_others_do_not_notice() {
    let handler = Handler::start(|_, call| async move {
        let (group, number) = messages(&call).remove(0);
        status_of(if group == "bad" && number == 1 {
            500
        } else {
            200
        })
    })
    .await;
    let mut object = ordered(&handler);
    let weir = run(&mut object, &many(&["good", "bad"], 4)).await;
    assert_eq!(weir.settled(&object).await.dead, 1);
    assert_eq!(numbers_of(&handler, "good"), [0, 1, 2, 3]);
    assert_eq!(numbers_of(&handler, "bad"), [0, 1, 1, 1, 2, 3]);
    let attempts: Vec<String> = handler
        .calls()
        .iter()
        .filter(|call| messages(call) == [("bad".to_owned(), 1)])
        .map(|call| call.header("weir-attempt").to_owned())
        .collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    let letters = weir.queue(&object).dead_letters(None, 10).await.unwrap();
    let letter = &letters.items[0].letter;
    assert_eq!(letter.message.group.as_deref(), Some("bad"));
    assert_eq!(
        (letter.failure.reason, letter.failure.attempts),
        (Reason::MaxAttempts, 3)
    );
}

#[tokio::test]
async fn a_permanent_status_gives_one_message_up_at_once() {
    let handler = failing_at(1, 400).await;
    let mut object = ordered(&handler);
    let weir = run(&mut object, &many(&["a"], 3)).await;
    assert_eq!(weir.settled(&object).await.dead, 1);
    assert_eq!(numbers_of(&handler, "a"), [0, 1, 2]);
}

#[tokio::test]
async fn a_pause_of_one_group_leaves_the_calls_of_this_process_to_others() {
    let handler = failing_at(7, 500).await;
    let mut object = ordered(&handler);
    consumer(&mut object).per_replica = 1;
    consumer(&mut object).retry.initial_seconds = 3600;
    consumer(&mut object).retry.max_seconds = 3600;
    consumer(&mut object).retry.max_age_seconds = 100_000;
    let mut stored = vec![("bad", 7), ("bad", 8)];
    stored.extend(many(&["good"], 3));
    let weir = run(&mut object, &stored).await;
    handler.called(4).await;
    until("the good group is done", || async {
        numbers_of(&handler, "good") == [0, 1, 2]
    })
    .await;
    assert_eq!(numbers_of(&handler, "bad"), [7]);
    // Told to stop, a turn that pauses is let go at once.
    weir.stop().await.unwrap();
}

#[tokio::test]
async fn groups_that_wait_for_another_attempt_leave_the_limit_to_others() {
    let handler = failing_at(7, 500).await;
    let mut object = ordered(&handler);
    object.queue.limit = 2;
    consumer(&mut object).retry.initial_seconds = 3600;
    consumer(&mut object).retry.max_seconds = 3600;
    consumer(&mut object).retry.max_age_seconds = 100_000;
    let bad = ["b0", "b1", "b2", "b3", "b4", "b5"];
    let mut stored = Vec::from(bad.map(|group| (group, 7)));
    stored.extend(many(&["good"], 7));
    let weir = run(&mut object, &stored).await;
    until("the good group is done", || async {
        numbers_of(&handler, "good") == (0..7).collect::<Vec<_>>()
    })
    .await;
    for group in bad {
        assert_eq!(numbers_of(&handler, group), [7]);
    }
    until("no turn is held", || async {
        fifo(&weir, &object).groups().await.unwrap().in_turn == 0
    })
    .await;
    assert_eq!(weir.queue(&object).depth().await.unwrap().dead, 0);
    weir.stop().await.unwrap();
}

#[tokio::test]
async fn a_rest_counts_its_attempts_and_whom_it_suspects() {
    let handler = failing_at(2, 500).await;
    let mut object = ordered(&handler);
    object.queue.batch_max = 4;
    consumer(&mut object).retry.initial_seconds = 2;
    consumer(&mut object).retry.max_seconds = 2;
    consumer(&mut object).retry.max_attempts = 2;
    let weir = run(&mut object, &many(&["a"], 5)).await;
    assert_eq!(weir.settled(&object).await.dead, 1);
    let calls: Vec<Vec<usize>> = handler
        .calls()
        .iter()
        .map(|call| messages(call).into_iter().map(|it| it.1).collect())
        .collect();
    let alone = [0, 1, 2, 2, 3].map(|number| vec![number]);
    assert_eq!(calls[0], [0, 1, 2, 3]);
    assert_eq!(calls[1..6], alone);
    assert_eq!(calls[6..], [vec![4]]);
}

#[tokio::test]
async fn a_batch_holds_one_group_in_order() {
    let handler = Handler::answering(200).await;
    let mut object = ordered(&handler);
    object.queue.batch_max = 10;
    let weir = run(&mut object, &many(&["a", "b"], 25)).await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    for group in ["a", "b"] {
        assert_eq!(numbers_of(&handler, group), (0..25).collect::<Vec<_>>());
    }
    for call in handler.calls() {
        assert_eq!(
            call.header("content-type"),
            "application/cloudevents-batch+json"
        );
        let groups: BTreeSet<String> = messages(&call).into_iter().map(|it| it.0).collect();
        assert_eq!(groups.len(), 1);
        let events: Vec<Value> = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            events[0]["partitionkey"],
            Value::from(groups.first().unwrap().clone())
        );
    }
    assert!(
        handler.count() <= 8,
        "{} calls for 50 messages",
        handler.count()
    );
}

#[tokio::test]
async fn what_is_before_the_first_failure_is_done_and_the_rest_comes_again() {
    let handler = Handler::start(|number, call| async move {
        if number > 0 {
            return status_of(200);
        }
        let events: Vec<Value> = serde_json::from_slice(&call.body).unwrap();
        // As AWS advises, the first failure and all behind it; the order of the answer says nothing.
        let failed: Vec<Value> = events[2..]
            .iter()
            .rev()
            .map(|event| json!({"itemIdentifier": event["weirid"]}))
            .collect();
        answer(json!({"batchItemFailures": failed}).to_string())
    })
    .await;
    let mut object = ordered(&handler);
    object.queue.batch_max = 5;
    let weir = run(&mut object, &many(&["a"], 5)).await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    let calls: Vec<Vec<usize>> = handler
        .calls()
        .iter()
        .map(|call| messages(call).into_iter().map(|it| it.1).collect())
        .collect();
    assert_eq!(calls, [vec![0, 1, 2, 3, 4], vec![2, 3, 4]]);
    let again: Vec<Value> = serde_json::from_slice(&handler.calls()[1].body).unwrap();
    let attempts: Vec<&Value> = again.iter().map(|event| &event["weirattempt"]).collect();
    assert_eq!(attempts, [2, 1, 1], "only the first failure counts");
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_costs_the_good_messages_nothing() {
    let handler = failing_at(3, 500).await;
    let mut object = ordered(&handler);
    object.queue.batch_max = 6;
    let weir = run(&mut object, &many(&["a"], 6)).await;
    assert_eq!(weir.settled(&object).await.dead, 1);
    let calls: Vec<usize> = handler
        .calls()
        .iter()
        .map(|call| messages(call).len())
        .collect();
    assert_eq!(calls[0], 6);
    assert!(calls[1..].iter().all(|size| *size == 1));
    let mut handled = BTreeMap::new();
    for number in numbers_of(&handler, "a")[6..].iter().copied() {
        *handled.entry(number).or_insert(0) += 1;
    }
    assert_eq!(
        handled,
        BTreeMap::from([(0, 1), (1, 1), (2, 1), (3, 3), (4, 1), (5, 1)])
    );
    let letters = weir.queue(&object).dead_letters(None, 10).await.unwrap();
    assert_eq!(
        &letters.items[0].letter.message.body[..],
        body("a", 3).as_bytes()
    );
}

#[tokio::test]
async fn a_full_handler_costs_no_attempt_and_keeps_the_order() {
    let handler =
        Handler::start(|number, _| async move { status_of(if number < 4 { 429 } else { 200 }) })
            .await;
    let mut object = ordered(&handler);
    consumer(&mut object).retry.max_attempts = 1;
    consumer(&mut object).per_replica = 2;
    let weir = run(&mut object, &many(&["a", "b"], 10)).await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    for group in ["a", "b"] {
        let accepted: Vec<usize> = handler.calls()[4..]
            .iter()
            .flat_map(messages)
            .filter(|(of, _)| of == group)
            .map(|(_, number)| number)
            .collect();
        assert_eq!(accepted, (0..10).collect::<Vec<_>>(), "group {group}");
    }
    let calls = handler.calls();
    assert!(calls.iter().all(|call| call.header("weir-attempt") == "1"));
    let series = "weir_throttled_total{kind=\"FifoConsumer\",namespace=\"shop\",name=\"ledger\"} ";
    assert!(weir.metric(series).await >= 1.0);
}

#[tokio::test]
async fn a_blocked_group_keeps_everything_until_it_is_released() {
    let healed = Arc::new(AtomicBool::new(false));
    let handler = Handler::start({
        let healed = healed.clone();
        move |_, call| {
            let bad = messages(&call)[0] == ("bad".to_owned(), 1);
            let status = if bad && !healed.load(Ordering::SeqCst) {
                500
            } else {
                200
            };
            async move { status_of(status) }
        }
    })
    .await;
    let mut object = ordered(&handler);
    consumer(&mut object).when_exhausted = WhenExhausted::BlockGroup;
    let weir = run(&mut object, &many(&["good", "bad"], 3)).await;
    let fifo = fifo(&weir, &object);
    until("the group is blocked", || async {
        fifo.groups().await.unwrap().held == 1
    })
    .await;
    until("the good group is done", || async {
        numbers_of(&handler, "good") == [0, 1, 2]
    })
    .await;
    let held = fifo.held_groups(None, 10).await.unwrap();
    assert_eq!(
        (held[0].group.as_str(), held[0].hold),
        ("bad", Hold::Blocked)
    );
    assert_eq!(held[0].failure.reason, Reason::MaxAttempts);
    assert_eq!(numbers_of(&handler, "bad"), [0, 1, 1, 1]);
    assert_eq!(weir.depth(&object).await.dead, 0);
    let series = "weir_held_groups{kind=\"FifoConsumer\",namespace=\"shop\",name=\"ledger\"} ";
    until("the metric says so", || async {
        weir.metric(series).await > 0.5
    })
    .await;
    healed.store(true, Ordering::SeqCst);
    assert!(fifo.release_group("bad").await.unwrap());
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!(numbers_of(&handler, "bad"), [0, 1, 1, 1, 1, 2]);
}

#[tokio::test]
async fn a_group_that_is_given_up_as_a_whole_follows_its_first_failure() {
    let handler = Handler::start(|_, call| async move {
        let bad = messages(&call)[0] == ("bad".to_owned(), 1);
        status_of(if bad { 400 } else { 200 })
    })
    .await;
    let mut object = ordered(&handler);
    consumer(&mut object).when_exhausted = WhenExhausted::DeadLetterGroup;
    let weir = run(&mut object, &many(&["good", "bad"], 4)).await;
    assert_eq!(weir.settled(&object).await.dead, 3);
    assert_eq!(numbers_of(&handler, "good"), [0, 1, 2, 3]);
    assert_eq!(numbers_of(&handler, "bad"), [0, 1]);
    let letters = weir.queue(&object).dead_letters(None, 10).await.unwrap();
    let bodies: Vec<String> = letters
        .items
        .iter()
        .map(|it| String::from_utf8(it.letter.message.body.to_vec()).unwrap())
        .collect();
    assert_eq!(bodies, [body("bad", 1), body("bad", 2), body("bad", 3)]);
}

#[tokio::test]
async fn a_message_that_is_too_old_is_given_up_without_a_call() {
    let handler = Handler::answering(200).await;
    let mut object = ordered(&handler);
    consumer(&mut object).retry.max_age_seconds = 0;
    let weir = run(&mut object, &many(&["a"], 2)).await;
    assert_eq!(weir.settled(&object).await.dead, 2);
    assert_eq!(handler.count(), 0);
    let letters = weir.queue(&object).dead_letters(None, 10).await.unwrap();
    assert_eq!(letters.items[0].letter.failure.reason, Reason::MaxAge);
}

#[tokio::test]
async fn two_replicas_keep_the_order_of_every_group() {
    let handler = Handler::start(|number, _| async move {
        sleep(Duration::from_millis(3)).await;
        status_of(if number % 7 == 3 { 500 } else { 200 })
    })
    .await;
    let mut object = ordered(&handler);
    consumer(&mut object).retry.max_attempts = 20;
    let groups = ["a", "b", "c", "d", "e"];
    let one = run(&mut object, &many(&groups, 15)).await;
    let two = Weir::start_on(one.broker.clone(), vec![object.clone()], settings()).await;
    assert_eq!(one.settled(&object).await.dead, 0);
    for group in groups {
        let mut numbers = numbers_of(&handler, group);
        // A failed call is repeated in place; without repeats it is the order.
        numbers.dedup();
        assert_eq!(numbers, (0..15).collect::<Vec<_>>(), "group {group}");
    }
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_finishes_the_call_and_lets_the_rest_go_in_order() {
    let handler = Handler::start(|_, _| async {
        sleep(Duration::from_millis(100)).await;
        status_of(200)
    })
    .await;
    let mut object = ordered(&handler);
    object.queue.limit = 1;
    let one = run(&mut object, &many(&["a"], 5)).await;
    handler.called(1).await;
    let broker = one.broker.clone();
    one.stop().await.unwrap();
    assert_eq!(handler.cut(), 0);
    let done = handler.count();
    let two = Weir::start_on(broker, vec![object.clone()], settings()).await;
    assert_eq!(two.settled(&object).await.dead, 0);
    assert_eq!(numbers_of(&handler, "a"), [0, 1, 2, 3, 4]);
    let attempts = handler.calls()[done..].to_vec();
    assert!(
        attempts
            .iter()
            .all(|call| call.header("weir-attempt") == "1")
    );
}

#[tokio::test]
async fn a_killed_replica_loses_its_turn_and_nothing_is_out_of_order() {
    let handler = Handler::start(|number, _| async move {
        // The first call never ends by itself.
        sleep(Duration::from_millis(if number == 0 { 60_000 } else { 1 })).await;
        status_of(200)
    })
    .await;
    let mut object = ordered(&handler);
    object.queue.lease_seconds = 1;
    let one = run(&mut object, &many(&["a"], 4)).await;
    handler.called(1).await;
    let broker = one.broker.clone();
    one.kill().await;
    let two = Weir::start_on(broker, vec![object.clone()], settings()).await;
    assert_eq!(two.settled(&object).await.dead, 0);
    assert_eq!(numbers_of(&handler, "a"), [0, 0, 1, 2, 3]);
}

#[tokio::test]
async fn a_pause_of_the_object_lets_a_waiting_turn_go() {
    let handler = failing_at(0, 500).await;
    let mut object = ordered(&handler);
    consumer(&mut object).retry.initial_seconds = 1;
    consumer(&mut object).retry.max_seconds = 1;
    let weir = run(&mut object, &many(&["a"], 2)).await;
    handler.called(1).await;
    consumer(&mut object).paused = true;
    weir.reconfigure(vec![object.clone()]).await;
    let fifo = fifo(&weir, &object);
    until("no turn is held", || async {
        fifo.groups().await.unwrap().in_turn == 0
    })
    .await;
    assert_eq!(handler.count(), 1);
    consumer(&mut object).paused = false;
    weir.reconfigure(vec![object.clone()]).await;
    handler.called(2).await;
    assert_eq!(
        handler.calls()[1].header("weir-attempt"),
        "2",
        "what counted still does"
    );
}

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
