//! How a consumer asks, waits and ends.

use std::time::Duration;

use tokio::time::timeout;
use weir_broker::Removal;

use crate::ground::{
    Ground, LONGEST_LEASE, SOON, WHILE, becomes_empty, consumer, depth_becomes, drain, ids, next,
    none_for, persist, plain, publish, take, unique,
};
use crate::subject::Feature;

/// What nobody asked for stays in the broker, for whoever has room.
pub async fn nothing_is_prefetched(ground: Ground) {
    let queue = ground.queue().await;
    let other = ground.another().await;
    publish(&queue, ids(10)).await;
    let mut slow = consumer(&queue, 1).await;
    let _held = next(&mut slow).await;
    assert_eq!(slow.wanted(), 0);
    none_for(&mut slow, WHILE).await;
    let mut quick = consumer(&other, 9).await;
    take(&mut quick, 9).await;
}

/// Who settles a message and wants no other keeps none from those who do, nor its place of the limit.
pub async fn what_is_not_wanted_here_goes_to_who_wants_it(mut ground: Ground) {
    ground.spec.config.limit = 3;
    let queue = ground.queue().await;
    let other = ground.another().await;
    publish(&queue, ids(6)).await;
    let mut done = consumer(&queue, 3).await;
    for delivery in take(&mut done, 3).await {
        delivery.lease.ack().await.unwrap();
    }
    let mut wanting = consumer(&other, 3).await;
    let rest = take(&mut wanting, 3).await;
    let attempts: Vec<u32> = rest.iter().map(|delivery| delivery.attempts).collect();
    assert_eq!((done.wanted(), attempts), (0, vec![0, 0, 0]));
    for delivery in rest {
        delivery.lease.begin().await.unwrap();
        delivery.lease.ack().await.unwrap();
    }
    becomes_empty(&queue).await;
}

/// Waiting for a delivery can be given up at any point without losing one.
pub async fn next_is_cancel_safe(mut ground: Ground) {
    ground.spec.config.limit = 1000;
    let queue = ground.queue().await;
    let mut consumer = queue.consume().await.unwrap();
    let publisher = {
        let queue = ground.another().await;
        async move { publish(&queue, ids(300)).await }
    };
    let taker = async {
        let mut found = Vec::new();
        let mut turn = 0_u64;
        consumer.want(1);
        while found.len() < 300 {
            turn += 1;
            let span = Duration::from_micros(turn * 37 % 900);
            if let Ok(delivery) = timeout(span, consumer.next()).await {
                let delivery = delivery.unwrap().unwrap();
                assert!(!delivery.redelivered);
                found.push(delivery);
                consumer.want(usize::from(!turn.is_multiple_of(3)) + 1);
            }
        }
        found
    };
    let (found, ()) = timeout(SOON * 2, futures::future::join(taker, publisher))
        .await
        .unwrap();
    let mut ids: Vec<String> = found
        .iter()
        .map(|delivery| delivery.message.id.clone())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 300);
}

/// After a stop everything that was delivered comes out, and nothing else.
pub async fn stop_hands_out_what_is_on_its_way(ground: Ground) {
    let queue = ground.queue().await;
    publish(&queue, ids(9)).await;
    let mut consumer = consumer(&queue, 5).await;
    let mut taken = vec![next(&mut consumer).await];
    consumer.stop().await;
    consumer.want(3);
    while let Some(delivery) = timeout(SOON, consumer.next()).await.unwrap().unwrap() {
        taken.push(delivery);
    }
    assert!(
        timeout(SOON, consumer.next())
            .await
            .unwrap()
            .unwrap()
            .is_none()
    );
    let out = taken.len() as u64;
    assert!(out <= 5);
    depth_becomes(&queue, |depth| {
        (depth.in_flight, depth.ready) == (out, 9 - out)
    })
    .await;
    publish(&queue, ["after".to_owned()]).await;
    let mut other = self::consumer(&queue, 10).await;
    let rest = drain(&mut other).await;
    assert_eq!(rest.len() as u64, 10 - out);
    assert!(rest.iter().all(|delivery| !delivery.redelivered));
}

/// A consumer goes on by itself, and what was out can be settled after the outage.
pub async fn consuming_survives_an_outage(mut ground: Ground) {
    ground.spec.config.lease_seconds = LONGEST_LEASE.as_secs() as u32;
    let transport = ground.apply().await;
    let queue = transport.queue(&ground.spec);
    publish(&queue, ids(1)).await;
    let mut consumer = consumer(&queue, 10).await;
    let before = next(&mut consumer).await;
    let keeps = ground.subject.lacks(Feature::LeaseOverOutage).is_none();
    if !keeps {
        before.lease.ack().await.unwrap();
    }
    for round in 0..3 {
        ground.subject.take_down();
        let mut connected = transport.connected();
        tokio::select! {
            came = consumer.next() => panic!("{came:?}"),
            down = connected.wait_for(|up| !up) => drop(down.unwrap()),
        }
        ground.subject.bring_up();
        let id = format!("after-{round}");
        let publication = || queue.publish(unique(&id, &id, Duration::from_mins(1)));
        persist(publication).await;
        let mut after = next(&mut consumer).await;
        while after.message.id != id && ground.subject.lacks(Feature::DurableAck).is_some() {
            assert!(after.redelivered);
            persist(|| after.lease.ack()).await;
            consumer.want(1);
            after = next(&mut consumer).await;
        }
        assert_eq!(
            (after.message.id.as_str(), after.attempts),
            (id.as_str(), 0)
        );
        persist(|| after.lease.ack()).await;
        consumer.want(1);
    }
    if keeps {
        persist(|| before.lease.ack()).await;
    }
    if ground.subject.lacks(Feature::DurableAck).is_some() {
        for again in drain(&mut consumer).await {
            again.lease.ack().await.unwrap();
        }
    }
    becomes_empty(&queue).await;
}

/// A consumer of a queue that is taken away says so once and goes on when it is back.
pub async fn a_consumer_waits_for_its_topology(ground: Ground) {
    let nowhere = ground.another().await;
    let refused = nowhere.consume().await.map(drop).unwrap_err();
    assert_eq!(refused.reason(), "TopologyMissing");
    assert_eq!(
        nowhere.publish(plain("m")).await.unwrap_err().reason(),
        "TopologyMissing"
    );

    let transport = ground.apply().await;
    let queue = transport.queue(&ground.spec);
    let mut consumer = consumer(&queue, 1).await;
    none_for(&mut consumer, WHILE).await;
    transport
        .remove_queue(&ground.spec, Removal::Delete)
        .await
        .unwrap();
    loop {
        let error = timeout(SOON, consumer.next()).await.unwrap().unwrap_err();
        if error.reason() == "TopologyMissing" {
            break;
        }
        // A broker may end the connection of who asks for a queue that is just being deleted.
        assert_eq!(error.reason(), "BrokerUnreachable", "{error}");
    }
    none_for(&mut consumer, WHILE).await;
    transport.apply_queue(&ground.spec).await.unwrap();
    publish(&queue, ids(1)).await;
    assert_eq!(next(&mut consumer).await.message.id, "m0");
}

/// Messages without our headers have an identity and are settled like any other.
pub async fn what_strangers_write_is_delivered(ground: Ground) {
    let queue = ground.queue().await;
    ground
        .subject
        .write_as_stranger(&ground.spec, "hello")
        .await;
    let seen = if ground.subject.lacks(Feature::Peek).is_none() {
        Some(queue.peek(None, 10).await.unwrap().items.remove(0).message)
    } else {
        None
    };
    let mut consumer = consumer(&queue, 2).await;
    let delivery = next(&mut consumer).await;
    let seen = seen.unwrap_or_else(|| delivery.message.clone());
    assert_eq!(
        (delivery.message.id.as_str(), &*delivery.message.body),
        (&*seen.id, &b"hello"[..])
    );
    assert_eq!(
        (delivery.attempts, delivery.message.accepted_at),
        (0, seen.accepted_at)
    );
    delivery.lease.retry(Duration::ZERO, 1).await.unwrap();
    let again = next(&mut consumer).await;
    assert_eq!((again.message.id.as_str(), again.attempts), (&*seen.id, 1));
    again.lease.ack().await.unwrap();
    becomes_empty(&queue).await;
}
