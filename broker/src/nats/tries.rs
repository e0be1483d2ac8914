//! Counting calls that began and did not end, and recognising copies that were settled elsewhere.
//!
//! Pure. A first delivery writes nothing. What is written is on a subject of the stored copy, so
//! nothing that an earlier copy of the same message left behind can be mistaken for it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the subject of a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Record {
    /// Calls of this copy that began and did not end.
    Unfinished(u32),
    /// A retry with so many attempts was stored; only the acknowledgement may be missing.
    Moved(u32),
}

impl Record {
    pub(crate) fn write(self) -> Vec<u8> {
        serde_json::to_vec(&self).unwrap_or_default()
    }

    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

/// Where a redelivered copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was settled but not acknowledged: it must not be handed out again.
    Settled,
    /// It is to be handed out, with so many unfinished calls.
    Open(u32),
}

/// What was found about a redelivered copy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found<'a> {
    /// On the copy's own subject.
    pub(crate) record: Option<Record>,
    /// Attempts of the schedule that waits for the same message.
    pub(crate) scheduled: Option<u32>,
    /// The copy that the message's dead letter was made from.
    pub(crate) dead: Option<&'a str>,
}

/// Judges a redelivered copy of which `attempts` had failed when it was stored.
pub(crate) fn judge(copy: &str, attempts: u32, found: Found<'_>) -> Standing {
    if matches!(found.record, Some(Record::Moved(_)))
        || found.scheduled.is_some_and(|later| later > attempts)
        || found.dead == Some(copy)
    {
        return Standing::Settled;
    }
    match found.record {
        Some(Record::Unfinished(calls)) => Standing::Open(calls),
        _ => Standing::Open(0),
    }
}

/// The stored copy and the delivery that an acknowledgement subject names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Sequence in the stream.
    pub(crate) sequence: u64,
    /// When the copy was stored.
    pub(crate) stored_at: Timestamp,
    /// 1 for the first delivery.
    pub(crate) delivered: u64,
}

impl Source {
    /// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>`
    /// and its newer form with a domain and an account before the stream.
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let parts: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let rest = match parts.len() {
            7 => &parts[2..],
            9.. => &parts[4..],
            _ => return None,
        };
        Some(Self {
            sequence: rest[1].parse().ok()?,
            stored_at: Timestamp::from_nanosecond(rest[3].parse().ok()?).ok()?,
            delivered: rest[0].parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgement_subjects_are_read_in_both_forms() {
        let stored_at = Timestamp::from_nanosecond(1795).unwrap();
        let source = Source {
            sequence: 17,
            stored_at,
            delivered: 2,
        };
        for reply in [
            "$JS.ACK.S.workers.2.17.5.1795.0",
            "$JS.ACK._.acc.S.workers.2.17.5.1795.0",
            "$JS.ACK.hub.acc.S.workers.2.17.5.1795.0.token",
        ] {
            assert_eq!(Source::parse(reply).as_ref(), Some(&source), "{reply}");
        }
        for reply in [
            "",
            "$JS.ACK.S",
            "_INBOX.1.2",
            "$JS.ACK.S.workers.x.17.5.1795.0",
        ] {
            assert_eq!(Source::parse(reply), None, "{reply}");
        }
    }

    #[test]
    fn a_copy_that_was_settled_is_not_handed_out() {
        let settled = [
            Found {
                record: Some(Record::Moved(1)),
                ..Found::default()
            },
            Found {
                scheduled: Some(1),
                ..Found::default()
            },
            Found {
                dead: Some("5-1"),
                ..Found::default()
            },
        ];
        for found in settled {
            assert_eq!(judge("5-1", 0, found), Standing::Settled, "{found:?}");
        }
        let open = [
            (Found::default(), 0),
            (
                Found {
                    record: Some(Record::Unfinished(2)),
                    ..Found::default()
                },
                2,
            ),
            (
                Found {
                    scheduled: Some(0),
                    ..Found::default()
                },
                0,
            ),
            (
                Found {
                    dead: Some("4-1"),
                    ..Found::default()
                },
                0,
            ),
        ];
        for (found, calls) in open {
            assert_eq!(judge("5-1", 0, found), Standing::Open(calls), "{found:?}");
        }
    }

    #[test]
    fn records_round_trip_and_nothing_else_is_one() {
        for record in [Record::Unfinished(3), Record::Moved(1)] {
            assert_eq!(Record::read(&record.write()), Some(record));
        }
        assert_eq!(Record::read(b""), None);
        assert_eq!(Record::read(b"7"), None);
    }
}
