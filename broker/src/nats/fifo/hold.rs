//! Groups that are held, and how they go on.

use std::time::Duration;

use async_nats::HeaderMap;
use async_trait::async_trait;
use tokio::time::Instant;
use weir_core::dead_letter::{Failure, Reason};
use weir_core::names::token;

use super::super::apply::subjects_on;
use super::super::codec::{COPY, encode, put};
use super::consume::NatsTurns;
use super::note::{Holding, How, Note};
use super::{Fifo, group_of};
use crate::error::BrokerError;
use crate::fifo::{FifoQueue, GroupCounts, HeldGroup, TurnConsumer};
use crate::queue::StoredDeadLetter;

/// How often a note is read again that somebody else changes meanwhile.
const TRIES: usize = 8;
/// How often is looked whether a turn has ended.
const POLL: Duration = Duration::from_millis(50);
/// Dead letters of one page.
const PAGE: usize = 256;

#[async_trait]
impl FifoQueue for Fifo {
    async fn consume(&self) -> Result<Box<dyn TurnConsumer>, BrokerError> {
        Ok(Box::new(NatsTurns::open(self).await?))
    }

    async fn groups(&self) -> Result<GroupCounts, BrokerError> {
        let turns = self.turns().await?;
        let held = self.notes().await?;
        Ok(GroupCounts {
            runnable: turns.num_pending + turns.num_ack_pending,
            in_turn: turns.num_ack_pending,
            held: held.len() as u64,
        })
    }

    async fn held_groups(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HeldGroup>, BrokerError> {
        let mut held = self.notes().await?;
        held.retain(|held| after.is_none_or(|after| held.group.as_str() > after));
        held.sort_by(|a, b| a.group.cmp(&b.group));
        held.truncate(limit);
        Ok(held)
    }

    async fn release_group(&self, group: &str) -> Result<bool, BrokerError> {
        let name = token(group);
        for _ in 0..TRIES {
            let (note, written) = self.note(&name).await?;
            if note.hold.is_none() {
                // Whoever released it may have died before this.
                self.look_after(&name, group).await?;
                return Ok(false);
            }
            let released = Note {
                hold: None,
                ..note.counted(&[])
            };
            if self.write_note(&name, &released, written).await?.is_some() {
                self.look_after(&name, group).await?;
                return Ok(true);
            }
        }
        Err(self.changed())
    }

    async fn redrive_group(&self, group: &str) -> Result<u64, BrokerError> {
        let name = token(group);
        self.begin_redrive(&name, group).await?;
        let mut moved = 0;
        loop {
            let letters = self.letters_of(group).await?;
            if letters.is_empty() {
                break;
            }
            for letter in letters {
                self.put_back(&name, &letter).await?;
                moved += 1;
            }
        }
        let (note, written) = self.note(&name).await?;
        let front = self.first_of(&self.shared.names.front(&name), 1).await?;
        let released = Note {
            hold: None,
            front: front.is_some(),
            ..note.counted(&[])
        };
        self.write_note(&name, &released, written)
            .await?
            .ok_or_else(|| self.changed())?;
        // The time of a rest that has ended means nothing any more.
        self.remove_before(&self.shared.names.wake(&name), u64::MAX)
            .await?;
        self.look_after(&name, group).await?;
        Ok(moved)
    }
}

impl Fifo {
    /// Every held group.
    async fn notes(&self) -> Result<Vec<HeldGroup>, BrokerError> {
        let (connection, names) = (&self.shared.connection, &self.shared.names);
        let mut known = Vec::new();
        subjects_on(connection, names, &names.all("note"), |subject, _| {
            if let Some((_, name)) = subject.rsplit_once('.') {
                known.push(name.to_owned());
            }
        })
        .await?;
        let mut held = Vec::new();
        for name in known {
            held.extend(self.note(&name).await?.0.held_group());
        }
        Ok(held)
    }

    /// Makes sure that the group gets no turn and nobody makes dead letters of its messages.
    async fn begin_redrive(&self, name: &str, group: &str) -> Result<(), BrokerError> {
        for _ in 0..TRIES {
            let (note, written) = self.note(name).await?;
            if note.hold.as_ref().map(|hold| hold.how) == Some(How::Redriven) {
                return self.turn_ends(name).await;
            }
            let holding = note.hold.clone().unwrap_or_else(|| Holding {
                how: How::Redriven,
                since: self.shared.clock.now(),
                message_id: String::new(),
                copy: String::new(),
                failure: Failure {
                    reason: Reason::MaxAttempts,
                    attempts: 0,
                    failed_at: self.shared.clock.now(),
                    last_status: None,
                    message: "its dead letters are being put back".to_owned(),
                    answer: String::new(),
                },
            });
            let held = Note {
                group: group.to_owned(),
                hold: Some(Holding {
                    how: How::Redriven,
                    ..holding
                }),
                ..note.counted(&[])
            };
            if self.write_note(name, &held, written).await?.is_some() {
                return self.turn_ends(name).await;
            }
        }
        Err(self.changed())
    }

    /// Waits until a turn that may have begun before the group was held has ended, at most a lease.
    async fn turn_ends(&self, name: &str) -> Result<(), BrokerError> {
        let subject = self.shared.names.turn(name);
        let Some(turn) = self.first_of(&subject, 1).await? else {
            return Ok(());
        };
        // A holder that lives extends its lease, and finds the group held then.
        let until = Instant::now() + self.lease;
        while Instant::now() < until {
            // Whoever opens a turn from now on finds the group held.
            if self.turns().await?.num_ack_pending == 0 {
                return Ok(());
            }
            let first = self.first_of(&subject, 1).await?;
            if first.is_none_or(|first| first.sequence != turn.sequence) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// A page of the dead letters of a group, in order.
    async fn letters_of(&self, group: &str) -> Result<Vec<StoredDeadLetter>, BrokerError> {
        let mut after = None;
        loop {
            let page = self.shared.dead_letters(after, PAGE).await?;
            let mut letters = page.items;
            letters.retain(|stored| group_of(&stored.letter.message) == group);
            after = page.next;
            if !letters.is_empty() || after.is_none() {
                return Ok(letters);
            }
        }
    }

    /// Moves a dead letter before everything that is stored of its group, behind those moved before.
    async fn put_back(&self, name: &str, stored: &StoredDeadLetter) -> Result<(), BrokerError> {
        let names = &self.shared.names;
        let subject = names.front(name);
        let copy = format!("dead-{}", stored.position);
        let newest = self.last_of(&subject).await?;
        // Whoever put it back may have died before it removed the letter.
        if newest.as_ref().and_then(|raw| raw.value(COPY)) != Some(&copy) {
            let message = &stored.letter.message;
            let mut headers: HeaderMap = encode(message, 0)?;
            put(&mut headers, COPY, &copy)?;
            let expected = newest.map_or(0, |raw| raw.sequence);
            self.store_if(&subject, headers, message.body.clone(), expected)
                .await?
                .ok_or_else(|| self.changed())?;
        }
        self.shared
            .remove_dead_letter(stored.position)
            .await
            .map(|_| ())
    }
}
