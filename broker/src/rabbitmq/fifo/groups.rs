//! The groups of a FIFO queue: what every record of the log does. Pure; the same for everybody who reads
//! the log.
//!
//! There is one turn of a group at most, never more than `limit`, because only this gives turns, one record
//! after the other. Time is the time that the writer of a record says.

mod copy;
mod look;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::record::{HeldNote, Outcome, Record};

/// How far behind the first message of a group those are looked for that are handled.
const FARTHEST: usize = 4 * crate::fifo::MOST_AHEAD;
/// Identities that are forgotten with one record.
const FORGOTTEN_AT_ONCE: usize = 64;

/// A stored message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    /// Where it is in the log.
    pub(crate) offset: u64,
    pub(crate) size: u32,
    pub(crate) attempts: u32,
    /// It was in a call of several that failed as a whole.
    pub(crate) suspect: bool,
    pub(crate) due: i64,
    /// When it was stored.
    pub(crate) at: i64,
}

/// A message that came with a record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Came {
    pub(crate) offset: u64,
    pub(crate) size: u32,
    pub(crate) group: String,
    pub(crate) id: String,
}

/// What is known of a group beside its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Its place among those that wait for a turn.
    pub(crate) place: Option<u64>,
    /// Its last turn was lost.
    pub(crate) lost: bool,
    /// It gets no turn before this, milliseconds since 1970.
    pub(crate) rest: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    messages: VecDeque<Entry>,
    turn: Option<u64>,
    mark: Mark,
}

impl Group {
    /// When its first message may be handed out.
    fn due(&self) -> Option<i64> {
        let first = self.messages.front()?;
        Some(first.due.max(self.mark.rest))
    }
}

/// A turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Right {
    pub(crate) group: String,
    pub(crate) consumer: u64,
    /// Changes when it is extended.
    pub(crate) extends: u64,
    /// It was given before, and lost.
    pub(crate) again: bool,
    /// For whoever moves the messages of the group; it takes none of the limit.
    pub(crate) inner: bool,
    /// Messages of a call that counts if nothing more is heard.
    begun: Vec<u64>,
}

/// Who takes turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seeker {
    pub(crate) granted: u64,
    pub(crate) outstanding: u64,
    /// Changes with every sign of life.
    pub(crate) signs: u64,
}

/// A group whose dead letters are put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Redriving {
    /// Position of the last letter that is back.
    letter: u64,
    /// Messages that are back.
    count: usize,
}

/// What a queue has once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Base {
    pub(crate) limit: u64,
    pub(crate) capacity: u64,
    next_message: u64,
    next_turn: u64,
    next_place: u64,
}

/// All groups of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    pub(crate) base: Base,
    by_name: HashMap<String, Group>,
    /// Groups that could have a turn, in the order in which they began to wait.
    waiting: BTreeMap<u64, String>,
    /// Groups whose first message has its time ahead.
    dues: BTreeSet<(i64, String)>,
    turns: BTreeMap<u64, Right>,
    /// Turns that take a part of the limit.
    out: u64,
    seekers: BTreeMap<u64, Seeker>,
    /// Consumers that want turns, in the order in which they get them.
    queue: VecDeque<u64>,
    held: BTreeMap<String, HeldNote>,
    redriving: BTreeMap<String, Redriving>,
    identities: HashMap<String, (String, i64)>,
    ends: BTreeSet<(i64, String)>,
    stored: u64,
    bytes: u64,
    /// Places of the messages that the last record removed.
    removed: Vec<u64>,
}

impl Groups {
    /// Takes in a record that was written at `at`, with the message that came with it.
    pub(crate) fn take(&mut self, at: i64, record: Record, came: Option<Came>) -> Outcome {
        self.removed.clear();
        self.forget_identities(at);
        let outcome = self.record(at, record, came);
        self.ripen(at);
        self.grant();
        outcome
    }

    fn record(&mut self, at: i64, record: Record, came: Option<Came>) -> Outcome {
        match record {
            Record::Limits { limit, capacity } => {
                (self.base.limit, self.base.capacity) = (limit, capacity);
                Outcome::Took
            }
            Record::Store {
                due,
                identity,
                window,
            } => self.store(at, due, identity, window, came),
            Record::Want {
                consumer,
                outstanding,
                granted,
            } => self.want(consumer, outstanding, granted),
            Record::Alive { consumer } => match self.seekers.get_mut(&consumer) {
                Some(seeker) => {
                    seeker.signs += 1;
                    Outcome::Took
                }
                None => Outcome::Refused,
            },
            Record::Gone { consumer } => self.gone(consumer),
            Record::Silent { consumer, signs } => match self.seekers.get(&consumer) {
                Some(seeker) if seeker.signs == signs => self.gone(consumer),
                _ => Outcome::Refused,
            },
            Record::Begin { turn, messages } => self.with(turn, |right| {
                right.extends += 1;
                if right.again {
                    right.begun = messages;
                }
            }),
            Record::Extend { turn } => self.with(turn, |right| right.extends += 1),
            Record::Ack { group, messages } => self.remove(at, &group, &messages),
            Record::Moved { turn, messages } => match self.turns.get(&turn) {
                Some(right) => {
                    let group = right.group.clone();
                    self.remove(at, &group, &messages);
                    Outcome::Took
                }
                None => Outcome::Refused,
            },
            Record::Count { turn, attempts } => self.count(turn, &attempts),
            Record::Hold { turn, letter, held } => {
                let Some(right) = self.turns.get(&turn) else {
                    return Outcome::Refused;
                };
                let group = right.group.clone();
                self.held.insert(group.clone(), held);
                self.end(at, turn, false);
                if let Some(letter) = letter {
                    self.remove(at, &group, &[letter]);
                }
                Outcome::Took
            }
            Record::Rest {
                turn,
                until,
                attempts,
                suspects,
            } => self.rest(at, turn, until, &attempts, &suspects),
            Record::End { turn } => {
                if !self.turns.contains_key(&turn) {
                    return Outcome::Refused;
                }
                self.end(at, turn, false);
                Outcome::Took
            }
            Record::Expire { turn, extends } => self.expire(at, turn, extends),
            Record::Release { group } => self.release(at, &group),
            Record::Claim { group, consumer } => {
                let dead = self.held.get(&group).is_some_and(|held| held.dead);
                if !dead || self.redriving.contains_key(&group) || self.is_empty(&group) {
                    return Outcome::Refused;
                }
                self.inner_turn(&group, consumer)
            }
            Record::Redrive { group, consumer } => {
                self.redriving.entry(group.clone()).or_default();
                self.settle(at, &group);
                self.inner_turn(&group, consumer)
            }
            Record::Front { turn, letter } => self.front(at, turn, letter, came),
            Record::Redriven { turn } => {
                let Some(right) = self.turns.get(&turn) else {
                    return Outcome::Refused;
                };
                let group = right.group.clone();
                self.redriving.remove(&group);
                self.held.remove(&group);
                if let Some(group) = self.by_name.get_mut(&group) {
                    group.mark.rest = 0;
                }
                self.end(at, turn, false);
                Outcome::Took
            }
            Record::Look {} => Outcome::Took,
            Record::Seal {} | Record::Part { .. } | Record::Opened { .. } => Outcome::Refused,
        }
    }

    fn with(&mut self, turn: u64, change: impl FnOnce(&mut Right)) -> Outcome {
        match self.turns.get_mut(&turn) {
            Some(right) => {
                change(right);
                Outcome::Took
            }
            None => Outcome::Refused,
        }
    }

    fn store(
        &mut self,
        at: i64,
        due: i64,
        identity: Option<String>,
        window: i64,
        came: Option<Came>,
    ) -> Outcome {
        let Some(came) = came else {
            return Outcome::Refused;
        };
        if let Some(identity) = &identity
            && let Some((id, until)) = self.identities.get(identity)
            && *until > at
        {
            return Outcome::Duplicate(id.clone());
        }
        if self.stored >= self.base.capacity {
            return Outcome::Full;
        }
        if let Some(identity) = identity {
            self.know(identity, came.id.clone(), at.saturating_add(window));
        }
        let entry = self.new_entry(at, due, &came);
        let group = self.by_name.entry(came.group.clone()).or_default();
        group.messages.push_back(entry);
        self.settle(at, &came.group);
        Outcome::Took
    }

    fn new_entry(&mut self, at: i64, due: i64, came: &Came) -> Entry {
        let number = self.base.next_message;
        self.base.next_message += 1;
        self.stored += 1;
        self.bytes += u64::from(came.size);
        Entry {
            number,
            offset: came.offset,
            size: came.size,
            attempts: 0,
            suspect: false,
            due,
            at,
        }
    }

    fn know(&mut self, identity: String, id: String, until: i64) {
        let known = self.identities.insert(identity.clone(), (id, until));
        if let Some((_, before)) = known {
            self.ends.remove(&(before, identity.clone()));
        }
        self.ends.insert((until, identity));
    }

    fn forget_identities(&mut self, at: i64) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            match self.ends.first() {
                Some((until, _)) if *until <= at => {}
                _ => return,
            }
            if let Some((_, identity)) = self.ends.pop_first() {
                self.identities.remove(&identity);
            }
        }
    }

    fn want(&mut self, consumer: u64, outstanding: u64, granted: u64) -> Outcome {
        let seeker = self.seekers.entry(consumer).or_default();
        seeker.signs += 1;
        let since = seeker.granted.saturating_sub(granted);
        let before = std::mem::replace(&mut seeker.outstanding, outstanding.saturating_sub(since));
        match (before, seeker.outstanding) {
            (0, 1..) => self.queue.push_back(consumer),
            (1.., 0) => self.queue.retain(|queued| *queued != consumer),
            _ => {}
        }
        Outcome::Took
    }

    fn gone(&mut self, consumer: u64) -> Outcome {
        self.queue.retain(|queued| *queued != consumer);
        match self.seekers.remove(&consumer) {
            Some(_) => Outcome::Took,
            None => Outcome::Refused,
        }
    }

    /// Removes messages from near the front of a group.
    fn remove(&mut self, at: i64, name: &str, messages: &[u64]) -> Outcome {
        let Some(group) = self.by_name.get_mut(name) else {
            return Outcome::Refused;
        };
        let mut removed = false;
        for number in messages {
            let near = group.messages.iter().take(FARTHEST);
            let Some(index) = near.map(|entry| entry.number).position(|of| of == *number) else {
                continue;
            };
            if let Some(entry) = group.messages.remove(index) {
                self.stored -= 1;
                self.bytes -= u64::from(entry.size);
                self.removed.push(entry.offset);
                removed = true;
            }
        }
        self.settle(at, name);
        if removed {
            Outcome::Took
        } else {
            Outcome::Refused
        }
    }

    fn count(&mut self, turn: u64, attempts: &[(u64, u32)]) -> Outcome {
        let Some(right) = self.turns.get_mut(&turn) else {
            return Outcome::Refused;
        };
        right.begun.clear();
        if let Some(group) = self.by_name.get_mut(&right.group) {
            for (number, attempts) in attempts {
                set_attempts(group, *number, |_| *attempts);
            }
        }
        Outcome::Took
    }

    fn rest(
        &mut self,
        at: i64,
        turn: u64,
        until: i64,
        attempts: &[(u64, u32)],
        suspects: &[u64],
    ) -> Outcome {
        if self.count(turn, attempts) != Outcome::Took {
            return Outcome::Refused;
        }
        let name = self.turns.get(&turn).map(|right| right.group.clone());
        if let Some(group) = name.and_then(|name| self.by_name.get_mut(&name)) {
            group.mark.rest = until;
            for entry in group.messages.iter_mut().take(FARTHEST) {
                entry.suspect = suspects.contains(&entry.number);
            }
        }
        self.end(at, turn, false);
        Outcome::Took
    }

    /// Ends a turn; what was handed out in it comes again at once.
    fn end(&mut self, at: i64, turn: u64, lost: bool) {
        let Some(right) = self.turns.remove(&turn) else {
            return;
        };
        if !right.inner {
            self.out -= 1;
        }
        if let Some(group) = self.by_name.get_mut(&right.group) {
            group.turn = None;
            group.mark.lost = lost;
            if lost {
                for number in &right.begun {
                    set_attempts(group, *number, |attempts| attempts.saturating_add(1));
                }
            }
        }
        self.settle(at, &right.group);
    }

    fn expire(&mut self, at: i64, turn: u64, extends: u64) -> Outcome {
        let consumer = match self.turns.get(&turn) {
            Some(right) if right.extends == extends => right.consumer,
            _ => return Outcome::Refused,
        };
        self.end(at, turn, true);
        // It may be gone; if it is not, it says so.
        self.gone(consumer);
        Outcome::Took
    }

    fn release(&mut self, at: i64, name: &str) -> Outcome {
        if self.is_in_inner_turn(name) {
            return Outcome::Busy;
        }
        let redriving = self.redriving.remove(name).is_some();
        let held = self.held.remove(name);
        if held.is_none() && !redriving {
            return Outcome::Refused;
        }
        if let Some(group) = self.by_name.get_mut(name) {
            group.mark.lost = false;
            group.mark.rest = 0;
            for entry in &mut group.messages {
                entry.attempts = 0;
            }
        }
        self.settle(at, name);
        Outcome::Took
    }

    fn is_in_inner_turn(&self, name: &str) -> bool {
        let turn = self.by_name.get(name).and_then(|group| group.turn);
        turn.and_then(|turn| self.turns.get(&turn))
            .is_some_and(|right| right.inner)
    }

    fn inner_turn(&mut self, name: &str, consumer: u64) -> Outcome {
        let group = self.by_name.entry(name.to_owned()).or_default();
        if group.turn.is_some() {
            return Outcome::Busy;
        }
        let turn = self.base.next_turn;
        self.base.next_turn += 1;
        group.turn = Some(turn);
        let right = Right {
            group: name.to_owned(),
            consumer,
            inner: true,
            ..Right::default()
        };
        self.turns.insert(turn, right);
        Outcome::Turn(turn)
    }

    fn front(&mut self, at: i64, turn: u64, letter: u64, came: Option<Came>) -> Outcome {
        let (Some(right), Some(came)) = (self.turns.get(&turn), came) else {
            return Outcome::Refused;
        };
        let name = right.group.clone();
        let Some(redriving) = self.redriving.get_mut(&name) else {
            return Outcome::Refused;
        };
        if letter <= redriving.letter {
            // It was put back before.
            return Outcome::Took;
        }
        redriving.letter = letter;
        let index = redriving.count;
        redriving.count += 1;
        let entry = self.new_entry(at, 0, &came);
        let group = self.by_name.entry(name).or_default();
        group
            .messages
            .insert(index.min(group.messages.len()), entry);
        Outcome::Took
    }

    fn is_empty(&self, name: &str) -> bool {
        self.by_name
            .get(name)
            .is_none_or(|group| group.messages.is_empty())
    }

    /// Puts a group where it belongs: among those that wait for a turn or for their time, or nowhere.
    fn settle(&mut self, at: i64, name: &str) {
        let Some(group) = self.by_name.get_mut(name) else {
            return;
        };
        let stopped = group.turn.is_some()
            || self.held.contains_key(name)
            || self.redriving.contains_key(name);
        let due = group.due().filter(|_| !stopped);
        let waits = match due {
            Some(due) if due > at => {
                self.dues.insert((due, name.to_owned()));
                false
            }
            due => due.is_some(),
        };
        match (waits, group.mark.place) {
            (true, None) => {
                let place = self.base.next_place;
                self.base.next_place += 1;
                group.mark.place = Some(place);
                self.waiting.insert(place, name.to_owned());
            }
            (false, Some(place)) => {
                self.waiting.remove(&place);
                group.mark.place = None;
            }
            _ => {}
        }
        if group.messages.is_empty() && group.turn.is_none() {
            self.by_name.remove(name);
        }
    }

    /// Lets those wait for a turn whose time has come.
    fn ripen(&mut self, at: i64) {
        while let Some((due, _)) = self.dues.first()
            && *due <= at
            && let Some((_, name)) = self.dues.pop_first()
        {
            self.settle(at, &name);
        }
    }

    /// Gives the turns that can be given.
    fn grant(&mut self) {
        while self.out < self.base.limit
            && !self.waiting.is_empty()
            && let Some(consumer) = self.queue.pop_front()
        {
            let Some(seeker) = self.seekers.get_mut(&consumer) else {
                continue;
            };
            let Some((_, name)) = self.waiting.pop_first() else {
                return;
            };
            seeker.granted += 1;
            seeker.outstanding = seeker.outstanding.saturating_sub(1);
            if seeker.outstanding > 0 {
                self.queue.push_back(consumer);
            }
            let Some(group) = self.by_name.get_mut(&name) else {
                continue;
            };
            let turn = self.base.next_turn;
            self.base.next_turn += 1;
            self.out += 1;
            group.turn = Some(turn);
            group.mark.place = None;
            group.mark.rest = 0;
            let right = Right {
                group: name,
                consumer,
                again: group.mark.lost,
                ..Right::default()
            };
            self.turns.insert(turn, right);
        }
    }
}

fn set_attempts(group: &mut Group, number: u64, to: impl FnOnce(u32) -> u32) {
    let mut near = group.messages.iter_mut().take(FARTHEST);
    if let Some(entry) = near.find(|entry| entry.number == number) {
        entry.attempts = to(entry.attempts);
    }
}

#[cfg(test)]
mod tests;
