//! A standard queue on RabbitMQ by hand.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tokio::task::JoinSet;

use super::Caller;
use crate::Failure;

/// Consume, call, acknowledge, `slots` in flight.
pub async fn pushed(
    uri_file: &str,
    queue: &str,
    handler: String,
    slots: u16,
) -> Result<(), Failure> {
    let uri = std::fs::read_to_string(uri_file)?;
    let connection = Connection::connect(uri.trim(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(slots, BasicQosOptions::default()).await?;
    let mut deliveries = channel
        .basic_consume(
            queue.into(),
            "raw".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let caller = Caller::new(handler);
    let mut calls = JoinSet::new();
    while let Some(delivery) = deliveries.next().await {
        let mut delivery = delivery?;
        let caller = Arc::clone(&caller);
        calls.spawn(async move {
            let body = Bytes::from(std::mem::take(&mut delivery.data));
            if caller.call(body).await {
                delivery.ack(BasicAckOptions::default()).await.ok();
            }
        });
        while calls.try_join_next().is_some() {}
    }
    Ok(())
}
