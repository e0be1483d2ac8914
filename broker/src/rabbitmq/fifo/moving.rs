//! Messages of a dead-lettered group on their way to the dead letters, and back.

use std::time::Duration;

use tokio::time::Instant;
use weir_core::dead_letter::DeadLetter;

use super::super::codec;
use super::Fifo;
use super::record::{Outcome, Record};
use crate::error::BrokerError;
use crate::fifo::{HeldGroup, Hold, MOST_AHEAD};

/// How long is waited for a turn of the group to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Dead letters that are read at once.
const LETTERS_AT_ONCE: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);

impl Fifo {
    /// Moves what is stored of a dead-lettered group to the dead letters, unless somebody else does.
    pub(super) async fn move_group(&self, group: &str, consumer: u64) -> Result<(), BrokerError> {
        let claim = Record::Claim {
            group: group.to_owned(),
            consumer,
        };
        let Outcome::Turn(turn) = self.log.write(claim).await? else {
            return Ok(());
        };
        loop {
            let Some(current) = self.log.current() else {
                return Ok(());
            };
            let now = i64::MAX;
            let (entries, held) = current.tail.read(|book| {
                let groups = &book.groups;
                let held = groups.held(group).filter(|_| !groups.is_redriving(group));
                (groups.first(group, now, MOST_AHEAD), held.cloned())
            });
            let Some(held) = held.filter(|_| !entries.is_empty()) else {
                break;
            };
            let held = HeldGroup {
                group: group.to_owned(),
                hold: Hold::DeadLettered,
                since: held.since,
                message_id: held.message_id,
                failure: held.failure,
            };
            let mut moved = Vec::with_capacity(entries.len());
            for (entry, raw) in self.log.messages(&current, &entries).await? {
                let message = raw.message().message;
                let failure = held.failure_of_followers(self.shared.clock.now());
                let copy = format!("{turn}-{}", entry.number);
                let properties = codec::encode_dead(&message, &failure, &copy)?;
                self.shared.store_dead(properties, &message.body).await?;
                moved.push(entry.number);
            }
            let messages = moved;
            let record = Record::Moved { turn, messages };
            if self.log.write(record).await? != Outcome::Took {
                return Ok(());
            }
            if self.log.write(Record::Extend { turn }).await? != Outcome::Took {
                return Ok(());
            }
        }
        self.log.write(Record::End { turn }).await.map(drop)
    }

    pub(super) async fn release(&self, group: &str) -> Result<bool, BrokerError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let group = group.to_owned();
            match self.log.write(Record::Release { group }).await? {
                Outcome::Busy => self.wait(until).await?,
                outcome => return Ok(outcome == Outcome::Took),
            }
        }
    }

    async fn wait(&self, until: Instant) -> Result<(), BrokerError> {
        if Instant::now() > until {
            return Err(BrokerError::TimedOut {
                operation: "wait for the turn of the group",
                after: PATIENCE,
            });
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    pub(super) async fn redrive(&self, group: &str) -> Result<u64, BrokerError> {
        let known = self
            .log
            .look(|book| {
                let groups = &book.groups;
                groups.is_redriving(group) || groups.held(group).is_some_and(|held| held.dead)
            })
            .await?;
        if !known && !self.has_letters(group).await? {
            return Ok(0);
        }
        let consumer = fastrand::u64(..);
        let until = Instant::now() + PATIENCE;
        let turn = loop {
            let record = Record::Redrive {
                group: group.to_owned(),
                consumer,
            };
            match self.log.write(record).await? {
                Outcome::Turn(turn) => break turn,
                _ => self.wait(until).await?,
            }
        };
        let lost = || BrokerError::LeaseOver {
            id: format!("the redrive of group {group:?}"),
        };
        let mut back = 0;
        // In the order in which they were given up; whoever was here before took some out.
        let mut after = None;
        loop {
            let (letters, next) = self.letters_of(group, after).await?;
            for (position, letter) in letters {
                let record = Record::Front {
                    turn,
                    letter: position,
                };
                if self.log.write_with(record, &letter.message).await? != Outcome::Took {
                    return Err(lost());
                }
                self.shared.remove_dead_letter(position).await?;
                back += 1;
                if self.log.write(Record::Extend { turn }).await? != Outcome::Took {
                    return Err(lost());
                }
            }
            if next.is_none() {
                break;
            }
            after = next;
        }
        match self.log.write(Record::Redriven { turn }).await? {
            Outcome::Took => Ok(back),
            _ => Err(lost()),
        }
    }

    async fn has_letters(&self, group: &str) -> Result<bool, BrokerError> {
        let mut after = None;
        loop {
            let (letters, next) = self.letters_of(group, after).await?;
            if !letters.is_empty() || next.is_none() {
                return Ok(!letters.is_empty());
            }
            after = next;
        }
    }

    /// The letters of a group on the page after a position, and the next page.
    async fn letters_of(
        &self,
        group: &str,
        after: Option<u64>,
    ) -> Result<(Vec<(u64, DeadLetter)>, Option<u64>), BrokerError> {
        let page = self.shared.dead_letters(after, LETTERS_AT_ONCE).await?;
        let of_group = page
            .items
            .into_iter()
            .filter(|stored| stored.letter.message.group.as_deref().unwrap_or_default() == group);
        let letters = of_group.map(|stored| (stored.position, stored.letter));
        Ok((letters.collect(), page.next))
    }
}
