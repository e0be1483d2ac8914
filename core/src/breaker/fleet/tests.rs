use proptest::prelude::*;

use super::*;
use crate::breaker::config::Force;

fn rules(probes: u32, successes: u32) -> BreakerConfig {
    let mut config = BreakerConfig::default();
    config.trip.minimum_calls = 10;
    config.trip.window_seconds = 5;
    config.open.initial_seconds = 1;
    config.open.max_seconds = 8;
    config.half_open.probes = probes;
    config.half_open.successes = successes;
    config.timeout_seconds = 4;
    config
}

/// The target is well, the network is good: everybody must come to agree, and let calls through.
fn recovers(fleet: &mut Fleet) {
    fleet.weather = Weather {
        outages: false,
        delay: 20,
    };
    fleet.plan(fleet.now, Happening::TargetTurns(true));
    // Slow and abandoned calls and the permits of lost ones: some rounds fail although it is well.
    for _ in 0..60 {
        fleet.run(fleet.now + 10_000);
        let stored = fleet.store.clone();
        for replica in 0..fleet.replicas.len() {
            fleet.step(replica, Event::Stored(stored.clone()));
        }
        fleet.run(fleet.now + 100);
        let states: Vec<_> = fleet
            .replicas
            .iter()
            .map(|replica| replica.breaker.state())
            .collect();
        if states.iter().all(|state| *state == State::Closed) {
            return;
        }
    }
    let acting: Vec<_> = fleet
        .replicas
        .iter()
        .map(|replica| replica.breaker.acting())
        .collect();
    panic!("seed {}: {:?} with {acting:?}", fleet.seed, fleet.store);
}

/// `WEIR_FLEETS` asks for more than what is run every time.
fn cases() -> u32 {
    let asked = std::env::var("WEIR_FLEETS").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn never_more_probes_at_once_than_allowed_over_any_interleaving(
        seed: u64, replicas in 1_usize..5, probes in 1_u32..4, successes in 1_u32..5,
    ) {
        let weather = Weather { outages: false, delay: 1_500 };
        let mut fleet = Fleet::new(seed, replicas, rules(probes, successes), weather);
        fleet.live_through(100);
        for pair in fleet.history.windows(2) {
            prop_assert!(pair[0].version < pair[1].version, "seed {seed}");
            prop_assert!(pair[0].generation <= pair[1].generation, "seed {seed}");
            let allowed = match (pair[0].state(), pair[1].state()) {
                (State::Closed, next) => next == State::Open,
                (State::Open, next) => next != State::Closed,
                (State::HalfOpen, _) => true,
            };
            prop_assert!(allowed, "seed {seed}: {pair:?}");
        }
        recovers(&mut fleet);
    }

    #[test]
    fn a_replica_without_the_store_adds_one_probe_at_most(
        seed: u64, replicas in 1_usize..5, probes in 1_u32..4, successes in 1_u32..5,
    ) {
        let weather = Weather { outages: true, delay: 1_500 };
        let mut fleet = Fleet::new(seed, replicas, rules(probes, successes), weather);
        fleet.live_through(100);
        for replica in 0..replicas {
            fleet.happen(Happening::Disconnects(replica, false));
        }
        recovers(&mut fleet);
    }
}

#[test]
fn runs_reach_every_state_and_use_every_probe() {
    let weather = Weather {
        outages: false,
        delay: 1_500,
    };
    let mut most = 0;
    let mut states = std::collections::BTreeSet::new();
    let mut admitted = 0;
    let mut refused = 0;
    for seed in 0..4 {
        let mut fleet = Fleet::new(seed, 3, rules(3, 3), weather);
        fleet.live_through(120);
        most = most.max(fleet.most_probes);
        states.extend(fleet.history.iter().map(|record| record.state().as_str()));
        admitted += fleet.admitted;
        refused += fleet.refused;
    }
    assert_eq!(most, 3);
    assert_eq!(states.len(), 3);
    assert!(admitted > 500 && refused > 500, "{admitted} and {refused}");
}

#[test]
fn one_healthy_round_calls_the_target_exactly_as_often_as_needed() {
    let weather = Weather {
        outages: false,
        delay: 20,
    };
    let mut fleet = Fleet::new(7, 3, rules(3, 3), weather);
    fleet.run(fleet.now + 100);
    let open = Record::default().opened(
        crate::breaker::Reason::FailureRate,
        std::time::Duration::from_secs(1),
        Moment::from_millis(fleet.now),
    );
    fleet.store = Some(Record { version: 9, ..open });
    for replica in 0..3 {
        let stored = fleet.store.clone();
        fleet.step(replica, Event::Stored(stored));
    }
    // A hundred callers in each replica, at the moment when the open time is over.
    fleet.queue.clear();
    fleet.now += 300_000;
    let before = fleet.admitted;
    let mut tickets = 0;
    for call in 0..300_u64 {
        let replica = (call % 3) as usize;
        fleet.unanswered.insert((replica, 10_000 + call), fleet.now);
        fleet.step(
            replica,
            Event::Call {
                call: 10_000 + call,
            },
        );
        tickets += 1;
    }
    // Nothing ends before everything was answered.
    while let Some(Reverse((at, _, index))) = fleet.queue.pop() {
        let happening = fleet.happenings[index].take().expect("each happens once");
        if !matches!(happening, Happening::CallEnds(..)) {
            fleet.now = fleet.now.max(at);
            fleet.happen(happening);
        }
    }
    assert_eq!(tickets, 300);
    assert_eq!(fleet.admitted - before, 3);
    assert!(fleet.unanswered.is_empty(), "{:?}", fleet.unanswered);
}

#[test]
fn force_is_kept_to_by_each_replica_while_others_go_on() {
    let weather = Weather {
        outages: false,
        delay: 20,
    };
    let mut fleet = Fleet::new(3, 2, rules(1, 1), weather);
    let forced = BreakerConfig {
        force: Force::Open,
        ..rules(1, 1)
    };
    fleet.step(0, Event::Configured(forced));
    fleet.plan(fleet.now, Happening::TargetTurns(false));
    fleet.run(fleet.now + 30_000);
    assert_eq!(fleet.replicas[0].breaker.state(), State::Open);
    assert_ne!(fleet.replicas[1].breaker.state(), State::Closed);
    fleet.step(0, Event::Configured(rules(1, 1)));
    recovers(&mut fleet);
}
