//! Crashes between two steps.

use std::time::Duration;

use super::{Queue, grouped, handle, handle_all, ids, ids_of, next, none_for, queue};
use crate::ground::{Ground, SOON, WHILE, becomes_empty, failure};
use crate::proxy::Mode;
use crate::subject::Step;

/// A publisher that dies after the message and before its turn leaves no group behind.
pub async fn fifo_a_message_without_a_turn_is_found(mut ground: Ground) {
    let here = queue(&mut ground).await;
    let (transport, proxy) = ground.subject.connect_through_proxy().await;
    let doomed = Queue::of(transport.queue(&ground.spec));
    proxy.set(Mode::CutBefore(ground.subject.cut_at(Step::StoreTurn)));
    doomed.work.publish(grouped("a", "a-0")).await.unwrap_err();
    proxy.was_cut().await;
    let mut turns = here.turns(1).await;
    assert_eq!(ids_of(&next(&mut turns).await), ids("a", 0..1));
}

/// A holder that dies between the dead letter and the removal leaves one dead letter.
pub async fn fifo_a_dead_letter_is_single_after_a_crash_between(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..2)).await;
    let (transport, proxy) = ground.subject.connect_through_proxy().await;
    let doomed = Queue::of(transport.queue(&ground.spec));
    let mut turns = doomed.turns(1).await;
    let turn = next(&mut turns).await;
    proxy.set(Mode::CutBefore(
        ground.subject.cut_at(Step::RemoveDeadLettered),
    ));
    turn.lease.dead_letter(&failure(3)).await.unwrap_err();
    proxy.was_cut().await;
    let mut turns = here.turns(1).await;
    let turn = next(&mut turns).await;
    assert_eq!(ids_of(&turn), ids("a", 0..1));
    turn.lease.dead_letter(&failure(3)).await.unwrap();
    assert_eq!(
        turn.lease.more().await.unwrap().unwrap()[0].message.id,
        "a-1"
    );
    turn.lease.ack(1).await.unwrap();
    assert!(turn.lease.more().await.unwrap().is_none());
    assert_eq!(
        here.work.dead_letters(None, 9).await.unwrap().items.len(),
        1
    );
    becomes_empty(&here.work).await;
}

/// A process whose connection ends without a word loses its turn, after the lease, and nothing of the order.
pub async fn fifo_a_lost_connection_keeps_the_order(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    ground.spec.config.batch_max = 2;
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..8)).await;
    let (transport, proxy) = ground.subject.connect_through_proxy().await;
    let doomed = Queue::of(transport.queue(&ground.spec));
    let mut turns = doomed.turns(1).await;
    let turn = next(&mut turns).await;
    turn.lease.begin().await.unwrap();
    turn.lease.ack(2).await.unwrap();
    assert_eq!(
        turn.lease.more().await.unwrap().unwrap()[0].message.id,
        "a-2"
    );
    proxy.set(Mode::Silent);
    let mut others = here.turns(1).await;
    let again = next(&mut others).await;
    assert_eq!(ids_of(&again), ids("a", 2..4));
    let late = tokio::time::timeout(SOON, turn.lease.begin())
        .await
        .unwrap();
    assert_eq!(late.unwrap_err().reason(), "LeaseOver");
    again.lease.ack(2).await.unwrap();
    again.lease.end().await.unwrap();
    assert_eq!(
        handle(
            &mut {
                others.want(1);
                others
            },
            4
        )
        .await,
        ids("a", 4..8)
    );
    becomes_empty(&here.work).await;
}

/// A holder that dies between its last message and the end of its turn leaves nothing behind.
pub async fn fifo_a_crash_at_the_end_of_a_turn_leaves_nothing(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..1)).await;
    let (transport, proxy) = ground.subject.connect_through_proxy().await;
    let doomed = Queue::of(transport.queue(&ground.spec));
    let mut turns = doomed.turns(1).await;
    let turn = next(&mut turns).await;
    turn.lease.ack(1).await.unwrap();
    proxy.set(Mode::CutBefore(ground.subject.cut_at(Step::EndTurn)));
    turn.lease.more().await.unwrap_err();
    proxy.was_cut().await;
    let mut others = here.turns(2).await;
    none_for(&mut others, Duration::from_secs(3)).await;
    assert_eq!(here.fifo.groups().await.unwrap().runnable, 0);
    here.publish("a", ids("a", 1..2)).await;
    assert_eq!(handle(&mut others, 1).await, ids("a", 1..2));
    becomes_empty(&here.work).await;
}

/// A process that slept while a turn was sent to it, and wakes up when another has it, does not use it.
pub async fn fifo_a_turn_that_comes_late_is_not_used(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    ground.spec.config.limit = 1;
    let here = queue(&mut ground).await;
    let (transport, proxy) = ground.subject.connect_through_proxy().await;
    let sleeper = Queue::of(transport.queue(&ground.spec));
    let mut late = sleeper.turns(1).await;
    // The first turns of a consumer are looked at twice: those are behind it.
    here.publish("b", ids("b", 0..1)).await;
    assert_eq!(handle(&mut late, 1).await, ids("b", 0..1));
    none_for(&mut late, Duration::from_millis(300)).await;
    proxy.set(Mode::Silent);
    here.publish("a", ids("a", 0..2)).await;
    let mut others = here.turns(1).await;
    let turn = next(&mut others).await;
    turn.lease.begin().await.unwrap();
    proxy.set(Mode::Pass);
    if let Ok(came) = tokio::time::timeout(Duration::from_millis(700), late.next()).await {
        let came = came.unwrap().unwrap();
        assert_eq!(came.lease.begin().await.unwrap_err().reason(), "LeaseOver");
    }
    turn.lease.ack(1).await.unwrap();
    let rest = turn.lease.more().await.unwrap().unwrap();
    assert_eq!(rest[0].message.id, "a-1");
    turn.lease.ack(1).await.unwrap();
    assert!(turn.lease.more().await.unwrap().is_none());
    becomes_empty(&here.work).await;
}

/// A schedule that fires late stores a turn beside the one that is held. It takes nothing from it.
pub async fn fifo_a_turn_beside_another_takes_nothing_from_it(mut ground: Ground) {
    ground.spec.config.limit = 2;
    let here = queue(&mut ground).await;
    let mut turns = here.turns(2).await;
    // The first turns of a process, as many as may be out, may have been somebody else's.
    for group in ["x", "y"] {
        here.publish(group, ids(group, 0..1)).await;
        assert_eq!(handle(&mut turns, 1).await, ids(group, 0..1));
    }
    turns.want(1);
    here.publish("a", ids("a", 0..3)).await;
    let turn = next(&mut turns).await;
    turn.lease.begin().await.unwrap();
    ground.subject.fire_turn(&ground.spec, "a").await;
    none_for(&mut turns, 3 * WHILE).await;
    assert_eq!(handle_all(turn).await, ids("a", 0..3));
    becomes_empty(&here.work).await;
    let groups = here.fifo.groups().await.unwrap();
    assert_eq!((groups.runnable, groups.in_turn), (0, 0));
}
