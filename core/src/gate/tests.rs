use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn take(gate: &mut Gate, now: Duration) -> Vec<Slot> {
    std::iter::from_fn(|| gate.start(now)).collect()
}

/// Refuses one call and returns the pause that follows.
fn refuse(gate: &mut Gate, now: Duration, retry_after: Option<Duration>, random: f64) -> Duration {
    let slot = gate.start(now).expect("a slot");
    gate.refused(slot, now, retry_after, random);
    gate.next_wake(now)
        .expect("a pause")
        .checked_sub(now)
        .unwrap()
}

#[test]
fn an_open_gate_lets_the_limit_through_and_no_more() {
    let mut gate = Gate::new(3);
    assert_eq!(gate.allowance(Duration::ZERO), 3);
    let slots = take(&mut gate, Duration::ZERO);
    assert_eq!(slots.len(), 3);
    assert_eq!((gate.running(), gate.allowance(Duration::ZERO)), (3, 0));
    for slot in slots {
        gate.other_outcome(slot);
    }
    assert_eq!(gate.allowance(Duration::ZERO), 3);
    assert!(!gate.is_restricted());
    assert!(Gate::new(0).start(Duration::ZERO).is_none());
}

#[test]
fn after_a_refusal_one_trial_is_let_through_when_the_pause_is_over() {
    let mut gate = Gate::new(10);
    let pause = refuse(&mut gate, SECOND, None, 1.0);
    assert_eq!(pause, FIRST_PAUSE);
    assert!(gate.is_restricted());
    let almost = (SECOND + pause).saturating_sub(Duration::from_nanos(1));
    assert_eq!((gate.allowance(SECOND), gate.allowance(almost)), (0, 0));
    assert!(gate.start(almost).is_none());

    let now = SECOND + pause;
    assert_eq!(gate.next_wake(now), None);
    let trial = gate.start(now).unwrap();
    assert!(gate.start(now).is_none(), "one trial, not two");
    gate.succeeded(trial);
    assert_eq!(gate.allowance(now), 2);
}

#[test]
fn each_round_of_successes_doubles_the_open_slots_up_to_the_limit() {
    let mut gate = Gate::new(10);
    let now = refuse(&mut gate, Duration::ZERO, None, 0.5);
    let mut rounds = Vec::new();
    for _ in 0..6 {
        let slots = take(&mut gate, now);
        rounds.push(slots.len());
        for slot in slots {
            gate.succeeded(slot);
        }
    }
    assert_eq!(rounds, [1, 2, 4, 8, 10, 10]);
}

#[test]
fn pauses_double_while_trials_are_refused_and_start_again_after_a_success() {
    let mut gate = Gate::new(4);
    let mut now = Duration::ZERO;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let pause = refuse(&mut gate, now, None, 1.0);
        pauses.push(pause.as_millis());
        now += pause;
    }
    assert_eq!(
        pauses,
        [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
    );
    assert_eq!(
        refuse(&mut gate, now, None, 0.0),
        LONGEST_PAUSE / 2,
        "jittered"
    );
    now += LONGEST_PAUSE;
    let slot = gate.start(now).unwrap();
    gate.succeeded(slot);
    assert_eq!(refuse(&mut gate, now, None, 1.0), FIRST_PAUSE);
}

#[test]
fn retry_after_is_honoured_with_a_floor_and_a_little_jitter_upwards() {
    let minute = 60 * SECOND;
    assert_eq!(refuse(&mut Gate::new(4), SECOND, Some(minute), 0.0), minute);
    assert_eq!(
        refuse(&mut Gate::new(4), SECOND, Some(minute), 1.0),
        minute + 6 * SECOND
    );
    assert_eq!(
        refuse(&mut Gate::new(4), SECOND, Some(Duration::ZERO), 0.0),
        FIRST_PAUSE
    );
}

#[test]
fn a_storm_of_simultaneous_refusals_closes_once() {
    let mut gate = Gate::new(50);
    let storm = take(&mut gate, Duration::ZERO);
    assert_eq!(storm.len(), 50);
    for slot in storm {
        gate.refused(slot, SECOND, None, 1.0);
    }
    assert_eq!(gate.running(), 0);
    assert_eq!(gate.next_wake(SECOND), Some(SECOND + FIRST_PAUSE));
    let now = SECOND + FIRST_PAUSE;
    assert_eq!(
        refuse(&mut gate, now, None, 1.0),
        2 * FIRST_PAUSE,
        "grown once"
    );
}

#[test]
fn a_late_refusal_of_an_old_call_changes_nothing_once_the_trial_runs() {
    let mut gate = Gate::new(5);
    let mut old = take(&mut gate, Duration::ZERO);
    gate.refused(old.remove(0), Duration::ZERO, None, 1.0);
    let now = FIRST_PAUSE;
    let trial = gate
        .start(now)
        .expect("old calls that still run do not hold the trial back");
    gate.refused(old.remove(0), now, Some(60 * SECOND), 1.0);
    assert_eq!(gate.next_wake(now), None);
    gate.succeeded(trial);
    // An old success says nothing about new calls.
    gate.succeeded(old.remove(0));
    assert_eq!(gate.allowance(now), 2);
    for slot in old {
        gate.other_outcome(slot);
    }
}

#[test]
fn calls_that_outlive_a_closing_still_count_against_the_limit() {
    let mut gate = Gate::new(4);
    let mut old = take(&mut gate, Duration::ZERO);
    gate.refused(old.remove(0), Duration::ZERO, None, 1.0);
    let now = FIRST_PAUSE;
    for _ in 0..10 {
        let slot = gate.start(now).unwrap();
        gate.succeeded(slot);
    }
    assert!(!gate.is_restricted());
    assert_eq!((gate.running(), gate.allowance(now)), (3, 1));
    for slot in old {
        gate.other_outcome(slot);
    }
    assert_eq!(gate.allowance(now), 4);
}

#[test]
fn while_the_gate_is_closed_the_longest_retry_after_of_the_storm_counts() {
    let mut gate = Gate::new(3);
    let mut storm = take(&mut gate, Duration::ZERO).into_iter();
    gate.refused(storm.next().unwrap(), SECOND, Some(5 * SECOND), 0.0);
    gate.refused(storm.next().unwrap(), SECOND, Some(20 * SECOND), 0.0);
    gate.refused(storm.next().unwrap(), SECOND, Some(2 * SECOND), 0.0);
    assert_eq!(gate.next_wake(SECOND), Some(21 * SECOND));
}

#[test]
fn a_trial_that_fails_for_another_reason_is_followed_by_another_trial() {
    let mut gate = Gate::new(5);
    let now = refuse(&mut gate, Duration::ZERO, None, 1.0);
    for _ in 0..3 {
        let trial = gate.start(now).unwrap();
        assert!(gate.start(now).is_none());
        gate.other_outcome(trial);
    }
}

#[test]
fn a_new_limit_holds_for_the_next_call_and_keeps_the_gate_as_open_as_it_was() {
    let mut gate = Gate::new(4);
    let slots = take(&mut gate, Duration::ZERO);
    gate.set_max(2);
    assert_eq!(gate.allowance(Duration::ZERO), 0);
    for slot in slots {
        gate.succeeded(slot);
    }
    assert_eq!(gate.allowance(Duration::ZERO), 2);
    gate.set_max(8);
    assert_eq!(gate.allowance(Duration::ZERO), 8);
    let now = refuse(&mut gate, Duration::ZERO, None, 1.0);
    gate.set_max(20);
    assert_eq!(gate.allowance(now), 1);
    for _ in 0..3 {
        let slot = gate.start(now).unwrap();
        gate.succeeded(slot);
    }
    gate.set_max(10);
    assert_eq!(gate.allowance(now), 4);
    gate.set_max(0);
    assert_eq!(gate.allowance(now), 0);
    gate.set_max(3);
    assert!(
        gate.allowance(now) >= 1,
        "a gate that was shut by its limit opens with it"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u16),
    Start,
    Succeed(usize),
    Fail(usize),
    Refuse(usize, Option<u16>),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<u16>().prop_map(Step::Wait),
        6 => Just(Step::Start),
        2 => any::<usize>().prop_map(Step::Succeed),
        1 => any::<usize>().prop_map(Step::Fail),
        2 => (any::<usize>(), prop::option::of(any::<u16>())).prop_map(|(i, w)| Step::Refuse(i, w)),
    ]
}

proptest! {
    #[test]
    fn whatever_happened_the_limit_holds_and_successes_open_the_gate_again(
        max in 1_usize..20,
        random in 0.0..1.0,
        steps in prop::collection::vec(any_step(), 0..200),
    ) {
        let mut gate = Gate::new(max);
        let mut now = Duration::ZERO;
        let mut running = Vec::new();
        for step in steps {
            match step {
                Step::Wait(millis) => now += Duration::from_millis(millis.into()),
                Step::Start => {
                    let allowed = gate.allowance(now);
                    let slot = gate.start(now);
                    prop_assert_eq!(slot.is_some(), allowed > 0);
                    running.extend(slot);
                }
                Step::Succeed(i) if !running.is_empty() => {
                    gate.succeeded(running.swap_remove(i % running.len()));
                }
                Step::Fail(i) if !running.is_empty() => {
                    gate.other_outcome(running.swap_remove(i % running.len()));
                }
                Step::Refuse(i, seconds) if !running.is_empty() => {
                    let wait = seconds.map(|seconds| Duration::from_secs(seconds.into()));
                    gate.refused(running.swap_remove(i % running.len()), now, wait, random);
                }
                _ => {}
            }
            prop_assert_eq!(gate.running(), running.len());
            prop_assert!(running.len() + gate.allowance(now) <= max);
            // A closed gate always says when it opens, and then lets one call through.
            if let Some(wake) = gate.next_wake(now) {
                prop_assert!(wake > now);
                prop_assert_eq!(gate.allowance(now), 0);
                prop_assert!(gate.allowance(wake) <= 1);
            }
        }
        for slot in running {
            gate.other_outcome(slot);
        }
        now = gate.next_wake(now).unwrap_or(now);
        prop_assert!(gate.allowance(now) >= 1, "it always reopens");
        for _ in 1..max {
            let slot = gate.start(now).unwrap();
            gate.succeeded(slot);
        }
        prop_assert_eq!(gate.allowance(now), max);
        prop_assert!(!gate.is_restricted());
    }

    #[test]
    fn refused_trials_never_come_closer_than_half_the_first_pause(
        random in 0.0..1.0, waits in prop::collection::vec(prop::option::of(0_u64..10), 1..30),
    ) {
        let mut gate = Gate::new(5);
        let mut now = Duration::ZERO;
        for wait in waits {
            let pause = refuse(&mut gate, now, wait.map(Duration::from_secs), random);
            prop_assert!(pause >= FIRST_PAUSE / 2);
            prop_assert!(pause <= LONGEST_PAUSE);
            prop_assert!(wait.is_none_or(|seconds| pause >= Duration::from_secs(seconds)));
            now += pause;
        }
    }
}
