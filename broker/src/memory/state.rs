//! One queue as a value: every rule of the memory transport, without waiting or locking.
//!
//! Spans of time are measured with the `now` that is passed in, times of day with `wall`.

mod fifo;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use weir_core::config::QueueConfig;
use weir_core::dead_letter::{DeadLetter, Failure};
use weir_core::message::Message;

use super::lanes::Lanes;
use crate::error::BrokerError;
use crate::queue::{
    Depth, Page, Publication, Published, Record, RecordName, StoredDeadLetter, StoredMessage,
};

/// Where a stored message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready,
    /// Held by the delivery of this number.
    InFlight {
        until: Instant,
        delivery: u64,
    },
    Delayed {
        due: Instant,
        due_at: Timestamp,
    },
}

#[derive(Debug)]
struct Entry {
    message: Message,
    /// Failed outcomes.
    attempts: u32,
    /// Calls of this copy that began and did not end.
    unfinished: u32,
    delivered: u32,
    stored_at: Timestamp,
    place: Place,
}

/// What a lease needs to find its message again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    position: u64,
    delivery: u64,
}

/// A delivery before it got its lease.
pub(super) struct Handed {
    pub(super) message: Message,
    pub(super) attempts: u32,
    pub(super) redelivered: bool,
    pub(super) held: Held,
}

/// One queue.
pub(super) struct State {
    pub(super) owner: String,
    pub(super) orphaned: bool,
    pub(super) config: QueueConfig,
    last: u64,
    entries: BTreeMap<u64, Entry>,
    ready: BTreeSet<u64>,
    leases: BTreeSet<(Instant, u64)>,
    delayed: BTreeSet<(Instant, u64)>,
    keys: HashMap<String, String>,
    key_ends: BTreeSet<(Instant, String)>,
    dead: BTreeMap<u64, (DeadLetter, Instant)>,
    permits: HashMap<u64, Instant>,
    records: HashMap<RecordName, Record>,
    /// The groups, where order is kept.
    pub(super) lanes: Lanes,
}

impl State {
    pub(super) fn new(owner: String, config: QueueConfig) -> Self {
        Self {
            owner,
            orphaned: false,
            config,
            last: 0,
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            leases: BTreeSet::new(),
            delayed: BTreeSet::new(),
            keys: HashMap::new(),
            key_ends: BTreeSet::new(),
            dead: BTreeMap::new(),
            permits: HashMap::new(),
            records: HashMap::new(),
            lanes: Lanes::default(),
        }
    }

    /// Messages that a removal would lose: waiting and in flight, then dead letters.
    pub(super) fn counts(&self) -> (u64, u64) {
        let stored = self.entries.len() as u64 + self.lanes.stored();
        (stored, self.dead.len() as u64)
    }

    /// Lets time pass: leases and permits end, delays are over, keys and dead letters are forgotten.
    pub(super) fn tick(&mut self, now: Instant, wall: Timestamp) {
        self.lanes.tick(now);
        while let Some(&(until, position)) = self.leases.first()
            && until <= now
        {
            self.leases.pop_first();
            self.make_ready(position);
        }
        while let Some(&(due, position)) = self.delayed.first()
            && due <= now
        {
            self.delayed.pop_first();
            // As on a broker, a message that comes back goes to the end.
            if let Some(mut entry) = self.entries.remove(&position) {
                let position = self.next();
                entry.place = Place::Ready;
                entry.stored_at = wall;
                self.entries.insert(position, entry);
                self.ready.insert(position);
            }
        }
        while let Some((end, _)) = self.key_ends.first()
            && *end <= now
        {
            if let Some((_, key)) = self.key_ends.pop_first() {
                self.keys.remove(&key);
            }
        }
        self.permits.retain(|_, until| *until > now);
        let kept = Duration::from_secs(self.config.dead_letter_retention_seconds);
        while let Some(oldest) = self.dead.first_entry()
            && oldest.get().1 + kept <= now
        {
            oldest.remove();
        }
    }

    /// When [`State::tick`] has something to do that could start a delivery or free a permit.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let leases = self.leases.first().map(|(at, _)| *at);
        let delayed = self.delayed.first().map(|(at, _)| *at);
        let permits = self.permits.values().min().copied();
        [leases, delayed, permits, self.lanes.next_wake()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn publish(
        &mut self,
        publication: Publication,
        now: Instant,
        wall: Timestamp,
    ) -> Option<Published> {
        if let Some((identity, _)) = &publication.dedup
            && let Some(first) = self.keys.get(identity)
        {
            return Some(Published {
                id: first.clone(),
                duplicate: true,
            });
        }
        if self.entries.len() as u64 + self.lanes.stored() >= self.config.capacity {
            return None;
        }
        let id = publication.message.id.clone();
        if let Some((identity, window)) = publication.dedup {
            self.key_ends.insert((now + window, identity.clone()));
            self.keys.insert(identity, id.clone());
        }
        if self.config.fifo.is_some() {
            self.line_up(publication.message, publication.delay, now, wall);
        } else {
            self.store(publication.message, 0, publication.delay, now, wall);
        }
        Some(Published {
            id,
            duplicate: false,
        })
    }

    /// The next message, where one is ready and the limit leaves room.
    pub(super) fn deliver(&mut self, now: Instant) -> Option<Handed> {
        let per_call = u64::from(self.config.batch_max.max(1));
        if self.leases.len() as u64 >= u64::from(self.config.limit) * per_call {
            return None;
        }
        let position = self.ready.pop_first()?;
        let delivery = self.next();
        let until = now + self.lease();
        let entry = self.entries.get_mut(&position)?;
        entry.place = Place::InFlight { until, delivery };
        entry.delivered += 1;
        self.leases.insert((until, position));
        Some(Handed {
            message: entry.message.clone(),
            attempts: entry.attempts + entry.unfinished,
            redelivered: entry.delivered > 1,
            held: Held { position, delivery },
        })
    }

    pub(super) fn begin(&mut self, held: Held) -> bool {
        let Some(entry) = self.held(held) else {
            return false;
        };
        entry.unfinished += 1;
        true
    }

    pub(super) fn extend(&mut self, held: Held, now: Instant) -> bool {
        let until = now + self.lease();
        let Some(entry) = self.held(held) else {
            return false;
        };
        let Place::InFlight {
            until: old,
            delivery,
        } = entry.place
        else {
            return false;
        };
        entry.place = Place::InFlight { until, delivery };
        self.leases.remove(&(old, held.position));
        self.leases.insert((until, held.position));
        true
    }

    /// Removes the message, whoever holds it by now: it was handled.
    pub(super) fn ack(&mut self, held: Held) {
        self.take(held.position);
    }

    pub(super) fn retry(
        &mut self,
        held: Held,
        delay: Duration,
        attempts: u32,
        now: Instant,
        wall: Timestamp,
    ) -> bool {
        if self.held(held).is_none() {
            return false;
        }
        if let Some(entry) = self.take(held.position) {
            self.store(entry.message, attempts, delay, now, wall);
        }
        true
    }

    pub(super) fn dead_letter(&mut self, held: Held, failure: &Failure, now: Instant) -> bool {
        if self.held(held).is_none() {
            return false;
        }
        if let Some(entry) = self.take(held.position) {
            self.bury(entry.message, failure.clone(), now);
        }
        true
    }

    /// Stores a dead letter. That of the latest death replaces an earlier one of the same message.
    pub(super) fn bury(&mut self, message: Message, failure: Failure, now: Instant) {
        self.dead
            .retain(|_, (known, _)| known.message.id != message.id);
        let position = self.next();
        self.dead
            .insert(position, (DeadLetter { message, failure }, now));
    }

    pub(super) fn give_back(&mut self, held: Held, begun: bool) -> bool {
        let Some(entry) = self.held(held) else {
            return false;
        };
        if begun {
            entry.unfinished = entry.unfinished.saturating_sub(1);
        }
        if let Place::InFlight { until, .. } = entry.place {
            self.leases.remove(&(until, held.position));
        }
        self.make_ready(held.position);
        true
    }

    /// A permit, where fewer than `limit` are out.
    pub(super) fn permit(&mut self, now: Instant) -> Option<u64> {
        if self.permits.len() as u64 >= u64::from(self.config.limit) {
            return None;
        }
        let permit = self.next();
        self.permits.insert(permit, now + self.lease());
        Some(permit)
    }

    pub(super) fn extend_permit(&mut self, permit: u64, now: Instant) -> bool {
        let until = now + self.lease();
        self.permits
            .get_mut(&permit)
            .map(|held| *held = until)
            .is_some()
    }

    pub(super) fn release_permit(&mut self, permit: u64) {
        self.permits.remove(&permit);
    }

    pub(super) fn depth(&self) -> Depth {
        Depth {
            ready: self.ready.len() as u64
                + self.lanes.stored().saturating_sub(self.lanes.in_turn()),
            in_flight: self.leases.len() as u64 + self.lanes.in_turn().min(self.lanes.stored()),
            delayed: self.delayed.len() as u64 + self.lanes.delayed(),
            dead: self.dead.len() as u64,
            oldest: self
                .entries
                .values()
                .filter(|entry| !matches!(entry.place, Place::Delayed { .. }))
                .map(|entry| entry.stored_at)
                .chain(self.lanes.entries().map(|entry| entry.stored_at))
                .min(),
        }
    }

    pub(super) fn peek(&self, after: Option<u64>, limit: usize) -> Page<StoredMessage> {
        if self.config.fifo.is_some() {
            let mut entries: Vec<_> = self
                .lanes
                .entries()
                .filter(|entry| entry.position >= beyond(after))
                .collect();
            entries.sort_unstable_by_key(|entry| entry.position);
            let seen = entries.into_iter().map(|entry| StoredMessage {
                message: entry.message.clone(),
                attempts: entry.attempts,
                due: entry.waits().map(|(_, at)| at),
                position: entry.position,
            });
            return page(seen, limit, |item| item.position);
        }
        let entries = self
            .entries
            .range(beyond(after)..)
            .map(|(position, entry)| StoredMessage {
                message: entry.message.clone(),
                attempts: entry.attempts + entry.unfinished,
                due: match entry.place {
                    Place::Delayed { due_at, .. } => Some(due_at),
                    Place::Ready | Place::InFlight { .. } => None,
                },
                position: *position,
            });
        page(entries, limit, |item| item.position)
    }

    pub(super) fn dead_letters(&self, after: Option<u64>, limit: usize) -> Page<StoredDeadLetter> {
        let letters = self
            .dead
            .range(beyond(after)..)
            .map(|(position, (letter, _))| StoredDeadLetter {
                letter: letter.clone(),
                position: *position,
            });
        page(letters, limit, |item| item.position)
    }

    pub(super) fn dead_letter_of(&self, id: &str) -> Option<StoredDeadLetter> {
        self.dead
            .iter()
            .find(|(_, (letter, _))| letter.message.id == id)
            .map(|(position, (letter, _))| StoredDeadLetter {
                letter: letter.clone(),
                position: *position,
            })
    }

    pub(super) fn remove_dead_letter(&mut self, position: u64) -> bool {
        self.dead.remove(&position).is_some()
    }

    pub(super) fn last_dead_letter(&self) -> Option<u64> {
        self.dead.keys().next_back().copied()
    }

    pub(super) fn store_dead_letter(&mut self, letter: &DeadLetter, now: Instant) -> bool {
        let id = &letter.message.id;
        let known = self
            .dead
            .values()
            .find(|(known, _)| known.message.id == *id);
        if known.is_some_and(|(known, _)| known.failure.failed_at >= letter.failure.failed_at) {
            return false;
        }
        self.dead.retain(|_, (known, _)| known.message.id != *id);
        let position = self.next();
        self.dead.insert(position, (letter.clone(), now));
        true
    }

    pub(super) fn purge_dead_letters(&mut self, through: u64) -> u64 {
        let before = self.dead.len();
        self.dead.retain(|position, _| *position > through);
        (before - self.dead.len()) as u64
    }

    pub(super) fn record(&self, name: RecordName) -> Option<Record> {
        self.records.get(&name).cloned()
    }

    pub(super) fn put_record(
        &mut self,
        name: RecordName,
        expected: u64,
        body: Bytes,
    ) -> Option<u64> {
        let version = self.records.get(&name).map_or(0, |record| record.version);
        if version != expected {
            return None;
        }
        let version = self.next();
        self.records.insert(name, Record { body, version });
        Some(version)
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_secs(u64::from(self.config.lease_seconds))
    }

    /// The entry, if this delivery still holds it.
    fn held(&mut self, held: Held) -> Option<&mut Entry> {
        self.entries.get_mut(&held.position).filter(|entry| {
            matches!(entry.place, Place::InFlight { delivery, .. } if delivery == held.delivery)
        })
    }

    fn make_ready(&mut self, position: u64) {
        if let Some(entry) = self.entries.get_mut(&position) {
            entry.place = Place::Ready;
            self.ready.insert(position);
        }
    }

    fn take(&mut self, position: u64) -> Option<Entry> {
        let entry = self.entries.remove(&position)?;
        match entry.place {
            Place::Ready => self.ready.remove(&position),
            Place::InFlight { until, .. } => self.leases.remove(&(until, position)),
            Place::Delayed { due, .. } => self.delayed.remove(&(due, position)),
        };
        Some(entry)
    }

    fn store(
        &mut self,
        message: Message,
        attempts: u32,
        delay: Duration,
        now: Instant,
        wall: Timestamp,
    ) {
        let position = self.next();
        let place = if delay.is_zero() {
            self.ready.insert(position);
            Place::Ready
        } else {
            let due = now + delay;
            self.delayed.insert((due, position));
            let due_at = due_at(wall, delay);
            Place::Delayed { due, due_at }
        };
        let entry = Entry {
            message,
            attempts,
            unfinished: 0,
            delivered: 0,
            stored_at: wall,
            place,
        };
        self.entries.insert(position, entry);
    }
}

/// How a lease that is over is answered.
pub(super) fn over(id: &str) -> BrokerError {
    BrokerError::LeaseOver { id: id.to_owned() }
}

fn due_at(wall: Timestamp, delay: Duration) -> Timestamp {
    let span = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    wall.checked_add(span).unwrap_or(Timestamp::MAX)
}

fn beyond(after: Option<u64>) -> u64 {
    after.map_or(0, |position| position + 1)
}

fn page<T>(items: impl Iterator<Item = T>, limit: usize, position: impl Fn(&T) -> u64) -> Page<T> {
    let mut items: Vec<T> = items.take(limit.saturating_add(1)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more {
        items.last().map(position)
    } else {
        None
    };
    Page { items, next }
}
