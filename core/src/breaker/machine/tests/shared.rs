//! One replica with a store and others.

use super::*;

#[test]
fn opening_is_acted_on_at_once_and_proposed() {
    let mut shell = Shell::shared(plain());
    let effects = shell.fail(4);
    let (expected, record) = proposal(&effects).unwrap();
    assert_eq!((expected, record.version, record.generation), (0, 1, 1));
    assert_eq!(shell.refusal(), Duration::from_secs(10));
    shell.now += 40;
    assert_eq!(shell.accept(&effects), []);
    assert_eq!(shell.refusal(), Duration::from_millis(9_960));
}

#[test]
fn whoever_proposes_second_takes_over_what_the_first_wrote() {
    let mut shell = Shell::shared(plain());
    let effects = shell.fail(4);
    let (_, record) = proposal(&effects).unwrap();
    let first = Record {
        state: Phase::Open { millis: 7_000 },
        reason: Reason::SlowRate,
        ..record.clone()
    };
    let version = record.version;
    let lost = Event::Lost {
        version,
        current: Some(first.clone()),
    };
    assert_eq!(proposal(&shell.step(lost)), None);
    assert_eq!(shell.breaker.acting(), &first);
    assert_eq!(shell.refusal(), Duration::from_secs(7));
}

#[test]
fn an_opening_by_another_replica_holds_at_once_whatever_its_clock_says() {
    let mut shell = Shell::shared(plain());
    let open = Record {
        version: 5,
        ..Record::default().opened(
            Reason::FailureRate,
            Duration::from_secs(10),
            Moment::from_millis(shell.now - 3_600_000),
        )
    };
    let effects = shell.step(Event::Changed(open));
    assert_eq!(became(&effects), [(State::Open, Reason::FailureRate)]);
    assert_eq!(shell.refusal(), Duration::from_secs(10));
}

#[test]
fn a_restarted_replica_stays_open_for_what_is_left() {
    let opened = |shell: &Shell, ago: i64| Record {
        version: 5,
        ..Record::default().opened(
            Reason::FailureRate,
            Duration::from_secs(10),
            Moment::from_millis(shell.now.saturating_add_signed(-ago)),
        )
    };
    for (ago, left) in [(0, 10), (4_000, 6), (-3_600_000, 10)] {
        let mut shell = Shell::new(Breaker::shared(plain(), "a", 2));
        let record = opened(&shell, ago);
        shell.step(Event::Stored(Some(record)));
        assert_eq!(shell.refusal(), Duration::from_secs(left), "{ago}");
    }
    let mut shell = Shell::new(Breaker::shared(plain(), "a", 2));
    let record = opened(&shell, 60_000);
    let effects = shell.step(Event::Stored(Some(record)));
    assert_eq!(proposal(&effects).unwrap().1.state(), State::HalfOpen);
}

#[test]
fn a_shared_probe_waits_for_its_permit_and_others_are_refused() {
    let mut config = plain();
    config.half_open.probes = 1;
    let mut shell = Shell::shared(config);
    let effects = shell.fail(4);
    shell.accept(&effects);
    shell.now += 10_000;
    let asked = shell.ask();
    let (_, record) = proposal(&asked).unwrap();
    assert_eq!((ticket(&asked), record.permits.len()), (None, 1));
    assert_eq!(shell.refusal(), PROBE_PAUSE);
    let probe = ticket(&shell.accept(&asked)).expect("admitted");
    let effects = shell.end(probe, Outcome::Failed);
    assert_eq!(shell.state(), State::Open);
    let (expected, record) = proposal(&effects).unwrap();
    assert_eq!((expected, record.permits.len(), record.opens), (2, 0, 2));
}

#[test]
fn a_permit_that_the_watch_shows_before_the_answer_is_good() {
    let mut shell = Shell::shared(plain());
    let effects = shell.fail(4);
    shell.accept(&effects);
    shell.now += 10_000;
    let asked = shell.ask();
    let (_, record) = proposal(&asked).unwrap();
    assert!(ticket(&shell.step(Event::Changed(record.clone()))).is_some());
    assert_eq!(shell.accept(&asked), []);
    assert_eq!(shell.step(Event::Changed(record)), []);
}

#[test]
fn a_call_that_waited_too_long_is_refused_and_its_permit_given_back() {
    let mut shell = Shell::shared(plain());
    let effects = shell.fail(4);
    shell.accept(&effects);
    shell.now += 10_000;
    let asked = shell.ask();
    let effects = shell.wait(millis(LONGEST_WAIT) + 1);
    assert!(
        matches!(effects[..], [Effect::Refuse { .. }]),
        "{effects:?}"
    );
    let effects = shell.accept(&asked);
    assert_eq!(ticket(&effects), None);
    assert_eq!(proposal(&effects).unwrap().1.permits, []);
}

#[test]
fn without_an_answer_the_replica_goes_on_alone_with_one_probe() {
    let mut shell = Shell::shared(plain());
    shell.fail(4);
    shell.wait(millis(LONGEST_SILENCE));
    assert!(shell.breaker.is_degraded());
    shell.wait(5_000);
    let probe = shell.begin();
    assert!(probe.is_probe());
    shell.refusal();
    shell.end(probe, Outcome::Succeeded);
    for _ in 0..2 {
        let probe = shell.begin();
        shell.end(probe, Outcome::Succeeded);
    }
    assert_eq!(shell.state(), State::Closed);
}

#[test]
fn when_the_store_is_back_an_opening_of_ones_own_is_proposed_with_the_time_it_has_left() {
    let mut shell = Shell::shared(plain());
    shell.step(Event::StoreAway);
    shell.fail(4);
    shell.now += 4_000;
    let closed = Record {
        version: 9,
        generation: 4,
        ..Record::default()
    };
    let effects = shell.step(Event::Stored(Some(closed)));
    let (expected, record) = proposal(&effects).unwrap();
    assert_eq!(
        (expected, record.generation, record.state()),
        (9, 5, State::Open)
    );
    assert_eq!(shell.refusal(), Duration::from_secs(6));
    shell.accept(&effects);
    assert_eq!(shell.refusal(), Duration::from_secs(6));
}

#[test]
fn when_the_store_is_back_what_it_holds_wins_otherwise() {
    let mut shell = Shell::shared(plain());
    let effects = shell.fail(4);
    shell.accept(&effects);
    let stored = proposal(&effects).unwrap().1;
    shell.step(Event::StoreAway);
    shell.wait(10_000);
    let _lost = shell.begin();
    shell.step(Event::Stored(Some(stored)));
    assert_eq!(shell.breaker.acting().permits.len(), 0);
    let closed = Record {
        version: 8,
        generation: 8,
        ..Record::default()
    };
    shell.step(Event::Changed(closed));
    assert_eq!(shell.state(), State::Closed);
}

#[test]
fn a_store_that_lost_the_record_gets_it_back() {
    let mut shell = Shell::shared(plain());
    let effects = shell.fail(4);
    shell.accept(&effects);
    let effects = shell.step(Event::Stored(None));
    let (expected, record) = proposal(&effects).unwrap();
    assert_eq!(
        (expected, record.version, record.state()),
        (0, 2, State::Open)
    );
    assert_eq!(shell.refusal(), Duration::from_secs(10));
}

#[test]
fn a_store_that_refuses_for_no_reason_is_not_asked_again_at_once() {
    let mut shell = Shell::shared(plain());
    let effects = shell.fail(4);
    let version = proposal(&effects).unwrap().1.version;
    let lost = Event::Lost {
        version,
        current: None,
    };
    assert_eq!(proposal(&shell.step(lost)), None);
    assert_eq!(shell.state(), State::Open);
    let wait = millis(shell.breaker.wake_in().unwrap());
    assert!(proposal(&shell.wait(wait)).is_some());
}

#[test]
fn an_older_record_changes_nothing() {
    let mut shell = Shell::shared(plain());
    let effects = shell.fail(4);
    shell.accept(&effects);
    let before = shell.breaker.acting().clone();
    assert_eq!(shell.step(Event::Changed(Record::default())), []);
    assert_eq!(shell.breaker.acting(), &before);
}

#[test]
fn failures_of_other_replicas_open_it_once_for_all() {
    let mut here = Shell::shared(plain());
    let mut there = Shell::new(Breaker::shared(plain(), "b", 1));
    there.step(Event::Stored(None));
    let delta = published(&there.fail(1)).unwrap();
    here.fail(2);
    here.step(Event::Heard(delta.clone()));
    here.step(Event::Heard(delta.clone()));
    assert_eq!(here.state(), State::Closed);
    let effects = here.fail(1);
    assert_eq!(here.breaker.state(), State::Open);
    assert_eq!(proposal(&effects).unwrap().0, 0);
    // What was counted in another generation opens nothing.
    here.accept(&effects);
    assert_eq!(here.step(Event::Heard(delta)), []);
}

#[test]
fn a_replica_does_not_count_its_own_deltas_twice() {
    let mut shell = Shell::shared(plain());
    let delta = published(&shell.fail(1)).unwrap();
    shell.fail(1);
    shell.step(Event::Heard(delta));
    assert_eq!(shell.breaker.window().calls, 2);
}

#[test]
fn trouble_is_told_soon_and_good_news_once_a_second() {
    let mut shell = Shell::shared(BreakerConfig::default());
    assert!(published(&shell.succeed(1)).is_some());
    assert_eq!(shell.breaker.wake_in(), None);
    assert!(published(&shell.succeed(3)).is_none());
    assert_eq!(shell.breaker.wake_in(), Some(QUIET_INTERVAL));
    assert!(published(&shell.wait(24)).is_none());
    assert!(published(&shell.fail(1)).is_none());
    assert_eq!(shell.breaker.wake_in(), Some(Duration::from_millis(1)));
    let delta = published(&shell.wait(1)).unwrap();
    assert_eq!(delta.tallies, [(0, 5, 1, 0)]);
    assert_eq!(published(&shell.wait(60_000)), None);
}

#[test]
fn alone_nothing_is_proposed_and_nothing_published() {
    let mut shell = Shell::alone(plain());
    let mut effects = shell.fail(4);
    effects.extend(shell.wait(10_000));
    effects.extend(shell.step(Event::Stored(None)));
    assert!(proposal(&effects).is_none() && published(&effects).is_none());
    assert!(!shell.breaker.is_degraded());
}

#[test]
fn a_failed_probe_opens_it_although_another_replica_wrote_meanwhile() {
    let mut shell = Shell::shared(plain());
    let effects = shell.fail(4);
    shell.accept(&effects);
    shell.now += 10_000;
    let asked = shell.ask();
    let (_, granted) = proposal(&asked).unwrap();
    let probe = ticket(&shell.accept(&asked)).unwrap();
    let effects = shell.end(probe, Outcome::Failed);
    let (_, proposed) = proposal(&effects).unwrap();
    // Somebody else's probe succeeded at the same time, and was first.
    let current = Record {
        version: proposed.version,
        state: Phase::HalfOpen { successes: 1 },
        ..granted
    };
    let effects = shell.step(Event::Lost {
        version: proposed.version,
        current: Some(current.clone()),
    });
    assert_eq!(became(&effects), []);
    let (expected, again) = proposal(&effects).unwrap();
    assert_eq!(
        (expected, again.version),
        (current.version, current.version + 1)
    );
    assert_eq!((again.reason, again.opens), (Reason::ProbeFailed, 2));
    assert_eq!(shell.refusal(), Duration::from_secs(20));
}

#[test]
fn the_permit_of_another_replica_outlives_its_probe_and_then_expires() {
    let mut config = plain();
    config.half_open.probes = 1;
    let mut shell = Shell::shared(config.clone());
    let effects = shell.fail(4);
    shell.accept(&effects);
    shell.now += 10_000;
    // What the other one asks for, from the same record.
    let mut other = Shell::new(Breaker::shared(config, "b", 1));
    other.now = shell.now;
    let half_open = other.step(Event::Stored(Some(shell.breaker.acting().clone())));
    other.accept(&half_open);
    let (_, granted) = proposal(&other.ask()).unwrap();
    shell.step(Event::Changed(granted));
    // The other may be told late, and its probe may take all its time.
    let longest = shell.breaker.config.timeout() + LONGEST_WAIT;
    shell.now += millis(longest) + 1_000;
    assert_eq!(shell.refusal(), PROBE_PAUSE);
    shell.now += millis(PERMIT_MARGIN) - millis(LONGEST_WAIT) - 1_000;
    let (_, record) = proposal(&shell.ask()).unwrap();
    assert_eq!(record.permits.len(), 1);
    assert_eq!(record.permits[0].replica, "a");
}
