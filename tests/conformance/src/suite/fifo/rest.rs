//! Groups that rest between two attempts.

use std::time::Duration;

use tokio::time::Instant;
use weir_broker::Turn;

use super::{
    Queue, another, attempts_of, begins, handle, handle_all, ids, ids_of, next, next_begun, none,
    queue,
};
use crate::ground::{Ground, LONGEST_LEASE, becomes_empty, depth_becomes, failure};
use crate::proxy::Mode;

const LONG: Duration = Duration::from_mins(10);

fn suspects_of(turn: &Turn) -> Vec<bool> {
    turn.messages.iter().map(|held| held.suspect).collect()
}

/// However many groups rest, others get their turns, and what is published to a group that rests starts nothing.
pub async fn fifo_groups_that_rest_cost_no_place_of_the_limit(mut ground: Ground) {
    ground.spec.config.limit = 2;
    let here = queue(&mut ground).await;
    let mut turns = here.turns(1).await;
    for number in 0..9 {
        let group = format!("bad{number}");
        here.publish(&group, ids(&group, 0..2)).await;
        let turn = next(&mut turns).await;
        assert_eq!(ids_of(&turn), ids(&group, 0..1));
        turn.lease.begin().await.unwrap();
        turn.lease.rest(LONG, &[1], 0).await.unwrap();
        turn.lease.rest(LONG, &[1], 0).await.unwrap();
        let late = turn.lease.begin().await.unwrap_err();
        assert_eq!(late.reason(), "LeaseOver", "the turn has ended");
        turns.want(1);
    }
    let groups = here.fifo.groups().await.unwrap();
    assert_eq!((groups.runnable, groups.in_turn, groups.held), (0, 0, 0));
    here.publish("bad3", ids("bad3", 2..3)).await;
    here.publish("good", ids("good", 0..5)).await;
    turns.want(1);
    assert_eq!(handle(&mut turns, 5).await, ids("good", 0..5));
    here.publish("bad4", ids("bad4", 2..3)).await;
    none(&mut turns).await;
    let depth = depth_becomes(&here.work, |depth| depth.delayed == 9).await;
    assert_eq!((depth.ready + depth.in_flight, depth.dead), (20, 0));
}

/// A rest keeps its time, the attempts and the order, whoever is killed.
pub async fn fifo_a_rest_survives_kills(mut ground: Ground) {
    let rest = Duration::from_secs(4);
    ground.spec.config.batch_max = 3;
    ground.spec.config.lease_seconds = LONGEST_LEASE.as_secs() as u32;
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..5)).await;
    let mut turns = here.turns(1).await;
    let turn = next(&mut turns).await;
    turn.lease.begin().await.unwrap();
    let began = Instant::now();
    turn.lease.rest(rest, &[4, 1], 2).await.unwrap();
    // The consumer dies, then the server.
    drop((turn, turns));
    ground.kill_and_restart();
    let there = another(&ground).await;
    there.publish("a", ids("a", 5..6)).await;
    let mut turns = there.turns(2).await;
    let turn = next_begun(&mut turns).await;
    assert!(began.elapsed() >= rest, "early: {:?}", began.elapsed());
    assert_eq!(
        (ids_of(&turn), attempts_of(&turn), suspects_of(&turn)),
        (ids("a", 0..3), vec![4, 1, 0], vec![true, true, false])
    );
    assert_eq!(handle_all(turn).await, ids("a", 0..6));
    becomes_empty(&there.work).await;
}

/// It rests again and again, and after that nothing of it is left.
pub async fn fifo_a_group_rests_again(mut ground: Ground) {
    let rest = Duration::from_millis(1100);
    ground.spec.config.lease_seconds = ground.subject.short_lease();
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..2)).await;
    let mut turns = here.turns(9).await;
    let mut turn = next_begun(&mut turns).await;
    for attempts in 1..=3 {
        assert_eq!(attempts_of(&turn), [attempts - 1]);
        let began = Instant::now();
        turn.lease.rest(rest, &[attempts], 0).await.unwrap();
        turn = loop {
            let number = began.elapsed().as_nanos() as usize;
            here.publish("a", ids("late", number..number + 1)).await;
            tokio::select! {
                came = next(&mut turns) => if begins(&came).await { break came },
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        };
        assert!(began.elapsed() >= rest, "early: {:?}", began.elapsed());
    }
    assert_eq!(
        (ids_of(&turn), attempts_of(&turn)),
        (ids("a", 0..1), vec![3])
    );
    let handled = handle_all(turn).await;
    assert_eq!(handled[..2], ids("a", 0..2));
    becomes_empty(&here.work).await;
    here.publish("a", ids("a", 2..3)).await;
    let turn = next(&mut turns).await;
    assert_eq!(attempts_of(&turn), [0]);
    handle_all(turn).await;
}

/// Dying between what is written down and the end of the turn costs neither the attempts nor the time.
pub async fn fifo_a_rest_is_whole_after_a_crash_in_it(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    let rest = Duration::from_secs(5);
    let here = queue(&mut ground).await;
    for (group, cut) in [("a", &b".wake."[..]), ("b", &b"+ACK"[..])] {
        here.publish(group, ids(group, 0..2)).await;
        let (transport, proxy) = ground.subject.connect_through_proxy().await;
        let doomed = Queue::of(transport.queue(&ground.spec));
        let mut turns = doomed.turns(1).await;
        let turn = next(&mut turns).await;
        turn.lease.begin().await.unwrap();
        proxy.set(Mode::CutBefore(cut));
        let began = Instant::now();
        turn.lease.rest(rest, &[2], 0).await.unwrap_err();
        proxy.was_cut().await;
        drop((turn, turns, doomed));
        let mut turns = here.turns(1).await;
        let turn = next(&mut turns).await;
        assert!(began.elapsed() >= rest, "early: {:?}", began.elapsed());
        assert_eq!(
            (ids_of(&turn), attempts_of(&turn)),
            (ids(group, 0..1), vec![2])
        );
        assert_eq!(handle_all(turn).await, ids(group, 0..2));
    }
    becomes_empty(&here.work).await;
}

/// A group whose dead letters are put back goes on at once.
pub async fn fifo_a_redrive_ends_a_rest(mut ground: Ground) {
    let here = queue(&mut ground).await;
    here.publish("a", ids("a", 0..3)).await;
    let mut turns = here.turns(5).await;
    let turn = next(&mut turns).await;
    turn.lease.begin().await.unwrap();
    turn.lease.dead_letter(&failure(3)).await.unwrap();
    turn.lease.more().await.unwrap().unwrap();
    turn.lease.begin().await.unwrap();
    turn.lease.rest(LONG, &[2], 0).await.unwrap();
    none(&mut turns).await;
    assert_eq!(here.fifo.redrive_group("a").await.unwrap(), 1);
    assert_eq!(handle(&mut turns, 3).await, ids("a", 0..3));
    becomes_empty(&here.work).await;
}
