//! What the other groups of a FIFO queue notice of one that fails for ever: the time from the moment a message is
//! stored to the end of its call, with and without the poisoned group, in short rounds that alternate.
//! `cargo run --profile fast -p weir-conformance --example poisoned -- 2.15.1`.
#![expect(clippy::unwrap_used, reason = "a measurement")]

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, FuturesUnordered};
use tokio::time::{Instant, sleep, sleep_until};
use weir_broker::{Publication, Turn, WorkQueue};
use weir_conformance::Ground;
use weir_conformance::ground::message;
use weir_conformance::subject::{Nats, Subject};
use weir_core::config::FifoConfig;

const GROUPS: usize = 1000;
const MESSAGES: usize = 3000;
const RATE: f64 = 400.0;
const AT_ONCE: usize = 64;
const ROUNDS: usize = 6;
const WORK: Duration = Duration::from_millis(2);
/// What the poisoned group waits for between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
const POISONED: &str = "g0";

#[tokio::main]
async fn main() {
    let version = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "2.15.1".to_owned());
    let subject: Arc<dyn Subject> = Arc::new(Nats::start(&version));
    let mut taken: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS * 2 {
        let poisoned = round % 2 == 1;
        let (mut times, failed) = measure(&subject, poisoned).await;
        eprintln!("  round {round}, {failed} failed calls");
        taken[usize::from(poisoned)].append(&mut times);
    }
    println!(
        "nats {version}, {GROUPS} groups, {RATE}/s, limit {AT_ONCE}, ms from stored to handled"
    );
    let mut at = [[0.0; 2]; 2];
    for (which, times) in taken.iter_mut().enumerate() {
        times.sort_by(f64::total_cmp);
        let rank = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        at[which] = [rank(0.5), rank(0.99)];
        let name = ["all healthy", "one poisoned"][which];
        println!(
            "  {name:14} p50 {:7.2}  p99 {:7.2}",
            at[which][0], at[which][1]
        );
    }
    println!("  p99 {:.2} of that without", at[1][1] / at[0][1]);
}

/// How long the messages of the other groups took, ms, and how many calls failed.
async fn measure(subject: &Arc<dyn Subject>, poisoned: bool) -> (Vec<f64>, usize) {
    let mut ground = Ground::new(subject.clone(), "poisoned");
    ground.spec.config.limit = AT_ONCE as u32;
    ground.spec.config.fifo = Some(FifoConfig { partitions: 16 });
    let queue: Arc<dyn WorkQueue> = ground.queue().await;
    let began = Instant::now();
    let publishing = stream::iter(0..MESSAGES)
        .map(|number| {
            let queue = queue.clone();
            async move {
                sleep_until(began + Duration::from_secs_f64(number as f64 / RATE)).await;
                // The poisoned group gets more than its share, as one would that somebody retries.
                let group = match number % 20 {
                    0 => POISONED.to_owned(),
                    _ => format!("g{}", number % GROUPS),
                };
                let mut message = message(&format!("m{number}"));
                message.group = Some(group);
                message.body = began.elapsed().as_micros().to_string().into();
                let publication = Publication {
                    message,
                    dedup: None,
                    delay: Duration::ZERO,
                };
                queue.publish(publication).await.unwrap();
            }
        })
        .buffer_unordered(256)
        .for_each(|()| async {});
    let consuming = async {
        let queue = ground.another().await;
        let mut turns = queue.fifo().unwrap().consume().await.unwrap();
        turns.want(AT_ONCE);
        let mut running = FuturesUnordered::new();
        let (mut times, mut failed) = (Vec::new(), 0);
        let others = MESSAGES - MESSAGES / 20;
        while times.len() < others {
            tokio::select! {
                Some(done) = running.next(), if !running.is_empty() => {
                    let (mut these, failures): (Vec<f64>, usize) = done;
                    times.append(&mut these);
                    failed += failures;
                    turns.want(1);
                }
                turn = turns.next() => running.push(work(turn.unwrap().unwrap(), began, poisoned)),
            }
        }
        (times, failed)
    };
    let ((), taken) = tokio::join!(publishing, consuming);
    taken
}

async fn work(turn: Turn, began: Instant, poisoned: bool) -> (Vec<f64>, usize) {
    let (mut times, lease) = (Vec::new(), turn.lease);
    let mut messages = turn.messages;
    loop {
        lease.begin().await.unwrap();
        sleep(WORK).await;
        let bad = turn.group == POISONED;
        if bad && poisoned {
            let attempts = messages[0].attempts + 1;
            lease.rest(PAUSE, &[attempts], 0).await.unwrap();
            return (times, 1);
        }
        if !bad {
            let now = began.elapsed().as_micros() as f64;
            times.extend(messages.iter().map(|held| {
                let stored: f64 = std::str::from_utf8(&held.message.body)
                    .unwrap()
                    .parse()
                    .unwrap();
                (now - stored) / 1000.0
            }));
        }
        lease.ack(messages.len()).await.unwrap();
        match lease.more().await.unwrap() {
            Some(next) => messages = next,
            None => return (times, 0),
        }
    }
}
