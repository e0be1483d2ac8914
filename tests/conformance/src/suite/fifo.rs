//! The guarantees of `weir_broker::fifo`.

pub mod dead;
pub mod faults;
pub mod groups;
pub mod hold;
pub mod lease;
pub mod ledger;
pub mod order;
pub mod rest;
pub mod topology;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use weir_broker::{BrokerError, FifoQueue, Publication, Published, Turn, TurnConsumer, WorkQueue};
use weir_core::config::FifoConfig;

use crate::ground::{Ground, SOON, WHILE, message, persist};

/// Both sides of one queue, as one process has them.
pub struct Queue {
    /// Publishes and looks.
    pub work: Arc<dyn WorkQueue>,
    /// Takes turns.
    pub fifo: Arc<dyn FifoQueue>,
}

impl Queue {
    fn of(work: Arc<dyn WorkQueue>) -> Self {
        let fifo = work.fifo().unwrap();
        Self { work, fifo }
    }

    /// Publishes messages of these ids into a group, in order.
    pub async fn publish(&self, group: &str, ids: impl IntoIterator<Item = String>) {
        for id in ids {
            let published = persist(|| self.work.publish(grouped(group, &id))).await;
            assert!(!published.duplicate);
            assert_eq!(published.id, id);
        }
    }

    /// A consumer that wants so many turns.
    pub async fn turns(&self, wanted: usize) -> Box<dyn TurnConsumer> {
        let mut turns = persist(|| self.fifo.consume()).await;
        turns.want(wanted);
        turns
    }
}

/// Makes a queue that keeps order.
pub async fn queue(ground: &mut Ground) -> Queue {
    ground
        .spec
        .config
        .fifo
        .get_or_insert(FifoConfig { partitions: 4 });
    Queue::of(ground.queue().await)
}

/// The queue as another process has it.
pub async fn another(ground: &Ground) -> Queue {
    Queue::of(ground.another().await)
}

/// A message of a group.
pub fn grouped(group: &str, id: &str) -> Publication {
    let mut message = message(id);
    message.group = Some(group.to_owned());
    Publication {
        message,
        dedup: None,
        delay: Duration::ZERO,
    }
}

/// Publishes one message with an identity.
pub async fn publish_unique(queue: &Queue, group: &str, id: &str, identity: &str) -> Published {
    let publication = Publication {
        dedup: Some((identity.to_owned(), Duration::from_mins(5))),
        ..grouped(group, id)
    };
    persist(|| queue.work.publish(publication.clone())).await
}

/// A failure after so many attempts.
pub fn failure_of(attempts: u32) -> weir_core::dead_letter::Failure {
    crate::ground::failure(attempts)
}

/// Ids `<group>-0` and on.
pub fn ids(group: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{group}-{number}")).collect()
}

/// The next turn, which must come.
pub async fn next(turns: &mut Box<dyn TurnConsumer>) -> Turn {
    let came = timeout(SOON, turns.next()).await;
    match came.unwrap_or_else(|_| panic!("no turn came")) {
        Ok(Some(turn)) => turn,
        Ok(None) => panic!("the consumer ended"),
        Err(error) => panic!("the consumer reports {error}"),
    }
}

/// Begins a turn. A schedule and a publisher that is slow to see that a group rests may both store its turn: then
/// neither begins, and one comes again.
pub async fn begins(turn: &Turn) -> bool {
    persist(|| async {
        match turn.lease.begin().await {
            Ok(()) => Ok(true),
            Err(BrokerError::LeaseOver { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    })
    .await
}

/// The next turn that begins.
pub async fn next_begun(turns: &mut Box<dyn TurnConsumer>) -> Turn {
    loop {
        let turn = next(turns).await;
        if begins(&turn).await {
            return turn;
        }
    }
}

/// Watches for a turn, which must not come.
pub async fn none(turns: &mut Box<dyn TurnConsumer>) {
    none_for(turns, WHILE).await;
}

/// Watches for a turn for so long.
pub async fn none_for(turns: &mut Box<dyn TurnConsumer>, span: Duration) {
    if let Ok(came) = timeout(span, turns.next()).await {
        panic!("nothing must come, this came: {came:?}");
    }
}

/// Ids of the messages of a turn.
pub fn ids_of(turn: &Turn) -> Vec<String> {
    let ids = turn.messages.iter().map(|held| held.message.id.clone());
    ids.collect()
}

/// Attempts of the messages of a turn.
pub fn attempts_of(turn: &Turn) -> Vec<u32> {
    turn.messages.iter().map(|held| held.attempts).collect()
}

/// Handles everything that this turn gives, in order, and returns the ids.
pub async fn handle_all(turn: Turn) -> Vec<String> {
    let mut handled = Vec::new();
    let mut messages = turn.messages;
    loop {
        persist(|| turn.lease.begin()).await;
        handled.extend(messages.iter().map(|held| held.message.id.clone()));
        persist(|| turn.lease.ack(messages.len())).await;
        if handled.len().is_multiple_of(16) {
            persist(|| turn.lease.extend()).await;
        }
        match persist(|| turn.lease.more()).await {
            Some(next) => messages = next,
            None => return handled,
        }
    }
}

/// Handles every turn that comes until so many messages are handled; ids in the order they were handled.
pub async fn handle(turns: &mut Box<dyn TurnConsumer>, count: usize) -> Vec<String> {
    let mut handled = Vec::new();
    while handled.len() < count {
        let turn = next(turns).await;
        handled.extend(handle_all(turn).await);
        turns.want(1);
    }
    handled
}
