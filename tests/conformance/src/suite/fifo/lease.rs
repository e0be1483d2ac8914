//! Leases, attempts, retries in place.

use std::time::Duration;

use super::{another, attempts_of, handle_all, ids, ids_of, next, none, none_for, queue};
use crate::ground::{Ground, becomes_empty, failure};

/// Failed attempts are counted in place, nothing overtakes, and a process that dies takes none with it.
pub async fn fifo_attempts_survive_and_order_holds_over_retries(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..3)).await;
    let mut turns = here.turns(10).await;
    let turn = next(&mut turns).await;
    for attempts in 1..=3 {
        turn.lease.begin().await.unwrap();
        turn.lease.count(&[attempts]).await.unwrap();
        let again = turn.lease.more().await.unwrap().unwrap();
        assert_eq!(
            (again[0].message.id.as_str(), again[0].attempts),
            ("a-0", attempts)
        );
    }
    // It dies without a word.
    drop(turn);
    let turn = next(&mut turns).await;
    assert_eq!(
        (ids_of(&turn), attempts_of(&turn)),
        (ids("a", 0..1), vec![3])
    );
    assert!(turn.redelivered);
    turn.lease.begin().await.unwrap();
    // It dies in the call.
    drop(turn);
    let turn = next(&mut turns).await;
    assert_eq!(attempts_of(&turn), [4]);
    turn.lease.begin().await.unwrap();
    turn.lease.count(&[5]).await.unwrap();
    // It lets go: nothing more is counted.
    turn.lease.begin().await.unwrap();
    turn.lease.end().await.unwrap();
    let turn = next(&mut turns).await;
    assert_eq!(attempts_of(&turn), [5]);
    turn.lease.begin().await.unwrap();
    turn.lease.ack(1).await.unwrap();
    let next_one = turn.lease.more().await.unwrap().unwrap();
    assert_eq!(
        (next_one[0].message.id.as_str(), next_one[0].attempts),
        ("a-1", 0)
    );
    assert_eq!(handle_rest(turn).await, 2);
    becomes_empty(&here.work).await;
}

async fn handle_rest(turn: weir_broker::Turn) -> usize {
    let mut count = 0;
    while let Some(messages) = turn.lease.more().await.unwrap() {
        turn.lease.begin().await.unwrap();
        count += messages.len();
        turn.lease.ack(messages.len()).await.unwrap();
    }
    count
}

/// A turn that nobody extends comes again, to others, from the first message that is still stored.
pub async fn fifo_a_lost_turn_comes_again_in_order(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    ground.spec.config.batch_max = 3;
    let here = queue(&mut ground).await;
    let there = another(&ground).await;
    here.publish("a", ids("a", 0..6)).await;
    let mut one = here.turns(1).await;
    let lost = next(&mut one).await;
    lost.lease.begin().await.unwrap();
    lost.lease.ack(1).await.unwrap();
    let mut two = there.turns(1).await;
    let again = next(&mut two).await;
    assert_eq!((ids_of(&again), again.redelivered), (ids("a", 1..4), true));
    assert_eq!(handle_all(again).await, ids("a", 1..6));
    becomes_empty(&here.work).await;
}

/// A turn that is extended stays.
pub async fn fifo_heartbeat_keeps_the_turn(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..2)).await;
    let mut turns = here.turns(3).await;
    let turn = next(&mut turns).await;
    for _ in 0..6 {
        none(&mut turns).await;
        turn.lease.extend().await.unwrap();
    }
    assert!(!turn.redelivered);
    assert_eq!(handle_all(turn).await, ids("a", 0..2));
    none_for(&mut turns, Duration::from_secs(3)).await;
    becomes_empty(&here.work).await;
}

/// A holder that slept past its lease starts nothing and settles nothing, but what it handled is handled.
pub async fn fifo_a_lease_that_is_over_starts_nothing(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    ground.spec.config.batch_max = 2;
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..4)).await;
    let mut turns = here.turns(5).await;
    let stale = next(&mut turns).await;
    let current = next(&mut turns).await;
    assert_eq!(ids_of(&current), ids("a", 0..2));
    let refused = [
        stale.lease.begin().await,
        stale.lease.extend().await,
        stale.lease.count(&[7]).await,
        stale.lease.dead_letter(&failure(7)).await,
        stale.lease.dead_letter_group(&failure(7)).await,
        stale.lease.block_group(&failure(7)).await,
        stale.lease.more().await.map(drop),
        stale.lease.end().await,
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("LeaseOver", false));
    }
    current.lease.begin().await.unwrap();
    // The first of its messages had been handled after all.
    stale.lease.ack(1).await.unwrap();
    current.lease.ack(2).await.unwrap();
    let rest = current.lease.more().await.unwrap().unwrap();
    assert_eq!((rest[0].message.id.as_str(), rest[0].attempts), ("a-2", 0));
    current.lease.ack(2).await.unwrap();
    assert!(current.lease.more().await.unwrap().is_none());
    assert_eq!(here.work.depth().await.unwrap().dead, 0);
    becomes_empty(&here.work).await;
    none_for(&mut turns, Duration::from_secs(3)).await;
}
