//! What can be asked about the groups.

use super::{Entry, FARTHEST, Groups, Right, Seeker};
use crate::rabbitmq::fifo::record::HeldNote;

impl Groups {
    /// The first messages of a group that are due by `now`, at most `most`.
    pub(crate) fn first(&self, name: &str, now: i64, most: usize) -> Vec<Entry> {
        let group = self.by_name.get(name);
        let entries = group.into_iter().flat_map(|group| &group.messages);
        let due = entries.take_while(|entry| entry.due <= now);
        due.take(most).copied().collect()
    }

    /// Messages by their numbers, near the front of a group.
    pub(crate) fn find(&self, name: &str, numbers: &[u64]) -> Vec<Entry> {
        let group = self.by_name.get(name);
        let entries = group.into_iter().flat_map(|group| &group.messages);
        let near = entries.take(FARTHEST);
        near.filter(|entry| numbers.contains(&entry.number))
            .copied()
            .collect()
    }

    /// Places of the messages that the last record removed.
    pub(crate) fn removed(&self) -> &[u64] {
        &self.removed
    }

    /// Whether the message at a place is stored and near the front of its group.
    pub(crate) fn is_near(&self, name: &str, offset: u64) -> bool {
        let group = self.by_name.get(name);
        let entries = group.into_iter().flat_map(|group| &group.messages);
        entries.take(FARTHEST).any(|entry| entry.offset == offset)
    }

    /// The next turn that this consumer was given after `after`.
    pub(crate) fn granted(&self, consumer: u64, after: u64) -> Option<(u64, Right)> {
        let mut turns = self.turns.range(after..);
        turns
            .find(|(_, right)| right.consumer == consumer && !right.inner)
            .map(|(turn, right)| (*turn, right.clone()))
    }

    /// How many turns this consumer was given from `from` on and still has.
    pub(crate) fn pending(&self, consumer: u64, from: u64) -> u64 {
        let turns = self.turns.range(from..);
        turns
            .filter(|(_, right)| right.consumer == consumer && !right.inner)
            .count() as u64
    }

    pub(crate) fn seeker(&self, consumer: u64) -> Seeker {
        self.seekers.get(&consumer).copied().unwrap_or_default()
    }

    pub(crate) fn seekers(&self) -> impl Iterator<Item = (u64, u64)> {
        self.seekers
            .iter()
            .map(|(consumer, seeker)| (*consumer, seeker.signs))
    }

    /// Turns of a consumer of which nothing was heard yet.
    pub(crate) fn not_begun(&self, consumer: u64) -> Vec<u64> {
        let turns = self.turns.iter();
        turns
            .filter(|(_, right)| right.consumer == consumer && right.extends == 0 && !right.inner)
            .map(|(turn, _)| *turn)
            .collect()
    }

    pub(crate) fn turns(&self) -> impl Iterator<Item = (u64, u64)> {
        self.turns
            .iter()
            .map(|(turn, right)| (*turn, right.extends))
    }

    /// Whether a turn of this group should give way.
    pub(crate) fn others_wait(&self, name: &str) -> bool {
        !self.waiting.is_empty() || self.redriving.contains_key(name)
    }

    /// When the first message that is not due becomes due.
    pub(crate) fn next_due(&self) -> Option<i64> {
        self.dues.first().map(|(due, _)| *due)
    }

    /// Dead-lettered groups with messages that nobody moves.
    pub(crate) fn to_move(&self) -> Vec<String> {
        let dead = self.held.iter().filter(|(_, held)| held.dead);
        dead.map(|(name, _)| name)
            .filter(|name| !self.redriving.contains_key(*name))
            .filter(|name| {
                self.by_name
                    .get(*name)
                    .is_some_and(|group| group.turn.is_none() && !group.messages.is_empty())
            })
            .cloned()
            .collect()
    }

    /// Until when a group rests; 0 where it does not.
    pub(crate) fn rests(&self, name: &str) -> i64 {
        let group = self.by_name.get(name);
        group.map_or(0, |group| group.mark.rest)
    }

    pub(crate) fn held(&self, name: &str) -> Option<&HeldNote> {
        self.held.get(name)
    }

    pub(crate) fn is_redriving(&self, name: &str) -> bool {
        self.redriving.contains_key(name)
    }

    /// Held groups after a name.
    pub(crate) fn held_after(&self, after: Option<&str>, most: usize) -> Vec<(String, HeldNote)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.held
            .range::<str, _>((from, Unbounded))
            .take(most)
            .map(|(name, held)| (name.clone(), held.clone()))
            .collect()
    }

    /// Groups that wait for a turn, turns that are out, groups that are held.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (self.waiting.len() as u64, self.out, self.held.len() as u64)
    }

    /// Stored messages, and their bytes.
    pub(crate) fn stored(&self) -> (u64, u64) {
        (self.stored, self.bytes)
    }

    /// Messages that are not due, and when the oldest was stored.
    pub(crate) fn delayed_and_oldest(&self, now: i64) -> (u64, Option<i64>) {
        let all = self.by_name.values().flat_map(|group| &group.messages);
        let delayed = all.clone().filter(|entry| entry.due > now).count() as u64;
        let resting = self.by_name.values().filter(|group| {
            let first = group.messages.front();
            group.mark.rest > now && first.is_some_and(|first| first.due <= now)
        });
        let delayed = delayed + resting.count() as u64;
        (delayed, all.map(|entry| entry.at).min())
    }

    /// Messages of all groups after a number, in the order of their numbers.
    pub(crate) fn page(&self, after: Option<u64>, most: usize) -> Vec<Entry> {
        let from = after.map_or(0, |number| number + 1);
        let all = self.by_name.values().flat_map(|group| &group.messages);
        let mut page: Vec<Entry> = all.filter(|entry| entry.number >= from).copied().collect();
        page.sort_unstable_by_key(|entry| entry.number);
        page.truncate(most);
        page
    }
}
