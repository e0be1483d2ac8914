//! Bodies of stored messages that are at hand. Pure.
//!
//! Messages are handed out about in the order in which they were stored, so where there is not room for all the
//! oldest are kept. What has no room is read again from the log when its turn comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::codec::Raw;

/// Most bytes that are kept.
const MOST: usize = 32 * 1024 * 1024;
/// What a message takes beside its headers and its body, about.
const BESIDE: usize = 256;

/// Messages by their places in the log.
#[derive(Default)]
pub(crate) struct Bodies {
    known: BTreeMap<u64, Arc<Raw>>,
    bytes: usize,
}

impl Bodies {
    pub(crate) fn get(&self, offset: u64) -> Option<Arc<Raw>> {
        self.known.get(&offset).cloned()
    }

    /// Keeps a message, in the place of younger ones where there is no room.
    pub(crate) fn keep(&mut self, offset: u64, raw: Arc<Raw>) {
        let size = raw.len() + BESIDE;
        self.forget(offset);
        while self.bytes + size > MOST {
            match self.known.last_key_value() {
                Some((youngest, _)) if *youngest > offset => {
                    let youngest = *youngest;
                    self.forget(youngest);
                }
                _ => return,
            }
        }
        self.bytes += size;
        self.known.insert(offset, raw);
    }

    /// Forgets a message that is not stored any more.
    pub(crate) fn forget(&mut self, offset: u64) {
        if let Some(raw) = self.known.remove(&offset) {
            self.bytes -= raw.len() + BESIDE;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lapin::BasicProperties;

    use super::*;

    fn of(size: usize) -> Arc<Raw> {
        let properties = BasicProperties::default();
        Arc::new(Raw::new(&properties, vec![7; size], Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn the_oldest_are_kept() {
        let mut bodies = Bodies::default();
        let third = MOST / 3;
        for offset in [5, 6, 7, 8] {
            bodies.keep(offset, of(third - BESIDE));
        }
        let known = |bodies: &Bodies| bodies.known.keys().copied().collect::<Vec<_>>();
        assert_eq!(known(&bodies), [5, 6, 7]);
        bodies.keep(4, of(third));
        assert_eq!(known(&bodies), [4, 5], "a little more than a third");
        bodies.forget(4);
        bodies.forget(4);
        bodies.keep(9, of(1));
        bodies.keep(9, of(1));
        assert_eq!(known(&bodies), [5, 9]);
        assert_eq!(bodies.bytes, third + BESIDE + 1);
        bodies.keep(1, of(MOST));
        assert!(bodies.get(1).is_none(), "it has no room at all");
    }
}
