//! Groups of queues that keep order: looking at them, and letting them go on.

use std::sync::Arc;

use weir_broker::fifo::{FifoQueue, Hold};
use weir_broker::{BrokerError, WorkQueue};
use weir_core::ops::{GroupHold, Groups, HeldGroup, Released};

use crate::directory::Entry;
use crate::guard::Caller;
use crate::refusal::Refusal;

/// The groups of an object, where it has some.
fn fifo(entry: &Entry, queue: &dyn WorkQueue) -> Result<Arc<dyn FifoQueue>, Refusal> {
    queue.fifo().map_err(|error| match error {
        BrokerError::Refused { .. } => Refusal::not_found(format!(
            "{} keeps no order, so it has no groups; a FifoConsumer has",
            entry.key
        )),
        other => other.into(),
    })
}

/// Numbers, and those groups that wait for a human.
pub(crate) async fn list(
    entry: &Entry,
    queue: &dyn WorkQueue,
    after: Option<&str>,
    limit: usize,
) -> Result<Groups, Refusal> {
    let fifo = fifo(entry, queue)?;
    let counts = fifo.groups().await?;
    let held = fifo.held_groups(after, limit).await?;
    let next = (held.len() == limit)
        .then(|| held.last().map(|last| last.group.clone()))
        .flatten();
    let items = held.into_iter().map(|held| HeldGroup {
        group: held.group,
        hold: match held.hold {
            Hold::Blocked => GroupHold::Blocked,
            Hold::DeadLettered => GroupHold::DeadLettered,
        },
        since: held.since,
        message_id: held.message_id,
        failure: held.failure,
    });
    Ok(Groups {
        runnable: counts.runnable,
        in_turn: counts.in_turn,
        held: counts.held,
        items: items.collect(),
        next,
    })
}

/// Lets a held group go on; its dead letters stay.
pub(crate) async fn release(
    entry: &Entry,
    queue: &dyn WorkQueue,
    group: &str,
    caller: &Caller,
) -> Result<Released, Refusal> {
    let released = fifo(entry, queue)?.release_group(group).await?;
    if released {
        tracing::info!(object = %entry.key, by = caller.name, "a group was let go on");
    }
    Ok(Released {
        released,
        put_back: 0,
    })
}

/// Puts the dead letters of a group back in front of it, in order, and lets it go on.
pub(crate) async fn redrive(
    entry: &Entry,
    queue: &dyn WorkQueue,
    group: &str,
    caller: &Caller,
) -> Result<Released, Refusal> {
    let put_back = fifo(entry, queue)?.redrive_group(group).await?;
    tracing::info!(object = %entry.key, by = caller.name, put_back, "a group was redriven");
    Ok(Released {
        released: true,
        put_back,
    })
}
