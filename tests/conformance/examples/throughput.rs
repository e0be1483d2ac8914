//! Messages per second of a transport on this machine, 64 in flight, 1 KiB:
//! `cargo run --profile fast -p weir-conformance --example throughput -- 2.15.1`.
#![expect(clippy::unwrap_used, reason = "a measurement")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, FuturesUnordered};
use tokio::time::Instant;
use weir_broker::{Publication, WorkQueue};
use weir_conformance::Ground;
use weir_conformance::ground::{consumer, message};
use weir_conformance::subject::{Memory, Nats, Subject};

const IN_FLIGHT: usize = 64;

#[tokio::main]
async fn main() {
    let version = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "2.15.1".to_owned());
    let subjects: [(&str, Arc<dyn Subject>); 2] = [
        ("memory", Arc::new(Memory::start())),
        (&version, Arc::new(Nats::start(&version))),
    ];
    for (name, subject) in subjects {
        println!("{name}");
        let mut ground = Ground::new(subject, "throughput");
        ground.spec.config.limit = IN_FLIGHT as u32;
        ground.spec.config.capacity = 1_000_000;
        let queue = ground.queue().await;
        publish(&queue, "publish, no identity", 60_000, false).await;
        publish(&queue, "publish with identity", 40_000, true).await;
        consume(&queue, 60_000, false).await;
        consume(&queue, 20_000, true).await;
    }
}

async fn publish(queue: &Arc<dyn WorkQueue>, what: &str, count: usize, dedup: bool) {
    let started = Instant::now();
    let mut spans: Vec<Duration> = stream::iter(0..count)
        .map(|number| async move {
            let mut message = message(&format!("{dedup}-{number}"));
            message.body = Bytes::from(vec![b'x'; 1024]);
            let identity = format!("identity-{number}");
            let dedup = dedup.then(|| (identity, Duration::from_mins(5)));
            let asked = Instant::now();
            queue
                .publish(Publication {
                    message,
                    dedup,
                    delay: Duration::ZERO,
                })
                .await
                .unwrap();
            asked.elapsed()
        })
        .buffer_unordered(IN_FLIGHT)
        .collect()
        .await;
    report(what, count, started, &mut spans);
}

/// Takes and settles: all acknowledged, or all retried once.
async fn consume(queue: &Arc<dyn WorkQueue>, count: usize, retry: bool) {
    let mut consumer = consumer(queue, IN_FLIGHT).await;
    let started = Instant::now();
    let mut settling = FuturesUnordered::new();
    let mut spans = Vec::with_capacity(count);
    while spans.len() < count {
        tokio::select! {
            Some(span) = settling.next(), if !settling.is_empty() => {
                spans.push(span);
                consumer.want(1);
                while let Some(Some(span)) = futures::FutureExt::now_or_never(settling.next()) {
                    spans.push(span);
                    consumer.want(1);
                }
            }
            delivery = consumer.next() => {
                let lease = delivery.unwrap().unwrap().lease;
                settling.push(async move {
                    let asked = Instant::now();
                    lease.begin().await.unwrap();
                    if retry {
                        lease.retry(Duration::from_hours(1), 1).await.unwrap();
                    } else {
                        lease.ack().await.unwrap();
                    }
                    asked.elapsed()
                });
            }
        }
    }
    report(
        if retry {
            "consume and retry"
        } else {
            "consume and ack"
        },
        count,
        started,
        &mut spans,
    );
    consumer.stop().await;
    while settling.next().await.is_some() {}
    while let Some(delivery) = consumer.next().await.unwrap() {
        delivery.lease.give_back().await.unwrap();
    }
}

fn report(what: &str, count: usize, started: Instant, spans: &mut [Duration]) {
    let rate = count as f64 / started.elapsed().as_secs_f64();
    spans.sort_unstable();
    let at = |part: usize| spans[spans.len() * part / 1000].as_secs_f64() * 1e3;
    println!(
        "  {what:24} {rate:8.0}/s  p50 {:.2} ms  p99 {:.2} ms",
        at(500),
        at(990)
    );
}
