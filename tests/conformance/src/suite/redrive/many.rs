//! Long redrives over the kills of two processes, the second of which took over from the first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_broker::WorkQueue;
use weir_broker::redrive::{RealPauses, begin, read};
use weir_core::config::FifoConfig;
use weir_core::redrive::{Redrive, State};

use super::super::fifo;
use super::{Process, die, handle, letters, runner, wanted};
use crate::fragile::{Fragile, Kill};
use crate::ground::{Ground, becomes_empty, failure, ids, persist};

/// Letters of one stream come back in their order.
pub async fn many_letters_are_redriven_in_order_over_two_kills(ground: Ground) {
    let queue = ground.queue().await;
    let ids = ids(150);
    die(&queue, &ids).await;
    redriven_over_two_kills(&ground, ids.len(), None).await;
    assert_eq!(handle(&queue, 150).await, ids);
    assert!(letters(&queue).await.is_empty());
}

/// Letters of a group come back in the order in which they died, behind what is stored of the group.
pub async fn fifo_letters_of_a_group_are_redriven_in_order_over_two_kills(mut ground: Ground) {
    fifo_letters(&mut ground, 3, 30, None).await;
}

/// As the guarantees with these names, for so many letters at so many a second. How long the redrive took.
pub async fn campaign(mut ground: Ground, groups: usize, count: usize, rate: u32) -> Duration {
    ground.spec.config.capacity = 1_000_000;
    if groups > 0 {
        return fifo_letters(&mut ground, groups, count / groups, Some(rate)).await;
    }
    let queue = ground.queue().await;
    let ids = ids(count);
    die(&queue, &ids).await;
    let took = redriven_over_two_kills(&ground, count, Some(rate)).await;
    assert_eq!(handle(&queue, count).await, ids);
    assert!(letters(&queue).await.is_empty());
    took
}

async fn fifo_letters(
    ground: &mut Ground,
    groups: usize,
    each: usize,
    rate: Option<u32>,
) -> Duration {
    ground.spec.config.limit = 64;
    ground.spec.config.fifo = Some(FifoConfig { partitions: 4 });
    let here = fifo::queue(ground).await;
    let names: Vec<String> = (0..groups).map(|group| format!("g{group}")).collect();
    for number in 0..each {
        for name in &names {
            here.publish(name, fifo::ids(name, number..number + 1))
                .await;
        }
    }
    // One at a time: a turn that waits here uses up its lease.
    let mut turns = here.turns(1).await;
    let (mut dead, death) = (0, failure(3));
    while dead < groups * each {
        let turn = fifo::next(&mut turns).await;
        let mut more = Some(turn.messages);
        while let Some(messages) = more {
            persist(|| turn.lease.begin()).await;
            for _ in &messages {
                persist(|| turn.lease.dead_letter(&death)).await;
                // All of a group may take longer than a lease.
                persist(|| turn.lease.extend()).await;
            }
            dead += messages.len();
            more = persist(|| turn.lease.more()).await;
        }
        turns.want(1);
    }
    for name in &names {
        here.publish(name, [format!("{name}-stored")]).await;
    }
    let took = redriven_over_two_kills(ground, groups * each, rate).await;
    let mut seen: HashMap<String, Vec<String>> = HashMap::new();
    for id in fifo::handle(&mut turns, groups * (each + 1)).await {
        let (name, _) = id.split_once('-').unwrap();
        seen.entry(name.to_owned()).or_default().push(id);
    }
    for name in &names {
        let mut wanted = vec![format!("{name}-stored")];
        wanted.extend(fifo::ids(name, 0..each));
        assert_eq!(seen[name], wanted);
    }
    becomes_empty(&here.work).await;
    assert!(letters(&here.work).await.is_empty());
    took
}

/// Redrives every letter; the first two processes that do it are killed.
async fn redriven_over_two_kills(ground: &Ground, count: usize, rate: Option<u32>) -> Duration {
    let queue = ground.another().await;
    let redrive = Redrive {
        rate,
        ..wanted(ground, "r", "p0")
    };
    let process = |minutes| {
        let mut process = Process::ahead(minutes);
        if rate.is_some()
            && let Some(process) = Arc::get_mut(&mut process)
        {
            process.real = Some(RealPauses::default());
        }
        process
    };
    begin(&*queue, redrive).await.unwrap();
    let began = Instant::now();
    let kills = [Kill::After(count / 2 - 5), Kill::Before(count * 3 / 5)];
    for (number, kill) in kills.into_iter().enumerate() {
        let fragile = Fragile::new(ground.another().await, kill);
        let shared: Arc<dyn WorkQueue> = Arc::<Fragile>::clone(&fragile);
        let runner = runner(&shared, &format!("p{number}"), &process(number as i64 * 5));
        tokio::select! {
            ended = runner.run() => panic!("{ended:?}"),
            () = fragile.killed() => {}
        }
        let state = read(&*queue).await.unwrap();
        let redrive = state.latest().unwrap();
        assert_eq!(
            (redrive.state, redrive.total),
            (State::Running, count as u64)
        );
        assert!(redrive.counts.moved < count as u64 && !redrive.in_hand.is_empty());
    }
    let last = runner(&queue, "p2", &process(10));
    let done = last.run().await.unwrap().unwrap();
    assert_eq!(
        (done.state, done.counts.moved),
        (State::Completed, count as u64)
    );
    began.elapsed()
}
