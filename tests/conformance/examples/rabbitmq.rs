//! A quorum queue of RabbitMQ through Weir beside the raw client, in one run: 64 in flight, 1 KiB, a handler
//! that does nothing. `cargo run --profile fast -p weir-conformance --example rabbitmq -- forky`.
#![expect(clippy::unwrap_used, reason = "a measurement")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, FuturesUnordered};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::time::Instant;
use weir_broker::{Publication, WorkQueue};
use weir_conformance::Ground;
use weir_conformance::ground::{consumer, message};
use weir_conformance::subject::rabbitmq::RabbitMq;

const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let suite = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "forky".to_owned());
    let count: usize = std::env::args()
        .nth(2)
        .map_or(20_000, |count| count.parse().unwrap());
    let subject = Arc::new(RabbitMq::start(&suite, "2.15.1"));
    let uri = format!("amqp://guest:guest@{}/%2f", subject.address());
    let raw = Connection::connect(&uri, ConnectionProperties::default())
        .await
        .unwrap();
    let raw = raw_queue(&raw).await;
    let mut ground = Ground::new(subject, "throughput");
    ground.spec.config.limit = IN_FLIGHT as u32;
    ground.spec.config.capacity = 1_000_000;
    let queue = ground.queue().await;
    for _ in 0..ROUNDS {
        let published = (raw_publish(&raw, count).await, publish(&queue, count).await);
        report("publish and confirm", published);
        let consumed = (raw_consume(&raw, count).await, consume(&queue, count).await);
        report("consume and acknowledge", consumed);
    }
}

fn report(what: &str, (raw, ours): (f64, f64)) {
    println!(
        "{what:24} raw {raw:7.0}/s  weir {ours:7.0}/s  ratio {:.2}",
        ours / raw
    );
}

fn rate(count: usize, started: Instant) -> f64 {
    count as f64 / started.elapsed().as_secs_f64()
}

async fn raw_queue(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    channel
        .queue_declare("raw".into(), QueueDeclareOptions::durable(), arguments)
        .await
        .unwrap();
    channel
}

async fn raw_publish(channel: &Channel, count: usize) -> f64 {
    let body = vec![b'x'; 1024];
    let body = body.as_slice();
    let started = Instant::now();
    stream::iter(0..count)
        .for_each_concurrent(IN_FLIGHT, |_| async move {
            let options = BasicPublishOptions {
                mandatory: true,
                immediate: false,
            };
            let properties = BasicProperties::default().with_delivery_mode(2);
            channel
                .basic_publish("".into(), "raw".into(), options, body, properties)
                .await
                .unwrap()
                .await
                .unwrap();
        })
        .await;
    rate(count, started)
}

/// What a hand-written consumer does: so many unacknowledged, each acknowledged when it was handled.
async fn raw_consume(channel: &Channel, count: usize) -> f64 {
    channel
        .basic_qos(IN_FLIGHT as u16, BasicQosOptions::default())
        .await
        .unwrap();
    let started = Instant::now();
    let mut consumer = channel
        .basic_consume(
            "raw".into(),
            "raw".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    for _ in 0..count {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    }
    let rate = rate(count, started);
    let cancel = lapin::options::BasicCancelOptions::default();
    channel.basic_cancel("raw".into(), cancel).await.unwrap();
    rate
}

async fn publish(queue: &Arc<dyn WorkQueue>, count: usize) -> f64 {
    let started = Instant::now();
    stream::iter(0..count)
        .for_each_concurrent(IN_FLIGHT, |number| async move {
            let mut message = message(&format!("m{number}"));
            message.body = Bytes::from(vec![b'x'; 1024]);
            let publication = Publication {
                message,
                dedup: None,
                delay: Duration::ZERO,
            };
            queue.publish(publication).await.unwrap();
        })
        .await;
    rate(count, started)
}

async fn consume(queue: &Arc<dyn WorkQueue>, count: usize) -> f64 {
    let started = Instant::now();
    let mut consumer = consumer(queue, IN_FLIGHT).await;
    let mut settling = FuturesUnordered::new();
    let mut handled = 0;
    while handled < count {
        tokio::select! {
            Some(()) = settling.next(), if !settling.is_empty() => {
                handled += 1;
                let mut free = 1;
                while let Some(Some(())) = futures::FutureExt::now_or_never(settling.next()) {
                    handled += 1;
                    free += 1;
                }
                consumer.want(free);
            }
            delivery = consumer.next() => {
                let lease = delivery.unwrap().unwrap().lease;
                settling.push(async move {
                    lease.begin().await.unwrap();
                    lease.ack().await.unwrap();
                });
            }
        }
    }
    let rate = rate(count, started);
    consumer.stop().await;
    while consumer.next().await.unwrap().is_some() {}
    rate
}
