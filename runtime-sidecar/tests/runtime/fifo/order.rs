//! One message of a group at a time, in order, whoever stops or dies.

use super::*;

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
