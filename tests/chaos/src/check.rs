//! The judge: a pure function from what was seen to what went wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::ledger::Event;

/// A dead letter, as read back from the broker at the end.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Number of the message, from its body.
    pub n: u64,
    /// SHA-256 of its body.
    pub sha: String,
    /// Why it was given up.
    pub reason: String,
    /// Attempts that counted.
    pub attempts: u32,
}

/// What the events amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Messages that the producer tried to send.
    pub tried: u64,
    /// Messages that it was promised.
    pub accepted: u64,
    /// Messages that a handler finished.
    pub handled: u64,
    /// Dead letters.
    pub dead: u64,
    /// Dead letters by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Accepted, and neither handled nor dead.
    pub lost: Vec<u64>,
    /// Handled or dead, and never sent.
    pub phantom: Vec<u64>,
    /// Arrived with another body.
    pub corrupted: Vec<u64>,
    /// Handled and dead at once.
    pub both: Vec<u64>,
    /// Dead letters of one message beyond the first.
    pub dead_twice: Vec<u64>,
    /// Calls that began while an earlier message of the same group was neither handled nor dead, or after a
    /// later one had begun: number of the message that was called.
    pub out_of_order: Vec<u64>,
    /// Calls to a handler that no failure asked for.
    pub extra: u64,
    /// Calls that may have been running in whatever was hit: the most that `extra` may be.
    pub in_flight_at_faults: u64,
    /// Kills and pauses by what was hit.
    pub faults: BTreeMap<String, u64>,
    /// Most calls running at one time, among calls that ended, of messages that were not handled yet.
    pub most_at_once: u64,
    /// The same with repeats of handled messages. A killed server may have forgotten that a message was
    /// delivered: it is called again, and the late acknowledgement of the first call frees its place.
    pub most_with_repeats: u64,
}

impl Report {
    /// What breaks a promise, given the limit on calls at once. Empty is good.
    pub fn violations(&self, limit: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        for (what, list) in [
            ("lost", &self.lost),
            ("phantom", &self.phantom),
            ("corrupted", &self.corrupted),
            ("dead twice", &self.dead_twice),
            ("out of order", &self.out_of_order),
        ] {
            if !list.is_empty() {
                wrong.push(format!(
                    "{} {what}: {:?}",
                    list.len(),
                    &list[..list.len().min(10)]
                ));
            }
        }
        if self.both.len() as u64 > self.in_flight_at_faults {
            wrong.push(format!("{} handled and dead at once", self.both.len()));
        }
        if self.extra > self.in_flight_at_faults {
            wrong.push(format!(
                "{} extra calls, but only {} were in flight at a fault",
                self.extra, self.in_flight_at_faults
            ));
        }
        if self.most_at_once > limit {
            wrong.push(format!(
                "{} calls at once, limit {limit}",
                self.most_at_once
            ));
        }
        wrong
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tried {} accepted {} handled {} dead {} {:?} | lost {} phantom {} corrupted {} out of order {} | extra calls {} \
             (in flight at faults {}) handled and dead {} | most at once {} ({} with repeats) | faults {:?}",
            self.tried,
            self.accepted,
            self.handled,
            self.dead,
            self.reasons,
            self.lost.len(),
            self.phantom.len(),
            self.corrupted.len(),
            self.out_of_order.len(),
            self.extra,
            self.in_flight_at_faults,
            self.both.len(),
            self.most_at_once,
            self.most_with_repeats,
            self.faults
        )
    }
}

/// Judges a finished run.
pub fn check(events: &[Event], dead: &[Dead]) -> Report {
    let mut report = Report::default();
    let mut tried: HashMap<u64, &str> = HashMap::new();
    let mut accepted = BTreeSet::new();
    let mut handled: BTreeMap<u64, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut corrupted = BTreeSet::new();
    let mut calls: HashMap<u64, u64> = HashMap::new();
    let mut asked_again: HashMap<u64, u64> = HashMap::new();
    let mut ended = Vec::new();

    for event in events {
        match event {
            Event::Try { n, sha, .. } => {
                tried.insert(*n, sha);
            }
            Event::Accepted { n, .. } => {
                accepted.insert(*n);
            }
            _ => {}
        }
    }
    for event in events {
        match event {
            Event::Started { n, sha, .. } => {
                seen.insert(*n);
                *calls.entry(*n).or_default() += 1;
                if tried.get(n).is_some_and(|sent| sent != sha) {
                    corrupted.insert(*n);
                }
            }
            Event::Ended {
                n,
                status,
                started,
                at,
                ..
            } => {
                ended.push((*n, *started, *at));
                if (200..300).contains(status) {
                    let first = handled.entry(*n).or_insert(*at);
                    *first = (*first).min(*at);
                } else {
                    *asked_again.entry(*n).or_default() += 1;
                }
            }
            Event::Fault {
                what, in_flight, ..
            } => {
                *report.faults.entry(what.clone()).or_default() += 1;
                report.in_flight_at_faults += in_flight;
            }
            Event::Try { .. } | Event::Accepted { .. } => {}
        }
    }

    let mut gone = BTreeSet::new();
    for letter in dead {
        *report.reasons.entry(letter.reason.clone()).or_default() += 1;
        if !gone.insert(letter.n) {
            report.dead_twice.push(letter.n);
        }
        if tried.get(&letter.n).is_some_and(|sent| *sent != letter.sha) {
            corrupted.insert(letter.n);
        }
    }

    // A first call is owed, and one more for each answer that was a failure; the last failure of a
    // dead letter asked for nothing.
    report.extra = calls
        .iter()
        .map(|(n, calls)| {
            let failures = asked_again.get(n).copied().unwrap_or(0);
            let owed = 1 + failures - u64::from(gone.contains(n) && failures > 0);
            calls.saturating_sub(owed)
        })
        .sum();

    let is_repeat = |n: &u64, started: u64| handled.get(n).is_some_and(|end| *end < started);
    let fresh = ended.iter().filter(|(n, from, _)| !is_repeat(n, *from));
    report.most_at_once = most_at_once(fresh);
    report.most_with_repeats = most_at_once(&ended);

    report.tried = tried.len() as u64;
    report.accepted = accepted.len() as u64;
    report.handled = handled.len() as u64;
    report.dead = dead.len() as u64;
    report.lost = accepted
        .iter()
        .filter(|n| !handled.contains_key(*n) && !gone.contains(*n))
        .copied()
        .collect();
    report.phantom = seen
        .union(&gone)
        .filter(|n| !tried.contains_key(*n))
        .copied()
        .collect();
    report.both = gone
        .iter()
        .filter(|n| handled.contains_key(n))
        .copied()
        .collect();
    report.corrupted = corrupted.into_iter().collect();
    report.out_of_order = crate::order::violations(events, &gone);
    report
}

/// Most of these calls that ran at one time.
fn most_at_once<'a>(calls: impl IntoIterator<Item = &'a (u64, u64, u64)>) -> u64 {
    let mut edges: Vec<(u64, i64)> = calls
        .into_iter()
        .flat_map(|(_, started, at)| [(*started, 1), (*at, -1)])
        .collect();
    edges.sort_unstable();
    let (mut running, mut most) = (0_i64, 0);
    for (_, step) in edges {
        running += step;
        most = most.max(running);
    }
    most.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(n: u64) -> [Event; 2] {
        [
            Event::Try {
                n,
                sha: format!("sha{n}"),
                group: None,
            },
            Event::Accepted {
                n,
                id: format!("id{n}"),
            },
        ]
    }

    fn call(n: u64, status: u16, started: u64, at: u64) -> [Event; 2] {
        let id = format!("id{n}");
        [
            Event::Started {
                n,
                id: id.clone(),
                sha: format!("sha{n}"),
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

    fn dead(n: u64) -> Dead {
        Dead {
            n,
            sha: format!("sha{n}"),
            reason: "MaxAttempts".into(),
            attempts: 2,
        }
    }

    /// Two handled, one dead after two failures: nothing wrong.
    fn good() -> (Vec<Event>, Vec<Dead>) {
        let events = [sent(1), sent(2), sent(3)]
            .into_iter()
            .chain([call(1, 204, 10, 20), call(2, 204, 20, 30)])
            .chain([call(3, 500, 31, 32), call(3, 500, 41, 42)])
            .flatten()
            .collect();
        (events, vec![dead(3)])
    }

    #[test]
    fn a_good_run_has_no_violation() {
        let (events, letters) = good();
        let report = check(&events, &letters);
        assert_eq!((report.accepted, report.handled, report.dead), (3, 2, 1));
        assert_eq!(report.violations(1), Vec::<String>::new(), "{report}");
    }

    #[test]
    fn planted_loss_is_found() {
        let (mut events, letters) = good();
        events.extend(sent(4));
        assert_eq!(check(&events, &letters).lost, [4]);
    }

    #[test]
    fn a_missing_dead_letter_is_a_loss() {
        let (events, _) = good();
        assert_eq!(check(&events, &[]).lost, [3]);
    }

    #[test]
    fn planted_phantoms_are_found_in_handlers_and_dead_letters() {
        let (mut events, mut letters) = good();
        events.extend(call(7, 204, 50, 60));
        letters.push(dead(8));
        assert_eq!(check(&events, &letters).phantom, [7, 8]);
    }

    #[test]
    fn a_planted_duplicate_is_extra_unless_a_kill_explains_it() {
        let (mut events, letters) = good();
        events.extend(call(1, 204, 50, 60));
        let report = check(&events, &letters);
        assert_eq!(report.extra, 1);
        assert_eq!(report.violations(1).len(), 1, "{report}");
        events.push(Event::Fault {
            what: "sidecar".into(),
            in_flight: 1,
            at: 45,
        });
        assert_eq!(check(&events, &letters).violations(1), Vec::<String>::new());
    }

    #[test]
    fn planted_damage_is_found() {
        let (mut events, mut letters) = good();
        if let Event::Started { sha, .. } = &mut events[6] {
            *sha = "other".into();
        }
        letters[0].sha = "other".into();
        assert_eq!(check(&events, &letters).corrupted, [1, 3]);
    }

    #[test]
    fn too_many_at_once_are_found() {
        let (mut events, letters) = good();
        events.extend(sent(4).into_iter().chain(call(4, 204, 15, 25)));
        let report = check(&events, &letters);
        assert_eq!(report.most_at_once, 2);
        assert_eq!(report.violations(1).len(), 1, "{report}");
    }

    #[test]
    fn a_repeat_of_a_handled_message_beside_others_is_told_apart() {
        let (mut events, letters) = good();
        events.extend(call(1, 204, 21, 25));
        let report = check(&events, &letters);
        assert_eq!((report.most_at_once, report.most_with_repeats), (1, 2));
        let mut running = good().0;
        running.extend(call(1, 204, 15, 18));
        assert_eq!(check(&running, &letters).most_at_once, 2);
    }

    #[test]
    fn a_second_dead_letter_of_one_message_is_found() {
        let (events, mut letters) = good();
        letters.push(dead(3));
        assert_eq!(check(&events, &letters).dead_twice, [3]);
    }
}
