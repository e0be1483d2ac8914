//! Crashes between two steps of one operation, and connections that fall silent.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use weir_broker::{Delivery, Transport};

use crate::ground::{
    Ground, SOON, becomes_empty, consumer, depth_becomes, failure, ids, next, none_for, persist,
    plain, publish, unique,
};
use crate::proxy::{Mode, Proxy};
use crate::subject::Step;

const LEASE: Duration = Duration::from_secs(2);

/// Takes one message in a process that will not get its acknowledgement through.
async fn take_in_doomed_process(
    ground: &Ground,
) -> (std::sync::Arc<dyn Transport>, Proxy, Delivery) {
    let (transport, proxy) = ground.subject.connect_through_proxy().await;
    let doomed = transport.queue(&ground.spec);
    let mut consumer = consumer(&doomed, 1).await;
    let delivery = next(&mut consumer).await;
    proxy.set(Mode::CutBefore(ground.subject.cut_at(Step::Acknowledge)));
    (transport, proxy, delivery)
}

/// Guarantees 5 and 6: the process dies after the schedule is stored and before the acknowledgement.
/// The message comes once, whether the schedule fires before the redelivery or after it.
pub async fn a_crash_between_schedule_and_ack_retries_once(mut ground: Ground) {
    ground.spec.config.lease_seconds = LEASE.as_secs() as u32;
    let queue = ground.queue().await;
    for delay in [LEASE / 8, LEASE * 2] {
        publish(&queue, ids(1)).await;
        let (_transport, proxy, delivery) = take_in_doomed_process(&ground).await;
        let started = Instant::now();
        delivery.lease.retry(delay, 1).await.unwrap_err();
        proxy.was_cut().await;

        let mut consumer = consumer(&queue, 5).await;
        let again = next(&mut consumer).await;
        assert!(started.elapsed() >= delay, "{:?}", started.elapsed());
        assert_eq!(
            (again.attempts, again.redelivered),
            (1, false),
            "delay {delay:?}"
        );
        again.lease.ack().await.unwrap();
        none_for(&mut consumer, LEASE * 2).await;
        becomes_empty(&queue).await;
    }
    assert!(queue.dead_letters(None, 5).await.unwrap().items.is_empty());
}

/// Guarantee 9: the process dies after the dead letter is stored and before the acknowledgement.
pub async fn dead_letter_is_single_after_a_crash_between(mut ground: Ground) {
    ground.spec.config.lease_seconds = LEASE.as_secs() as u32;
    let queue = ground.queue().await;
    publish(&queue, ids(1)).await;
    let (_transport, proxy, delivery) = take_in_doomed_process(&ground).await;
    delivery.lease.dead_letter(&failure(3)).await.unwrap_err();
    proxy.was_cut().await;
    let mut consumer = consumer(&queue, 5).await;
    none_for(&mut consumer, LEASE * 2).await;
    becomes_empty(&queue).await;
    let letters = queue.dead_letters(None, 5).await.unwrap().items;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].letter.failure.attempts, 3);
}

/// Guarantee 8: whether a publication was stored is unknown, and it is repeated.
pub async fn a_lost_answer_stores_once(ground: Ground) {
    let queue = ground.queue().await;
    let (transport, proxy) = ground.subject.connect_through_proxy().await;
    let shaky = transport.queue(&ground.spec);
    let window = Duration::from_mins(1);
    // Cut before the last part, so that nothing is stored.
    proxy.set(Mode::CutBefore(ground.subject.cut_at(Step::Publish)));
    let error = shaky
        .publish(unique("first", "identity", window))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    proxy.was_cut().await;
    proxy.set(Mode::Pass);
    let stored = persist(|| shaky.publish(unique("first", "identity", window))).await;
    assert_eq!((stored.id.as_str(), stored.duplicate), ("first", false));
    let again = queue
        .publish(unique("second", "identity", window))
        .await
        .unwrap();
    assert_eq!((again.id.as_str(), again.duplicate), ("first", true));
    depth_becomes(&queue, |depth| (depth.ready, depth.in_flight) == (1, 0)).await;
}

/// A half-open connection is found, publishing fails meanwhile, and everything goes on after it.
pub async fn a_silent_connection_is_noticed(mut ground: Ground) {
    // The server may deliver into the dead connection before it notices, too.
    ground.spec.config.lease_seconds = LEASE.as_secs() as u32;
    let queue = ground.queue().await;
    let (transport, proxy) = ground.subject.connect_through_proxy().await;
    let shaky = transport.queue(&ground.spec);
    let mut consumer = consumer(&shaky, 1).await;
    none_for(&mut consumer, Duration::from_millis(300)).await;
    proxy.set(Mode::Silent);
    let started = Instant::now();
    let error = shaky.publish(plain("lost")).await.unwrap_err();
    assert!(error.is_transient() && started.elapsed() < SOON, "{error}");
    let mut connected = transport.connected();
    let noticed = async {
        tokio::select! {
            came = consumer.next() => panic!("{came:?}"),
            down = connected.wait_for(|up| !up) => drop(down.unwrap()),
        }
    };
    timeout(Duration::from_secs(40), noticed).await.unwrap();
    proxy.set(Mode::Pass);
    publish(&queue, ids(1)).await;
    let mut found = next(&mut consumer).await;
    while found.message.id == "lost" {
        // It was stored although the answer never came; and came again, if it had come to the dead connection.
        consumer.want(1);
        found = next(&mut consumer).await;
    }
    assert_eq!(found.message.id, "m0");
}
