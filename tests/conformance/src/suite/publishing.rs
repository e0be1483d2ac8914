//! Guarantee 1, and what may be published.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use weir_broker::{Publication, Published};

use crate::ground::{
    Ground, SOON, becomes_empty, consumer, depth_becomes, drain, failure, ids, message, next,
    persist, plain, publish, take, unique,
};
use crate::subject::Feature;

/// Guarantee 1.
pub async fn publish_is_stored_before_it_returns(mut ground: Ground) {
    ground.spec.config.limit = 300;
    let queue = ground.queue().await;
    publish(&queue, ids(200)).await;
    queue
        .publish(unique("m200", "identity", Duration::from_mins(1)))
        .await
        .unwrap();
    if ground.subject.lacks(Feature::ServerKill).is_none() {
        ground.kill_and_restart();
    }
    let mut consumer = persist(|| queue.consume()).await;
    consumer.want(300);
    let mut found = take(&mut consumer, 201).await;
    found.extend(drain(&mut consumer).await);
    let mut found: Vec<String> = found
        .into_iter()
        .map(|delivery| delivery.message.id)
        .collect();
    assert_eq!(found.len(), 201, "nothing is there twice");
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 201);
}

/// The intake must be able to answer at once, and to go on by itself.
pub async fn publish_while_the_server_is_down_fails_fast_and_works_after(ground: Ground) {
    let transport = ground.apply().await;
    let queue = transport.queue(&ground.spec);
    publish(&queue, ids(1)).await;
    ground.subject.take_down();
    let mut connected = transport.connected();
    tokio::time::timeout(SOON, connected.wait_for(|up| !up))
        .await
        .unwrap()
        .unwrap();
    let started = Instant::now();
    for publication in [plain("m1"), unique("m1", "m1", Duration::from_mins(1))] {
        let error = queue.publish(publication).await.unwrap_err();
        assert_eq!(
            (error.reason(), error.is_transient()),
            ("BrokerUnreachable", true)
        );
    }
    assert!(
        started.elapsed() < Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    ground.subject.bring_up();
    tokio::time::timeout(SOON, connected.wait_for(|up| *up))
        .await
        .unwrap()
        .unwrap();
    persist(|| queue.publish(plain("m1"))).await;
    persist(|| queue.publish(unique("m2", "m2", Duration::from_mins(1)))).await;
    let mut consumer = persist(|| queue.consume()).await;
    consumer.want(10);
    let mut found: Vec<String> = drain_at_least(&mut consumer, 3).await.into_iter().collect();
    found.sort_unstable();
    assert_eq!(found, ["m0", "m1", "m2"]);
}

async fn drain_at_least(
    consumer: &mut Box<dyn weir_broker::Consumer>,
    count: usize,
) -> Vec<String> {
    let mut taken = take(consumer, count).await;
    taken.extend(drain(consumer).await);
    taken
        .into_iter()
        .map(|delivery| delivery.message.id)
        .collect()
}

/// What fits can be stored, retried and dead-lettered; what does not fit is refused, not lost.
pub async fn messages_at_the_size_limit(ground: Ground) {
    let queue = ground.queue().await;
    let mut largest = message("large");
    largest.headers.append("x-padding", "p".repeat(20_000));
    let room = queue.max_message_bytes() - largest.wire_len() + largest.body.len();
    largest.body = Bytes::from(vec![0xa5; room]);
    assert_eq!(largest.wire_len(), queue.max_message_bytes());
    let mut over = largest.clone();
    over.body = Bytes::from(vec![0xa5; room + 1]);
    let with = |message, dedup| Publication {
        message,
        dedup,
        delay: Duration::ZERO,
    };
    let identity = Some(("large".to_owned(), Duration::from_mins(1)));
    for dedup in [None, identity.clone()] {
        let error = queue.publish(with(over.clone(), dedup)).await.unwrap_err();
        assert_eq!(error.reason(), "MessageTooLarge");
    }
    queue
        .publish(with(largest.clone(), identity))
        .await
        .unwrap();
    let mut consumer = consumer(&queue, 2).await;
    let first = next(&mut consumer).await;
    assert_eq!(first.message, largest);
    first
        .lease
        .retry(Duration::from_millis(50), 1)
        .await
        .unwrap();
    let again = next(&mut consumer).await;
    assert_eq!((&again.message, again.attempts), (&largest, 1));
    let mut death = failure(2);
    death.answer = "\u{1}".repeat(1024);
    death.message = "ü".repeat(256);
    again.lease.dead_letter(&death).await.unwrap();
    let letter = queue.dead_letter("large").await.unwrap().unwrap().letter;
    assert_eq!((letter.message, letter.failure), (largest, death));

    consumer.want(1);
    let mut headers = message("headers");
    for number in 0..64 {
        headers
            .headers
            .append(&format!("x-{number}"), "h".repeat(2000));
    }
    match queue.publish(with(headers.clone(), None)).await {
        Ok(_) => assert_eq!(next(&mut consumer).await.message.headers.len(), 64),
        Err(error) => assert_eq!(error.reason(), "MessageTooLarge"),
    }
}

/// Nothing that a client chooses can leave its place.
pub async fn hostile_ids_and_headers_round_trip(ground: Ground) {
    let queue = ground.queue().await;
    let window = Duration::from_mins(1);
    let longest = "x".repeat(128);
    let hostile_ids = [
        "..",
        "a.b",
        ":",
        "~",
        "~~",
        "-",
        "_INBOX.x",
        longest.as_str(),
    ];
    for id in hostile_ids {
        let mut message = message(id);
        for value in [
            "",
            " ",
            " lead",
            "trail\t",
            "\u{80}\u{ff}\u{a0}",
            "%%41",
            "a: b",
            "%",
            "\t",
        ] {
            message.headers.append("x-hostile", value);
        }
        message.headers.append("content-type", "text/plain");
        message.body = Bytes::from_static(b"\0\r\n+ACK\r\n\xff");
        let publication = Publication {
            message: message.clone(),
            dedup: None,
            delay: window,
        };
        queue.publish(publication).await.unwrap();
        let publication = Publication {
            message: message.clone(),
            dedup: None,
            delay: Duration::ZERO,
        };
        queue.publish(publication).await.unwrap();
        let mut consumer = consumer(&queue, 1).await;
        let delivery = next(&mut consumer).await;
        assert_eq!(sorted(&delivery.message), sorted(&message), "{id}");
        delivery.lease.dead_letter(&failure(1)).await.unwrap();
        let letter = queue.dead_letter(id).await.unwrap().unwrap().letter;
        assert_eq!(sorted(&letter.message), sorted(&message), "{id}");
    }
    let delayed = hostile_ids.len() as u64;
    depth_becomes(&queue, |depth| depth.delayed == delayed).await;

    let long = "y".repeat(10_000);
    let identities = [
        "",
        " ",
        ">",
        "*",
        "a.b",
        "a b",
        "\r\n",
        "\0",
        "ü",
        "%",
        "~",
        long.as_str(),
    ];
    for (number, identity) in identities.iter().enumerate() {
        let id = format!("i{number}");
        let published = queue.publish(unique(&id, identity, window)).await.unwrap();
        assert_eq!(
            published,
            Published {
                id: id.clone(),
                duplicate: false
            },
            "{identity:?}"
        );
        let published = queue
            .publish(unique("other", identity, window))
            .await
            .unwrap();
        assert_eq!(
            published,
            Published {
                id,
                duplicate: true
            },
            "{identity:?}"
        );
    }
}

fn sorted(message: &weir_core::message::Message) -> (String, Vec<(String, String)>, Bytes) {
    let mut headers: Vec<(String, String)> = message
        .headers
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    (message.id.clone(), headers, message.body.clone())
}

/// A delayed message comes when its time has come, and not before.
pub async fn delay_is_honoured(ground: Ground) {
    let queue = ground.queue().await;
    let delay = Duration::from_millis(1500);
    let started = Instant::now();
    queue
        .publish(Publication {
            delay,
            ..plain("late")
        })
        .await
        .unwrap();
    queue.publish(plain("now")).await.unwrap();
    let mut consumer = consumer(&queue, 10).await;
    assert_eq!(next(&mut consumer).await.message.id, "now");
    let late = next(&mut consumer).await;
    assert_eq!((late.message.id.as_str(), late.attempts), ("late", 0));
    let took = started.elapsed();
    assert!(took >= delay && took < delay * 3, "{took:?}");
    late.lease.ack().await.unwrap();
    let mut consumer = self::consumer(&queue, 1).await;
    drain(&mut consumer).await;
    drop(consumer);
    assert_eq!(queue.depth().await.unwrap().delayed, 0);
}

/// A full queue says so and takes messages again when there is room.
pub async fn capacity_is_refused(mut ground: Ground) {
    ground.spec.config.capacity = 3;
    let queue = ground.queue().await;
    publish(&queue, ids(3)).await;
    let error = queue.publish(plain("m3")).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("QueueFull", true));
    let mut consumer = consumer(&queue, 3).await;
    for delivery in take(&mut consumer, 3).await {
        delivery.lease.ack().await.unwrap();
    }
    becomes_empty(&queue).await;
    publish(&queue, ids(3)).await;
}
