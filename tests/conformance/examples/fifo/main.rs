//! Two figures of FIFO queues that no other program tells: what one poisoned group among 1,000 costs the others,
//! and what a group costs that has nothing to do.
//! `cargo run --profile fast -p weir-conformance --example fifo -- 2.15.1 [poisoned|memory]`. Throughput is in `bench`.
#![expect(clippy::unwrap_used, reason = "a measurement")]

mod poisoned;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_broker::{Publication, Turn};
use weir_conformance::Ground;
use weir_conformance::ground::message;
use weir_conformance::subject::{Memory, Subject};
use weir_core::config::FifoConfig;

const GROUPS: usize = 1000;
const AT_ONCE: usize = 64;

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let version = words.next().unwrap_or_else(|| "2.15.1".to_owned());
    let part = words.next();
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wanted("memory") {
        idle_groups().await;
    }
    if wanted("poisoned") {
        poisoned::compare(&version).await;
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

/// Handles everything that a turn gives.
async fn finish(turn: Turn) {
    let mut messages = turn.messages;
    loop {
        turn.lease.begin().await.unwrap();
        turn.lease.ack(messages.len()).await.unwrap();
        match turn.lease.more().await.unwrap() {
            Some(next) => messages = next,
            None => return,
        }
    }
}
