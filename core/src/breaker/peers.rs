//! What the other replicas counted lately.
//!
//! A replica tells the others its whole window, not only what is new in it: a [`Delta`] has, for each
//! slot of its own clock, everything it has counted in that slot so far. So merging takes the greater
//! of two counts of one slot: order does not matter, a repeat changes nothing, and a lost delta is
//! made good by the next.
//!
//! Slots are those of the sender's clock, which nobody compares with another clock: a receiver only
//! measures how long ago it first knew of a slot. Skewed clocks do no harm, a delay in the network
//! makes its counts live longer by that delay at most, and a replica that falls silent is forgotten
//! with its window.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;
use super::window::{SLOTS, Tally, Window};

/// Most replicas whose counts are kept; of more, those that were silent longest are forgotten.
pub const MOST_REPLICAS: usize = 1_000;

/// Longest name of a replica, bytes: that of a pod.
pub const LONGEST_NAME: usize = 253;

/// What one replica has counted in its window. Compact: it is sent often.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Delta {
    /// Name of the replica.
    #[serde(rename = "r")]
    pub replica: String,
    /// Which life of that replica: a later one has a greater number.
    #[serde(rename = "e")]
    pub epoch: u64,
    /// The generation of the shared record in which this was counted.
    #[serde(rename = "g")]
    pub generation: u64,
    /// Length of a slot, milliseconds.
    #[serde(rename = "w")]
    pub width: u64,
    /// Number of its newest slot.
    #[serde(rename = "s")]
    pub slot: u64,
    /// For each slot that has counted something: how many slots ago, calls, failures, slow calls.
    #[serde(rename = "t")]
    pub tallies: Vec<(u64, u64, u64, u64)>,
}

impl Delta {
    /// What `window` holds.
    pub(crate) fn of(
        window: &Window,
        (replica, epoch): (&str, u64),
        generation: u64,
        width: Duration,
    ) -> Self {
        let slot = window.newest();
        Self {
            replica: replica.to_owned(),
            epoch,
            generation,
            width: millis(width),
            slot,
            tallies: window
                .slots()
                .map(|(number, tally)| (slot - number, tally.calls, tally.failures, tally.slow))
                .collect(),
        }
    }

    fn slots(&self) -> impl Iterator<Item = (u64, Tally)> {
        self.tallies
            .iter()
            .filter_map(|&(age, calls, failures, slow)| {
                let tally = Tally {
                    calls,
                    failures,
                    slow,
                };
                Some((self.slot.checked_sub(age)?, tally))
            })
    }

    /// True if a replica could have sent this. What could not is not merged.
    fn is_possible(&self) -> bool {
        self.replica.len() <= LONGEST_NAME
            && self.tallies.len() <= SLOTS
            && self.tallies.iter().all(|&(age, ..)| age < SLOTS as u64)
            && self.slots().all(|(_, tally)| tally.is_possible())
    }
}

/// The windows of the other replicas. Merging is commutative, associative and idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    width: u64,
    sources: BTreeMap<String, Source>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    epoch: u64,
    generation: u64,
    window: Window,
    /// The sender's clock minus ours, as far as is known: at least this.
    ahead: i128,
    /// When something new was heard last.
    heard: u64,
}

impl Source {
    fn new(delta: &Delta, ahead: i128, now: u64) -> Self {
        Self {
            epoch: delta.epoch,
            generation: delta.generation,
            window: Window::new(delta.slot),
            ahead,
            heard: now,
        }
    }

    /// The slot in which the sender is now, as far as is known.
    fn slot(&self, now: u64, width: u64) -> u64 {
        let sender = (i128::from(now) + self.ahead) / i128::from(width);
        u64::try_from(sender).unwrap_or_default()
    }
}

impl Peers {
    /// Nobody yet. Only deltas with slots of this `width` are merged; others come from a replica
    /// that has another `windowSeconds`, which will not last.
    pub fn new(width: Duration) -> Self {
        Self {
            width: millis(width).max(1),
            sources: BTreeMap::new(),
        }
    }

    /// Takes over what is new in `delta`, heard at `now`; false if nothing was.
    ///
    /// A later life of a replica replaces an earlier one, a later generation an earlier one: of those
    /// an earlier delta changes nothing, however late it comes.
    pub fn merge(&mut self, delta: &Delta, now: u64) -> bool {
        if delta.width != self.width || !delta.is_possible() {
            return false;
        }
        if !self.sources.contains_key(&delta.replica) {
            self.make_room(now);
        }
        let ahead = i128::from(delta.slot) * i128::from(self.width) - i128::from(now);
        let before = self.sources.get(&delta.replica).cloned();
        let source = self
            .sources
            .entry(delta.replica.clone())
            .or_insert_with(|| Source::new(delta, ahead, now));
        if delta.epoch < source.epoch {
            return false;
        }
        if delta.epoch > source.epoch {
            *source = Source::new(delta, ahead, now);
        }
        source.ahead = source.ahead.max(ahead);
        if delta.generation > source.generation {
            source.generation = delta.generation;
            source.window = Window::new(delta.slot);
        }
        if delta.generation == source.generation {
            source.window.advance(delta.slot);
            for (slot, tally) in delta.slots() {
                source.window.raise(slot, tally);
            }
        }
        if before.as_ref() == Some(source) {
            return false;
        }
        source.heard = source.heard.max(now);
        true
    }

    /// Everything that the others have in their windows in this generation.
    pub fn total(&self, generation: u64, now: u64) -> Tally {
        self.sources
            .values()
            .filter(|source| source.generation == generation)
            .map(|source| source.window.total(source.slot(now, self.width)))
            .fold(Tally::default(), Tally::plus)
    }

    /// Replicas that are remembered.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// True if no replica is remembered.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Forgets replicas from which nothing new came for ten windows and a minute. That is long after
    /// their counts have left every total, so that a delta that was delayed for so long as to be out
    /// of date is still known to be.
    pub fn forget_silent(&mut self, now: u64) {
        let keep = self
            .width
            .saturating_mul(10 * SLOTS as u64)
            .saturating_add(60_000);
        self.sources
            .retain(|_, source| now.saturating_sub(source.heard) <= keep);
    }

    fn make_room(&mut self, now: u64) {
        if self.sources.len() < MOST_REPLICAS {
            return;
        }
        self.forget_silent(now);
        while self.sources.len() >= MOST_REPLICAS {
            let silent = self
                .sources
                .iter()
                .min_by_key(|(_, source)| source.heard)
                .map(|(name, _)| name.clone());
            let Some(name) = silent else { return };
            self.sources.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests;
