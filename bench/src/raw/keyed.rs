//! Order within groups by hand: queues in memory by key over one consumer in order.

use std::collections::{HashMap, VecDeque};

use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::task::JoinSet;

use super::Caller;
use crate::Failure;

/// Messages of one key that wait. A key that is not in the map has nothing to do and no call.
type Waiting = HashMap<String, VecDeque<Bytes>>;

/// Read in order, call key by key, `slots` keys at once. Nothing is acknowledged: what a crash was handling is lost, or
/// comes again from wherever somebody noted the position.
pub async fn keyed(
    nats: &str,
    stream: &str,
    subjects: &str,
    handler: String,
    slots: usize,
) -> Result<(), Failure> {
    let js = jetstream::new(async_nats::connect(nats).await?);
    let config = OrderedConfig {
        filter_subject: subjects.to_owned(),
        ..OrderedConfig::default()
    };
    let consumer = js.get_stream(stream).await?.create_consumer(config).await?;
    let mut messages = consumer.messages().await?;
    let caller = Caller::new(handler);
    let (mut waiting, mut ready) = (Waiting::new(), VecDeque::new());
    let mut calls: JoinSet<String> = JoinSet::new();
    loop {
        while calls.len() < slots
            && let Some(key) = ready.pop_front()
        {
            let Some(body) = waiting.get_mut(&key).and_then(VecDeque::pop_front) else {
                continue;
            };
            let caller = std::sync::Arc::clone(&caller);
            calls.spawn(async move {
                caller.call(body).await;
                key
            });
        }
        tokio::select! {
            Some(key) = calls.join_next() => {
                let key = key?;
                if waiting.get(&key).is_some_and(VecDeque::is_empty) {
                    waiting.remove(&key);
                } else {
                    ready.push_back(key);
                }
            }
            message = messages.next() => {
                let Some(message) = message else { return Ok(()) };
                let message = message?;
                let (key, body) = (message.subject.to_string(), message.payload.clone());
                if let Some(queue) = waiting.get_mut(&key) {
                    queue.push_back(body);
                } else {
                    waiting.insert(key.clone(), VecDeque::from([body]));
                    ready.push_back(key);
                }
            }
        }
    }
}
