//! What is known of a group beside its messages, and what follows from it.
//!
//! Pure. A note names messages by their sequence, so what is left of an earlier turn means nothing for
//! others.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_core::dead_letter::Failure;

use crate::fifo::{HeldGroup, Hold};

/// What is known of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Note {
    /// Its name.
    pub(crate) group: String,
    /// Why it gets no turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<Holding>,
    /// There are messages before all others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) front: bool,
    /// Failed attempts of messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) attempts: Vec<(u64, u32)>,
    /// Messages of a call that began and is not known to have ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) in_call: Vec<u64>,
    /// How long its first message waits after a call that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rest: Option<Rest>,
    /// Somebody holds the turn although a server may have forgotten it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) claimed: bool,
    /// The turn that wrote it, a random number: two turns of one group that say the same are told apart.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) writer: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "called by serde")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A message waits after a call that failed, and with it everything behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rest {
    /// The message. While another one is the first of its group the rest means nothing.
    pub(crate) sequence: u64,
    pub(crate) until: Timestamp,
    /// Messages to be called alone, because they were in a call that failed as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) suspects: Vec<u64>,
}

/// Why a group gets no turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Holding {
    pub(crate) how: How,
    pub(crate) since: Timestamp,
    /// The message that was given up, and its stored copy.
    pub(crate) message_id: String,
    pub(crate) copy: String,
    pub(crate) failure: Failure,
}

/// How a group is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    Blocked,
    DeadLettered,
    /// Its dead letters are being put back.
    Redriven,
}

impl Note {
    pub(crate) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a note. What cannot be read says nothing.
    pub(crate) fn read(text: &[u8]) -> Self {
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// As the turn `writer` says it of this group.
    pub(crate) fn of(self, writer: u64, group: &str) -> Self {
        let group = group.to_owned();
        Self {
            group,
            writer,
            ..self
        }
    }

    /// True when it says nothing but the name.
    pub(crate) fn says_nothing(&self) -> bool {
        let counts = !self.attempts.is_empty() || !self.in_call.is_empty();
        let waits = self.hold.is_some() || self.rest.is_some();
        !waits && !self.front && !counts && !self.claimed
    }

    /// When a message may be handed out that by itself is due at `due`.
    pub(crate) fn due(&self, sequence: u64, due: Option<Timestamp>) -> Option<Timestamp> {
        let rest = self.rest.as_ref().filter(|rest| rest.sequence == sequence);
        due.max(rest.map(|rest| rest.until))
    }

    /// Whether a message is to be called alone.
    pub(crate) fn suspects(&self, sequence: u64) -> bool {
        let rest = self.rest.as_ref();
        rest.is_some_and(|rest| rest.suspects.contains(&sequence))
    }

    /// Attempts of a message, with a call that did not end.
    pub(crate) fn attempts_of(&self, sequence: u64) -> u32 {
        let counted = self.attempts.iter().find(|(known, _)| *known == sequence);
        let unfinished = u32::from(self.in_call.contains(&sequence));
        counted.map_or(0, |(_, attempts)| *attempts) + unfinished
    }

    /// The note for a call with messages that had these attempts.
    pub(crate) fn calling(&self, held: &[(u64, u32)]) -> Self {
        Self {
            in_call: held.iter().map(|(sequence, _)| *sequence).collect(),
            claimed: true,
            ..self.counted(held)
        }
    }

    /// The note when messages have these attempts, no call is under way, and the group does not rest.
    pub(crate) fn counted(&self, held: &[(u64, u32)]) -> Self {
        Self {
            attempts: held.iter().copied().filter(|(_, n)| *n > 0).collect(),
            in_call: Vec::new(),
            rest: None,
            ..self.clone()
        }
    }

    /// The note when the turn ends because the first of these messages waits until a time. The first
    /// `suspects` of them are to be called alone then.
    pub(crate) fn resting(&self, held: &[(u64, u32)], until: Timestamp, suspects: usize) -> Self {
        let suspects = held.iter().take(suspects).map(|(sequence, _)| *sequence);
        Self {
            rest: held.first().map(|(sequence, _)| Rest {
                sequence: *sequence,
                until,
                suspects: suspects.collect(),
            }),
            ..self.ended(held)
        }
    }

    /// The note when the turn ends and messages have these attempts.
    pub(crate) fn ended(&self, held: &[(u64, u32)]) -> Self {
        Self {
            claimed: false,
            ..self.counted(held)
        }
    }

    /// As people see it, where the group is held.
    pub(crate) fn held_group(&self) -> Option<HeldGroup> {
        let holding = self.hold.as_ref()?;
        Some(HeldGroup {
            group: self.group.clone(),
            hold: match holding.how {
                How::DeadLettered => Hold::DeadLettered,
                How::Blocked | How::Redriven => Hold::Blocked,
            },
            since: holding.since,
            message_id: holding.message_id.clone(),
            failure: holding.failure.clone(),
        })
    }
}

/// What is to be done with the turn of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is removed: another one is there, the group has nothing to do or is held.
    Drop,
    /// It is removed and comes again at this time.
    Wait(Timestamp),
    /// Everything stored becomes dead letters.
    Bury,
    /// The first so many messages are handed out.
    Run(usize),
}

/// Judges a turn by what was found: whether it is alone, what is known of the group, and when its first
/// messages are due.
pub(crate) fn judge(
    alone: bool,
    note: &Note,
    head: impl IntoIterator<Item = Option<Timestamp>>,
    now: Timestamp,
) -> Standing {
    if !alone {
        return Standing::Drop;
    }
    let held = note.hold.as_ref().map(|holding| holding.how);
    let mut head = head.into_iter().peekable();
    let Some(first) = head.peek().copied() else {
        return Standing::Drop;
    };
    match held {
        Some(How::Blocked | How::Redriven) => return Standing::Drop,
        Some(How::DeadLettered) => return Standing::Bury,
        None => {}
    }
    match first {
        Some(due) if due > now => Standing::Wait(due),
        _ => Standing::Run(
            head.take_while(|due| due.is_none_or(|due| due <= now))
                .count(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_core::dead_letter::Reason;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn holding(how: How) -> Holding {
        Holding {
            how,
            since: at(1),
            message_id: "m".to_owned(),
            copy: "1-1".to_owned(),
            failure: Failure {
                reason: Reason::MaxAttempts,
                attempts: 3,
                failed_at: at(1),
                last_status: None,
                message: "no".to_owned(),
                answer: String::new(),
            },
        }
    }

    #[test]
    fn a_turn_covers_the_first_messages_that_are_due() {
        let run = |head: &[Option<i64>]| {
            let head = head.iter().map(|due| due.map(at));
            judge(true, &Note::default(), head, at(10))
        };
        assert_eq!(run(&[None, None]), Standing::Run(2));
        assert_eq!(run(&[Some(10), None, Some(11), None]), Standing::Run(2));
        assert_eq!(run(&[Some(11), None]), Standing::Wait(at(11)));
        assert_eq!(run(&[]), Standing::Drop);
    }

    #[test]
    fn a_held_group_runs_nothing() {
        let with = |how| {
            let note = Note {
                hold: Some(holding(how)),
                ..Note::default()
            };
            judge(true, &note, [Some(at(20))], at(10))
        };
        assert_eq!(with(How::Blocked), Standing::Drop);
        assert_eq!(with(How::Redriven), Standing::Drop);
        assert_eq!(with(How::DeadLettered), Standing::Bury, "due or not");
        assert_eq!(
            judge(false, &Note::default(), [None], at(10)),
            Standing::Drop
        );
    }

    #[test]
    fn a_group_rests_for_its_first_message_only() {
        let note = Note::default().resting(&[(7, 2), (8, 0), (9, 0)], at(20), 2);
        assert_eq!((note.attempts_of(7), note.attempts_of(8)), (2, 0));
        let run = |head: &[(u64, Option<i64>)], now| {
            let head = head
                .iter()
                .map(|(at_sequence, due)| note.due(*at_sequence, due.map(at)));
            judge(true, &note, head, at(now))
        };
        assert_eq!(run(&[(7, None), (8, None)], 19), Standing::Wait(at(20)));
        assert_eq!(
            run(&[(7, Some(30)), (8, None)], 20),
            Standing::Wait(at(30)),
            "the later counts"
        );
        assert_eq!(run(&[(7, Some(3)), (8, None)], 20), Standing::Run(2));
        assert_eq!(
            run(&[(8, None)], 10),
            Standing::Run(1),
            "the message that waited is gone"
        );
        assert_eq!(
            [7, 8, 9].map(|sequence| note.suspects(sequence)),
            [true, true, false]
        );
        assert!(!note.says_nothing());
        for later in [note.counted(&[]), note.ended(&[]), note.calling(&[(7, 2)])] {
            assert_eq!(later.rest, None);
        }
    }

    #[test]
    fn the_same_word_of_another_turn_is_not_ones_own() {
        let of = |writer| Note::default().calling(&[(7, 0)]).of(writer, "a");
        assert_ne!(of(1), of(2));
        assert_eq!(of(1), Note::read(&of(1).write()));
        assert!(of(1).ended(&[]).says_nothing());
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        for text in ["", "7", "{\"attempts\": 3}", "\u{0}"] {
            assert_eq!(Note::read(text.as_bytes()), Note::default());
        }
    }

    proptest! {
        #[test]
        fn notes_are_read_as_they_were_written(
            group: String,
            front: bool,
            held in any::<bool>(),
            attempts in prop::collection::vec((any::<u64>(), 1u32..9), 0..4),
            in_call in prop::collection::vec(any::<u64>(), 0..4),
            rest in prop::option::of((any::<u64>(), 0i64..4_000_000, prop::collection::vec(any::<u64>(), 0..4))),
            claimed: bool,
            writer: u64,
        ) {
            let hold = held.then(|| holding(How::Blocked));
            let rest = rest.map(|(sequence, until, suspects)| {
                Rest { sequence, until: at(until), suspects }
            });
            let note = Note { group, hold, front, attempts, in_call, rest, claimed, writer };
            prop_assert_eq!(Note::read(&note.write()), note);
        }

        /// A call that began counts one for each of its messages, until it is known how it ended.
        #[test]
        fn a_call_that_did_not_end_counts_once(
            held in prop::collection::btree_map(1u64..50, 0u32..5, 1..6),
            settled in 0usize..6,
        ) {
            let held: Vec<(u64, u32)> = held.into_iter().collect();
            let calling = Note::default().counted(&held).calling(&held).calling(&held);
            for (sequence, attempts) in &held {
                prop_assert_eq!(calling.attempts_of(*sequence), attempts + 1);
            }
            prop_assert_eq!(calling.attempts_of(99), 0);
            let left = &held[settled.min(held.len())..];
            let counted = calling.counted(left);
            for (at, (sequence, attempts)) in held.iter().enumerate() {
                let expected = if at < settled { 0 } else { *attempts };
                prop_assert_eq!(counted.attempts_of(*sequence), expected);
            }
            prop_assert!(!counted.says_nothing() && calling.ended(&[]).says_nothing());
        }
    }
}
