//! Guarantees 2 and 3: the exact limit, and permits.

use std::time::Duration;

use tokio::time::timeout;

use crate::ground::{Ground, SOON, WHILE, consumer, ids, next, none_for, publish, take};

/// Guarantee 2.
pub async fn limit_is_exact_over_consumers_and_processes(mut ground: Ground) {
    ground.spec.config.limit = 4;
    let queue = ground.queue().await;
    publish(&queue, ids(60)).await;
    let mut consumers = Vec::new();
    for _ in 0..3 {
        let queue = ground.another().await;
        consumers.push(consumer(&queue, 10).await);
        consumers.push(consumer(&queue, 10).await);
    }
    let mut held = Vec::new();
    let mut handled = 0;
    while handled < 60 {
        // Whatever can be had is taken by whoever gets it.
        for consumer in &mut consumers {
            while let Ok(delivery) = timeout(Duration::from_millis(20), consumer.next()).await {
                let delivery = delivery.unwrap().unwrap();
                assert_eq!((delivery.attempts, delivery.redelivered), (0, false));
                held.push(delivery);
                assert!(held.len() <= 4, "{} deliveries are out", held.len());
            }
        }
        for delivery in held.drain(..) {
            delivery.lease.ack().await.unwrap();
            handled += 1;
        }
        for consumer in &mut consumers {
            let wanted = consumer.wanted();
            consumer.want(10 - wanted);
        }
    }
    for consumer in &mut consumers {
        none_for(consumer, Duration::from_millis(50)).await;
    }
}

/// Lowering takes nothing away and delivers nothing more; raising takes effect at once.
pub async fn lowering_the_limit_drains(mut ground: Ground) {
    ground.spec.config.limit = 4;
    let queue = ground.queue().await;
    publish(&queue, ids(20)).await;
    let mut consumer = consumer(&queue, 20).await;
    let mut held = take(&mut consumer, 4).await;
    ground.set_limit(2).await;
    for _ in 0..2 {
        held.pop().unwrap().lease.ack().await.unwrap();
        none_for(&mut consumer, WHILE).await;
    }
    held.pop().unwrap().lease.ack().await.unwrap();
    held.push(next(&mut consumer).await);
    none_for(&mut consumer, WHILE).await;
    ground.set_limit(6).await;
    held.extend(take(&mut consumer, 4).await);
    none_for(&mut consumer, WHILE).await;
    assert_eq!(held.len(), 6);
    assert!(
        held.iter()
            .all(|delivery| !delivery.redelivered && delivery.attempts == 0)
    );
}

/// Nothing is delivered, and what is out can still be settled.
pub async fn limit_zero_delivers_nothing(mut ground: Ground) {
    ground.spec.config.limit = 0;
    let queue = ground.queue().await;
    publish(&queue, ids(3)).await;
    let mut consumer = consumer(&queue, 3).await;
    none_for(&mut consumer, WHILE).await;
    ground.set_limit(1).await;
    let held = next(&mut consumer).await;
    ground.set_limit(0).await;
    held.lease.ack().await.unwrap();
    none_for(&mut consumer, WHILE).await;
    ground.set_limit(5).await;
    let rest = take(&mut consumer, 2).await;
    assert!(
        rest.iter()
            .all(|delivery| !delivery.redelivered && delivery.attempts == 0)
    );
    ground.spec.config.limit = 0;
    ground.spec.config.lease_seconds = 40;
    ground.apply().await;
    assert_eq!(
        ground
            .apply()
            .await
            .apply_queue(&ground.spec)
            .await
            .unwrap()
            .repaired,
        [""; 0]
    );
}

/// With batches the limit counts calls.
pub async fn permits_bound_batched_calls(mut ground: Ground) {
    ground.spec.config.limit = 2;
    ground.spec.config.batch_max = 5;
    let queue = ground.queue().await;
    publish(&queue, ids(20)).await;
    let mut consumer = consumer(&queue, 20).await;
    // limit x batchMax messages may be out.
    let _held = take(&mut consumer, 10).await;
    none_for(&mut consumer, WHILE).await;

    let other = ground.another().await;
    let first = queue.permit().await.unwrap();
    let second = timeout(SOON, other.permit()).await.unwrap().unwrap();
    assert!(
        timeout(WHILE, queue.permit()).await.is_err(),
        "a third permit"
    );
    assert!(
        timeout(WHILE, other.permit()).await.is_err(),
        "a third permit"
    );
    first.release().await.unwrap();
    let third = timeout(SOON, other.permit()).await.unwrap().unwrap();
    second.extend().await.unwrap();

    ground.set_limit(1).await;
    second.release().await.unwrap();
    third.release().await.unwrap();
    let only = timeout(SOON, queue.permit()).await.unwrap().unwrap();
    assert!(
        timeout(WHILE, other.permit()).await.is_err(),
        "a second permit"
    );
    ground.set_limit(3).await;
    let more = timeout(SOON, other.permit()).await.unwrap().unwrap();
    let most = timeout(SOON, other.permit()).await.unwrap().unwrap();
    assert!(
        timeout(WHILE, other.permit()).await.is_err(),
        "a fourth permit"
    );
    for permit in [only, more, most] {
        permit.release().await.unwrap();
    }
    // Who gave up waiting keeps no permit.
    for _ in 0..5 {
        if let Ok(granted) = timeout(Duration::from_millis(1), queue.permit()).await {
            granted.unwrap().release().await.unwrap();
        }
    }
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(timeout(SOON, other.permit()).await.unwrap().unwrap());
    }
}

/// The permit of a process that was killed comes back when its lease ends, one that is kept does not.
pub async fn a_lost_permit_comes_back(mut ground: Ground) {
    ground.spec.config.limit = 1;
    ground.spec.config.batch_max = 2;
    ground.spec.config.lease_seconds = 2;
    let queue = ground.queue().await;
    let other = ground.another().await;
    let kept = queue.permit().await.unwrap();
    for _ in 0..4 {
        assert!(
            timeout(Duration::from_millis(700), other.permit())
                .await
                .is_err()
        );
        kept.extend().await.unwrap();
    }
    drop(kept);
    timeout(SOON, other.permit()).await.unwrap().unwrap();
}
