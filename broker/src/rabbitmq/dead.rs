//! Dead letters, in a stream of their own, oldest first.
//!
//! A stream is read by position without consuming, and keeps what it has for its time. Nothing can be
//! taken out of it, so a letter is removed by a record that says so; the newest letter of a message
//! stands for the older ones.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use lapin::BasicProperties;
use weir_core::wire;

use super::codec::{REMOVES, Raw, number};
use super::tail::Fold;

/// Which letters there are, by position.
#[derive(Default)]
pub(crate) struct Letters {
    /// Id of the message, and when it died.
    at: BTreeMap<u64, (String, Timestamp)>,
    of: HashMap<String, u64>,
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
    fn take(&mut self, offset: u64, properties: &BasicProperties, body: &[u8]) -> bool {
        if let Some(position) = number(properties, REMOVES) {
            return self.remove(position);
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
        self.insert(offset, letter.message.id, died);
        true
    }
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
        assert_eq!(letters.page(None, ever, 10), [1, 2]);
        assert_eq!(letters.page(Some(1), ever, 10), [2]);
        assert_eq!(letters.page(None, ever, 1), [1]);
        assert_eq!(letters.position("a", ever), Some(2));
        let old = Timestamp::from_second(25).unwrap();
        assert_eq!(letters.page(None, old, 10), [2]);
        assert_eq!(letters.count(old), 1);
        assert_eq!(letters.position("b", old), None);
        let remove = |letters: &mut Letters, position| {
            let record = properties(removing(position)).unwrap();
            letters.take(9, &record, b"")
        };
        assert!(
            !remove(&mut letters, 0),
            "an older letter is not there any more"
        );
        assert!(remove(&mut letters, 2));
        assert!(!remove(&mut letters, 2));
        assert_eq!(letters.page(None, ever, 10), [1]);
    }
}
