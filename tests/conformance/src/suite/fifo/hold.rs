//! Groups that are blocked.

use super::{another, handle, handle_all, ids, ids_of, next, none, queue};
use crate::ground::{Ground, depth_becomes, failure, persist};

/// A blocked group keeps everything, gets no turn, holds no slot, survives restarts, and goes on in order
/// when it is released.
pub async fn fifo_a_blocked_group_waits_for_its_release(mut ground: Ground) {
    ground.spec.config.limit = 1;
    ground.spec.config.lease_seconds = 5;
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..300)).await;
    let mut turns = here.turns(1).await;
    let turn = next(&mut turns).await;
    turn.lease.begin().await.unwrap();
    turn.lease.count(&[2]).await.unwrap();
    let death = failure(3);
    turn.lease.block_group(&death).await.unwrap();
    turn.lease.block_group(&death).await.unwrap();
    turns.want(1);
    here.publish("a", ids("a", 300..310)).await;
    here.publish("b", ids("b", 0..5)).await;
    assert_eq!(handle(&mut turns, 5).await, ids("b", 0..5));
    none(&mut turns).await;

    ground.kill_and_restart();
    let there = another(&ground).await;
    here.publish("a", ids("a", 310..311)).await;
    let mut others = there.turns(1).await;
    none(&mut others).await;
    drop(turns);
    here.publish("b", ids("b", 5..6)).await;
    assert_eq!(handle(&mut others, 1).await, ids("b", 5..6));
    let depth = persist(|| there.work.depth()).await;
    assert_eq!((depth.ready + depth.in_flight, depth.dead), (311, 0));
    let held = persist(|| there.fifo.held_groups(None, 10)).await;
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].group.as_str(), held[0].message_id.as_str()),
        ("a", "a-0")
    );
    assert_eq!(held[0].failure, death);
    assert_eq!(there.fifo.groups().await.unwrap().held, 1);

    assert!(there.fifo.release_group("a").await.unwrap());
    assert!(!there.fifo.release_group("a").await.unwrap());
    assert!(!there.fifo.release_group("unknown").await.unwrap());
    let turn = next(&mut others).await;
    assert_eq!(
        (ids_of(&turn), turn.messages[0].attempts),
        (ids("a", 0..1), 0)
    );
    let mut handled = handle_all(turn).await;
    others.want(1);
    if handled.len() < 311 {
        handled.extend(handle(&mut others, 311 - handled.len()).await);
    }
    assert_eq!(handled, ids("a", 0..311));
    assert!(there.fifo.held_groups(None, 10).await.unwrap().is_empty());
}

/// Held groups are listed in pages.
pub async fn fifo_held_groups_are_listed_in_pages(mut ground: Ground) {
    ground.spec.config.limit = 20;
    let here = queue(&mut ground).await;
    let mut turns = here.turns(7).await;
    for number in 0..7 {
        let group = format!("g {number}");
        here.publish(&group, [format!("m{number}")]).await;
        let turn = next(&mut turns).await;
        turn.lease.block_group(&failure(1)).await.unwrap();
    }
    let mut seen: Vec<String> = Vec::new();
    loop {
        let page = here
            .fifo
            .held_groups(seen.last().map(String::as_str), 3)
            .await;
        let page = page.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|held| held.group));
    }
    let wanted: Vec<String> = (0..7).map(|number| format!("g {number}")).collect();
    assert_eq!(seen, wanted);
    depth_becomes(&here.work, |depth| depth.in_flight == 0).await;
}
