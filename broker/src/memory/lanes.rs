//! The groups of a FIFO queue as a value: every rule of turns, without waiting or locking.
//!
//! A group exists only while something is stored of it, held of it or known of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use weir_core::message::Message;

use crate::fifo::{GroupCounts, HeldGroup, Hold, TurnMessage};

/// Calls that one turn may make while other groups wait.
const SHARE: u32 = 8;

/// A stored message.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) message: Message,
    /// Failed outcomes, and unfinished calls of turns that are over.
    pub(super) attempts: u32,
    pub(super) stored_at: Timestamp,
    pub(super) due: Option<(Instant, Timestamp)>,
    /// It waits so long after a call that failed.
    rests: Option<(Instant, Timestamp)>,
    /// It was in a call of several that failed as a whole.
    suspect: bool,
    /// In a call that began and did not end.
    in_call: bool,
}

#[derive(Debug)]
struct Holding {
    number: u64,
    until: Instant,
    /// Messages handed out and not settled.
    size: usize,
    calls: u32,
}

#[derive(Debug, Default)]
struct Lane {
    entries: VecDeque<Entry>,
    hold: Option<HeldGroup>,
    turn: Option<Holding>,
    /// Place among those that wait for a turn.
    ticket: Option<u64>,
    /// When it is looked at whether the group can have a turn.
    looks: Option<Instant>,
    /// The next turn is one that was given out before.
    redelivered: bool,
}

/// What became of a group: its messages with the reasons why they are given up.
pub(super) type GivenUp = Vec<Entry>;

/// A turn before it got its lease.
pub(super) struct HandedTurn {
    pub(super) group: String,
    pub(super) number: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) redelivered: bool,
}

/// What [`Lanes::more`] found.
pub(super) enum More {
    /// The turn is not this one's any more.
    Over,
    Messages(Vec<Entry>),
    Ended,
}

/// All groups of one queue.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    groups: HashMap<String, Lane>,
    waiting: BTreeMap<u64, String>,
    turns: BTreeSet<(Instant, String)>,
    due: BTreeSet<(Instant, String)>,
    last: u64,
    stored: u64,
}

impl Entry {
    pub(super) fn as_turn_message(&self) -> TurnMessage {
        TurnMessage {
            message: self.message.clone(),
            attempts: self.attempts,
            suspect: self.suspect,
        }
    }

    /// When it may be handed out.
    pub(super) fn waits(&self) -> Option<(Instant, Timestamp)> {
        self.due.max(self.rests)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.waits().is_none_or(|(due, _)| due <= now)
    }
}

/// The group of a message: an absent one is the group of the empty name.
fn group_of(message: &Message) -> &str {
    message.group.as_deref().unwrap_or_default()
}

impl Lanes {
    /// Messages that are stored.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    pub(super) fn in_turn(&self) -> u64 {
        self.turns.len() as u64
    }

    /// Groups whose first message waits for its time.
    pub(super) fn delayed(&self) -> u64 {
        self.due.len() as u64
    }

    pub(super) fn counts(&self) -> GroupCounts {
        let held = self.groups.values().filter(|lane| lane.hold.is_some());
        GroupCounts {
            runnable: (self.waiting.len() + self.turns.len()) as u64,
            in_turn: self.in_turn(),
            held: held.count() as u64,
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.groups.values().flat_map(|lane| &lane.entries)
    }

    /// Stores a message at the end of its group. Of a group that is dead-lettered as a whole it comes back.
    pub(super) fn store(
        &mut self,
        message: Message,
        position: u64,
        due: Option<(Instant, Timestamp)>,
        now: Instant,
        stored_at: Timestamp,
    ) -> Option<(Entry, HeldGroup)> {
        let group = group_of(&message).to_owned();
        let entry = Entry {
            position,
            message,
            attempts: 0,
            stored_at,
            due,
            rests: None,
            suspect: false,
            in_call: false,
        };
        let lane = self.groups.entry(group.clone()).or_default();
        if let Some(held) = &lane.hold
            && held.hold == Hold::DeadLettered
        {
            return Some((entry, held.clone()));
        }
        lane.entries.push_back(entry);
        self.stored += 1;
        self.line_up(&group, now);
        None
    }

    /// Puts messages before everything that is stored of a group.
    pub(super) fn put_first(&mut self, group: &str, entries: Vec<(Message, u64)>, wall: Timestamp) {
        let lane = self.groups.entry(group.to_owned()).or_default();
        self.stored += entries.len() as u64;
        for (message, position) in entries.into_iter().rev() {
            lane.entries.push_front(Entry {
                position,
                message,
                attempts: 0,
                stored_at: wall,
                due: None,
                rests: None,
                suspect: false,
                in_call: false,
            });
        }
    }

    /// Lets time pass: leases end, delays are over.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some((until, _)) = self.turns.first()
            && *until <= now
        {
            if let Some((_, group)) = self.turns.pop_first() {
                self.lose(&group, now);
            }
        }
        while let Some((due, _)) = self.due.first()
            && *due <= now
        {
            if let Some((_, group)) = self.due.pop_first() {
                if let Some(lane) = self.groups.get_mut(&group) {
                    lane.looks = None;
                }
                self.line_up(&group, now);
            }
        }
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let turns = self.turns.first().map(|(at, _)| *at);
        let due = self.due.first().map(|(at, _)| *at);
        [turns, due].into_iter().flatten().min()
    }

    /// The turn that has waited longest, where the limit leaves room.
    pub(super) fn take(
        &mut self,
        now: Instant,
        limit: u32,
        batch_max: u32,
        lease: Duration,
    ) -> Option<HandedTurn> {
        if self.turns.len() as u64 >= u64::from(limit) {
            return None;
        }
        let (_, group) = self.waiting.pop_first()?;
        self.last += 1;
        let number = self.last;
        let lane = self.groups.get_mut(&group)?;
        lane.ticket = None;
        let until = now + lease;
        let entries = runnable(&lane.entries, batch_max, now);
        lane.turn = Some(Holding {
            number,
            until,
            size: entries.len(),
            calls: 1,
        });
        self.turns.insert((until, group.clone()));
        Some(HandedTurn {
            redelivered: std::mem::take(&mut lane.redelivered),
            group,
            number,
            entries,
        })
    }

    pub(super) fn holds(&self, group: &str, number: u64) -> bool {
        self.turn(group, number).is_some()
    }

    pub(super) fn begin(&mut self, group: &str, number: u64) -> bool {
        self.mark_call(group, number, true)
    }

    pub(super) fn extend(&mut self, group: &str, number: u64, until: Instant) -> bool {
        let Some(turn) = self.turn_mut(group, number) else {
            return false;
        };
        let old = std::mem::replace(&mut turn.until, until);
        self.turns.remove(&(old, group.to_owned()));
        self.turns.insert((until, group.to_owned()));
        true
    }

    /// Removes the first messages as long as they are of these positions, whoever holds the turn by now.
    pub(super) fn remove(&mut self, group: &str, positions: &[u64]) -> Vec<Entry> {
        let Some(lane) = self.groups.get_mut(group) else {
            return Vec::new();
        };
        let mut removed = Vec::new();
        while let Some(first) = lane.entries.front()
            && positions.contains(&first.position)
        {
            removed.extend(lane.entries.pop_front());
            if let Some(turn) = &mut lane.turn {
                turn.size = turn.size.saturating_sub(1);
            }
        }
        self.stored -= removed.len() as u64;
        self.forget_if_idle(group);
        removed
    }

    pub(super) fn count(&mut self, group: &str, number: u64, attempts: &[u32]) -> bool {
        if !self.mark_call(group, number, false) {
            return false;
        }
        let lane = self.groups.get_mut(group).into_iter();
        let entries = lane.flat_map(|lane| &mut lane.entries);
        for (entry, attempts) in entries.zip(attempts) {
            entry.attempts = *attempts;
        }
        true
    }

    /// The next messages of the turn, or its end.
    pub(super) fn more(&mut self, group: &str, number: u64, batch_max: u32, now: Instant) -> More {
        let others_wait = !self.waiting.is_empty();
        let Some(lane) = self.groups.get_mut(group) else {
            return More::Over;
        };
        let Some(turn) = lane.turn.as_mut().filter(|turn| turn.number == number) else {
            return More::Over;
        };
        if turn.size > 0 {
            let left = lane.entries.iter().take(turn.size);
            return More::Messages(left.cloned().collect());
        }
        let entries = runnable(&lane.entries, batch_max, now);
        if entries.is_empty() || (others_wait && turn.calls >= SHARE) {
            self.end(group, number, now);
            return More::Ended;
        }
        turn.size = entries.len();
        turn.calls += 1;
        More::Messages(entries)
    }

    /// Ends a turn; what is left is deliverable at once.
    pub(super) fn end(&mut self, group: &str, number: u64, now: Instant) -> bool {
        if !self.mark_call(group, number, false) {
            return false;
        }
        self.finish(group);
        self.line_up(group, now);
        true
    }

    /// Ends a turn; its first message is deliverable from a time on, and nothing behind it before.
    pub(super) fn rest(
        &mut self,
        group: &str,
        number: u64,
        until: (Instant, Timestamp),
        suspects: usize,
        now: Instant,
    ) -> bool {
        let Some(size) = self.turn(group, number).map(|turn| turn.size) else {
            return false;
        };
        let lane = self.groups.get_mut(group).into_iter();
        let left = lane.flat_map(|lane| &mut lane.entries).take(size);
        for (at, entry) in left.enumerate() {
            entry.rests = (at == 0).then_some(until);
            entry.suspect = at < suspects;
        }
        self.end(group, number, now)
    }

    /// Ends the rest of a group, which is then looked at by [`Lanes::release`].
    pub(super) fn wake(&mut self, group: &str) {
        if let Some(lane) = self.groups.get_mut(group) {
            if let Some(due) = lane.looks.take() {
                self.due.remove(&(due, group.to_owned()));
            }
            for entry in &mut lane.entries {
                (entry.rests, entry.suspect) = (None, false);
            }
        }
    }

    /// Holds a group and ends its turn. What has to become dead letters comes back.
    pub(super) fn hold(&mut self, number: u64, held: HeldGroup) -> Option<GivenUp> {
        let group = held.group.clone();
        if !self.mark_call(&group, number, false) {
            return None;
        }
        self.finish(&group);
        let lane = self.groups.entry(group).or_default();
        let given_up = match held.hold {
            Hold::Blocked => Vec::new(),
            Hold::DeadLettered => lane.entries.drain(..).collect(),
        };
        self.stored -= given_up.len() as u64;
        lane.hold = Some(held);
        Some(given_up)
    }

    pub(super) fn first_id(&self, group: &str) -> Option<String> {
        let first = self.groups.get(group)?.entries.front()?;
        Some(first.message.id.clone())
    }

    pub(super) fn is_in_turn(&self, group: &str) -> bool {
        self.groups
            .get(group)
            .is_some_and(|lane| lane.turn.is_some())
    }

    pub(super) fn held_groups(&self, after: Option<&str>, limit: usize) -> Vec<HeldGroup> {
        let mut held: Vec<&HeldGroup> = self
            .groups
            .values()
            .filter_map(|lane| lane.hold.as_ref())
            .filter(|held| after.is_none_or(|after| held.group.as_str() > after))
            .collect();
        held.sort_by(|a, b| a.group.cmp(&b.group));
        held.into_iter().take(limit).cloned().collect()
    }

    /// Lets a held group go on with its attempts at 0.
    pub(super) fn release(&mut self, group: &str, now: Instant) -> bool {
        let Some(lane) = self.groups.get_mut(group) else {
            return false;
        };
        let was_held = lane.hold.take().is_some();
        if was_held {
            for entry in &mut lane.entries {
                entry.attempts = 0;
            }
        }
        self.line_up(group, now);
        self.forget_if_idle(group);
        was_held
    }

    /// A turn whose lease is over: calls that did not end count, the group waits for a turn again.
    fn lose(&mut self, group: &str, now: Instant) {
        if let Some(lane) = self.groups.get_mut(group) {
            for entry in lane.entries.iter_mut().filter(|entry| entry.in_call) {
                entry.attempts = entry.attempts.saturating_add(1);
                entry.in_call = false;
            }
            lane.turn = None;
            lane.redelivered = !lane.entries.is_empty();
        }
        self.line_up(group, now);
        self.forget_if_idle(group);
    }

    fn finish(&mut self, group: &str) {
        if let Some(turn) = self.groups.get_mut(group).and_then(|lane| lane.turn.take()) {
            self.turns.remove(&(turn.until, group.to_owned()));
        }
        self.forget_if_idle(group);
    }

    /// Puts a group behind those that wait, if it can have a turn.
    fn line_up(&mut self, group: &str, now: Instant) {
        let Some(lane) = self.groups.get_mut(group) else {
            return;
        };
        // An earlier look was for a message that is not the first any more, or for another time.
        if let Some(due) = lane.looks.take() {
            self.due.remove(&(due, group.to_owned()));
        }
        if lane.turn.is_some() || lane.hold.is_some() || lane.ticket.is_some() {
            return;
        }
        match lane.entries.front() {
            None => {}
            Some(first) if first.is_due(now) => {
                self.last += 1;
                lane.ticket = Some(self.last);
                self.waiting.insert(self.last, group.to_owned());
            }
            Some(first) => {
                if let Some((due, _)) = first.waits() {
                    lane.looks = Some(due);
                    self.due.insert((due, group.to_owned()));
                }
            }
        }
    }

    fn forget_if_idle(&mut self, group: &str) {
        let idle = self.groups.get(group).is_some_and(|lane| {
            lane.entries.is_empty() && lane.hold.is_none() && lane.turn.is_none()
        });
        if idle && let Some(lane) = self.groups.remove(group) {
            if let Some(ticket) = lane.ticket {
                self.waiting.remove(&ticket);
            }
            if let Some(due) = lane.looks {
                self.due.remove(&(due, group.to_owned()));
            }
        }
    }

    /// Notes for the messages of a turn whether they are in a call.
    fn mark_call(&mut self, group: &str, number: u64, in_call: bool) -> bool {
        let Some(size) = self.turn(group, number).map(|turn| turn.size) else {
            return false;
        };
        let lane = self.groups.get_mut(group).into_iter();
        for entry in lane.flat_map(|lane| &mut lane.entries).take(size) {
            entry.in_call = in_call;
        }
        true
    }

    fn turn(&self, group: &str, number: u64) -> Option<&Holding> {
        let turn = self.groups.get(group)?.turn.as_ref()?;
        (turn.number == number).then_some(turn)
    }

    fn turn_mut(&mut self, group: &str, number: u64) -> Option<&mut Holding> {
        let turn = self.groups.get_mut(group)?.turn.as_mut()?;
        (turn.number == number).then_some(turn)
    }
}

/// The first messages of a group that are due.
fn runnable(entries: &VecDeque<Entry>, batch_max: u32, now: Instant) -> Vec<Entry> {
    let most = usize::try_from(batch_max.max(1)).unwrap_or(usize::MAX);
    let due = entries.iter().take_while(|entry| entry.is_due(now));
    due.take(most).cloned().collect()
}

#[cfg(test)]
mod tests;
