//! Everything together, under kills: no message is lost, and no group is ever out of order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join3;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};
use weir_broker::{BrokerError, Turn};

use super::{another, failure_of, publish_unique, queue};
use crate::ground::{Ground, persist};

const GROUPS: usize = 10;
const MESSAGES: usize = 30;
const LIMIT: u32 = 6;

/// What happened in one group.
#[derive(Default)]
struct Story {
    /// The first message of the latest call.
    called: usize,
    /// All numbers below are handled or given up.
    done: usize,
}

#[derive(Default)]
struct Ledger {
    groups: BTreeMap<String, Story>,
    violations: Vec<String>,
}

impl Ledger {
    /// A call begins with these messages of a group. It may be a repeat, but never before a call that
    /// began already, never with a gap, and never before what is in front of it was decided.
    fn call(&mut self, group: &str, numbers: &[usize]) {
        let story = self.groups.entry(group.to_owned()).or_default();
        let first = numbers[0];
        let in_order = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if !in_order || first < story.called || first > story.done {
            let (called, done) = (story.called, story.done);
            self.violations.push(format!(
                "{group}: {numbers:?} after a call from {called}, done is {done}"
            ));
        }
        story.called = first;
    }

    /// A handler has decided about message `number`.
    fn finish(&mut self, group: &str, number: usize) {
        let story = self.groups.entry(group.to_owned()).or_default();
        story.done = story.done.max(number + 1);
    }

    fn is_complete(&self) -> bool {
        self.groups.len() == GROUPS && self.groups.values().all(|story| story.done == MESSAGES)
    }
}

/// Three processes handle, fail, give up, let go and lose turns while servers are killed.
pub async fn fifo_order_holds_under_kills(mut ground: Ground) {
    ground.spec.config.lease_seconds = 3;
    ground.spec.config.limit = LIMIT;
    ground.spec.config.batch_max = 3;
    let here = queue(&mut ground).await;
    let ledger = Mutex::new(Ledger::default());
    let publishing = async {
        for number in 0..MESSAGES {
            for group in 0..GROUPS {
                let (group, id) = (format!("g{group}"), format!("g{group}-{number}"));
                publish_unique(&here, &group, &id, &id).await;
            }
        }
    };
    let killing = async {
        for _ in 0..4 {
            tokio::time::sleep(ground.subject.between_kills()).await;
            tokio::task::block_in_place(|| ground.subject.kill_one());
        }
    };
    let until = Instant::now() + Duration::from_secs(100);
    let working = async {
        let workers = (0..3).map(|_| work(&ground, &ledger, until));
        futures::future::join_all(workers).await;
    };
    join3(publishing, killing, working).await;
    // Whoever ended last may have died before its acknowledgement arrived.
    let mut turns = here.turns(LIMIT as usize).await;
    let left = async {
        loop {
            if let Ok(Some(turn)) = turns.next().await {
                handle(&ledger, turn).await;
                turns.want(1);
            }
        }
    };
    tokio::select! {
        () = left => {}
        () = crate::ground::becomes_empty(&here.work) => {}
    }
    let ledger = ledger.into_inner().unwrap();
    assert!(ledger.violations.is_empty(), "{:?}", ledger.violations);
    let open: Vec<_> = ledger
        .groups
        .iter()
        .filter(|(_, story)| story.done < MESSAGES)
        .map(|(group, story)| (group, story.done))
        .collect();
    let depth = persist(|| here.work.depth()).await;
    let groups = persist(|| here.fifo.groups()).await;
    assert!(
        open.is_empty(),
        "not handled: {open:?}; {depth:?}, {groups:?}"
    );
}

/// One process, replaced now and then.
async fn work(ground: &Ground, ledger: &Mutex<Ledger>, until: Instant) {
    while Instant::now() < until && !ledger.lock().unwrap().is_complete() {
        let process = another(ground).await;
        let life = Instant::now() + Duration::from_millis(1000 + fastrand::u64(..3000));
        let mut turns = process.turns(LIMIT as usize).await;
        let mut running = FuturesUnordered::new();
        while Instant::now() < life.min(until) && !ledger.lock().unwrap().is_complete() {
            tokio::select! {
                Some(()) = running.next(), if !running.is_empty() => turns.want(1),
                came = timeout(Duration::from_millis(200), turns.next()) => match came {
                    Ok(Ok(Some(turn))) => running.push(handle(ledger, turn)),
                    Ok(Ok(None)) => break,
                    Ok(Err(_)) | Err(_) => {}
                }
            }
        }
        // Half of them stop in order, the others just end.
        if fastrand::bool() {
            turns.stop().await;
            while let Ok(Some(turn)) = turns.next().await {
                drop(turn.lease.end().await);
            }
            while running.next().await.is_some() {}
        }
    }
}

/// Repeats while it fails for reasons that pass. False when the turn is lost.
async fn settle<F: Future<Output = Result<(), BrokerError>>>(step: impl FnMut() -> F) -> bool {
    let mut step = step;
    loop {
        match step().await {
            Ok(()) => return true,
            Err(error) if error.is_transient() => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(BrokerError::LeaseOver { .. }) => return false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Handles a turn, with failures of all kinds. Extends nothing: slow ones lose their turn.
async fn handle(ledger: &Mutex<Ledger>, turn: Turn) {
    let group = turn.group.clone();
    let number = |id: &str| id.rsplit('-').next().unwrap().parse::<usize>().unwrap();
    let mut messages = turn.messages;
    loop {
        if !settle(|| turn.lease.begin()).await {
            return;
        }
        let numbers: Vec<usize> = messages
            .iter()
            .map(|held| number(&held.message.id))
            .collect();
        ledger.lock().unwrap().call(&group, &numbers);
        for (held, number) in messages.iter().zip(numbers) {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..4))).await;
            match fastrand::u32(..100) {
                // The process dies.
                0 => return,
                1..=8 => {
                    let counted = held.attempts + 1;
                    let attempts = [counted];
                    if counted >= 3 {
                        ledger.lock().unwrap().finish(&group, number);
                        let failure = failure_of(counted);
                        if !settle(|| turn.lease.dead_letter(&failure)).await {
                            return;
                        }
                    } else if !settle(|| turn.lease.count(&attempts)).await {
                        return;
                    }
                    break;
                }
                9..=10 => {
                    settle(|| turn.lease.end()).await;
                    return;
                }
                _ => {
                    ledger.lock().unwrap().finish(&group, number);
                    settle(|| turn.lease.ack(1)).await;
                }
            }
        }
        loop {
            match turn.lease.more().await {
                Ok(Some(next)) => {
                    messages = next;
                    break;
                }
                Ok(None) | Err(BrokerError::LeaseOver { .. }) => return,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Nothing is lost without kills either: many processes, many groups, one limit.
pub async fn fifo_every_message_is_handled_once_without_faults(mut ground: Ground) {
    ground.spec.config.limit = 5;
    let here = queue(&mut ground).await;
    for number in 0..10 {
        for group in 0..20 {
            let id = format!("g{group}-{number}");
            here.publish(&format!("g{group}"), [id]).await;
        }
    }
    let handled = Mutex::new(Vec::new());
    let worker = || async {
        let process = another(&ground).await;
        let mut turns = process.turns(3).await;
        while handled.lock().unwrap().len() < 200 {
            if let Ok(turn) = timeout(Duration::from_millis(300), turns.next()).await {
                let done = super::handle_all(turn.unwrap().unwrap()).await;
                handled.lock().unwrap().extend(done);
                turns.want(1);
            }
        }
    };
    futures::future::join_all((0..4).map(|_| worker())).await;
    let mut ids = handled.into_inner().unwrap();
    assert_eq!(ids.len(), 200);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 200);
    let depth = persist(|| here.work.depth()).await;
    assert_eq!((depth.ready, depth.in_flight, depth.dead), (0, 0, 0));
}
