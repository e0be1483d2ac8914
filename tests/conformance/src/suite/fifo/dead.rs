//! Dead letters of groups.

use super::{another, grouped, handle, handle_all, ids, ids_of, next, none, queue};
use crate::ground::{Ground, becomes_empty, depth_becomes, failure, persist};

async fn letters(queue: &super::Queue) -> Vec<String> {
    let page = persist(|| queue.work.dead_letters(None, 1000)).await;
    let ids = page.items.into_iter();
    ids.map(|stored| stored.letter.message.id).collect()
}

/// One message is given up, the group goes on behind it.
pub async fn fifo_a_dead_letter_lets_the_group_go_on(mut ground: Ground) {
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..4)).await;
    let mut turns = here.turns(1).await;
    let turn = next(&mut turns).await;
    let death = failure(5);
    turn.lease.dead_letter(&death).await.unwrap();
    let stored = here.work.dead_letter("a-0").await.unwrap().unwrap();
    assert_eq!(stored.letter.failure, death);
    assert_eq!(stored.letter.message, turn.messages[0].message);
    assert_eq!(stored.letter.message.group.as_deref(), Some("a"));
    let more = turn.lease.more().await.unwrap().unwrap();
    assert_eq!(more[0].message.id, "a-1");
    turn.lease.ack(1).await.unwrap();
    assert_eq!(
        turn.lease.more().await.unwrap().unwrap()[0].message.id,
        "a-2"
    );
    turn.lease.dead_letter(&failure(1)).await.unwrap();
    assert_eq!(
        turn.lease.more().await.unwrap().unwrap()[0].message.id,
        "a-3"
    );
    turn.lease.ack(1).await.unwrap();
    assert!(turn.lease.more().await.unwrap().is_none());
    assert_eq!(letters(&here).await, ["a-0", "a-2"]);
    becomes_empty(&here.work).await;
}

/// A group that is given up as a whole takes everything with it, in order, also what comes later; others
/// go on; and it ends when it is released.
pub async fn fifo_a_dead_lettered_group_takes_what_follows(mut ground: Ground) {
    let here = queue(&mut ground).await;
    let there = another(&ground).await;
    here.publish("a", ids("a", 0..40)).await;
    here.publish("b", ids("b", 0..1)).await;
    let mut turns = there.turns(5).await;
    let mut turn = next(&mut turns).await;
    if turn.group == "b" {
        handle_all(turn).await;
        turn = next(&mut turns).await;
    }
    turn.lease.ack(1).await.unwrap();
    assert_eq!(
        turn.lease.more().await.unwrap().unwrap()[0].message.id,
        "a-1"
    );
    let death = failure(3);
    turn.lease.dead_letter_group(&death).await.unwrap();
    turn.lease.dead_letter_group(&death).await.unwrap();
    here.publish("a", ids("a", 40..45)).await;
    here.publish("b", ids("b", 1..3)).await;
    let mut handled = Vec::new();
    let settled = depth_becomes(&here.work, |depth| {
        (depth.dead, depth.ready, depth.in_flight) == (44, 0, 0)
    });
    tokio::pin!(settled);
    loop {
        tokio::select! {
            turn = turns.next() => {
                let turn = turn.unwrap().unwrap();
                assert_eq!(turn.group, "b");
                handled.extend(handle_all(turn).await);
                turns.want(1);
            }
            _ = &mut settled => break,
        }
    }
    assert_eq!(handled.last().unwrap(), "b-2");
    none(&mut turns).await;
    assert_eq!(letters(&here).await, ids("a", 1..45));
    let first = here.work.dead_letter("a-1").await.unwrap().unwrap();
    assert_eq!(first.letter.failure, death);
    let second = here.work.dead_letter("a-2").await.unwrap().unwrap();
    assert_eq!(second.letter.failure.attempts, 0);
    assert!(second.letter.failure.message.contains("a-1"));

    let held = here.fifo.held_groups(None, 10).await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].group.as_str(), held[0].message_id.as_str()),
        ("a", "a-1")
    );
    assert_eq!(held[0].hold, weir_broker::Hold::DeadLettered);
    assert_eq!(held[0].failure, death);
    assert!(here.fifo.release_group("a").await.unwrap());
    assert!(!here.fifo.release_group("a").await.unwrap());
    here.publish("a", ids("a", 45..46)).await;
    turns.want(5);
    assert_eq!(ids_of(&next(&mut turns).await), ids("a", 45..46));
    assert_eq!(letters(&here).await.len(), 44);
}

/// What was given up comes back in order and before everything else of its group.
pub async fn fifo_a_redriven_group_keeps_its_order(mut ground: Ground) {
    ground.spec.config.batch_max = 3;
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..10)).await;
    here.publish("other", ids("other", 0..1)).await;
    let mut turns = here.turns(5).await;
    let mut turn = next(&mut turns).await;
    if turn.group == "other" {
        handle_all(turn).await;
        turn = next(&mut turns).await;
    }
    turn.lease.dead_letter_group(&failure(3)).await.unwrap();
    turns.want(1);
    loop {
        tokio::select! {
            came = turns.next() => drop(handle_all(came.unwrap().unwrap()).await),
            _ = depth_becomes(&here.work, |depth| {
                (depth.dead, depth.ready, depth.in_flight) == (10, 0, 0)
            }) => break,
        }
    }
    assert_eq!(here.fifo.redrive_group("a").await.unwrap(), 10);
    assert_eq!(here.fifo.redrive_group("nothing").await.unwrap(), 0);
    here.publish("a", ids("a", 10..13)).await;
    assert_eq!(handle(&mut turns, 13).await, ids("a", 0..13));
    assert!(letters(&here).await.is_empty());
    becomes_empty(&here.work).await;

    // Single dead letters of a group that went on.
    here.publish("c", ids("c", 0..4)).await;
    turns.want(5);
    let turn = next(&mut turns).await;
    turn.lease.dead_letter(&failure(1)).await.unwrap();
    turn.lease.dead_letter(&failure(1)).await.unwrap();
    turns.stop().await;
    assert!(turns.next().await.unwrap().is_none());
    turn.lease.end().await.unwrap();
    assert_eq!(here.fifo.redrive_group("c").await.unwrap(), 2);
    let mut turns = here.turns(1).await;
    let turn = next(&mut turns).await;
    assert_eq!(ids_of(&turn)[..2], ids("c", 0..2));
    // One is given up again; the other stays before those that were there.
    turn.lease.dead_letter(&failure(1)).await.unwrap();
    let mut handled = Vec::new();
    while let Some(messages) = turn.lease.more().await.unwrap() {
        handled.extend(messages.iter().map(|held| held.message.id.clone()));
        turn.lease.ack(messages.len()).await.unwrap();
    }
    assert_eq!(handled, ids("c", 1..4));
    assert_eq!(letters(&here).await, ["c-0"]);
    // A single letter that is published again goes to the end of its group.
    let letter = here.work.dead_letter("c-0").await.unwrap().unwrap();
    let mut again = grouped("c", "c-0");
    again.message = letter.letter.message;
    here.publish("c", ids("c", 4..5)).await;
    here.work.publish(again).await.unwrap();
    turns.want(2);
    assert_eq!(handle(&mut turns, 2).await, ["c-4", "c-0"]);
}
