//! Guarantee 9: dead letters.

use std::time::Duration;

use weir_core::dead_letter::DeadLetter;

use crate::ground::{
    Ground, becomes_empty, consumer, failure, ids, next, none_for, publish, unique,
};

/// Guarantee 9, without faults: it is there when the call returns, whole, once.
pub async fn dead_letter_is_stored_before_the_source_leaves(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    let queue = ground.queue().await;
    publish(&queue, ids(2)).await;
    let mut consumer = consumer(&queue, 10).await;
    for attempts in [3, 4] {
        let delivery = next(&mut consumer).await;
        let death = failure(attempts);
        delivery.lease.dead_letter(&death).await.unwrap();
        // Repeated as after an answer that was lost.
        drop(delivery.lease.dead_letter(&death).await);
        let stored = queue
            .dead_letter(&delivery.message.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            stored.letter,
            DeadLetter {
                message: delivery.message.clone(),
                failure: death
            }
        );
    }
    becomes_empty(&queue).await;
    none_for(&mut consumer, Duration::from_secs(3)).await;
    let page = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!((page.items.len(), page.next), (2, None));
    assert!(queue.dead_letter("unknown").await.unwrap().is_none());
}

/// A message that was published again and died again has one letter, of its last death, under a new
/// position: who handled the old one cannot remove the new one by mistake.
pub async fn a_second_death_replaces_the_letter(ground: Ground) {
    let queue = ground.queue().await;
    let mut consumer = consumer(&queue, 10).await;
    let mut positions = Vec::new();
    for attempts in [1, 2] {
        let identity = format!("redrive-{attempts}");
        let publication = unique("m0", &identity, Duration::from_mins(1));
        queue.publish(publication).await.unwrap();
        let delivery = next(&mut consumer).await;
        delivery
            .lease
            .dead_letter(&failure(attempts))
            .await
            .unwrap();
        let stored = queue.dead_letter("m0").await.unwrap().unwrap();
        assert_eq!(stored.letter.failure.attempts, attempts);
        positions.push(stored.position);
    }
    assert_eq!(queue.dead_letters(None, 10).await.unwrap().items.len(), 1);
    assert!(positions[1] > positions[0]);
    assert!(!queue.remove_dead_letter(positions[0]).await.unwrap());
    assert!(queue.dead_letter("m0").await.unwrap().is_some());
    assert!(queue.remove_dead_letter(positions[1]).await.unwrap());
    assert!(!queue.remove_dead_letter(positions[1]).await.unwrap());
    assert!(queue.dead_letter("m0").await.unwrap().is_none());
    assert_eq!(queue.depth().await.unwrap().dead, 0);
}

/// Guarantee 9 where the place of the dead letters is gone or full: the message stays, also over the
/// end of its lease, and is a dead letter when there is a place again.
pub async fn nothing_is_acknowledged_while_dead_letters_cannot_be_stored(mut ground: Ground) {
    ground.spec.config.lease_seconds = 3;
    let queue = ground.queue().await;
    for full in [false, true] {
        let ids: Vec<String> = (0..4).map(|n| format!("{full}-{n}")).collect();
        publish(&queue, ids.iter().cloned()).await;
        ground.subject.forbid_dead_letters(&ground.spec, full).await;
        let mut doomed = consumer(&queue, 4).await;
        for _ in 0..4 {
            let delivery = next(&mut doomed).await;
            for _ in 0..2 {
                let error = delivery.lease.dead_letter(&failure(3)).await.unwrap_err();
                let wanted = if full { "QueueFull" } else { "TopologyMissing" };
                assert_eq!(error.reason(), wanted, "{error}");
            }
        }
        doomed.stop().await;
        drop(doomed);
        let stored = queue.peek(None, 10).await.unwrap().items.len();
        assert_eq!(stored, 4, "a message left its queue without a dead letter");

        ground.apply().await;
        let mut consumer = consumer(&queue, 4).await;
        for _ in 0..4 {
            let delivery = next(&mut consumer).await;
            delivery.lease.dead_letter(&failure(3)).await.unwrap();
        }
        becomes_empty(&queue).await;
        for id in &ids {
            assert!(queue.dead_letter(id).await.unwrap().is_some(), "{id}");
        }
        consumer.stop().await;
    }
}
