//! What was decided about a queue: who owns it, how many tokens there are, which delay queues exist.
//!
//! The records of the stream `state`, folded in their order, which is the same for everybody. Who
//! changes owner or limit holds the lock (see `apply`); a token is retired by whoever has it idle, and
//! the order of the records decides whether it is.
//!
//! # Tokens
//! A token is a message with a serial number that was never used before. It counts from the moment
//! that its minting is recorded as complete. A limit that is raised mints what is missing; one that is
//! lowered retires tokens as they become idle, so that deliveries never exceed the limit in force when
//! they began, and no token is ever doubled or lost: a process that dies between two steps leaves
//! tokens that nobody counts, which are thrown away by whoever finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use lapin::BasicProperties;
use serde::{Deserialize, Serialize};

use super::tail::Fold;

/// The two kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Which {
    /// For deliveries.
    Slots,
    /// For batched calls.
    Permits,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "record")]
pub(crate) enum Record {
    /// From here on it belongs to this object.
    Owned { uid: String, object: String },
    /// Its object was deleted and left it to the next one of the same name.
    Orphaned { at: String },
    /// So many calls at once, each with up to `worth` messages. Permits exist only where `worth` is
    /// above 1.
    Limit { slots: u64, worth: u64 },
    /// These tokens are about to be published. They count for nothing until the next record.
    Minting { which: Which, from: u64, to: u64 },
    /// They were, all of them.
    Minted { which: Which, from: u64, to: u64 },
    /// Its holder wants to throw this one away, because there are too many.
    Retiring { which: Which, serial: u64 },
    /// The queue of these tokens was not there any more, and they with it.
    Lost { which: Which },
    /// A delay queue is about to be made.
    Delay { bucket: u64 },
    /// The document of this name becomes `body`, if its version is `expected`.
    Document {
        name: String,
        expected: u64,
        body: String,
    },
    /// The log of a FIFO queue that is in use from here on.
    Log { number: u64 },
    /// Nothing: who reads it back has read everything before it.
    Look {},
}

/// The tokens of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Those that count.
    alive: BTreeSet<u64>,
    /// Those of an unfinished minting.
    minting: Range<u64>,
    /// The first serial number that was never used.
    next: u64,
}

/// What to do with a token that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts.
    Good,
    /// Whether it counts will be recorded.
    Wait,
    /// It never will.
    Worthless,
}

impl Tokens {
    pub(crate) fn count(&self) -> u64 {
        self.alive.len() as u64
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn judge(&self, serial: u64) -> Verdict {
        if self.alive.contains(&serial) {
            Verdict::Good
        } else if self.minting.contains(&serial) || serial >= self.next {
            Verdict::Wait
        } else {
            Verdict::Worthless
        }
    }
}

/// Everything that was decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    /// UID and object of the owner.
    pub(crate) owner: Option<(String, String)>,
    pub(crate) orphaned: bool,
    /// Calls at once.
    pub(crate) limit: u64,
    /// Messages per call.
    pub(crate) worth: u64,
    slots: Tokens,
    permits: Tokens,
    /// Delay queues that may exist, by their longest delay.
    pub(crate) delays: BTreeSet<u64>,
    /// The log of a FIFO queue that is in use.
    pub(crate) log: Option<u64>,
    /// Documents by name: version, and content in base64.
    pub(crate) documents: BTreeMap<String, (u64, String)>,
}

impl Control {
    pub(crate) fn tokens(&self, which: Which) -> &Tokens {
        match which {
            Which::Slots => &self.slots,
            Which::Permits => &self.permits,
        }
    }

    fn tokens_mut(&mut self, which: Which) -> &mut Tokens {
        match which {
            Which::Slots => &mut self.slots,
            Which::Permits => &mut self.permits,
        }
    }

    /// How many tokens of a kind there shall be.
    pub(crate) fn wanted(&self, which: Which) -> u64 {
        match which {
            Which::Slots => self.limit,
            Which::Permits if self.worth > 1 => self.limit,
            Which::Permits => 0,
        }
    }

    /// Tokens that are too many.
    pub(crate) fn surplus(&self, which: Which) -> u64 {
        self.tokens(which)
            .count()
            .saturating_sub(self.wanted(which))
    }

    /// Takes in one record. True when it took effect.
    pub(crate) fn record(&mut self, record: Record) -> bool {
        match record {
            Record::Owned { uid, object } => {
                self.owner = Some((uid, object));
                self.orphaned = false;
                true
            }
            Record::Orphaned { .. } => !std::mem::replace(&mut self.orphaned, true),
            Record::Limit { slots, worth } => {
                (self.limit, self.worth) = (slots, worth);
                true
            }
            Record::Minting { which, from, to } => {
                let tokens = self.tokens_mut(which);
                // The end of a minting that another process began is not waited for.
                if from < tokens.next || to < from {
                    return false;
                }
                tokens.minting = from..to;
                tokens.next = to;
                true
            }
            Record::Minted { which, from, to } => {
                let tokens = self.tokens_mut(which);
                if tokens.minting != (from..to) {
                    return false;
                }
                tokens.alive.extend(from..to);
                tokens.minting = 0..0;
                true
            }
            Record::Retiring { which, serial } => {
                self.surplus(which) > 0 && self.tokens_mut(which).alive.remove(&serial)
            }
            Record::Lost { which } => {
                let tokens = self.tokens_mut(which);
                tokens.alive.clear();
                tokens.minting = 0..0;
                true
            }
            Record::Delay { bucket } => self.delays.insert(bucket),
            Record::Log { number } => {
                let later = self.log.is_none_or(|log| log < number);
                if later {
                    self.log = Some(number);
                }
                later
            }
            Record::Document { .. } | Record::Look {} => true,
        }
    }
}

impl Fold for Control {
    type Outcome = bool;

    fn take(&mut self, offset: u64, _: &BasicProperties, body: &[u8]) -> bool {
        // A record of a newer release that this one does not know changes nothing here.
        let Ok(record) = serde_json::from_slice(body) else {
            return false;
        };
        let Record::Document {
            name,
            expected,
            body,
        } = record
        else {
            return self.record(record);
        };
        let known = self.documents.get(&name).map_or(0, |(version, _)| *version);
        if known != expected {
            return false;
        }
        self.documents.insert(name, (offset + 1, body));
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOTS: Which = Which::Slots;

    fn minted(control: &mut Control, count: u64) {
        let from = control.tokens(SLOTS).next();
        let (which, to) = (SLOTS, from + count);
        assert!(control.record(Record::Minting { which, from, to }));
        assert!(control.record(Record::Minted { which, from, to }));
    }

    #[test]
    fn tokens_count_when_their_minting_is_complete() {
        let mut control = Control::default();
        control.record(Record::Limit { slots: 2, worth: 1 });
        let (which, from, to) = (SLOTS, 0, 2);
        control.record(Record::Minting { which, from, to });
        assert_eq!(control.tokens(SLOTS).judge(1), Verdict::Wait);
        // Its process died; another one mints again.
        minted(&mut control, 2);
        assert!(!control.record(Record::Minted { which, from, to }));
        assert_eq!(control.tokens(SLOTS).judge(1), Verdict::Worthless);
        assert_eq!(control.tokens(SLOTS).judge(2), Verdict::Good);
        assert_eq!(control.tokens(SLOTS).judge(4), Verdict::Wait);
        assert_eq!(control.tokens(SLOTS).count(), 2);
    }

    #[test]
    fn no_more_are_retired_than_are_too_many() {
        let mut control = Control::default();
        control.record(Record::Limit { slots: 4, worth: 1 });
        minted(&mut control, 4);
        let retiring = |serial| Record::Retiring {
            which: SLOTS,
            serial,
        };
        assert!(!control.record(retiring(0)), "none is too many");
        control.record(Record::Limit { slots: 3, worth: 1 });
        assert!(control.record(retiring(3)));
        assert!(!control.record(retiring(2)));
        assert!(!control.record(retiring(3)));
        assert_eq!(control.tokens(SLOTS).count(), 3);
    }

    #[test]
    fn unknown_records_change_nothing() {
        let mut control = Control::default();
        let properties = BasicProperties::default();
        assert!(!control.take(0, &properties, b"{\"record\":\"later\",\"x\":1}"));
        assert!(!control.take(1, &properties, b"\xff"));
        assert_eq!(control, Control::default());
    }

    #[test]
    fn of_two_writers_of_a_document_the_first_wins() {
        let mut control = Control::default();
        let properties = BasicProperties::default();
        let mut write = |offset: u64, expected: u64, body: &str| {
            let record = Record::Document {
                name: "n".to_owned(),
                expected,
                body: body.to_owned(),
            };
            control.take(offset, &properties, &serde_json::to_vec(&record).unwrap())
        };
        assert!(write(3, 0, "a"));
        assert!(!write(4, 0, "b"));
        assert!(write(5, 4, "c"));
        assert!(!write(6, 4, "d"));
        assert_eq!(control.documents["n"], (6, "c".to_owned()));
    }

    proptest! {
        /// Whatever the order of the records: what counts was minted once and never more than were
        /// wanted when they were minted, and after enough retirements exactly what is wanted is left.
        #[test]
        fn tokens_are_neither_lost_nor_doubled(
            steps in prop::collection::vec((0u64..6, 0u64..40, any::<bool>()), 1..60),
        ) {
            let mut control = Control::default();
            let mut most = 0;
            for (limit, serial, crash) in steps {
                control.record(Record::Limit { slots: limit, worth: 1 });
                most = most.max(limit);
                let tokens = control.tokens(SLOTS);
                let (from, missing) = (tokens.next(), limit.saturating_sub(tokens.count()));
                if missing > 0 {
                    let (which, to) = (SLOTS, from + missing);
                    control.record(Record::Minting { which, from, to });
                    if !crash {
                        control.record(Record::Minted { which, from, to });
                    }
                }
                control.record(Record::Retiring { which: SLOTS, serial });
                prop_assert!(control.tokens(SLOTS).count() <= most);
                if !crash {
                    prop_assert!(control.tokens(SLOTS).count() >= limit);
                }
            }
            for serial in 0..control.tokens(SLOTS).next() {
                control.record(Record::Retiring { which: SLOTS, serial });
            }
            prop_assert!(control.tokens(SLOTS).count() <= control.wanted(SLOTS));
        }
    }
}
