//! One replica for itself.

use super::*;

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
    let mut shell = Shell::alone(plain());
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
    let mut shell = Shell::alone(plain());
    for _ in 0..50 {
        shell.fail(3);
        shell.wait(30_000);
    }
    assert_eq!(shell.state(), State::Closed);
}

#[test]
fn slow_answers_trip_it_although_they_are_well() {
    let mut shell = Shell::alone(plain());
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
    let mut shell = Shell::alone(plain());
    shell.fail(3);
    shell.calls(Outcome::Abandoned, 10);
    assert_eq!(shell.breaker.window().calls, 3);
    assert_eq!(shell.state(), State::Closed);
}

#[test]
fn results_of_calls_from_before_a_change_do_not_count() {
    let mut config = plain();
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
    let mut shell = Shell::alone(plain());
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
    let mut shell = Shell::alone(plain());
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
    let mut shell = Shell::alone(plain());
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
    let mut shell = Shell::alone(plain());
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
    let mut shell = Shell::alone(plain());
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
    let mut config = plain();
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
    let mut shell = Shell::alone(plain());
    let mut forced = plain();
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
    let effects = shell.step(Event::Configured(plain()));
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
    let mut shell = Shell::alone(plain());
    shell.fail(4);
    let mut forced = plain();
    forced.force = Force::Closed;
    let effects = shell.step(Event::Configured(forced));
    assert_eq!(became(&effects), [(State::Closed, Reason::Forced)]);
    shell.wait(4_000);
    shell.fail(10);
    let effects = shell.step(Event::Configured(plain()));
    assert_eq!(became(&effects), [(State::Open, Reason::FailureRate)]);
    assert_eq!(shell.refusal(), Duration::from_secs(6));
}

#[test]
fn probes_that_are_under_way_when_it_is_forced_do_not_decide() {
    let mut shell = Shell::alone(plain());
    shell.fail(4);
    shell.wait(10_000);
    let probe = shell.begin();
    let mut forced = plain();
    forced.force = Force::Closed;
    shell.step(Event::Configured(forced));
    shell.end(probe, Outcome::Failed);
    shell.step(Event::Configured(plain()));
    assert_eq!(shell.state(), State::HalfOpen);
    // Its permit is free again.
    for _ in 0..3 {
        let _lost = shell.begin();
    }
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut shell = Shell::alone(plain());
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
    let mut shell = Shell::alone(plain());
    shell.fail(3);
    let mut config = plain();
    config.trip.minimum_calls = 3;
    let effects = shell.step(Event::Configured(config));
    assert_eq!(became(&effects), [(State::Open, Reason::FailureRate)]);
    let mut shell = Shell::alone(plain());
    shell.fail(3);
    let mut config = plain();
    config.trip.window_seconds = 60;
    shell.step(Event::Configured(config));
    assert_eq!(shell.breaker.window(), Tally::default());
}

#[test]
fn the_machine_and_the_counter_agree() {
    use crate::breaker::counter::{Admission, Counter};
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
