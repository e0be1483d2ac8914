//! What somebody would write by hand.

use std::collections::{HashMap, HashSet};

use async_nats::jetstream::{self, AckKind, consumer};
use futures::StreamExt as _;
use futures::stream::{self, FuturesUnordered};
use tokio::time::Instant;
use weir_conformance::server::Server;

use super::{AT_ONCE, BODY, GROUPS, MESSAGES};

type Raw = jetstream::Message;

/// Queues in memory by key over one consumer in order.
pub async fn handled(version: &str, batch: usize, ack: bool) -> f64 {
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
