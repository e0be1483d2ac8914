//! Guarantee 10: looking does not consume.

use std::time::Duration;

use jiff::SignedDuration;
use weir_broker::{Clock as _, Publication, SystemClock};

use crate::ground::{
    Ground, consumer, depth_becomes, drain, failure, ids, next, plain, publish, take,
};
use crate::subject::Feature;

/// Guarantee 10.
pub async fn peek_consumes_nothing(ground: Ground) {
    let queue = ground.queue().await;
    publish(&queue, ids(5)).await;
    let delay = Duration::from_mins(5);
    queue
        .publish(Publication {
            delay,
            ..plain("late")
        })
        .await
        .unwrap();
    let mut consumer = consumer(&queue, 1).await;
    let held = next(&mut consumer).await;
    for _ in 0..2 {
        let mut after = None;
        let mut seen = Vec::new();
        loop {
            let page = queue.peek(after, 2).await.unwrap();
            assert!(page.items.len() <= 2);
            seen.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let ids: Vec<&str> = seen
            .iter()
            .map(|stored| stored.message.id.as_str())
            .collect();
        assert_eq!(ids, ["m0", "m1", "m2", "m3", "m4", "late"]);
        assert!(
            seen.windows(2)
                .all(|pair| pair[0].position < pair[1].position)
        );
        for stored in &seen {
            assert_eq!(stored.due.is_some(), stored.message.id == "late");
        }
        let due = seen[5].due.unwrap();
        let away = due.duration_since(SystemClock.now());
        assert!(away > SignedDuration::from_secs(200) && away <= SignedDuration::from_secs(301));
        assert_eq!(seen[1].message.body, plain("m1").message.body);
    }
    assert_eq!(queue.peek(None, 0).await.unwrap().items.len(), 0);
    consumer.want(10);
    let rest = take(&mut consumer, 4).await;
    assert!(
        rest.iter()
            .all(|delivery| !delivery.redelivered && delivery.attempts == 0)
    );
    assert!(drain(&mut consumer).await.is_empty());
    held.lease.ack().await.unwrap();
}

/// Numbers are those of the broker.
pub async fn depth_counts_what_is_there(mut ground: Ground) {
    ground.spec.config.limit = 3;
    let queue = ground.queue().await;
    let empty = queue.depth().await.unwrap();
    assert_eq!(empty, weir_broker::Depth::default());
    let before = SystemClock.now();
    publish(&queue, ids(8)).await;
    for number in 0..2 {
        let delay = Duration::from_mins(5);
        let id = format!("late-{number}");
        queue
            .publish(Publication {
                delay,
                ..plain(&id)
            })
            .await
            .unwrap();
    }
    let mut consumer = consumer(&queue, 5).await;
    let mut held = take(&mut consumer, 3).await;
    held.pop()
        .unwrap()
        .lease
        .dead_letter(&failure(1))
        .await
        .unwrap();
    held.push(next(&mut consumer).await);
    held.pop()
        .unwrap()
        .lease
        .retry(Duration::from_mins(5), 1)
        .await
        .unwrap();
    held.push(next(&mut consumer).await);
    let depth = depth_becomes(&queue, |depth| {
        (depth.ready, depth.in_flight, depth.delayed, depth.dead) == (3, 3, 3, 1)
    })
    .await;
    if ground.subject.lacks(Feature::Age).is_none() {
        let oldest = depth.oldest.unwrap();
        let skew = SignedDuration::from_secs(2);
        assert!(
            oldest >= before - skew && oldest <= SystemClock.now() + skew,
            "{oldest}"
        );
    }
    for delivery in held {
        delivery.lease.ack().await.unwrap();
    }
    for delivery in drain(&mut consumer).await {
        delivery.lease.ack().await.unwrap();
    }
    consumer.want(10);
    for delivery in drain(&mut consumer).await {
        delivery.lease.ack().await.unwrap();
    }
    let end = weir_broker::Depth {
        delayed: 3,
        dead: 1,
        ..weir_broker::Depth::default()
    };
    depth_becomes(&queue, |depth| *depth == end).await;
}

/// Paging misses nothing, repeats nothing, and keeps the order of arrival.
pub async fn pages_hold_every_dead_letter_once(mut ground: Ground) {
    ground.spec.config.limit = 1000;
    let queue = ground.queue().await;
    publish(&queue, ids(300)).await;
    let mut consumer = consumer(&queue, 300).await;
    let mut died = Vec::new();
    for _ in 0..300 {
        let delivery = next(&mut consumer).await;
        delivery.lease.dead_letter(&failure(1)).await.unwrap();
        died.push(delivery.message.id);
    }
    for size in [1, 7, 299, 300, 1000] {
        let mut after = None;
        let mut seen = Vec::new();
        loop {
            let page = queue.dead_letters(after, size).await.unwrap();
            seen.extend(
                page.items
                    .into_iter()
                    .map(|stored| stored.letter.message.id),
            );
            match page.next {
                Some(next) if size > 1 || seen.len() < 20 => after = Some(next),
                _ => break,
            }
        }
        assert_eq!(seen, died[..seen.len()], "pages of {size}");
        assert!(seen.len() == 300 || size == 1);
    }
}
