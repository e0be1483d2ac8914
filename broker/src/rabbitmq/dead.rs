//! Dead letters, in a stream of their own, oldest first.
//!
//! A stream is read by position without consuming, and keeps what it has for its time. Nothing can be
//! taken out of it, so a letter is removed by a record that says so; the newest letter of a message
//! stands for the older ones.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use lapin::BasicProperties;
use weir_core::wire;

use super::codec::{REMOVES, REMOVES_THROUGH, RESTORED, Raw, number};
use super::tail::Fold;

/// Which letters there are, by position: one more than the offset in the stream, so that 0 is before all.
#[derive(Default)]
pub(crate) struct Letters {
    /// Id of the message, and when it died.
    at: BTreeMap<u64, (String, Timestamp)>,
    of: HashMap<String, u64>,
    last: Option<u64>,
}

impl Letters {
    /// Positions after `after` of letters that died after `oldest`, at most `limit`.
    pub(crate) fn page(&self, after: Option<u64>, oldest: Timestamp, limit: usize) -> Vec<u64> {
        let from = after.map_or(0, |position| position + 1);
        self.at
            .range(from..)
            .filter(|(_, (_, died))| *died > oldest)
            .map(|(position, _)| *position)
            .take(limit)
            .collect()
    }

    /// Where the letter of a message is.
    pub(crate) fn position(&self, id: &str, oldest: Timestamp) -> Option<u64> {
        let position = *self.of.get(id)?;
        let (_, died) = self.at.get(&position)?;
        (*died > oldest).then_some(position)
    }

    pub(crate) fn holds(&self, position: u64, oldest: Timestamp) -> bool {
        self.at
            .get(&position)
            .is_some_and(|(_, died)| *died > oldest)
    }

    pub(crate) fn count(&self, oldest: Timestamp) -> u64 {
        self.at.values().filter(|(_, died)| *died > oldest).count() as u64
    }

    pub(crate) fn count_through(&self, position: u64, oldest: Timestamp) -> u64 {
        let letters = self.at.range(..=position);
        letters.filter(|(_, (_, died))| *died > oldest).count() as u64
    }

    /// The last position, also of one that is gone.
    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }

    fn remove_through(&mut self, position: u64) -> bool {
        let places: Vec<u64> = self
            .at
            .range(..=position)
            .map(|(place, _)| *place)
            .collect();
        for place in &places {
            self.remove(*place);
        }
        !places.is_empty()
    }

    fn remove(&mut self, position: u64) -> bool {
        let Some((id, _)) = self.at.remove(&position) else {
            return false;
        };
        if self.of.get(&id) == Some(&position) {
            self.of.remove(&id);
        }
        true
    }

    fn insert(&mut self, position: u64, id: String, died: Timestamp) {
        if let Some(older) = self.of.insert(id.clone(), position) {
            self.at.remove(&older);
        }
        self.at.insert(position, (id, died));
    }
}

impl Fold for Letters {
    type Outcome = bool;

    fn take(&mut self, offset: u64, properties: &BasicProperties, body: &[u8]) -> bool {
        if let Some(position) = number(properties, REMOVES) {
            return self.remove(position);
        }
        if let Some(position) = number(properties, REMOVES_THROUGH) {
            return self.remove_through(position);
        }
        // What the broker itself put here has no time of death that can be read: it is kept as long as
        // the stream keeps it.
        let mut raw = Raw::new(properties, Vec::new(), Timestamp::MAX);
        let ours = raw.value(wire::ID).is_some();
        if !ours {
            raw = Raw::new(properties, body.to_vec(), Timestamp::MAX);
        }
        let letter = raw.dead_letter();
        let died = if ours {
            letter.failure.failed_at
        } else {
            Timestamp::MAX
        };
        let id = letter.message.id;
        if raw.value(RESTORED).is_some()
            && let Some(newest) = self.of.get(&id).and_then(|place| self.at.get(place))
            && newest.1 >= died
        {
            return false;
        }
        let position = offset + 1;
        self.last = Some(position);
        self.insert(position, id, died);
        true
    }
}

/// The record that removes every letter up to `position`.
pub(crate) fn removing_through(position: u64) -> Vec<(String, String)> {
    vec![(REMOVES_THROUGH.to_owned(), position.to_string())]
}

/// The record that removes the letter at `position`.
pub(crate) fn removing(position: u64) -> Vec<(String, String)> {
    vec![(REMOVES.to_owned(), position.to_string())]
}

#[cfg(test)]
mod tests {
    use super::super::codec::{encode_dead, properties};
    use super::*;
    use bytes::Bytes;
    use weir_core::dead_letter::{Failure, Reason};
    use weir_core::message::{Headers, Message};

    fn letter(id: &str, died: i64) -> BasicProperties {
        let message = Message {
            id: id.to_owned(),
            accepted_at: Timestamp::UNIX_EPOCH,
            group: None,
            headers: Headers::new(),
            body: Bytes::new(),
        };
        let failure = Failure {
            reason: Reason::MaxAttempts,
            attempts: 1,
            failed_at: Timestamp::from_second(died).unwrap(),
            last_status: None,
            message: String::new(),
            answer: String::new(),
        };
        encode_dead(&message, &failure, "c").unwrap()
    }

    #[test]
    fn the_newest_letter_of_a_message_stands_until_it_is_removed() {
        let mut letters = Letters::default();
        let ever = Timestamp::MIN;
        for (offset, (id, died)) in [("a", 10), ("b", 20), ("a", 30)].into_iter().enumerate() {
            assert!(letters.take(offset as u64, &letter(id, died), b""));
        }
        assert_eq!(letters.page(None, ever, 10), [2, 3]);
        assert_eq!(letters.page(Some(2), ever, 10), [3]);
        assert_eq!(letters.page(None, ever, 1), [2]);
        assert_eq!(letters.position("a", ever), Some(3));
        let old = Timestamp::from_second(25).unwrap();
        assert_eq!(letters.page(None, old, 10), [3]);
        assert_eq!(letters.count(old), 1);
        assert_eq!(letters.position("b", old), None);
        let remove = |letters: &mut Letters, position| {
            let record = properties(removing(position)).unwrap();
            letters.take(9, &record, b"")
        };
        assert!(
            !remove(&mut letters, 1),
            "an older letter is not there any more"
        );
        assert!(remove(&mut letters, 3));
        assert!(!remove(&mut letters, 3));
        assert_eq!(letters.page(None, ever, 10), [2]);

        let restore = |letters: &mut Letters, id: &str, died| {
            let mut headers = letter(id, died).headers().clone().unwrap();
            let mark = lapin::types::AMQPValue::LongString("1".into());
            headers.insert(RESTORED.into(), mark);
            let record = BasicProperties::default().with_headers(headers);
            letters.take(9, &record, b"")
        };
        assert!(
            !restore(&mut letters, "b", 20),
            "it has a letter of that time"
        );
        assert!(restore(&mut letters, "a", 5));
        assert_eq!(letters.page(None, ever, 10), [2, 10]);
        assert_eq!(letters.last(), Some(10));
        let all = properties(removing_through(8)).unwrap();
        assert!(letters.take(10, &all, b"") && !letters.take(11, &all, b""));
        assert_eq!(letters.page(None, ever, 10), [10]);
    }
}
