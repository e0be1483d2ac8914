//! A standard queue on NATS by hand.

use std::sync::Arc;

use async_nats::jetstream;
use futures::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Caller;
use crate::Failure;

/// Pull, call, acknowledge, `slots` in flight.
pub async fn pulled(
    nats: &str,
    stream: &str,
    consumer: &str,
    handler: String,
    slots: usize,
) -> Result<(), Failure> {
    let js = jetstream::new(async_nats::connect(nats).await?);
    let consumer: jetstream::consumer::PullConsumer = js
        .get_stream(stream)
        .await?
        .get_consumer(consumer)
        .await
        .map_err(|e| e.to_string())?;
    let (caller, free) = (Caller::new(handler), Arc::new(Semaphore::new(slots)));
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(slots)
        .messages()
        .await?;
    let mut calls = JoinSet::new();
    while let Some(message) = messages.next().await {
        let message = message?;
        let slot = Arc::clone(&free).acquire_owned().await?;
        let caller = Arc::clone(&caller);
        calls.spawn(async move {
            if caller.call(message.payload.clone()).await {
                message.double_ack().await.ok();
            }
            drop(slot);
        });
        while calls.try_join_next().is_some() {}
    }
    Ok(())
}
