//! Whether each group was worked off in order.
//!
//! A call may begin only when every earlier message of its group has an end: a handler answered 2xx, or
//! it is a dead letter, whose end is its last answer. Nothing of a group may be called again once a later
//! message of it was. Repeats of the same message are duplicates and are counted elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ledger::Event;

/// Numbers of the messages that were called out of order.
pub fn violations(events: &[Event], dead: &BTreeSet<u64>) -> Vec<u64> {
    let mut groups: HashMap<u64, u64> = HashMap::new();
    let mut members: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut ends: HashMap<u64, u64> = HashMap::new();
    let mut last_answer: HashMap<u64, u64> = HashMap::new();
    let mut calls: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for event in events {
        if let Event::Try {
            n,
            group: Some(group),
            ..
        } = event
        {
            groups.insert(*n, *group);
            members.entry(*group).or_default().insert(*n);
        }
    }
    for event in events {
        match event {
            Event::Started { n, at, .. } => {
                if let Some(group) = groups.get(n) {
                    calls.entry(*group).or_default().push((*at, *n));
                }
            }
            Event::Ended { n, status, at, .. } => {
                if (200..300).contains(status) {
                    ends.entry(*n)
                        .and_modify(|end| *end = (*end).min(*at))
                        .or_insert(*at);
                }
                last_answer
                    .entry(*n)
                    .and_modify(|end| *end = (*end).max(*at))
                    .or_insert(*at);
            }
            _ => {}
        }
    }
    let end_of = |n: &u64| {
        ends.get(n).copied().or_else(|| {
            // A message that was given up without an answer (its calls were cut) ended at some time nobody saw.
            dead.contains(n)
                .then(|| last_answer.get(n).copied().unwrap_or(0))
        })
    };
    let mut wrong = BTreeSet::new();
    for (group, mut calls) in calls {
        calls.sort_unstable();
        let mut furthest = None;
        for (at, n) in calls {
            if furthest.is_some_and(|furthest| n < furthest) {
                wrong.insert(n);
            }
            furthest = furthest.max(Some(n));
            let before = members[&group].range(..n).next_back();
            if before.is_some_and(|before| end_of(before).is_none_or(|end| end > at)) {
                wrong.insert(n);
            }
        }
    }
    wrong.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(n: u64, group: u64) -> Event {
        Event::Try {
            n,
            sha: String::new(),
            group: Some(group),
        }
    }

    fn call(n: u64, status: u16, started: u64, at: u64) -> [Event; 2] {
        let id = String::new();
        [
            Event::Started {
                n,
                id: id.clone(),
                sha: String::new(),
                attempt: 1,
                at: started,
            },
            Event::Ended {
                n,
                id,
                status,
                started,
                at,
            },
        ]
    }

    fn judged(calls: impl IntoIterator<Item = [Event; 2]>, dead: &[u64]) -> Vec<u64> {
        let mut events = vec![tried(1, 0), tried(2, 0), tried(3, 0), tried(9, 1)];
        events.extend(calls.into_iter().flatten());
        violations(&events, &dead.iter().copied().collect())
    }

    #[test]
    fn one_after_another_is_in_order_whatever_other_groups_do() {
        let calls = [
            call(1, 204, 10, 20),
            call(9, 204, 1, 90),
            call(2, 204, 20, 30),
            call(3, 204, 31, 40),
        ];
        assert_eq!(judged(calls, &[]), [0_u64; 0]);
    }

    #[test]
    fn a_repeat_of_the_message_whose_turn_it_is_is_in_order() {
        let calls = [
            call(1, 500, 10, 20),
            call(1, 204, 30, 40),
            call(1, 204, 41, 45),
            call(2, 204, 50, 60),
        ];
        assert_eq!(judged(calls, &[]), [0_u64; 0]);
    }

    #[test]
    fn planted_reorder_is_found() {
        let calls = [call(2, 204, 10, 20), call(1, 204, 30, 40)];
        assert_eq!(judged(calls, &[]), [1, 2]);
    }

    #[test]
    fn a_planted_overlap_is_found() {
        let calls = [call(1, 204, 10, 20), call(2, 204, 19, 30)];
        assert_eq!(judged(calls, &[]), [2]);
    }

    #[test]
    fn overtaking_a_failed_message_is_found_unless_it_is_a_dead_letter() {
        let calls = || [call(1, 500, 10, 20), call(2, 204, 30, 40)];
        assert_eq!(judged(calls(), &[]), [2]);
        assert_eq!(judged(calls(), &[1]), [0_u64; 0]);
    }

    #[test]
    fn a_planted_return_to_an_earlier_message_is_found() {
        let calls = [
            call(1, 204, 10, 20),
            call(2, 204, 30, 40),
            call(1, 204, 50, 60),
        ];
        assert_eq!(judged(calls, &[]), [1]);
    }
}
