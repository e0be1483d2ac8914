//! Group commit: which stores go into one atomic batch, and what a refusal means for each.
//!
//! Pure. A server stages every atomic batch on disk, so that one costs the same whatever it holds;
//! stores that arrive while one is under way go together into the next. A store is two messages: a
//! key that must be where it is expected, and the entry that it guards.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::time::Instant;

use super::codec::header_bytes;

/// Most stores of one batch. A server takes 1000 messages.
pub(crate) const MOST_STORES: usize = 128;
/// Most bytes of one batch, unless a single store has more.
pub(crate) const MOST_BYTES: usize = 1024 * 1024;

/// Longest wait for more stores.
const LONGEST_GATHERING: Duration = Duration::from_millis(2);

/// An entry that is stored together with its key, or not at all.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    /// Subject of the key.
    pub(crate) key: String,
    /// Sequence of the last message on that subject; 0 for none.
    pub(crate) expected: u64,
    /// Body of the key: tells this store from every other.
    pub(crate) mark: Bytes,
    /// How long the key stays, seconds.
    pub(crate) kept_seconds: u64,
    /// Subject of the entry.
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Guarded {
    pub(crate) fn size(&self) -> usize {
        self.key.len()
            + self.mark.len()
            + self.subject.len()
            + header_bytes(&self.headers)
            + self.body.len()
    }
}

/// What became of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored,
    /// The key was not where it was expected; what is there now.
    Refused {
        sequence: u64,
        mark: Bytes,
    },
}

/// What to do with a store of a refused batch, after its key was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The key is as expected: another store of the batch was the reason.
    Again,
    /// Decided.
    Settled(Outcome),
}

/// Judges a store by its key as it is stored now.
pub(crate) fn judge(store: &Guarded, now: Option<(u64, &[u8])>) -> Verdict {
    match now {
        Some((_, mark)) if mark == store.mark.as_ref() => Verdict::Settled(Outcome::Stored),
        Some((sequence, _)) if sequence == store.expected => Verdict::Again,
        None if store.expected == 0 => Verdict::Again,
        Some((sequence, mark)) => Verdict::Settled(Outcome::Refused {
            sequence,
            mark: Bytes::copy_from_slice(mark),
        }),
        None => Verdict::Settled(Outcome::Refused {
            sequence: 0,
            mark: Bytes::new(),
        }),
    }
}

/// How long a batch gathers stores before it is sent.
///
/// A batch costs the server about the same whatever it holds, so that the senders whom one batch answered
/// should find room together in the next. Without a wait the first of them to come back starts a batch alone,
/// and all the others wait for two. A lone sender never waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    enough: usize,
    until: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            enough: 1,
            until: Instant::now(),
        }
    }
}

impl Pace {
    /// The pace after a batch of `stores` that was sent at `began` and answered at `ended`.
    pub(crate) fn after(stores: usize, began: Instant, ended: Instant) -> Self {
        Self {
            enough: stores,
            until: ended + ((ended - began) / 2).min(LONGEST_GATHERING),
        }
    }

    /// Stores that need no more waiting: as many as were just answered.
    pub(crate) fn enough(self) -> usize {
        self.enough
    }

    /// When a batch goes with what it has: half the time that the last batch took, or sooner.
    pub(crate) fn gather_until(self) -> Instant {
        self.until
    }
}

/// Whether one more store fits into a batch that has `stores` of together `bytes`.
pub(crate) fn fits(stores: usize, bytes: usize, more: usize) -> bool {
    stores == 0 || (stores < MOST_STORES && bytes + more <= MOST_BYTES)
}

/// Stores with equal keys: the first leads, the others get its outcome.
pub(crate) fn merge<T>(
    jobs: Vec<T>,
    store: impl Fn(&T) -> &Guarded,
) -> (Vec<T>, HashMap<String, Vec<T>>) {
    let mut leading: Vec<T> = Vec::with_capacity(jobs.len());
    let mut following: HashMap<String, Vec<T>> = HashMap::new();
    let mut keys = std::collections::HashSet::with_capacity(jobs.len());
    for job in jobs {
        if keys.insert(store(&job).key.clone()) {
            leading.push(job);
        } else {
            following
                .entry(store(&job).key.clone())
                .or_default()
                .push(job);
        }
    }
    (leading, following)
}

/// The outcome of a store whose key equals that of `leader`, which had `outcome`.
pub(crate) fn follow(follower: &Guarded, leader: &Guarded, outcome: &Outcome) -> Outcome {
    let (sequence, mark) = match outcome {
        Outcome::Stored => (0, &leader.mark),
        Outcome::Refused { sequence, mark } => (*sequence, mark),
    };
    if mark == &follower.mark {
        Outcome::Stored
    } else {
        Outcome::Refused {
            sequence,
            mark: mark.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn store(key: &str, mark: &str) -> Guarded {
        Guarded {
            key: key.to_owned(),
            expected: 0,
            mark: Bytes::copy_from_slice(mark.as_bytes()),
            kept_seconds: 60,
            subject: "main".to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn a_key_with_our_own_mark_means_stored_not_duplicate() {
        let ours = store("k", "a");
        assert_eq!(
            judge(&ours, Some((7, b"a"))),
            Verdict::Settled(Outcome::Stored)
        );
        assert_eq!(
            judge(&ours, Some((7, b"b"))),
            Verdict::Settled(Outcome::Refused {
                sequence: 7,
                mark: Bytes::from_static(b"b")
            })
        );
        assert_eq!(judge(&ours, None), Verdict::Again);
    }

    #[test]
    fn a_lone_sender_waits_for_nobody_and_many_wait_shortly_for_each_other() {
        let began = Instant::now();
        let at = |micros| began + Duration::from_micros(micros);
        assert_eq!(Pace::after(1, began, at(3000)).enough(), 1);
        let many = Pace::after(64, began, at(3000));
        assert_eq!((many.enough(), many.gather_until()), (64, at(4500)));
        let slow = Pace::after(64, began, at(60_000));
        assert_eq!(slow.gather_until(), at(62_000));
    }

    #[test]
    fn an_expected_key_that_is_gone_is_refused() {
        let ours = Guarded {
            expected: 5,
            ..store("k", "a")
        };
        assert_eq!(judge(&ours, Some((5, b"x"))), Verdict::Again);
        assert_eq!(
            judge(&ours, None),
            Verdict::Settled(Outcome::Refused {
                sequence: 0,
                mark: Bytes::new()
            })
        );
    }

    #[test]
    fn a_batch_is_bounded_but_takes_one_store_of_any_size() {
        assert!(fits(0, 0, 10 * MOST_BYTES));
        assert!(!fits(1, 10, MOST_BYTES));
        assert!(fits(MOST_STORES - 1, 0, 1) && !fits(MOST_STORES, 0, 1));
    }

    /// A server that stores batches as a whole.
    #[derive(Default)]
    struct Model {
        keys: BTreeMap<String, Bytes>,
        stored: Vec<Bytes>,
    }

    impl Model {
        fn commit(&mut self, batch: &[Guarded]) -> bool {
            if batch.iter().any(|store| self.keys.contains_key(&store.key)) {
                return false;
            }
            for store in batch {
                self.keys.insert(store.key.clone(), store.mark.clone());
                self.stored.push(store.mark.clone());
            }
            true
        }
    }

    proptest! {
        /// Of all stores of one key exactly one is stored, and every other one learns which.
        #[test]
        fn equal_keys_store_one_and_answer_with_it(
            known in prop::collection::btree_set("[a-d]", 0..3),
            jobs in prop::collection::vec("[a-f]", 1..40),
        ) {
            let mut model = Model::default();
            for key in &known {
                model.keys.insert(key.clone(), Bytes::from(format!("old-{key}")));
            }
            let jobs: Vec<Guarded> =
                jobs.iter().enumerate().map(|(at, key)| store(key, &format!("{key}{at}"))).collect();
            let all = jobs.clone();
            let (mut leading, following) = merge(jobs, |job| job);
            let mut outcomes: BTreeMap<Bytes, Outcome> = BTreeMap::new();
            let leaders = leading.clone();
            while !leading.is_empty() {
                if model.commit(&leading) {
                    outcomes.extend(leading.drain(..).map(|job| (job.mark, Outcome::Stored)));
                    break;
                }
                let before = leading.len();
                leading.retain(|job| {
                    let now = model.keys.get(&job.key).map(|mark| (1, mark.as_ref()));
                    match judge(job, now) {
                        Verdict::Again => true,
                        Verdict::Settled(outcome) => {
                            outcomes.insert(job.mark.clone(), outcome);
                            false
                        }
                    }
                });
                prop_assert!(leading.len() < before, "a refused batch shrinks");
            }
            for leader in &leaders {
                let outcome = outcomes[&leader.mark].clone();
                for follower in following.get(&leader.key).into_iter().flatten() {
                    outcomes.insert(follower.mark.clone(), follow(follower, leader, &outcome));
                }
            }
            for job in &all {
                let first = &model.keys[&job.key];
                match &outcomes[&job.mark] {
                    Outcome::Stored => prop_assert_eq!(first, &job.mark),
                    Outcome::Refused { mark, .. } => {
                        prop_assert_eq!(first, mark);
                        prop_assert_ne!(mark, &job.mark);
                    }
                }
            }
            let distinct = model.stored.iter().collect::<std::collections::BTreeSet<_>>();
            prop_assert_eq!(distinct.len(), model.stored.len());
        }
    }
}
