//! What a failure does to a message, its batch and its group.

use super::*;

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
