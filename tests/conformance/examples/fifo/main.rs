//! A FIFO queue of 1,000 groups beside what somebody would write by hand, in the same run, alternating:
//! `cargo run --profile fast -p weir-conformance --example fifo -- 2.15.1`; with `queue`, `poisoned` or `memory` behind the
//! version only that part.
//!
//! The peers read one stream in order, put each message into a queue in memory by its key, and handle the
//! keys side by side, 64 at once. `ordered` acknowledges nothing: what a crash was handling is lost or comes
//! again from wherever somebody noted the position. `pull + ack` acknowledges each message after its
//! handler, confirmed: at least once, but the order is lost with every redelivery. Both are one process
//! for ever; Weir's is any number of them. The handler does nothing.
//!
//! What is handled is removed from the stream by a request for each call, confirmed before the next one of its group.
//! `one purge`, `one delete` are nothing but those requests, 64 at once: what the server does if that is all it does.
#![expect(clippy::unwrap_used, reason = "a measurement")]

mod peers;
mod poisoned;
mod removal;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, FuturesUnordered};
use tokio::time::Instant;
use weir_broker::{Publication, Turn, WorkQueue};
use weir_conformance::Ground;
use weir_conformance::ground::message;
use weir_conformance::subject::{Memory, Nats, Subject};
use weir_core::config::FifoConfig;

const GROUPS: usize = 1000;
const MESSAGES: usize = 60_000;
const AT_ONCE: usize = 64;
const BODY: usize = 1024;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let version = words.next().unwrap_or_else(|| "2.15.1".to_owned());
    let part = words.next();
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wanted("memory") {
        idle_groups().await;
    }
    if wanted("queue") {
        for batch in [1, 10] {
            beside_peers(&version, batch).await;
        }
    }
    if wanted("poisoned") {
        poisoned::compare(&version).await;
    }
}

async fn beside_peers(version: &str, batch: usize) {
    let mut rates: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        rates[0].push(peers::handled(version, batch, false).await);
        rates[1].push(peers::handled(version, batch, true).await);
        rates[2].push(weir(Arc::new(Nats::start(version)), batch as u32).await);
        rates[3].push(removal::removed(version, removal::How::Purge, batch).await);
        rates[4].push(removal::removed(version, removal::How::Delete, batch).await);
    }
    let rates = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("nats {version}, {GROUPS} groups, at most {batch} messages a call");
    let names = [
        "ordered, no ack",
        "pull + ack",
        "weir fifo",
        "one purge",
        "one delete",
    ];
    for (name, rate) in names.iter().zip(&rates) {
        let (first, second) = (rate / rates[0], rate / rates[1]);
        println!("  {name:16} {rate:8.0}/s  {first:.2} of ordered  {second:.2} of pull + ack");
    }
}

/// What a group costs that had messages and has none any more.
async fn idle_groups() {
    const IDLE: usize = 100_000;
    let mut ground = ground(Arc::new(Memory::start()), 10);
    ground.spec.config.capacity = 1_000_000;
    let queue = ground.queue().await;
    let mut turns = queue.fifo().unwrap().consume().await.unwrap();
    let mut before = 0;
    for round in 0..2 {
        for number in 0..IDLE {
            queue
                .publish(grouped(&format!("{round}-{number}"), number, 16))
                .await
                .unwrap();
            turns.want(1);
            finish(turns.next().await.unwrap().unwrap()).await;
        }
        let now = resident();
        if round == 1 {
            let each = now.saturating_sub(before) as f64 / IDLE as f64;
            println!("memory transport: {each:.1} bytes an idle group");
        }
        before = now;
    }
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}

fn ground(subject: Arc<dyn Subject>, batch: u32) -> Ground {
    let mut ground = Ground::new(subject, "fifo");
    ground.spec.config.limit = AT_ONCE as u32;
    ground.spec.config.batch_max = batch;
    ground.spec.config.fifo = Some(FifoConfig { partitions: 16 });
    ground
}

fn grouped(group: &str, number: usize, size: usize) -> Publication {
    let mut message = message(&format!("{group}-{number}"));
    message.group = Some(group.to_owned());
    message.body = Bytes::from(vec![b'x'; size]);
    Publication {
        message,
        dedup: None,
        delay: Duration::ZERO,
    }
}

async fn weir(subject: Arc<dyn Subject>, batch: u32) -> f64 {
    let ground = ground(subject, batch);
    let queue: Arc<dyn WorkQueue> = ground.queue().await;
    stream::iter(0..MESSAGES)
        .map(|number| {
            let publication = grouped(&format!("g{}", number % GROUPS), number, BODY);
            queue.publish(publication)
        })
        .buffered(256)
        .for_each(|published| async { drop(published.unwrap()) })
        .await;
    let before = resident();
    let consuming = ground.another().await;
    let mut turns = consuming.fifo().unwrap().consume().await.unwrap();
    turns.want(AT_ONCE);
    let mut running = FuturesUnordered::new();
    let mut handled = 0;
    let started = Instant::now();
    while handled < MESSAGES {
        tokio::select! {
            Some(count) = running.next(), if !running.is_empty() => {
                handled += count;
                turns.want(1);
            }
            turn = turns.next() => running.push(finish(turn.unwrap().unwrap())),
        }
    }
    let rate = MESSAGES as f64 / started.elapsed().as_secs_f64();
    let grown = resident().saturating_sub(before) as f64 / GROUPS as f64;
    eprintln!("  weir fifo {rate:8.0}/s, {grown:.0} bytes a group that was handled");
    rate
}

/// Handles everything that a turn gives.
async fn finish(turn: Turn) -> usize {
    let mut count = turn.messages.len();
    let mut messages = turn.messages;
    loop {
        turn.lease.begin().await.unwrap();
        tokio::task::yield_now().await;
        turn.lease.ack(messages.len()).await.unwrap();
        match turn.lease.more().await.unwrap() {
            Some(next) => messages = next,
            None => return count,
        }
        count += messages.len();
    }
}
