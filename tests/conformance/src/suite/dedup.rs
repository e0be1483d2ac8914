//! Guarantee 8: deduplication is atomic with the publish.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use weir_broker::{Publication, Published};

use crate::ground::{Ground, SOON, becomes_empty, consumer, drain, next, persist, unique};

const WINDOW: Duration = Duration::from_mins(1);

/// Of all publications of one identity at once exactly one is stored, and all learn which.
pub async fn equal_ids_at_once_store_one(mut ground: Ground) {
    ground.spec.config.limit = 1000;
    let here = ground.queue().await;
    let there = ground.another().await;
    for round in 0..3 {
        let publications = (0..120).map(|number| {
            let queue = if number % 2 == 0 { &here } else { &there };
            let identity = format!("{round}-{}", number % 12);
            let publication = unique(&format!("{round}-m{number}"), &identity, WINDOW);
            async move { (identity, queue.publish(publication).await.unwrap()) }
        });
        let published = join_all(publications).await;
        for identity in (0..12).map(|number| format!("{round}-{number}")) {
            let of_it: Vec<&Published> = published
                .iter()
                .filter(|(known, _)| *known == identity)
                .map(|(_, published)| published)
                .collect();
            assert_eq!(of_it.len(), 10);
            assert_eq!(
                of_it
                    .iter()
                    .filter(|published| !published.duplicate)
                    .count(),
                1
            );
            assert!(
                of_it.iter().all(|published| published.id == of_it[0].id),
                "{of_it:?}"
            );
        }
    }
    let mut consumer = consumer(&here, 1000).await;
    let mut stored = vec![next(&mut consumer).await];
    stored.extend(drain(&mut consumer).await);
    assert_eq!(stored.len(), 36);
}

/// An identity is remembered after its message was handled, and over a kill of the server.
pub async fn dedup_survives_ack_and_outage(ground: Ground) {
    let queue = ground.queue().await;
    queue
        .publish(unique("first", "identity", WINDOW))
        .await
        .unwrap();
    let mut consumer = consumer(&queue, 5).await;
    next(&mut consumer).await.lease.ack().await.unwrap();
    becomes_empty(&queue).await;
    let duplicate = Published {
        id: "first".to_owned(),
        duplicate: true,
    };
    let again = queue
        .publish(unique("second", "identity", WINDOW))
        .await
        .unwrap();
    assert_eq!(again, duplicate);
    ground.kill_and_restart();
    let again = persist(|| queue.publish(unique("third", "identity", WINDOW))).await;
    assert_eq!(again, duplicate);
    let other = persist(|| queue.publish(unique("other", "another", WINDOW))).await;
    assert_eq!(
        other,
        Published {
            id: "other".to_owned(),
            duplicate: false
        }
    );
    assert_eq!(next(&mut consumer).await.message.id, "other");
}

/// An identity is forgotten when its window ends, not before, and can be used again and again.
pub async fn dedup_window_ends(ground: Ground) {
    let queue = ground.queue().await;
    let window = Duration::from_secs(2);
    let mut stored_after: Option<Instant> = None;
    for round in 0..3 {
        let first = format!("first-{round}");
        let until = Instant::now() + SOON;
        // The publication that finds the identity forgotten is the first of the next round.
        loop {
            let asked = Instant::now();
            let published = queue
                .publish(unique(&first, "identity", window))
                .await
                .unwrap();
            if !published.duplicate {
                assert_eq!(published.id, first);
                let lasted = stored_after.map_or(window, |stored| stored.elapsed());
                assert!(lasted >= window, "{lasted:?}");
                stored_after = Some(asked);
                break;
            }
            assert_eq!(published.id, format!("first-{}", round - 1));
            assert!(Instant::now() < until, "the window does not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut consumer = consumer(&queue, 5).await;
    let mut stored = vec![next(&mut consumer).await];
    stored.extend(drain(&mut consumer).await);
    assert_eq!(stored.len(), 3);
}

/// The identity of a message that waits for its time is taken at once.
pub async fn delayed_messages_are_deduplicated(ground: Ground) {
    let queue = ground.queue().await;
    let delay = Duration::from_millis(1200);
    let publication = Publication {
        delay,
        ..unique("late", "identity", WINDOW)
    };
    let published = queue.publish(publication).await.unwrap();
    assert_eq!(
        published,
        Published {
            id: "late".to_owned(),
            duplicate: false
        }
    );
    let duplicate = Published {
        id: "late".to_owned(),
        duplicate: true,
    };
    assert_eq!(
        queue
            .publish(unique("now", "identity", WINDOW))
            .await
            .unwrap(),
        duplicate
    );
    let mut consumer = consumer(&queue, 5).await;
    assert_eq!(next(&mut consumer).await.message.id, "late");
    assert_eq!(
        queue
            .publish(unique("after", "identity", WINDOW))
            .await
            .unwrap(),
        duplicate
    );
    assert!(drain(&mut consumer).await.is_empty());
}
