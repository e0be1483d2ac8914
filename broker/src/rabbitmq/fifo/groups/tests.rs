use proptest::prelude::*;

use super::*;

const CONSUMER: u64 = 7;

fn came(offset: u64, group: &str) -> Came {
    Came {
        offset,
        size: 10,
        group: group.to_owned(),
        id: format!("m{offset}"),
    }
}

fn groups(limit: u64) -> Groups {
    let mut groups = Groups::default();
    let capacity = 1000;
    groups.take(0, Record::Limits { limit, capacity }, None);
    groups
}

fn store(groups: &mut Groups, at: i64, group: &str, due: i64) -> Outcome {
    let record = Record::Store {
        due,
        identity: None,
        window: 0,
    };
    let offset = groups.base.next_message;
    groups.take(at, record, Some(came(offset, group)))
}

fn want(groups: &mut Groups, consumer: u64, outstanding: u64) {
    let granted = groups.seeker(consumer).granted;
    let record = Record::Want {
        consumer,
        outstanding,
        granted,
    };
    assert_eq!(groups.take(1, record, None), Outcome::Took);
}

/// The turn of a group.
fn turn_of(groups: &Groups, name: &str) -> Option<u64> {
    let mut turns = groups.turns.iter();
    turns
        .find(|(_, right)| right.group == name)
        .map(|(turn, _)| *turn)
}

fn numbers(groups: &Groups, name: &str, at: i64) -> Vec<u64> {
    let entries = groups.first(name, at, 100);
    entries.iter().map(|entry| entry.number).collect()
}

fn held(dead: bool) -> HeldNote {
    HeldNote {
        dead,
        since: jiff::Timestamp::UNIX_EPOCH,
        message_id: "m0".to_owned(),
        failure: weir_core::dead_letter::Failure {
            reason: weir_core::dead_letter::Reason::MaxAttempts,
            attempts: 1,
            failed_at: jiff::Timestamp::UNIX_EPOCH,
            last_status: None,
            message: String::new(),
            answer: String::new(),
        },
    }
}

#[test]
fn a_group_has_one_turn_and_the_limit_holds() {
    let mut groups = groups(2);
    for group in ["a", "a", "b", "c"] {
        store(&mut groups, 1, group, 0);
    }
    want(&mut groups, CONSUMER, 10);
    assert_eq!(groups.counts(), (1, 2, 0));
    assert!(turn_of(&groups, "a").is_some() && turn_of(&groups, "b").is_some());
    let turn = turn_of(&groups, "b").unwrap();
    groups.take(2, Record::End { turn }, None);
    // It goes behind those that wait.
    assert!(turn_of(&groups, "c").is_some() && turn_of(&groups, "b").is_none());
    // Lowering takes nothing away.
    let (limit, capacity) = (1, 1000);
    groups.take(2, Record::Limits { limit, capacity }, None);
    assert_eq!(groups.counts(), (1, 2, 0));
}

#[test]
fn a_record_behind_the_end_of_its_turn_does_nothing_but_an_ack() {
    let mut groups = groups(5);
    store(&mut groups, 1, "a", 0);
    store(&mut groups, 1, "a", 0);
    want(&mut groups, CONSUMER, 1);
    let turn = turn_of(&groups, "a").unwrap();
    assert_eq!(
        groups.take(2, Record::Expire { turn, extends: 1 }, None),
        Outcome::Refused,
        "it was extended"
    );
    assert_eq!(
        groups.take(2, Record::Expire { turn, extends: 0 }, None),
        Outcome::Took
    );
    let messages = vec![0];
    for record in [
        Record::Begin {
            turn,
            messages: messages.clone(),
        },
        Record::Extend { turn },
        Record::Count {
            turn,
            attempts: vec![(0, 9)],
        },
        Record::Moved {
            turn,
            messages: messages.clone(),
        },
        Record::Hold {
            turn,
            letter: None,
            held: held(false),
        },
        Record::End { turn },
    ] {
        assert_eq!(groups.take(2, record, None), Outcome::Refused);
    }
    assert_eq!(numbers(&groups, "a", 2), [0, 1]);
    let group = "a".to_owned();
    groups.take(2, Record::Ack { group, messages }, None);
    assert_eq!(numbers(&groups, "a", 2), [1]);
}

#[test]
fn calls_that_did_not_end_count_from_the_second_delivery_on() {
    let mut groups = groups(5);
    store(&mut groups, 1, "a", 0);
    for attempts in [0, 0, 1, 2] {
        want(&mut groups, CONSUMER, 1);
        let turn = turn_of(&groups, "a").unwrap();
        assert_eq!(groups.first("a", 1, 1)[0].attempts, attempts);
        assert_eq!(groups.turns[&turn].again, turn > 0);
        let messages = vec![0];
        groups.take(1, Record::Begin { turn, messages }, None);
        groups.take(1, Record::Expire { turn, extends: 1 }, None);
    }
    want(&mut groups, CONSUMER, 1);
    let turn = turn_of(&groups, "a").unwrap();
    let messages = vec![0];
    groups.take(1, Record::Begin { turn, messages }, None);
    groups.take(1, Record::End { turn }, None);
    assert_eq!(groups.first("a", 1, 1)[0].attempts, 3, "it let go");
}

#[test]
fn a_delay_holds_its_group_and_no_slot() {
    let mut groups = groups(1);
    store(&mut groups, 1, "late", 100);
    store(&mut groups, 1, "late", 0);
    store(&mut groups, 1, "now", 0);
    want(&mut groups, CONSUMER, 5);
    let turn = turn_of(&groups, "now").unwrap();
    assert!(turn_of(&groups, "late").is_none());
    assert_eq!(groups.next_due(), Some(100));
    let messages = numbers(&groups, "now", 1);
    let group = "now".to_owned();
    groups.take(1, Record::Ack { group, messages }, None);
    groups.take(1, Record::End { turn }, None);
    assert!(turn_of(&groups, "late").is_none());
    groups.take(100, Record::Look {}, None);
    assert!(turn_of(&groups, "late").is_some());
    assert_eq!(numbers(&groups, "late", 100), [0, 1]);
}

#[test]
fn a_group_that_rests_gets_no_turn_before_its_time_and_keeps_what_was_noted() {
    let mut groups = groups(1);
    store(&mut groups, 1, "a", 0);
    store(&mut groups, 1, "a", 0);
    want(&mut groups, CONSUMER, 5);
    let turn = turn_of(&groups, "a").unwrap();
    let rest = Record::Rest {
        turn,
        until: 100,
        attempts: vec![(0, 3)],
        suspects: vec![0],
    };
    assert_eq!(groups.take(1, rest.clone(), None), Outcome::Took);
    assert_eq!(groups.take(1, rest, None), Outcome::Refused);
    store(&mut groups, 99, "a", 0);
    assert_eq!((groups.counts(), groups.rests("a")), ((0, 0, 0), 100));
    assert_eq!(groups.delayed_and_oldest(99).0, 1);
    groups.take(100, Record::Look {}, None);
    assert!(turn_of(&groups, "a").is_some());
    let first = groups.first("a", 100, 1)[0];
    assert_eq!((first.attempts, first.suspect), (3, true));
}

#[test]
fn identities_are_known_for_their_window_and_capacity_is_a_bound() {
    let mut groups = groups(1);
    let once = |groups: &mut Groups, at: i64, offset: u64| {
        let record = Record::Store {
            due: 0,
            identity: Some("x".to_owned()),
            window: 10,
        };
        groups.take(at, record, Some(came(offset, "a")))
    };
    assert_eq!(once(&mut groups, 1, 0), Outcome::Took);
    let duplicate = Outcome::Duplicate("m0".to_owned());
    assert_eq!(once(&mut groups, 10, 1), duplicate);
    assert_eq!(once(&mut groups, 11, 2), Outcome::Took);
    let (limit, capacity) = (1, 2);
    groups.take(11, Record::Limits { limit, capacity }, None);
    assert_eq!(store(&mut groups, 11, "b", 0), Outcome::Full);
    assert!(matches!(once(&mut groups, 12, 3), Outcome::Duplicate(_)));
}

#[test]
fn what_is_redriven_stands_before_everything_once_and_in_order() {
    let mut groups = groups(1);
    store(&mut groups, 1, "a", 0);
    let redrive = |groups: &mut Groups| {
        let group = "a".to_owned();
        let consumer = CONSUMER;
        let record = Record::Redrive { group, consumer };
        groups.take(1, record, None)
    };
    let Outcome::Turn(turn) = redrive(&mut groups) else {
        panic!("no turn");
    };
    assert_eq!(redrive(&mut groups), Outcome::Busy);
    let front = |groups: &mut Groups, turn: u64, letter: u64| {
        groups.take(1, Record::Front { turn, letter }, Some(came(letter, "a")))
    };
    assert_eq!(front(&mut groups, turn, 3), Outcome::Took);
    // It dies, and another one goes on.
    groups.take(1, Record::Expire { turn, extends: 0 }, None);
    want(&mut groups, CONSUMER, 1);
    assert_eq!(groups.counts().1, 0, "a group that is redriven has no turn");
    let Outcome::Turn(turn) = redrive(&mut groups) else {
        panic!("no turn");
    };
    assert_eq!(front(&mut groups, turn, 3), Outcome::Took);
    assert_eq!(front(&mut groups, turn, 5), Outcome::Took);
    groups.take(1, Record::Redriven { turn }, None);
    assert_eq!(numbers(&groups, "a", 1), [1, 2, 0]);
    assert!(turn_of(&groups, "a").is_some());
}

#[test]
fn a_held_group_gets_no_turn_until_it_is_released() {
    let mut groups = groups(1);
    store(&mut groups, 1, "a", 0);
    store(&mut groups, 1, "a", 0);
    want(&mut groups, CONSUMER, 1);
    let turn = turn_of(&groups, "a").unwrap();
    let hold = Record::Hold {
        turn,
        letter: Some(0),
        held: held(true),
    };
    assert_eq!(groups.take(1, hold, None), Outcome::Took);
    want(&mut groups, CONSUMER, 1);
    assert_eq!(groups.counts(), (0, 0, 1));
    assert_eq!(groups.to_move(), ["a"]);
    let (group, consumer) = ("a".to_owned(), CONSUMER);
    let claim = Record::Claim { group, consumer };
    let Outcome::Turn(turn) = groups.take(1, claim.clone(), None) else {
        panic!("no turn");
    };
    assert_eq!(groups.take(1, claim.clone(), None), Outcome::Busy);
    let release = |groups: &mut Groups| {
        let group = "a".to_owned();
        groups.take(1, Record::Release { group }, None)
    };
    assert_eq!(release(&mut groups), Outcome::Busy);
    let messages = vec![1];
    groups.take(1, Record::Moved { turn, messages }, None);
    groups.take(1, Record::End { turn }, None);
    assert_eq!(groups.take(1, claim, None), Outcome::Refused);
    assert_eq!(release(&mut groups), Outcome::Took);
    assert_eq!(release(&mut groups), Outcome::Refused);
    store(&mut groups, 1, "a", 0);
    assert_eq!(groups.counts(), (0, 1, 0));
}

/// A copy of it, as the next log begins with.
fn copied(groups: &Groups) -> Groups {
    let mut copy = Groups::default();
    let names: HashMap<u64, String> = groups
        .by_name
        .iter()
        .flat_map(|(name, group)| {
            let offsets = group.messages.iter().map(|entry| entry.offset);
            offsets.map(|offset| (offset, name.clone()))
        })
        .collect();
    let (pieces, messages) = groups.pieces();
    for piece in pieces {
        let text = serde_json::to_string(&piece).unwrap();
        copy.adopt(serde_json::from_str(&text).unwrap(), None);
    }
    for (offset, piece) in messages {
        copy.adopt(piece, Some(&came(offset, &names[&offset])));
    }
    copy
}

#[test]
fn in_a_copy_a_group_that_rests_waits_no_less_than_in_the_original() {
    let mut groups = groups(1);
    want(&mut groups, CONSUMER, 1);
    store(&mut groups, 2, "rests", 5);
    store(&mut groups, 6, "other", 11);
    let turn = turn_of(&groups, "rests").unwrap();
    let rest = Record::Rest {
        turn,
        until: 17,
        attempts: Vec::new(),
        suspects: Vec::new(),
    };
    assert_eq!(groups.take(7, rest, None), Outcome::Took);
    let mut copy = copied(&groups);
    for groups in [&mut groups, &mut copy] {
        groups.take(20, Record::Look {}, None);
        want(groups, CONSUMER, 1);
        assert!(turn_of(groups, "other").is_some(), "its time came first");
    }
}

fn any_record() -> impl Strategy<Value = (u8, u64, u8)> {
    (0u8..15, 0u64..40, 0u8..4)
}

proptest! {
    /// Whatever is written: a group has one turn, turns are within the limit, what was stored first comes
    /// first, what can have a turn has one, and a copy goes on as the original does.
    #[test]
    fn whatever_is_written_the_rules_hold(
        limit in 1u64..4,
        records in prop::collection::vec(any_record(), 1..120),
    ) {
        let mut groups = groups(limit);
        let mut at = 1;
        for (what, number, which) in records {
            at += 1;
            let group = format!("g{which}");
            let (turn, consumer) = (number, u64::from(which));
            let extends = groups.turns.get(&turn).map_or(0, |right| right.extends);
            let first = groups.first(&group, i64::MAX, 2);
            let messages: Vec<u64> = first.iter().map(|entry| entry.number).collect();
            let record = match what {
                0..=2 => {
                    let due = if what == 2 { at + 5 } else { 0 };
                    store(&mut groups, at, &group, due);
                    continue;
                }
                3 | 4 => Record::Want { consumer, outstanding: 1 + number % 3, granted: number },
                5 => Record::Begin { turn, messages },
                6 => Record::Ack { group, messages },
                7 => Record::End { turn },
                8 => Record::Expire { turn, extends },
                9 => Record::Hold { turn, letter: None, held: held(number % 2 == 0) },
                10 => Record::Release { group },
                11 => Record::Claim { group, consumer },
                12 => Record::Gone { consumer },
                13 => Record::Rest {
                    turn,
                    until: at + 9,
                    attempts: vec![(number, 2)],
                    suspects: messages,
                },
                _ => Record::Moved { turn, messages },
            };
            groups.take(at, record, None);
            let mut with_turn: Vec<&String> =
                groups.turns.values().map(|right| &right.group).collect();
            let turns = with_turn.len();
            with_turn.sort_unstable();
            with_turn.dedup();
            prop_assert_eq!(with_turn.len(), turns, "two turns of a group");
            let out = groups.turns.values().filter(|right| !right.inner).count() as u64;
            prop_assert_eq!(out, groups.out);
            prop_assert!(out <= limit);
            for (name, group) in &groups.by_name {
                let numbers: Vec<u64> = group.messages.iter().map(|entry| entry.number).collect();
                prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
                let ready = group.due().is_some_and(|due| due <= at);
                let waits = ready && group.turn.is_none() && !groups.held.contains_key(name);
                prop_assert_eq!(group.mark.place.is_some(), waits, "group {}", name);
            }
            prop_assert!(
                groups.waiting.is_empty() || groups.queue.is_empty() || out == limit
            );
            let stored: usize = groups.by_name.values().map(|group| group.messages.len()).sum();
            prop_assert_eq!(stored as u64, groups.stored);
            let mut copy = copied(&groups);
            let mut original = groups.clone();
            for groups in [&mut copy, &mut original] {
                // Seekers without wants may be in another order.
                groups.take(at + 10, Record::Look {}, None);
                groups.dues.clear();
            }
            prop_assert_eq!(copy, original);
        }
    }
}
