//! A log as it was read: the groups, bodies that are at hand, and how the log begins and ends.
//!
//! A log begins with a copy of the one before it. Whoever copies may die, and another begins anew; the copy
//! that is complete first is the log, the parts of the others are void. So is everything that somebody
//! wrote too early, or after the log was closed: writers learn it and write to the next log.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use lapin::BasicProperties;

use super::super::codec::Raw;
use super::super::tail::Fold;
use super::bodies::Bodies;
use super::groups::{Came, Entry, Groups};
use super::record::{LOG, Outcome, Piece, Record, Stamped};

/// Where a log stands.
enum Phase {
    /// It is not complete yet: the parts of each copier.
    Opening(HashMap<u64, Vec<Copied>>),
    Open,
    Sealed,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Opening(HashMap::new())
    }
}

/// A part of a copy.
struct Copied {
    index: u64,
    pieces: Vec<Piece>,
    came: Option<Came>,
}

/// A log as it was read.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) groups: Groups,
    phase: Phase,
    bodies: Bodies,
    /// Bytes of the log.
    written: u64,
}

impl Book {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.phase, Phase::Sealed)
    }

    /// Whether most of the log is of messages that are gone: it has `log_bytes`, and twice what is stored.
    pub(crate) fn is_worn(&self, log_bytes: u64) -> bool {
        self.is_open() && self.written > log_bytes.saturating_add(2 * self.groups.stored().1)
    }

    /// The messages that are at hand; `None` for those that must be read.
    pub(crate) fn bodies(&self, entries: &[Entry]) -> Vec<(Entry, Option<Arc<Raw>>)> {
        let known = |entry: &Entry| self.body(entry.offset);
        entries.iter().map(|entry| (*entry, known(entry))).collect()
    }

    /// The message at a place, if it is at hand.
    pub(crate) fn body(&self, offset: u64) -> Option<Arc<Raw>> {
        self.bodies.get(offset)
    }

    /// Keeps what was read of the log once more, where it will be wanted soon.
    pub(crate) fn read_again(&mut self, read: &[(u64, Arc<Raw>)]) {
        for (offset, raw) in read {
            let group = raw.message().message.group.unwrap_or_default();
            if self.groups.is_near(&group, *offset) {
                self.bodies.keep(*offset, Arc::clone(raw));
            }
        }
    }

    fn part(&mut self, copier: u64, part: Copied) -> Outcome {
        match &mut self.phase {
            Phase::Opening(copies) => {
                copies.entry(copier).or_default().push(part);
                Outcome::Took
            }
            Phase::Open | Phase::Sealed => Outcome::Refused,
        }
    }

    fn open(&mut self, copier: u64, parts: u64) -> Outcome {
        let mut copy = match &mut self.phase {
            Phase::Opening(copies) => copies.remove(&copier).unwrap_or_default(),
            Phase::Open | Phase::Sealed => return Outcome::Refused,
        };
        copy.sort_by_key(|part| part.index);
        // A part that was not confirmed in time may be there twice.
        copy.dedup_by_key(|part| part.index);
        if copy.len() as u64 != parts {
            return Outcome::Refused;
        }
        for Copied { pieces, came, .. } in copy {
            for piece in pieces {
                self.groups.adopt(piece, came.as_ref());
            }
        }
        self.phase = Phase::Open;
        Outcome::Took
    }
}

impl Fold for Book {
    type Outcome = Outcome;

    fn take(&mut self, offset: u64, properties: &BasicProperties, body: &[u8]) -> Outcome {
        let raw = Raw::new(properties, body.to_vec(), Timestamp::UNIX_EPOCH);
        self.written += raw.len() as u64;
        let stamped = match raw.value(LOG) {
            Some("") => serde_json::from_slice(body),
            Some(text) => serde_json::from_str(text),
            None => {
                let message = raw.message().message;
                Ok(Stamped {
                    at: message.accepted_at.as_millisecond(),
                    record: Record::Store {
                        due: 0,
                        identity: None,
                        window: 0,
                    },
                })
            }
        };
        // A record of a newer release that this one does not know changes nothing here.
        let Ok::<Stamped, _>(Stamped { at, record }) = stamped else {
            return Outcome::Refused;
        };
        let carries = match &record {
            Record::Store { .. } | Record::Front { .. } => true,
            Record::Part { pieces, .. } => matches!(pieces[..], [Piece::Message { .. }]),
            _ => false,
        };
        let came = carries.then(|| {
            let message = raw.message().message;
            Came {
                offset,
                size: u32::try_from(raw.len()).unwrap_or(u32::MAX),
                group: message.group.unwrap_or_default(),
                id: message.id,
            }
        });
        match record {
            Record::Part {
                copier,
                index,
                pieces,
            } => {
                let part = Copied {
                    index,
                    pieces,
                    came,
                };
                return self.part(copier, part);
            }
            Record::Opened { copier, parts } => return self.open(copier, parts),
            _ if !self.is_open() => return Outcome::Closed,
            Record::Seal {} => {
                self.phase = Phase::Sealed;
                return Outcome::Took;
            }
            _ => {}
        }
        let outcome = self.groups.take(at, record, came);
        for offset in self.groups.removed() {
            self.bodies.forget(*offset);
        }
        if carries && outcome == Outcome::Took {
            self.bodies.keep(offset, Arc::new(raw));
        }
        outcome
    }
}
