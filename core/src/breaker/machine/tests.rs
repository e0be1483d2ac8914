use proptest::prelude::*;

use super::*;

/// Runs one breaker and keeps what it said.
struct Shell {
    breaker: Breaker,
    now: u64,
    calls: u64,
    random: f64,
}

impl Shell {
    fn new(breaker: Breaker) -> Self {
        Self {
            breaker,
            now: 1_800_000_000_000,
            calls: 0,
            random: 0.0,
        }
    }

    fn alone(config: BreakerConfig) -> Self {
        Self::new(Breaker::alone(config))
    }

    /// A replica whose store is empty and answers.
    fn shared(config: BreakerConfig) -> Self {
        let mut shell = Self::new(Breaker::shared(config, "a", 1));
        assert_eq!(shell.step(Event::Stored(None)), []);
        shell
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let now = Moment::from_millis(self.now);
        self.breaker.step(event, now, self.random)
    }

    fn wait(&mut self, millis: u64) -> Vec<Effect> {
        self.now += millis;
        self.step(Event::Tick)
    }

    fn ask(&mut self) -> Vec<Effect> {
        self.calls += 1;
        self.step(Event::Call { call: self.calls })
    }

    /// A call that is let through at once.
    fn begin(&mut self) -> Ticket {
        ticket(&self.ask()).expect("admitted")
    }

    fn end(&mut self, ticket: Ticket, outcome: Outcome) -> Vec<Effect> {
        self.step(Event::Ended { ticket, outcome })
    }

    fn calls(&mut self, outcome: Outcome, times: usize) -> Vec<Effect> {
        (0..times)
            .flat_map(|_| {
                let ticket = self.begin();
                self.end(ticket, outcome)
            })
            .collect()
    }

    fn fail(&mut self, times: usize) -> Vec<Effect> {
        self.calls(Outcome::Failed, times)
    }

    fn succeed(&mut self, times: usize) -> Vec<Effect> {
        self.calls(Outcome::Succeeded, times)
    }

    fn refusal(&mut self) -> Duration {
        match *self.ask() {
            [Effect::Refuse { retry_after, .. }] => retry_after,
            ref other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> State {
        self.breaker.state()
    }

    /// Lets the store take what was proposed.
    fn accept(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let (_, record) = proposal(effects).expect("a proposal");
        self.step(Event::Accepted {
            version: record.version,
        })
    }
}

fn ticket(effects: &[Effect]) -> Option<Ticket> {
    effects.iter().find_map(|effect| match effect {
        Effect::Admit { ticket, .. } => Some(*ticket),
        _ => None,
    })
}

fn proposal(effects: &[Effect]) -> Option<(u64, Record)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Propose { expected, record } => Some((*expected, record.clone())),
        _ => None,
    })
}

fn published(effects: &[Effect]) -> Option<Delta> {
    effects.iter().find_map(|effect| match effect {
        Effect::Publish(delta) => Some(delta.clone()),
        _ => None,
    })
}

fn became(effects: &[Effect]) -> Vec<(State, Reason)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Became { state, reason } => Some((*state, *reason)),
            _ => None,
        })
        .collect()
}

fn rules() -> BreakerConfig {
    let mut config = BreakerConfig::default();
    config.trip.minimum_calls = 4;
    config.open.jitter_percent = 0;
    config
}

fn row(consecutive_failures: u32) -> BreakerConfig {
    let mut config = rules();
    config.trip.failure_percent = 0;
    config.trip.consecutive_failures = consecutive_failures;
    config
}

#[test]
fn one_failure_less_than_the_threshold_and_a_success_keep_it_closed() {
    let mut shell = Shell::alone(row(5));
    shell.fail(4);
    shell.succeed(1);
    shell.fail(4);
    assert_eq!(shell.state(), State::Closed);
    let effects = shell.fail(1);
    assert_eq!(
        became(&effects),
        [(State::Open, Reason::ConsecutiveFailures)]
    );
}

#[test]
fn at_the_threshold_calls_are_refused_with_the_time_that_is_left() {
    let mut shell = Shell::alone(rules());
    let effects = shell.fail(4);
    assert_eq!(became(&effects), [(State::Open, Reason::FailureRate)]);
    assert_eq!(shell.refusal(), Duration::from_secs(10));
    shell.now += 9_999;
    assert_eq!(shell.refusal(), Duration::from_millis(1));
    assert_eq!(
        shell.breaker.next_probe(),
        Some(Moment::from_millis(shell.now + 1))
    );
}

#[test]
fn fewer_calls_than_the_minimum_never_trip_by_share() {
    let mut shell = Shell::alone(rules());
    for _ in 0..50 {
        shell.fail(3);
        shell.wait(30_000);
    }
    assert_eq!(shell.state(), State::Closed);
}

#[test]
fn slow_answers_trip_it_although_they_are_well() {
    let mut shell = Shell::alone(rules());
    for _ in 0..4 {
        assert_eq!(shell.state(), State::Closed);
        let ticket = shell.begin();
        shell.now += 2_000;
        shell.end(ticket, Outcome::Succeeded);
    }
    assert_eq!(shell.state(), State::Open);
    assert_eq!(shell.breaker.acting().reason, Reason::SlowRate);
}

#[test]
fn abandoned_calls_say_nothing() {
    let mut shell = Shell::alone(rules());
    shell.fail(3);
    shell.calls(Outcome::Abandoned, 10);
    assert_eq!(shell.breaker.window().calls, 3);
    assert_eq!(shell.state(), State::Closed);
}

#[test]
fn results_of_calls_from_before_a_change_do_not_count() {
    let mut config = rules();
    config.half_open.successes = 1;
    let mut shell = Shell::alone(config);
    let early: Vec<_> = (0..10).map(|_| shell.begin()).collect();
    shell.fail(4);
    for ticket in &early[..3] {
        shell.end(*ticket, Outcome::Failed);
    }
    shell.wait(10_000);
    assert_eq!(shell.state(), State::HalfOpen);
    shell.end(early[3], Outcome::Failed);
    shell.end(early[4], Outcome::Succeeded);
    assert_eq!(shell.state(), State::HalfOpen);
    let probe = shell.begin();
    shell.end(probe, Outcome::Succeeded);
    assert_eq!(shell.state(), State::Closed);
    for ticket in &early[5..] {
        shell.end(*ticket, Outcome::Failed);
    }
    assert_eq!(shell.breaker.window(), Tally::default());
    assert_eq!(shell.state(), State::Closed);
}

#[test]
fn half_open_admits_exactly_as_many_probes_as_it_may() {
    let mut shell = Shell::alone(rules());
    shell.fail(4);
    shell.wait(10_000);
    let probes: Vec<_> = (0..3).map(|_| shell.begin()).collect();
    assert!(probes.iter().all(|probe| probe.is_probe()));
    assert_eq!(shell.refusal(), PROBE_PAUSE);
    // One that succeeded makes no room: three that succeed are all that is needed.
    shell.end(probes[0], Outcome::Succeeded);
    assert_eq!(shell.refusal(), PROBE_PAUSE);
    // One that was abandoned does.
    shell.end(probes[1], Outcome::Abandoned);
    let fourth = shell.begin();
    shell.refusal();
    shell.end(probes[2], Outcome::Succeeded);
    let effects = shell.end(fourth, Outcome::Succeeded);
    assert_eq!(became(&effects), [(State::Closed, Reason::ProbesSucceeded)]);
    assert_eq!(shell.breaker.acting().opens, 0);
}

#[test]
fn the_end_of_a_probe_counts_once() {
    let mut shell = Shell::alone(rules());
    shell.fail(4);
    shell.wait(10_000);
    let probe = shell.begin();
    for _ in 0..5 {
        shell.end(probe, Outcome::Succeeded);
    }
    assert_eq!(shell.state(), State::HalfOpen);
    assert_eq!(
        shell.breaker.acting().state,
        Phase::HalfOpen { successes: 1 }
    );
}

#[test]
fn a_probe_that_fails_or_is_slow_opens_it_for_longer_up_to_the_longest() {
    let mut shell = Shell::alone(rules());
    shell.fail(4);
    let mut seconds = Vec::new();
    for round in 0..7 {
        seconds.push(shell.refusal().as_secs());
        let open_for = seconds[round] * 1_000;
        shell.wait(open_for - 1);
        assert_eq!(shell.state(), State::Open);
        shell.wait(1);
        assert_eq!(shell.state(), State::HalfOpen);
        let probe = shell.begin();
        let slow = round % 2 == 1;
        shell.now += if slow { 2_000 } else { 0 };
        let outcome = if slow {
            Outcome::Succeeded
        } else {
            Outcome::Failed
        };
        let effects = shell.end(probe, outcome);
        assert_eq!(became(&effects), [(State::Open, Reason::ProbeFailed)]);
    }
    assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn after_it_closed_the_open_time_starts_again_from_the_first() {
    let mut shell = Shell::alone(rules());
    shell.fail(4);
    shell.wait(10_000);
    let probe = shell.begin();
    shell.end(probe, Outcome::Failed);
    shell.wait(20_000);
    for _ in 0..3 {
        let probe = shell.begin();
        shell.end(probe, Outcome::Succeeded);
    }
    assert_eq!(shell.state(), State::Closed);
    shell.fail(4);
    assert_eq!(shell.refusal(), Duration::from_secs(10));
}

#[test]
fn the_permit_of_a_lost_probe_expires() {
    let mut shell = Shell::alone(rules());
    shell.fail(4);
    shell.wait(10_000);
    let lost: Vec<_> = (0..3).map(|_| shell.begin()).collect();
    let lifetime = millis(shell.breaker.config.timeout() + PERMIT_MARGIN);
    shell.wait(lifetime - 1);
    shell.refusal();
    shell.wait(1);
    let probes: Vec<_> = (0..3).map(|_| shell.begin()).collect();
    shell.refusal();
    shell.end(lost[0], Outcome::Failed);
    assert_eq!(shell.state(), State::HalfOpen);
    for probe in probes {
        shell.end(probe, Outcome::Succeeded);
    }
    assert_eq!(shell.state(), State::Closed);
}

#[test]
fn probes_of_the_last_round_count_against_the_next() {
    let mut config = rules();
    config.open.initial_seconds = 1;
    config.open.multiplier = 1;
    let mut shell = Shell::alone(config);
    shell.fail(4);
    shell.wait(1_000);
    let probes: Vec<_> = (0..3).map(|_| shell.begin()).collect();
    shell.end(probes[0], Outcome::Failed);
    shell.wait(1_000);
    assert_eq!(shell.state(), State::HalfOpen);
    let next = shell.begin();
    shell.refusal();
    // A late answer of the last round makes room, and says nothing about this one.
    shell.end(probes[1], Outcome::Failed);
    assert_eq!(shell.state(), State::HalfOpen);
    let _lost = shell.begin();
    shell.refusal();
    shell.end(next, Outcome::Succeeded);
    assert_eq!(shell.state(), State::HalfOpen);
}

#[test]
fn force_wins_over_what_is_counted_and_back_again() {
    let mut shell = Shell::alone(rules());
    let mut forced = rules();
    forced.force = Force::Open;
    let early = shell.begin();
    let effects = shell.step(Event::Configured(forced.clone()));
    assert_eq!(became(&effects), [(State::Open, Reason::Forced)]);
    for _ in 0..100 {
        assert_eq!(shell.refusal(), Duration::from_secs(10));
        shell.wait(3_600_000);
    }
    assert_eq!(shell.breaker.next_probe(), None);
    forced.force = Force::Closed;
    shell.step(Event::Configured(forced));
    shell.fail(100);
    assert_eq!(shell.state(), State::Closed);
    let late = shell.begin();
    let effects = shell.step(Event::Configured(rules()));
    assert_eq!(became(&effects), []);
    for ticket in [early, late] {
        shell.end(ticket, Outcome::Failed);
    }
    assert_eq!(shell.breaker.window(), Tally::default());
    shell.fail(4);
    assert_eq!(shell.state(), State::Open);
}

#[test]
fn an_open_breaker_that_was_forced_closed_goes_on_where_it_was() {
    let mut shell = Shell::alone(rules());
    shell.fail(4);
    let mut forced = rules();
    forced.force = Force::Closed;
    let effects = shell.step(Event::Configured(forced));
    assert_eq!(became(&effects), [(State::Closed, Reason::Forced)]);
    shell.wait(4_000);
    shell.fail(10);
    let effects = shell.step(Event::Configured(rules()));
    assert_eq!(became(&effects), [(State::Open, Reason::FailureRate)]);
    assert_eq!(shell.refusal(), Duration::from_secs(6));
}

#[test]
fn probes_that_are_under_way_when_it_is_forced_do_not_decide() {
    let mut shell = Shell::alone(rules());
    shell.fail(4);
    shell.wait(10_000);
    let probe = shell.begin();
    let mut forced = rules();
    forced.force = Force::Closed;
    shell.step(Event::Configured(forced));
    shell.end(probe, Outcome::Failed);
    shell.step(Event::Configured(rules()));
    assert_eq!(shell.state(), State::HalfOpen);
    // Its permit is free again.
    for _ in 0..3 {
        let _lost = shell.begin();
    }
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut shell = Shell::alone(rules());
    shell.fail(4);
    shell.now -= 3_600_000;
    assert_eq!(shell.refusal(), Duration::from_secs(10));
    shell.now -= 3_600_000;
    shell.wait(9_999);
    // Nothing passed when it went back, and what follows counts from there.
    assert_eq!(shell.refusal(), Duration::from_secs(10));
    shell.now += 9_999;
    assert_eq!(shell.refusal(), Duration::from_millis(1));
    shell.wait(1);
    assert_eq!(shell.state(), State::HalfOpen);
}

#[test]
fn changed_rules_hold_from_the_next_call_on() {
    let mut shell = Shell::alone(rules());
    shell.fail(3);
    let mut config = rules();
    config.trip.minimum_calls = 3;
    let effects = shell.step(Event::Configured(config));
    assert_eq!(became(&effects), [(State::Open, Reason::FailureRate)]);
    let mut shell = Shell::alone(rules());
    shell.fail(3);
    let mut config = rules();
    config.trip.window_seconds = 60;
    shell.step(Event::Configured(config));
    assert_eq!(shell.breaker.window(), Tally::default());
}

#[test]
fn opening_is_acted_on_at_once_and_proposed() {
    let mut shell = Shell::shared(rules());
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
    let mut shell = Shell::shared(rules());
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
    let mut shell = Shell::shared(rules());
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
        let mut shell = Shell::new(Breaker::shared(rules(), "a", 2));
        let record = opened(&shell, ago);
        shell.step(Event::Stored(Some(record)));
        assert_eq!(shell.refusal(), Duration::from_secs(left), "{ago}");
    }
    let mut shell = Shell::new(Breaker::shared(rules(), "a", 2));
    let record = opened(&shell, 60_000);
    let effects = shell.step(Event::Stored(Some(record)));
    assert_eq!(proposal(&effects).unwrap().1.state(), State::HalfOpen);
}

#[test]
fn a_shared_probe_waits_for_its_permit_and_others_are_refused() {
    let mut config = rules();
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
    let mut shell = Shell::shared(rules());
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
    let mut shell = Shell::shared(rules());
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
    let mut shell = Shell::shared(rules());
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
    let mut shell = Shell::shared(rules());
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
    let mut shell = Shell::shared(rules());
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
    let mut shell = Shell::shared(rules());
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
    let mut shell = Shell::shared(rules());
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
    let mut shell = Shell::shared(rules());
    let effects = shell.fail(4);
    shell.accept(&effects);
    let before = shell.breaker.acting().clone();
    assert_eq!(shell.step(Event::Changed(Record::default())), []);
    assert_eq!(shell.breaker.acting(), &before);
}

#[test]
fn failures_of_other_replicas_open_it_once_for_all() {
    let mut here = Shell::shared(rules());
    let mut there = Shell::new(Breaker::shared(rules(), "b", 1));
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
    let mut shell = Shell::shared(rules());
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
    let mut shell = Shell::alone(rules());
    let mut effects = shell.fail(4);
    effects.extend(shell.wait(10_000));
    effects.extend(shell.step(Event::Stored(None)));
    assert!(proposal(&effects).is_none() && published(&effects).is_none());
    assert!(!shell.breaker.is_degraded());
}

#[test]
fn the_machine_and_the_counter_agree() {
    use super::super::counter::{Admission, Counter};
    let mut shell = Shell::alone(row(3));
    let counter = Counter::new(shell.breaker.standing());
    let call = |shell: &Shell, outcome| {
        let now = Moment::from_millis(shell.now);
        match counter.admit(now) {
            Admission::Pass(ticket) => counter.record(ticket, outcome, now),
            other => panic!("{other:?}"),
        }
    };
    for outcome in [Outcome::Failed, Outcome::Failed, Outcome::Succeeded] {
        call(&shell, outcome);
    }
    shell.step(Event::Counted(counter.drain()));
    assert_eq!(shell.breaker.window().calls, 3);
    for _ in 0..3 {
        assert!(call(&shell, Outcome::Failed));
    }
    let late = match counter.admit(Moment::from_millis(shell.now)) {
        Admission::Pass(ticket) => ticket,
        other => panic!("{other:?}"),
    };
    shell.step(Event::Counted(counter.drain()));
    assert_eq!(shell.breaker.acting().reason, Reason::ConsecutiveFailures);
    counter.stand(shell.breaker.standing());
    let retry_after = Duration::from_secs(10);
    let now = Moment::from_millis(shell.now);
    assert_eq!(counter.admit(now), Admission::Refuse { retry_after });
    assert!(!counter.record(late, Outcome::Failed, now));
    assert_eq!(counter.admit(now.after(retry_after)), Admission::Ask);
    // A count of a term that is over is not taken.
    shell.wait(10_000);
    shell.step(Event::Counted(counter.stand(shell.breaker.standing())));
    assert_eq!(
        counter.admit(Moment::from_millis(shell.now)),
        Admission::Ask
    );
    let mut forced = row(3);
    forced.force = Force::Open;
    shell.step(Event::Configured(forced));
    counter.stand(shell.breaker.standing());
    assert_eq!(counter.admit(now), Admission::Refuse { retry_after });
}

/// What the rules say of a list of all calls since the breaker closed.
fn naive(config: &BreakerConfig, calls: &[(u64, bool, bool)], start: u64, now: u64) -> bool {
    let width = u64::from(config.trip.window_seconds) * 1_000 / 20;
    let slot = |at: u64| (at - start) / width;
    let inside: Vec<_> = calls
        .iter()
        .filter(|(at, ..)| slot(*at) + 20 > slot(now))
        .collect();
    let share = |part: usize| 100 * part >= config.trip.failure_percent as usize * inside.len();
    let all_slow = !inside.is_empty() && inside.iter().all(|(.., slow)| *slow);
    let row = calls
        .iter()
        .rev()
        .take_while(|(_, failed, _)| *failed)
        .count();
    let enough = inside.len() >= config.trip.minimum_calls as usize;
    let failures = inside.iter().filter(|(_, failed, _)| *failed).count();
    let wanted = config.trip.consecutive_failures as usize;
    (enough && (share(failures) || all_slow)) || (wanted > 0 && row >= wanted)
}

proptest! {
    #[test]
    fn it_opens_exactly_when_a_list_of_all_calls_says_so(
        steps in prop::collection::vec((0_u64..2_500, any::<bool>(), 0_u64..3_000), 1..120),
        minimum in 1_u32..12, percent in 20_u32..=100, row in 0_u32..6, seconds in 1_u32..8,
    ) {
        let mut config = rules();
        config.trip.minimum_calls = minimum;
        config.trip.failure_percent = percent;
        config.trip.consecutive_failures = row;
        config.trip.window_seconds = seconds;
        let mut shell = Shell::alone(config.clone());
        shell.wait(0);
        let start = shell.now;
        let mut calls = Vec::new();
        for (pause, failed, took) in steps {
            shell.wait(pause / 4);
            let expected = naive(&config, &calls, start, shell.now);
            prop_assert_eq!(shell.state() == State::Open, expected);
            if expected {
                break;
            }
            let ticket = shell.begin();
            // Other calls end meanwhile in real life; here the clock alone moves on.
            shell.now += took;
            let outcome = if failed { Outcome::Failed } else { Outcome::Succeeded };
            if naive(&config, &calls, start, shell.now) {
                // It opens as the window moves, before the call ends.
                shell.wait(0);
                prop_assert_eq!(shell.state(), State::Open);
                break;
            }
            shell.end(ticket, outcome);
            calls.push((shell.now, failed, took >= 2_000));
            prop_assert_eq!(
                shell.state() == State::Open,
                naive(&config, &calls, start, shell.now)
            );
            if shell.state() == State::Open {
                break;
            }
        }
    }

    #[test]
    fn no_events_and_no_clock_make_it_panic_or_answer_a_call_twice(
        events in prop::collection::vec((0_u8..14, any::<u64>(), 0_u64..40), 1..80),
        shared: bool, random: f64,
    ) {
        let mut config = rules();
        config.trip.minimum_calls = 2;
        let breaker = if shared {
            Breaker::shared(config.clone(), "a", 1)
        } else {
            Breaker::alone(config.clone())
        };
        let mut shell = Shell::new(breaker);
        shell.random = random;
        let mut tickets = Vec::new();
        let mut records = vec![Record::default()];
        let mut open = std::collections::BTreeSet::new();
        for (kind, any, small) in events {
            let record = || records[any as usize % records.len()].clone();
            let event = match kind {
                0 => { shell.now = any; Event::Tick }
                1 => { shell.now = shell.now.saturating_add(small * 500); Event::Tick }
                2..=4 => {
                    shell.calls += 1;
                    open.insert(shell.calls);
                    Event::Call { call: shell.calls }
                }
                5 | 6 => match tickets.pop() {
                    Some(ticket) => Event::Ended { ticket, outcome: Outcome::Failed },
                    None => Event::Tick,
                },
                7 => Event::Stored((small > 20).then(record)),
                8 => Event::Changed(record()),
                9 => Event::Accepted { version: small },
                10 => Event::Lost { version: small, current: Some(record()) },
                11 => Event::StoreAway,
                12 => Event::Counted(Counted {
                    term: small,
                    tally: Tally { calls: any, failures: any, slow: any },
                    streak: small as u32,
                }),
                _ => {
                    let mut config = config.clone();
                    config.force = [Force::Automatic, Force::Open, Force::Closed][any as usize % 3];
                    Event::Configured(config)
                }
            };
            for effect in shell.step(event) {
                match effect {
                    Effect::Admit { call, ticket } => {
                        prop_assert!(open.remove(&call));
                        tickets.push(ticket);
                    }
                    Effect::Refuse { call, .. } => prop_assert!(open.remove(&call)),
                    Effect::Propose { record, .. } => records.push(record),
                    Effect::Publish(_) | Effect::Became { .. } => {}
                }
            }
            let _ = (shell.breaker.wake_in(), shell.breaker.standing(), shell.breaker.next_probe());
            prop_assert!(shell.breaker.waiting.len() <= 100);
        }
    }
}

#[test]
fn every_sequence_of_five_calls_opens_exactly_when_the_rules_say_so() {
    for minimum in 1..=5 {
        for percent in [1, 40, 50, 60, 100] {
            for row in 0..=3 {
                let mut config = rules();
                config.trip.minimum_calls = minimum;
                config.trip.failure_percent = percent;
                config.trip.consecutive_failures = row;
                for outcomes in 0..32_u32 {
                    let mut shell = Shell::alone(config.clone());
                    let start = shell.now;
                    let mut calls = Vec::new();
                    for call in 0..5 {
                        let failed = outcomes & (1 << call) != 0;
                        let outcome = if failed {
                            Outcome::Failed
                        } else {
                            Outcome::Succeeded
                        };
                        shell.calls(outcome, 1);
                        calls.push((shell.now, failed, false));
                        let expected = naive(&config, &calls, start, shell.now);
                        assert_eq!(
                            shell.state() == State::Open,
                            expected,
                            "{config:?} {calls:?}"
                        );
                        if expected {
                            break;
                        }
                    }
                }
            }
        }
    }
}
