use proptest::prelude::*;

use super::*;

const WIDTH: Duration = Duration::from_millis(1_500);

fn delta(replica: &str, slot: u64, tallies: &[(u64, u64, u64, u64)]) -> Delta {
    Delta {
        replica: replica.to_owned(),
        epoch: 1,
        generation: 1,
        width: 1_500,
        slot,
        tallies: tallies.to_vec(),
    }
}

fn heard(deltas: &[Delta], now: u64) -> Peers {
    let mut peers = Peers::new(WIDTH);
    for delta in deltas {
        peers.merge(delta, now);
    }
    peers
}

#[test]
fn a_repeat_changes_nothing() {
    let mut peers = Peers::new(WIDTH);
    let delta = delta("a", 5, &[(0, 10, 3, 1), (4, 2, 2, 0)]);
    assert!(peers.merge(&delta, 100));
    let once = peers.clone();
    assert!(!peers.merge(&delta, 100));
    assert!(!peers.merge(&delta, 5_000));
    assert_eq!(peers, once);
    assert_eq!(peers.total(1, 100).calls, 12);
}

#[test]
fn a_lost_delta_is_made_good_by_the_next() {
    let first = delta("a", 5, &[(0, 10, 3, 1)]);
    let second = delta("a", 6, &[(0, 1, 0, 0), (1, 12, 4, 1)]);
    assert_eq!(
        heard(&[first, second.clone()], 0).total(1, 0),
        heard(&[second], 0).total(1, 0)
    );
}

#[test]
fn replicas_are_added_up_whatever_their_clocks_say() {
    let skewed = delta("b", 9_000_000, &[(0, 5, 5, 0)]);
    let peers = heard(&[delta("a", 3, &[(0, 10, 1, 2)]), skewed], 77);
    let total = peers.total(1, 77);
    assert_eq!((total.calls, total.failures, total.slow), (15, 6, 2));
}

#[test]
fn a_silent_replica_is_forgotten_with_its_window() {
    let peers = heard(&[delta("a", 40, &[(0, 10, 1, 0), (19, 7, 0, 0)])], 1_000);
    assert_eq!(peers.total(1, 1_000).calls, 17);
    assert_eq!(peers.total(1, 2_499).calls, 17);
    assert_eq!(peers.total(1, 2_500).calls, 10);
    assert_eq!(peers.total(1, 30_999).calls, 10);
    assert_eq!(peers.total(1, 31_000).calls, 0);
}

#[test]
fn a_delta_that_comes_after_its_window_brings_nothing_back() {
    let late = delta("a", 40, &[(0, 10, 1, 0)]);
    let mut peers = heard(std::slice::from_ref(&late), 1_000);
    peers.merge(&late, 40_000);
    assert_eq!(peers.total(1, 40_000).calls, 0);
    peers.merge(&delta("a", 70, &[(0, 1, 0, 0)]), 46_000);
    peers.merge(&late, 46_100);
    assert_eq!(peers.total(1, 46_100).calls, 1);
}

#[test]
fn only_counts_of_the_same_generation_are_added() {
    let next = Delta {
        generation: 2,
        ..delta("a", 8, &[(0, 4, 4, 0)])
    };
    let peers = heard(&[next, delta("a", 9, &[(0, 9, 9, 9)])], 0);
    assert_eq!(peers.total(1, 0).calls, 0);
    assert_eq!(peers.total(2, 0).calls, 4);
}

#[test]
fn a_later_life_replaces_an_earlier_one_also_when_its_clock_starts_again() {
    let reborn = Delta {
        epoch: 2,
        ..delta("a", 0, &[(0, 1, 0, 0)])
    };
    let old = delta("a", 1_000_000, &[(0, 50, 50, 0)]);
    for deltas in [[old.clone(), reborn.clone()], [reborn, old]] {
        assert_eq!(heard(&deltas, 0).total(1, 0).calls, 1);
    }
}

#[test]
fn what_no_replica_could_have_sent_is_left_out() {
    let long = "x".repeat(LONGEST_NAME + 1);
    let impossible = [
        delta("a", 5, &[(0, 1, 2, 0)]),
        delta("a", 5, &[(0, 1, 0, 2)]),
        delta("a", 50, &[(20, 1, 0, 0)]),
        delta("a", 5, &[(0, 1, 0, 0); SLOTS + 1]),
        delta(&long, 5, &[(0, 1, 0, 0)]),
        Delta {
            width: 1_000,
            ..delta("a", 5, &[(0, 1, 0, 0)])
        },
    ];
    for delta in impossible {
        let mut peers = Peers::new(WIDTH);
        assert!(!peers.merge(&delta, 0), "{delta:?}");
        assert!(peers.is_empty());
    }
}

#[test]
fn extreme_numbers_do_no_harm() {
    let most = u64::MAX;
    let mut peers = Peers::new(WIDTH);
    peers.merge(&delta("a", most, &[(0, most, most, most)]), most);
    peers.merge(&delta("b", 0, &[(0, most, 0, 0), (5, 1, 0, 0)]), 0);
    let _ = peers.total(1, 0);
    let _ = peers.total(1, most);
    peers.forget_silent(most);
}

#[test]
fn memory_is_bounded_by_forgetting_whoever_was_silent_longest() {
    let mut peers = Peers::new(WIDTH);
    for number in 0..=MOST_REPLICAS as u64 {
        peers.merge(&delta(&format!("pod-{number}"), 5, &[(0, 1, 0, 0)]), number);
    }
    assert_eq!(peers.len(), MOST_REPLICAS);
    assert!(!peers.sources.contains_key("pod-0"));
    peers.forget_silent(10_000_000);
    assert!(peers.is_empty());
}

#[test]
fn a_delta_is_one_short_line() {
    let delta = Delta {
        replica: "payments-7d9f8-x2x4v".to_owned(),
        epoch: 1_800_000_000_000,
        ..delta("", 12, &[(0, 10, 3, 1)])
    };
    let text = serde_json::to_string(&delta).unwrap();
    assert_eq!(
        text,
        r#"{"r":"payments-7d9f8-x2x4v","e":1800000000000,"g":1,"w":1500,"s":12,"t":[[0,10,3,1]]}"#
    );
    assert_eq!(serde_json::from_str::<Delta>(&text).unwrap(), delta);
}

/// Deltas as replicas send them: cuts of growing counts, over lives and generations.
fn deltas() -> impl Strategy<Value = Vec<Delta>> {
    let step = (
        0_usize..3,
        0_u64..4,
        0_u64..30,
        0_u64..5,
        0_u64..5,
        0_u32..12,
    );
    prop::collection::vec(step, 1..25).prop_map(|steps| {
        let names = ["a", "b", "c"];
        let mut lives = [(1_u64, 1_u64, 0_u64); 3];
        let mut windows: [Window; 3] = std::array::from_fn(|_| Window::new(0));
        let mut deltas = Vec::new();
        for (who, pause, jump, calls, failures, turn) in steps {
            let (epoch, generation, slot) = &mut lives[who];
            match turn {
                0 => {
                    (*epoch, *slot) = (*epoch + 1, 0);
                    windows[who] = Window::new(0);
                }
                1 => {
                    *generation += 1;
                    windows[who] = Window::new(*slot);
                }
                2 => *slot += jump,
                _ => *slot += pause,
            }
            windows[who].advance(*slot);
            windows[who].add(Tally {
                calls: calls + failures,
                failures,
                slow: calls,
            });
            let life = (names[who], *epoch);
            deltas.push(Delta::of(&windows[who], life, *generation, WIDTH));
        }
        deltas
    })
}

proptest! {
    #[test]
    fn any_order_and_any_repeats_give_the_same(
        (sent, shuffled) in deltas().prop_flat_map(|sent| {
            let twice: Vec<_> = sent.iter().chain(&sent).cloned().collect();
            (Just(sent), Just(twice).prop_shuffle())
        }),
        now in 0_u64..100_000,
    ) {
        prop_assert_eq!(heard(&sent, now), heard(&shuffled, now));
    }

    #[test]
    fn the_total_is_what_the_senders_have_in_their_windows(sent in deltas()) {
        let peers = heard(&sent, 0);
        for generation in 0..30 {
            let mut last = BTreeMap::new();
            for delta in &sent {
                last.insert(delta.replica.clone(), delta);
            }
            let expected = last
                .values()
                .filter(|delta| delta.generation == generation)
                .flat_map(|delta| delta.slots())
                .fold(Tally::default(), |sum, (_, tally)| sum.plus(tally));
            prop_assert_eq!(peers.total(generation, 0), expected);
        }
    }
}
