//! A FIFO queue of 1,000 groups beside what somebody would write by hand, in the same run, alternating:
//! `cargo run --profile fast -p weir-conformance --example fifo -- 2.15.1`.
//!
//! The peers read one stream in order, put each message into a queue in memory by its key, and handle the
//! keys side by side, 64 at once. `ordered` acknowledges nothing: what a crash was handling is lost or comes
//! again from wherever somebody noted the position. `pull + ack` acknowledges each message after its
//! handler, confirmed: at least once, but the order is lost with every redelivery. Both are one process
//! for ever; Weir's is any number of them. The handler does nothing.
#![expect(clippy::unwrap_used, reason = "a measurement")]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, AckKind, consumer};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, FuturesUnordered};
use tokio::time::Instant;
use weir_broker::{Publication, Turn, WorkQueue};
use weir_conformance::Ground;
use weir_conformance::ground::message;
use weir_conformance::server::Server;
use weir_conformance::subject::{Memory, Nats, Subject};
use weir_core::config::FifoConfig;

const GROUPS: usize = 1000;
const MESSAGES: usize = 60_000;
const AT_ONCE: usize = 64;
const BODY: usize = 1024;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let version = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "2.15.1".to_owned());
    idle_groups().await;
    for batch in [1, 10] {
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); 3];
        for _ in 0..ROUNDS {
            rates[0].push(raw(&version, batch, false).await);
            rates[1].push(raw(&version, batch, true).await);
            rates[2].push(weir(Arc::new(Nats::start(&version)), batch as u32).await);
        }
        let median = |rates: &mut Vec<f64>| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        let rates: Vec<f64> = rates.iter_mut().map(median).collect();
        println!("nats {version}, {GROUPS} groups, at most {batch} messages a call");
        for (name, rate) in ["ordered, no ack", "pull + ack", "weir fifo"]
            .iter()
            .zip(&rates)
        {
            let (first, second) = (rate / rates[0], rate / rates[1]);
            println!("  {name:16} {rate:8.0}/s  {first:.2} of ordered  {second:.2} of pull + ack");
        }
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

type Raw = jetstream::Message;

/// Queues in memory by key over one consumer in order.
async fn raw(version: &str, batch: usize, ack: bool) -> f64 {
    let server = Server::start(version, Vec::new());
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = jetstream::new(client);
    let stream = context
        .create_stream(jetstream::stream::Config {
            name: "RAW".to_owned(),
            subjects: vec!["raw.*".to_owned()],
            ..Default::default()
        })
        .await
        .unwrap();
    stream::iter(0..MESSAGES)
        .map(|number| {
            let subject = format!("raw.g{}", number % GROUPS);
            let context = &context;
            async move {
                let ack = context.publish(subject, vec![b'x'; BODY].into()).await;
                ack.unwrap().await.unwrap();
            }
        })
        .buffered(256)
        .for_each(|()| async {})
        .await;
    let started = Instant::now();
    if ack {
        let config = consumer::pull::Config {
            durable_name: Some("c".to_owned()),
            max_ack_pending: 4096,
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await.unwrap();
        let messages = consumer
            .stream()
            .max_messages_per_batch(2048)
            .messages()
            .await
            .unwrap();
        dispatch(messages.map(Result::unwrap).boxed(), batch, true).await;
    } else {
        let config = consumer::pull::OrderedConfig::default();
        let consumer = stream.create_consumer(config).await.unwrap();
        let messages = consumer.messages().await.unwrap();
        dispatch(messages.map(Result::unwrap).boxed(), batch, false).await;
    }
    let rate = MESSAGES as f64 / started.elapsed().as_secs_f64();
    eprintln!(
        "  raw {} {rate:8.0}/s",
        if ack { "pull + ack" } else { "ordered" }
    );
    rate
}

/// Handles keys side by side, each in order.
async fn dispatch(mut messages: stream::BoxStream<'_, Raw>, batch: usize, ack: bool) {
    let mut waiting: HashMap<String, Vec<Raw>> = HashMap::new();
    let mut busy: HashSet<String> = HashSet::new();
    let mut ready: std::collections::VecDeque<String> = std::collections::VecDeque::new();
    let mut running = FuturesUnordered::new();
    let (mut handled, mut read) = (0, 0);
    while handled < MESSAGES {
        while running.len() < AT_ONCE
            && let Some(key) = ready.pop_front()
        {
            let queue = waiting.get_mut(&key).unwrap();
            let taken: Vec<Raw> = queue.drain(..queue.len().min(batch)).collect();
            busy.insert(key.clone());
            running.push(async move {
                tokio::task::yield_now().await;
                if ack {
                    for message in &taken {
                        message.double_ack_with(AckKind::Ack).await.unwrap();
                    }
                }
                (key, taken.len())
            });
        }
        tokio::select! {
            Some((key, count)) = running.next(), if !running.is_empty() => {
                handled += count;
                busy.remove(&key);
                if waiting.get(&key).is_some_and(|queue| !queue.is_empty()) {
                    ready.push_back(key);
                }
            }
            Some(message) = messages.next(), if read < MESSAGES => {
                read += 1;
                let key = message.subject.to_string();
                let queue = waiting.entry(key.clone()).or_default();
                queue.push(message);
                if queue.len() == 1 && !busy.contains(&key) {
                    ready.push_back(key);
                }
            }
        }
    }
}
