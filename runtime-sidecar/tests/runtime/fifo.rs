//! Order within groups: turns, retries in place, partial failures, and what becomes of a group.

mod failures;
mod intake;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::sleep;
use weir_broker::fifo::{FifoQueue, Hold};
use weir_core::config::{
    DeduplicateBy, DeduplicateConfig, DeduplicateScope, FifoConfig, GroupBy, ObjectConfig,
    WhenExhausted,
};
use weir_core::dead_letter::Reason;
use weir_core::object::Kind;

use crate::harness::{
    Answer, Call, Handler, Reply, Weir, consumed_by, consumer, queue, send, settings, status_of,
    until,
};

/// An ordered queue, its groups by `data.group`.
fn ordered(handler: &Handler) -> ObjectConfig {
    let mut object = consumed_by(queue("ledger"), handler.address);
    object.object.kind = Kind::FifoConsumer;
    object.queue.fifo = Some(FifoConfig { partitions: 4 });
    grouped_by(&mut object, "data.group");
    object
}

fn grouped_by(object: &mut ObjectConfig, expression: &str) {
    object.intake.as_mut().unwrap().group = Some(GroupBy::Expression {
        text: expression.to_owned(),
    });
}

fn body(group: &str, number: usize) -> String {
    json!({"group": group, "number": number}).to_string()
}

async fn post(weir: &Weir, group: &str, number: usize) -> Answer {
    weir.post("/fifoconsumers/ledger", body(group, number))
        .await
}

/// Stores messages while nothing is delivered, then lets go.
async fn run(object: &mut ObjectConfig, messages: &[(&str, usize)]) -> Weir {
    consumer(object).paused = true;
    let weir = Weir::start(vec![object.clone()]).await;
    for (group, number) in messages {
        assert_eq!(post(&weir, group, *number).await.status, 202);
    }
    consumer(object).paused = false;
    weir.reconfigure(vec![object.clone()]).await;
    weir
}

/// Group and number of each message of a call.
fn messages(call: &Call) -> Vec<(String, usize)> {
    let value: Value = serde_json::from_slice(&call.body).unwrap();
    let one = |data: &Value| {
        let number = data["number"].as_u64().unwrap() as usize;
        (data["group"].as_str().unwrap().to_owned(), number)
    };
    match &value {
        // These bodies have no content type, so in a batch they come as bytes.
        Value::Array(events) => events.iter().map(|event| one(&data_of(event))).collect(),
        data => vec![one(data)],
    }
}

fn data_of(event: &Value) -> Value {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(event["data_base64"].as_str().unwrap())
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn numbers_of(handler: &Handler, group: &str) -> Vec<usize> {
    let calls = handler.calls();
    let all = calls.iter().flat_map(messages);
    all.filter(|(of, _)| of == group)
        .map(|(_, number)| number)
        .collect()
}

fn answer(body: impl Into<bytes::Bytes>) -> Reply {
    let mut answer = status_of(200);
    *answer.body_mut() = Full::new(body.into());
    answer
}

fn fifo(weir: &Weir, object: &ObjectConfig) -> Arc<dyn FifoQueue> {
    weir.queue(object).fifo().unwrap()
}

/// Fails every message with this number.
async fn failing_at(number: usize, status: u16) -> Handler {
    Handler::start(move |_, call| async move {
        let bad = messages(&call).iter().any(|(_, it)| *it == number);
        status_of(if bad { status } else { 200 })
    })
    .await
}

fn many(groups: &[&'static str], count: usize) -> Vec<(&'static str, usize)> {
    (0..count)
        .flat_map(|number| groups.iter().map(move |group| (*group, number)))
        .collect()
}
