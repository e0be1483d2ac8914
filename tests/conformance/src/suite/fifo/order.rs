//! Order within groups, parallel groups, exact limits.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::{another, handle, handle_all, ids, ids_of, next, none, none_for, queue};
use crate::ground::{Ground, becomes_empty};

/// Every group comes in the order in which it was published, whoever handles it.
pub async fn fifo_order_is_kept_within_each_group(mut ground: Ground) {
    let here = queue(&mut ground).await;
    let there = another(&ground).await;
    for number in 0..12 {
        for group in ["a", "b", "c", "d", "e"] {
            let publisher = if number % 2 == 0 { &here } else { &there };
            let id = format!("{group}-{number}");
            publisher.publish(group, [id]).await;
        }
    }
    let mut one = here.turns(2).await;
    let mut two = there.turns(2).await;
    let mut handled = Vec::new();
    while handled.len() < 60 {
        tokio::select! {
            turn = next(&mut one) => { handled.extend(handle_all(turn).await); one.want(1); }
            turn = next(&mut two) => { handled.extend(handle_all(turn).await); two.want(1); }
        }
    }
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for id in handled {
        let group = id.split('-').next().unwrap().to_owned();
        seen.entry(group).or_default().push(id);
    }
    for (group, seen) in seen {
        assert_eq!(seen, ids(&group, 0..12));
    }
    becomes_empty(&here.work).await;
}

/// While a turn is held nobody gets anything of its group, and everybody gets the others.
pub async fn fifo_one_turn_of_a_group_at_a_time(mut ground: Ground) {
    let here = queue(&mut ground).await;
    let there = another(&ground).await;
    here.publish("a", ids("a", 0..3)).await;
    let mut one = here.turns(5).await;
    let mut two = there.turns(5).await;
    let held = tokio::select! {
        turn = next(&mut one) => turn,
        turn = next(&mut two) => turn,
    };
    assert_eq!(ids_of(&held), ["a-0"]);
    here.publish("a", ids("a", 3..5)).await;
    there.publish("b", ids("b", 0..1)).await;
    let other = tokio::select! {
        turn = next(&mut one) => turn,
        turn = next(&mut two) => turn,
    };
    assert_eq!(other.group, "b");
    none(&mut one).await;
    none(&mut two).await;
    assert_eq!(handle_all(held).await, ids("a", 0..5));
    handle_all(other).await;
    becomes_empty(&here.work).await;
}

/// The limit counts turns over all processes.
pub async fn fifo_limit_one_over_four_consumers(mut ground: Ground) {
    ground.spec.config.limit = 1;
    let here = queue(&mut ground).await;
    let mut consumers = Vec::new();
    for _ in 0..4 {
        consumers.push(another(&ground).await.turns(3).await);
    }
    for group in ["a", "b", "c", "d", "e", "f"] {
        here.publish(group, ids(group, 0..2)).await;
    }
    let mut handled = 0;
    while handled < 12 {
        let mut held = Vec::new();
        for consumer in &mut consumers {
            while let Ok(turn) = timeout(Duration::from_millis(60), consumer.next()).await {
                held.push(turn.unwrap().unwrap());
                assert_eq!(held.len(), 1, "{held:?}");
            }
        }
        for turn in held {
            handled += handle_all(turn).await.len();
        }
        for consumer in &mut consumers {
            let wanted = consumer.wanted();
            consumer.want(3 - wanted);
        }
    }
    becomes_empty(&here.work).await;
}

/// Lowering takes nothing away and gives no more; raising takes effect at once; 0 gives nothing.
pub async fn fifo_a_changed_limit_takes_effect(mut ground: Ground) {
    ground.spec.config.limit = 0;
    let here = queue(&mut ground).await;
    for group in ["a", "b", "c", "d", "e"] {
        here.publish(group, ids(group, 0..1)).await;
    }
    let mut turns = here.turns(10).await;
    none(&mut turns).await;
    ground.set_limit(3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut turns).await);
    }
    none(&mut turns).await;
    ground.set_limit(1).await;
    for turn in held.drain(1..) {
        handle_all(turn).await;
        none_for(&mut turns, Duration::from_millis(200)).await;
    }
    handle_all(held.remove(0)).await;
    held.push(next(&mut turns).await);
    none(&mut turns).await;
    ground.set_limit(2).await;
    held.push(next(&mut turns).await);
    for turn in held {
        assert!(!turn.redelivered);
        handle_all(turn).await;
    }
    becomes_empty(&here.work).await;
}

/// Consecutive messages of one group are one turn, never more than the batch, never of two groups.
pub async fn fifo_a_batch_is_the_front_of_one_group(mut ground: Ground) {
    ground.spec.config.batch_max = 4;
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..10)).await;
    here.publish("b", ids("b", 0..2)).await;
    let mut turns = here.turns(2).await;
    let (mut one, mut two) = (next(&mut turns).await, next(&mut turns).await);
    if one.group == "b" {
        std::mem::swap(&mut one, &mut two);
    }
    assert_eq!(
        (ids_of(&one), ids_of(&two)),
        (ids("a", 0..4), ids("b", 0..2))
    );
    // The first is handled, the second fails: it and those behind it stay.
    one.lease.begin().await.unwrap();
    one.lease.ack(1).await.unwrap();
    one.lease.count(&[1]).await.unwrap();
    let again = one.lease.more().await.unwrap().unwrap();
    let seen: Vec<_> = again
        .iter()
        .map(|held| (held.message.id.as_str(), held.attempts))
        .collect();
    assert_eq!(seen, [("a-1", 1), ("a-2", 0), ("a-3", 0)]);
    one.lease.begin().await.unwrap();
    one.lease.ack(3).await.unwrap();
    let rest = one.lease.more().await.unwrap().unwrap();
    let rest: Vec<_> = rest.into_iter().map(|held| held.message.id).collect();
    assert_eq!(rest, ids("a", 4..8));
    one.lease.ack(4).await.unwrap();
    assert_eq!(one.lease.more().await.unwrap().unwrap().len(), 2);
    one.lease.ack(2).await.unwrap();
    assert!(one.lease.more().await.unwrap().is_none());
    assert!(one.lease.more().await.unwrap().is_none());
    handle_all(two).await;
    becomes_empty(&here.work).await;
}

/// Consumers come and go in the middle of groups; what they let go is there at once, in order.
pub async fn fifo_consumers_come_and_go(mut ground: Ground) {
    ground.spec.config.batch_max = 2;
    let here = queue(&mut ground).await;
    for group in ["a", "b", "c"] {
        here.publish(group, ids(group, 0..9)).await;
    }
    let mut handled: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for _ in 0..4 {
        let process = another(&ground).await;
        let mut turns = process.turns(3).await;
        for _ in 0..3 {
            let turn = next(&mut turns).await;
            turn.lease.begin().await.unwrap();
            turn.lease.ack(1).await.unwrap();
            let first = ids_of(&turn).remove(0);
            handled.entry(turn.group.clone()).or_default().push(first);
            turn.lease.end().await.unwrap();
            turn.lease.end().await.unwrap();
            let late = turn.lease.begin().await.unwrap_err();
            assert_eq!(late.reason(), "LeaseOver");
        }
        turns.stop().await;
        while let Some(turn) = turns.next().await.unwrap() {
            turn.lease.end().await.unwrap();
        }
    }
    let mut turns = here.turns(3).await;
    let seen: usize = handled.values().map(Vec::len).sum();
    for id in handle(&mut turns, 27 - seen).await {
        let group = id.split('-').next().unwrap().to_owned();
        handled.entry(group).or_default().push(id);
    }
    for (group, handled) in handled {
        assert_eq!(handled, ids(&group, 0..9));
    }
    becomes_empty(&here.work).await;
}

/// The number of partitions is changed while messages come and go.
pub async fn fifo_partitions_change_live(mut ground: Ground) {
    use weir_core::config::FifoConfig;
    let here = queue(&mut ground).await;
    let groups: Vec<String> = (0..8).map(|number| format!("g{number}")).collect();
    let total = 8 * 24;
    let publishing = async {
        for number in 0..24 {
            for group in &groups {
                here.publish(group, [format!("{group}-{number}")]).await;
            }
            if let Some(partitions) = [(6, 16), (14, 4)].iter().find(|(at, _)| *at == number) {
                let mut changed = Ground {
                    subject: std::sync::Arc::clone(&ground.subject),
                    spec: ground.spec.clone(),
                };
                changed.spec.config.fifo = Some(FifoConfig {
                    partitions: partitions.1,
                });
                changed.apply().await;
            }
        }
    };
    let consuming = async {
        let process = another(&ground).await;
        let mut turns = process.turns(4).await;
        handle(&mut turns, total).await
    };
    let (handled, ()) = futures::future::join(consuming, publishing).await;
    for group in &groups {
        let prefix = format!("{group}-");
        let seen: Vec<String> = handled
            .iter()
            .filter(|id| id.starts_with(&prefix))
            .cloned()
            .collect();
        assert_eq!(seen, ids(group, 0..24));
    }
    becomes_empty(&here.work).await;
}
