//! The rules of a queue that keeps order: groups, their turns and what becomes of them.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use weir_core::dead_letter::{DeadLetter, Failure};
use weir_core::message::Message;

use super::super::lanes::HandedTurn;
use super::{State, due_at};
use crate::fifo::{HeldGroup, Hold};

impl State {
    /// Stores a message of a FIFO queue.
    pub(super) fn line_up(
        &mut self,
        message: Message,
        delay: Duration,
        now: Instant,
        wall: Timestamp,
    ) {
        let due = (!delay.is_zero()).then(|| (now + delay, due_at(wall, delay)));
        let position = self.next();
        if let Some((entry, held)) = self.lanes.store(message, position, due, now, wall) {
            let failure = held.failure_of_followers(wall);
            self.bury(entry.message, failure, now);
        }
    }

    /// The next turn, where a group waits and the limit leaves room.
    pub(in crate::memory) fn take_turn(&mut self, now: Instant) -> Option<HandedTurn> {
        let (limit, batch_max) = (self.config.limit, self.config.batch_max);
        self.lanes.take(now, limit, batch_max, self.lease())
    }

    /// Ends a turn and lets its group rest for a while, `after` a time of the clock and of the day. False when the
    /// turn is not that of `number` any more.
    pub(in crate::memory) fn rest_group(
        &mut self,
        group: &str,
        number: u64,
        (delay, now, wall): (Duration, Instant, Timestamp),
        attempts: &[u32],
        suspects: usize,
    ) -> bool {
        let until = (now + delay, due_at(wall, delay));
        self.lanes.count(group, number, attempts)
            && self.lanes.rest(group, number, until, suspects, now)
    }

    /// Blocks a group or gives it up as a whole. False when the turn is not that of `number` any more.
    pub(in crate::memory) fn hold_group(
        &mut self,
        group: &str,
        number: u64,
        hold: Hold,
        failure: &Failure,
        since: Timestamp,
        now: Instant,
    ) -> bool {
        let first = self.lanes.first_id(group).unwrap_or_default();
        let held = HeldGroup {
            group: group.to_owned(),
            hold,
            since,
            message_id: first,
            failure: failure.clone(),
        };
        let followers = held.failure_of_followers(since);
        let Some(given_up) = self.lanes.hold(number, held) else {
            return false;
        };
        for (at, entry) in given_up.into_iter().enumerate() {
            let failure = if at == 0 { failure } else { &followers };
            self.bury(entry.message, failure.clone(), now);
        }
        true
    }

    /// Puts the dead letters of a group back before everything else. `None` while it is in a turn.
    pub(in crate::memory) fn redrive_group(
        &mut self,
        group: &str,
        now: Instant,
        wall: Timestamp,
    ) -> Option<u64> {
        if self.lanes.is_in_turn(group) {
            return None;
        }
        let of_it = |letter: &DeadLetter| letter.message.group.as_deref().unwrap_or("") == group;
        let positions: Vec<u64> = self
            .dead
            .iter()
            .filter(|(_, (letter, _))| of_it(letter))
            .map(|(position, _)| *position)
            .collect();
        let mut messages = Vec::new();
        for position in positions {
            if let Some((letter, _)) = self.dead.remove(&position) {
                messages.push((letter.message, self.next()));
            }
        }
        let count = messages.len() as u64;
        self.lanes.wake(group);
        self.lanes.put_first(group, messages, wall);
        self.lanes.release(group, now);
        Some(count)
    }
}
