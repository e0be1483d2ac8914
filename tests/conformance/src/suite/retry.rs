//! Guarantees 4 to 7: what a delivery costs and how long it lasts.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::ground::{
    Ground, SOON, WHILE, becomes_empty, consumer, depth_becomes, failure, ids, next, none_for,
    persist, publish, take,
};
use crate::subject::Feature;

/// Guarantee 5.
pub async fn retry_is_durable_and_holds_no_slot(mut ground: Ground) {
    ground.spec.config.limit = 1;
    let queue = ground.queue().await;
    publish(&queue, ids(2)).await;
    let mut consumer = consumer(&queue, 3).await;
    let first = next(&mut consumer).await;
    assert_eq!(first.message.id, "m0");
    let delay = Duration::from_secs(3);
    let started = Instant::now();
    first.lease.retry(delay, 1).await.unwrap();
    let second = next(&mut consumer).await;
    assert_eq!(
        second.message.id, "m1",
        "the slot is free while the first waits"
    );
    second.lease.ack().await.unwrap();
    depth_becomes(&queue, |depth| {
        (depth.delayed, depth.ready + depth.in_flight) == (1, 0)
    })
    .await;
    ground.subject.take_down();
    ground.subject.bring_up();
    let again = next(&mut consumer).await;
    let took = started.elapsed();
    let latest = delay + SOON + ground.subject.lag();
    assert!(took >= delay && took < latest, "{took:?}");
    assert_eq!(
        (again.message.id.as_str(), again.attempts, again.redelivered),
        ("m0", 1, false)
    );
    assert_eq!(again.message.body, first.message.body);
    persist(|| again.lease.ack()).await;
    becomes_empty(&queue).await;
}

/// Guarantee 5, with many schedules and the kill of the server in their middle.
pub async fn retries_survive_a_kill_of_the_server(mut ground: Ground) {
    ground.spec.config.limit = 200;
    // A settlement that died with the server is seen when the lease ends.
    ground.spec.config.lease_seconds = ground.subject.short_lease().max(4);
    let queue = ground.queue().await;
    publish(&queue, ids(100)).await;
    let mut consumer = consumer(&queue, 200).await;
    let deliveries = take(&mut consumer, 100).await;
    // All at once: on a slow machine a hundred one after the other outlast the lease.
    let retries = deliveries.iter().map(|delivery| {
        let delay = Duration::from_millis(200 + 20 * (fastrand::u64(0..100)));
        delivery.lease.retry(delay, 1)
    });
    for retried in futures::future::join_all(retries).await {
        retried.unwrap();
    }
    ground.kill_and_restart();
    // What was on its way when the server died comes again; nothing else does. Copies may wait in the consumer
    // when the last message is found: those are taken as well.
    let mut found = std::collections::BTreeSet::new();
    let mut taken = 0;
    loop {
        let delivery = if found.len() < 100 {
            // What it says when nothing comes tells a message that is lost from one that is late.
            let Ok(came) = timeout(2 * SOON + ground.subject.lag(), consumer.next()).await else {
                let missing: Vec<String> = ids(100)
                    .into_iter()
                    .filter(|id| !found.contains(id))
                    .collect();
                let depth = persist(|| queue.depth()).await;
                panic!("nothing comes, {missing:?} did not; {depth:?}");
            };
            came.unwrap().unwrap()
        } else {
            tokio::select! {
                copy = next(&mut consumer) => copy,
                () = becomes_empty(&queue) => break,
            }
        };
        assert_eq!(delivery.attempts, 1);
        persist(|| delivery.lease.ack()).await;
        consumer.want(1);
        found.insert(delivery.message.id);
        taken += 1;
    }
    assert!(taken < 150, "{taken} deliveries");
}

/// Guarantee 6, over a kill of everything.
pub async fn attempts_survive_a_kill_of_the_server(mut ground: Ground) {
    ground.spec.config.lease_seconds = ground.subject.short_lease();
    let queue = ground.queue().await;
    publish(&queue, ids(1)).await;
    let mut consumer = consumer(&queue, 10).await;
    let first = next(&mut consumer).await;
    first.lease.begin().await.unwrap();
    first
        .lease
        .retry(Duration::from_millis(100), 1)
        .await
        .unwrap();
    let second = next(&mut consumer).await;
    assert_eq!((second.attempts, second.redelivered), (1, false));
    // Killed in the moment of the retry, a broker may make a second copy of it, which nobody has called yet.
    depth_becomes(&queue, |depth| depth.delayed == 0).await;
    drop(consumer);
    // Two processes die with it; the second had provably begun.
    ground.kill_and_restart();
    let mut consumer = persist(|| queue.consume()).await;
    consumer.want(10);
    let third = next(&mut consumer).await;
    assert_eq!(third.attempts, 1);
    third.lease.begin().await.unwrap();
    ground.kill_and_restart();
    let fourth = next(&mut consumer).await;
    assert_eq!((fourth.attempts, fourth.redelivered), (2, true));
    persist(|| fourth.lease.begin()).await;
    persist(|| fourth.lease.retry(Duration::from_millis(100), 3)).await;
    let fifth = next(&mut consumer).await;
    // A consumer's connection may break once more while the servers come up, with the message already on its way.
    assert_eq!(fifth.attempts, 3);
    fifth.lease.dead_letter(&failure(4)).await.unwrap();
    becomes_empty(&queue).await;
}

/// A call that began on a redelivery and did not end counts, exactly once.
pub async fn attempts_count_calls_that_began(mut ground: Ground) {
    ground.spec.config.lease_seconds = 1;
    let queue = ground.queue().await;
    publish(&queue, ids(1)).await;
    let mut consumer = consumer(&queue, 20).await;
    let first = next(&mut consumer).await;
    first.lease.begin().await.unwrap();
    let second = next(&mut consumer).await;
    let first_counted = second.attempts;
    assert!(
        first_counted <= 1 && second.redelivered,
        "the very first call may be left out"
    );
    second.lease.begin().await.unwrap();
    for expected in 1..4 {
        let again = next(&mut consumer).await;
        assert_eq!(
            (again.attempts, again.redelivered),
            (first_counted + expected, true)
        );
        again.lease.begin().await.unwrap();
        again.lease.begin().await.unwrap();
    }
    let last = next(&mut consumer).await;
    assert_eq!(last.attempts, first_counted + 4);
    last.lease.begin().await.unwrap();
    last.lease.give_back().await.unwrap();
    let returned = next(&mut consumer).await;
    assert_eq!(returned.attempts, last.attempts, "the call was undone");
    returned.lease.begin().await.unwrap();
    returned.lease.ack().await.unwrap();
    becomes_empty(&queue).await;
}

/// Guarantee 6: a process that dies before it calls the handler costs nothing.
pub async fn a_delivery_that_never_began_is_not_counted(mut ground: Ground) {
    ground.spec.config.lease_seconds = 1;
    let queue = ground.queue().await;
    publish(&queue, ids(1)).await;
    let mut consumer = consumer(&queue, 10).await;
    for round in 0..4 {
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.attempts, delivery.redelivered), (0, round > 0));
    }
}

/// Guarantee 4.
pub async fn give_back_costs_no_attempt(mut ground: Ground) {
    ground.spec.config.limit = 1;
    let queue = ground.queue().await;
    let other = ground.another().await;
    publish(&queue, ids(1)).await;
    let mut here = consumer(&queue, 100).await;
    let mut there = consumer(&other, 100).await;
    for round in 0..30 {
        let started = Instant::now();
        let delivery = tokio::select! {
            delivery = next(&mut here) => delivery,
            delivery = next(&mut there) => delivery,
        };
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "it is deliverable at once"
        );
        assert_eq!((delivery.attempts, delivery.redelivered), (0, round > 0));
        if round % 2 == 0 {
            delivery.lease.begin().await.unwrap();
        }
        delivery.lease.give_back().await.unwrap();
    }
}

/// Guarantee 7.
pub async fn lease_expiry_redelivers(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    let queue = ground.queue().await;
    let other = ground.another().await;
    publish(&queue, ids(1)).await;
    let mut here = consumer(&queue, 1).await;
    let held = next(&mut here).await;
    let started = Instant::now();
    let mut there = consumer(&other, 1).await;
    let again = next(&mut there).await;
    let took = started.elapsed();
    assert!(
        took > Duration::from_millis(1500) && took < Duration::from_secs(6),
        "{took:?}"
    );
    assert!(again.redelivered && again.message == held.message);
}

/// Guarantee 7, the other way.
pub async fn heartbeat_keeps_the_message(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    let queue = ground.queue().await;
    publish(&queue, ids(1)).await;
    let mut consumer = consumer(&queue, 2).await;
    let held = next(&mut consumer).await;
    for _ in 0..8 {
        none_for(&mut consumer, WHILE).await;
        held.lease.extend().await.unwrap();
    }
    held.lease.ack().await.unwrap();
    none_for(&mut consumer, Duration::from_secs(3)).await;
    becomes_empty(&queue).await;
}

/// What is in other hands is left alone; what was handled is handled.
pub async fn a_lease_that_is_over_settles_nothing_but_an_acknowledgement(mut ground: Ground) {
    ground.spec.config.lease_seconds = 3;
    let queue = ground.queue().await;
    publish(&queue, ids(1)).await;
    let mut consumer = consumer(&queue, 10).await;
    let stale = next(&mut consumer).await;
    let current = next(&mut consumer).await;
    assert!(current.redelivered);
    let refused = [
        stale.lease.begin().await,
        stale.lease.extend().await,
        stale.lease.retry(Duration::ZERO, 1).await,
        stale.lease.dead_letter(&failure(1)).await,
        stale.lease.give_back().await,
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("LeaseOver", false));
    }
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.delayed, depth.dead), (0, 0));
    stale.lease.ack().await.unwrap();
    becomes_empty(&queue).await;
    none_for(&mut consumer, Duration::from_secs(4)).await;
    // Its holder finds nothing to do.
    drop(current);
    let needs_server = ground.subject.lacks(Feature::ServerKill).is_none();
    assert!(needs_server || queue.peek(None, 10).await.unwrap().items.is_empty());
}
