//! What was counted lately: a ring of buckets.
//!
//! Time is cut into slots of `windowSeconds / 20`. The window is the current slot and the 19 before
//! it, so a call is forgotten when it is between 19/20 and 20/20 of `windowSeconds` old, all calls of
//! one slot at once. Time is milliseconds since any fixed start and does not run backwards
//! ([`super::machine`] sees to that).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;

/// Slots of a window.
pub const SLOTS: usize = 20;

/// Calls that were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tally {
    /// All of them.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that were slow, whatever their outcome.
    pub slow: u64,
}

impl Tally {
    /// One call.
    pub fn one(failed: bool, slow: bool) -> Self {
        Self {
            calls: 1,
            failures: failed.into(),
            slow: slow.into(),
        }
    }

    /// Both together; too many are the most there are.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            failures: self.failures.saturating_add(other.failures),
            slow: self.slow.saturating_add(other.slow),
        }
    }

    /// The greater of each. Of two counts of the same calls, one taken later, this is the later.
    #[must_use]
    pub(crate) fn or_later(self, other: Self) -> Self {
        Self {
            calls: self.calls.max(other.calls),
            failures: self.failures.max(other.failures),
            slow: self.slow.max(other.slow),
        }
    }

    /// True if nothing was counted.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// True if no part is more than the whole.
    pub(crate) fn is_possible(self) -> bool {
        self.failures <= self.calls && self.slow <= self.calls
    }
}

/// The length of one slot: a twentieth of the window, at least a millisecond.
pub fn slot_width(window: Duration) -> Duration {
    Duration::from_millis((millis(window) / SLOTS as u64).max(1))
}

/// A ring of slots, the newest at any index. Slots are numbered; a number is never used twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    tallies: [Tally; SLOTS],
    /// Number of the newest slot.
    newest: u64,
}

impl Window {
    /// A window that has counted nothing, and whose newest slot is `slot`.
    pub fn new(slot: u64) -> Self {
        Self {
            tallies: [Tally::default(); SLOTS],
            newest: slot,
        }
    }

    /// Number of the newest slot.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Moves on to `slot` and forgets what is too old then. An earlier slot changes nothing.
    pub fn advance(&mut self, slot: u64) {
        let steps = slot.saturating_sub(self.newest);
        for step in 1..=steps.min(SLOTS as u64) {
            self.tallies[index(self.newest.wrapping_add(step))] = Tally::default();
        }
        self.newest = self.newest.max(slot);
    }

    /// Counts into the newest slot.
    pub fn add(&mut self, tally: Tally) {
        let newest = &mut self.tallies[index(self.newest)];
        *newest = newest.plus(tally);
    }

    /// Takes over a count of `slot` as its owner has it, if it is newer than what is known. What is
    /// too old is left out; a slot that is not there yet becomes the newest.
    pub(crate) fn raise(&mut self, slot: u64, tally: Tally) {
        self.advance(slot);
        if self.newest - slot < SLOTS as u64 {
            let known = &mut self.tallies[index(slot)];
            *known = known.or_later(tally);
        }
    }

    /// Everything in the window when `slot` is the current one.
    pub fn total(&self, slot: u64) -> Tally {
        self.slots()
            .filter(|&(number, _)| slot.saturating_sub(number) < SLOTS as u64)
            .fold(Tally::default(), |sum, (_, tally)| sum.plus(tally))
    }

    /// The slots that counted something, newest first.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (u64, Tally)> {
        (0..SLOTS as u64)
            .filter_map(|age| self.newest.checked_sub(age))
            .map(|number| (number, self.tallies[index(number)]))
            .filter(|(_, tally)| !tally.is_empty())
    }
}

fn index(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests;
