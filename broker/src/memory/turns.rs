//! Handles on the turns of a FIFO queue in memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use weir_core::dead_letter::Failure;

use super::lanes::{Entry, HandedTurn, More};
use super::queue::MemoryQueue;
use super::state::{State, over};
use crate::error::BrokerError;
use crate::fifo::{
    FifoQueue, GroupCounts, HeldGroup, Hold, Turn, TurnConsumer, TurnLease, TurnMessage,
};

#[async_trait]
impl FifoQueue for MemoryQueue {
    async fn consume(&self) -> Result<Box<dyn TurnConsumer>, BrokerError> {
        self.with(|_, _| ())?;
        Ok(Box::new(MemoryTurns {
            queue: self.clone(),
            wanted: 0,
            stopped: false,
            told_missing: false,
        }))
    }

    async fn groups(&self) -> Result<GroupCounts, BrokerError> {
        self.with(|state, _| state.lanes.counts())
    }

    async fn held_groups(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HeldGroup>, BrokerError> {
        self.with(|state, _| state.lanes.held_groups(after, limit))
    }

    async fn release_group(&self, group: &str) -> Result<bool, BrokerError> {
        self.change(|state, now| state.lanes.release(group, now))
    }

    async fn redrive_group(&self, group: &str) -> Result<u64, BrokerError> {
        let wall = self.shared.clock.now();
        self.change(|state, now| state.redrive_group(group, now, wall))?
            .ok_or_else(|| BrokerError::Unreachable {
                servers: "memory".to_owned(),
                why: format!("group {group:?} is in a turn; try again when it has ended"),
            })
    }
}

struct MemoryTurns {
    queue: MemoryQueue,
    wanted: usize,
    stopped: bool,
    /// The loss of the topology is reported once, then waited out.
    told_missing: bool,
}

#[async_trait]
impl TurnConsumer for MemoryTurns {
    fn want(&mut self, more: usize) {
        if !self.stopped {
            self.wanted += more;
        }
    }

    fn wanted(&self) -> usize {
        self.wanted
    }

    async fn next(&mut self) -> Result<Option<Turn>, BrokerError> {
        if self.stopped {
            return Ok(None);
        }
        let wanted = self.wanted > 0;
        let take = |state: &mut State, now| {
            if wanted { state.take_turn(now) } else { None }
        };
        let handed = self.queue.next_of(&mut self.told_missing, take).await?;
        self.wanted -= 1;
        Ok(Some(turn(&self.queue, handed)))
    }

    async fn stop(&mut self) {
        self.stopped = true;
        self.wanted = 0;
    }
}

fn turn(queue: &MemoryQueue, handed: HandedTurn) -> Turn {
    let messages = handed.entries.iter().map(Entry::as_turn_message).collect();
    let lease = MemoryTurn {
        queue: queue.clone(),
        group: handed.group.clone(),
        number: handed.number,
        state: Mutex::new(Progress {
            held: positions(&handed.entries),
            ended: None,
        }),
    };
    Turn {
        group: handed.group,
        messages,
        redelivered: handed.redelivered,
        lease: Arc::new(lease),
    }
}

fn positions(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.position).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    NoMore,
    LetGo,
    Resting,
    Held(Hold),
}

struct Progress {
    /// Positions of the messages that are not settled.
    held: Vec<u64>,
    ended: Option<Ending>,
}

struct MemoryTurn {
    queue: MemoryQueue,
    group: String,
    number: u64,
    state: Mutex<Progress>,
}

impl MemoryTurn {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settled(&self, held: bool) -> Result<(), BrokerError> {
        if held { Ok(()) } else { Err(over(&self.group)) }
    }

    /// Removes the first `count` messages of the turn.
    fn remove(&self, state: &mut State, count: usize) -> Vec<Entry> {
        let mut progress = self.progress();
        let count = count.min(progress.held.len());
        let named: Vec<u64> = progress.held.drain(..count).collect();
        state.lanes.remove(&self.group, &named)
    }

    fn end_with(
        &self,
        ending: Ending,
        work: impl FnOnce(&mut State, Instant) -> bool,
    ) -> Result<(), BrokerError> {
        if self.progress().ended == Some(ending) {
            return Ok(());
        }
        let held = self.queue.change(work)?;
        if held {
            self.progress().ended = Some(ending);
        }
        self.settled(held)
    }

    fn hold(&self, hold: Hold, failure: &Failure) -> Result<(), BrokerError> {
        let since = self.queue.shared.clock.now();
        self.end_with(Ending::Held(hold), |state, now| {
            state.hold_group(&self.group, self.number, hold, failure, since, now)
        })
    }
}

#[async_trait]
impl TurnLease for MemoryTurn {
    async fn begin(&self) -> Result<(), BrokerError> {
        let begin = |state: &mut State, _| state.lanes.begin(&self.group, self.number);
        let held = self.queue.with(begin)?;
        self.settled(held)
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        let held = self.queue.with(|state, now| {
            let until = now + state.lease();
            state.lanes.extend(&self.group, self.number, until)
        })?;
        self.settled(held)
    }

    async fn ack(&self, count: usize) -> Result<(), BrokerError> {
        self.queue.change(|state, _| {
            self.remove(state, count);
        })
    }

    async fn count(&self, attempts: &[u32]) -> Result<(), BrokerError> {
        let count = |state: &mut State, _| state.lanes.count(&self.group, self.number, attempts);
        let held = self.queue.with(count)?;
        self.settled(held)
    }

    async fn rest(
        &self,
        delay: Duration,
        attempts: &[u32],
        suspects: usize,
    ) -> Result<(), BrokerError> {
        let wall = self.queue.shared.clock.now();
        self.end_with(Ending::Resting, |state, now| {
            state.rest_group(
                &self.group,
                self.number,
                (delay, now, wall),
                attempts,
                suspects,
            )
        })
    }

    async fn dead_letter(&self, failure: &Failure) -> Result<(), BrokerError> {
        let held = self.queue.change(|state, now| {
            let held = state.lanes.holds(&self.group, self.number);
            if held {
                for entry in self.remove(state, 1) {
                    state.bury(entry.message, failure.clone(), now);
                }
            }
            held
        })?;
        self.settled(held)
    }

    async fn dead_letter_group(&self, failure: &Failure) -> Result<(), BrokerError> {
        self.hold(Hold::DeadLettered, failure)
    }

    async fn block_group(&self, failure: &Failure) -> Result<(), BrokerError> {
        self.hold(Hold::Blocked, failure)
    }

    async fn more(&self) -> Result<Option<Vec<TurnMessage>>, BrokerError> {
        if self.progress().ended == Some(Ending::NoMore) {
            return Ok(None);
        }
        let more = self.queue.change(|state, now| {
            let batch_max = state.config.batch_max;
            state.lanes.more(&self.group, self.number, batch_max, now)
        })?;
        let mut progress = self.progress();
        match more {
            More::Over => Err(over(&self.group)),
            More::Ended => {
                progress.ended = Some(Ending::NoMore);
                Ok(None)
            }
            More::Messages(entries) => {
                progress.held = positions(&entries);
                Ok(Some(entries.iter().map(Entry::as_turn_message).collect()))
            }
        }
    }

    async fn end(&self) -> Result<(), BrokerError> {
        self.end_with(Ending::LetGo, |state, now| {
            state.lanes.end(&self.group, self.number, now)
        })
    }
}
