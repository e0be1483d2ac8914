use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;

const IDS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

fn policy(max_attempts: u32) -> RetryConfig {
    RetryConfig {
        max_attempts,
        initial_seconds: 10,
        multiplier: 2,
        max_seconds: 100,
        max_age_seconds: 3600,
        permanent_statuses: vec![400],
    }
}

fn attempt(before: u32) -> Attempt {
    Attempt {
        attempts_before: before,
        accepted_at: Timestamp::UNIX_EPOCH,
        now: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(60),
        random: 0.5,
    }
}

fn messages(attempts: &[u32]) -> VecDeque<Attempt> {
    attempts.iter().copied().map(attempt).collect()
}

fn called(attempts: &[u32]) -> Vec<(&'static str, Attempt)> {
    let attempts = attempts.iter().copied().map(attempt);
    IDS.into_iter().zip(attempts).collect()
}

fn status(status: u16) -> Outcome {
    Outcome::Answered {
        status,
        retry_after: None,
        answer: String::new(),
    }
}

fn failed(ids: &[&str]) -> BatchAnswer {
    BatchAnswer::Failed(ids.iter().map(|id| (*id).to_owned()).collect())
}

fn whole() -> BatchAnswer {
    BatchAnswer::WholeBatchFailed {
        why: "not JSON".to_owned(),
    }
}

fn step(attempts: &[u32], outcome: &Outcome, answer: Option<&BatchAnswer>, max: u32) -> Step {
    after(&called(attempts), outcome, answer, &policy(max))
}

fn again(step: &Step) -> (Option<u32>, usize, bool) {
    match step.then {
        Then::Again {
            attempts,
            delay,
            suspects,
        } => (attempts, suspects, delay > Duration::ZERO),
        ref other => panic!("{other:?}"),
    }
}

fn reason(step: &Step) -> Reason {
    match &step.then {
        Then::GiveUp(failure) => failure.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_success_handles_all_of_them() {
    let ok = status(200);
    assert_eq!(step(&[0], &ok, None, 5), all(1));
    assert_eq!(step(&[0; 4], &ok, None, 5), all(4));
    assert_eq!(
        step(&[0; 4], &ok, Some(&BatchAnswer::AllSucceeded), 5),
        all(4)
    );
}

#[test]
fn what_is_before_the_first_failure_was_handled_and_all_behind_it_comes_again() {
    let ok = status(200);
    for (ids, handled) in [
        (&["c"][..], 2),
        (&["c", "d", "e"], 2),
        (&["e", "c"], 2),
        (&["a"], 0),
        (&["e"], 4),
    ] {
        let step = step(&[0; 5], &ok, Some(&failed(ids)), 5);
        assert_eq!(step.handled, handled, "{ids:?}");
        // It was named, so the others are called with it as before.
        assert_eq!(again(&step), (Some(1), 0, true), "{ids:?}");
    }
}

#[test]
fn a_message_that_was_named_is_given_up_at_its_last_attempt_and_no_other_is() {
    let step = step(&[0, 0, 2, 0], &status(200), Some(&failed(&["c", "d"])), 3);
    assert_eq!(step.handled, 2);
    assert_eq!(reason(&step), Reason::MaxAttempts);
}

#[test]
fn a_single_message_is_decided_as_in_any_queue() {
    assert_eq!(
        again(&step(&[0], &status(500), None, 5)),
        (Some(1), 0, true)
    );
    assert_eq!(
        reason(&step(&[4], &status(500), None, 5)),
        Reason::MaxAttempts
    );
    assert_eq!(
        reason(&step(&[0], &status(400), None, 5)),
        Reason::PermanentStatus
    );
    assert_eq!(
        reason(&step(&[0], &status(200), Some(&whole()), 1)),
        Reason::MaxAttempts
    );
    let unreachable = Outcome::Unreachable {
        why: "refused".to_owned(),
    };
    assert_eq!(
        again(&step(&[1], &unreachable, None, 5)),
        (Some(2), 0, true)
    );
}

#[test]
fn a_full_handler_costs_no_attempt() {
    for count in [1, 5] {
        for code in [429, 503] {
            let step = step(&[4, 0, 0, 0, 0][..count], &status(code), None, 5);
            assert_eq!(step.then, Then::LetGo { retry_after: None });
            assert_eq!(step.handled, 0);
        }
    }
}

#[test]
fn a_batch_that_failed_as_a_whole_is_called_one_by_one() {
    for (outcome, answer) in [
        (status(500), None),
        (status(200), Some(whole())),
        (
            Outcome::TimedOut {
                after: Duration::from_secs(1),
            },
            None,
        ),
    ] {
        let step = step(&[1, 0, 0], &outcome, answer.as_ref(), 5);
        assert_eq!(step.handled, 0);
        assert_eq!(again(&step), (Some(2), 3, true), "{outcome:?}");
    }
}

#[test]
fn nothing_is_given_up_for_what_was_said_of_several() {
    // Its last attempt, a permanent status, its age: each is for a call of its own to say.
    assert_eq!(
        again(&step(&[4, 0], &status(500), None, 5)),
        (None, 2, true)
    );
    assert_eq!(
        again(&step(&[0, 0], &status(500), None, 1)),
        (None, 2, true)
    );
    assert_eq!(
        again(&step(&[0, 0], &status(400), None, 5)),
        (None, 2, false)
    );
    let old = Attempt {
        now: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(3599),
        ..attempt(0)
    };
    let step = after(&[("a", old), ("b", old)], &status(500), None, &policy(5));
    assert_eq!(again(&step), (None, 2, false));
}

#[test]
fn messages_that_failed_before_are_called_alone_until_they_are_settled() {
    let conduct = |attempts: &[u32]| Conduct::of(attempts.iter().map(|count| *count > 0));
    let before =
        |conduct: &Conduct, attempts: &[u32]| conduct.before(&messages(attempts), &policy(5));
    assert_eq!(before(&conduct(&[0, 0, 0]), &[0, 0, 0]), Before::Call(3));
    assert_eq!(before(&conduct(&[1, 0, 0]), &[1, 0, 0]), Before::Call(1));
    let mut two = conduct(&[1, 2, 0, 3]);
    assert_eq!(two, Conduct { suspects: 2 });
    two.settled(1);
    assert_eq!(before(&two, &[2, 0, 3]), Before::Call(1));
    two.settled(1);
    assert_eq!(before(&two, &[0, 3]), Before::Call(2));
    two.suspect(2);
    assert_eq!(before(&two, &[0, 3]), Before::Call(1));
    two.settled(5);
    assert_eq!(two, Conduct::default());
}

#[test]
fn what_is_too_old_is_given_up_at_the_front_and_called_without_behind() {
    let old = Attempt {
        accepted_at: Timestamp::UNIX_EPOCH - SignedDuration::from_secs(3600),
        ..attempt(0)
    };
    let conduct = Conduct::default();
    let front = VecDeque::from([old, attempt(0)]);
    match conduct.before(&front, &policy(5)) {
        Before::GiveUp(failure) => assert_eq!(failure.reason, Reason::MaxAge),
        other @ Before::Call(_) => panic!("{other:?}"),
    }
    let behind = VecDeque::from([attempt(0), attempt(0), old, attempt(0)]);
    assert_eq!(conduct.before(&behind, &policy(5)), Before::Call(2));
    match conduct.before(&messages(&[5, 0]), &policy(5)) {
        Before::GiveUp(failure) => assert_eq!(failure.reason, Reason::NoOutcome),
        other @ Before::Call(_) => panic!("{other:?}"),
    }
}

/// A group of messages, some of which always fail, worked off by the decisions alone. Returns what
/// was handled and what was given up, each in order, and the calls.
fn work_off(bad: &[bool], batch: usize, max: u32, names: bool) -> (Vec<usize>, Vec<usize>, usize) {
    let (mut handled, mut given_up, mut calls) = (Vec::new(), Vec::new(), 0);
    let mut stored: VecDeque<(usize, u32)> = (0..bad.len()).map(|number| (number, 0)).collect();
    while !stored.is_empty() {
        let mut turn: VecDeque<(usize, u32)> = stored.iter().take(batch).copied().collect();
        let mut conduct = Conduct::of(turn.iter().map(|it| it.1 > 0));
        while !turn.is_empty() {
            let held = turn.iter().map(|it| attempt(it.1)).collect();
            let count = match conduct.before(&held, &policy(max)) {
                Before::Call(count) => count,
                Before::GiveUp(failure) => panic!("{failure:?}"),
            };
            calls += 1;
            assert!(calls < 100_000, "it comes to an end");
            let batch: Vec<_> = turn.iter().take(count).copied().collect();
            let ids: Vec<String> = batch.iter().map(|it| it.0.to_string()).collect();
            let called: Vec<_> = ids
                .iter()
                .zip(&batch)
                .map(|(id, it)| (id.as_str(), attempt(it.1)))
                .collect();
            let failing: Vec<&str> = called
                .iter()
                .zip(&batch)
                .filter(|(_, it)| bad[it.0])
                .map(|((id, _), _)| *id)
                .collect();
            let step = match (failing.is_empty(), names) {
                (true, _) => after(
                    &called,
                    &status(200),
                    Some(&BatchAnswer::AllSucceeded),
                    &policy(max),
                ),
                (false, true) => {
                    after(&called, &status(200), Some(&failed(&failing)), &policy(max))
                }
                (false, false) => after(&called, &status(500), None, &policy(max)),
            };
            for _ in 0..step.handled {
                let (number, _) = turn.pop_front().unwrap();
                assert_eq!(stored.pop_front().unwrap().0, number);
                handled.push(number);
            }
            conduct.settled(step.handled);
            match step.then {
                Then::GoOn => {}
                Then::Again {
                    attempts, suspects, ..
                } => {
                    if let Some(attempts) = attempts {
                        turn[0].1 = attempts;
                        stored[0].1 = attempts;
                    }
                    conduct.suspect(suspects);
                }
                Then::GiveUp(_) => {
                    given_up.push(turn.pop_front().unwrap().0);
                    stored.pop_front();
                    conduct.settled(1);
                }
                Then::LetGo { .. } => panic!("nobody is full"),
            }
        }
    }
    (handled, given_up, calls)
}

#[test]
fn one_bad_message_of_a_hundred_costs_few_calls() {
    let mut bad = vec![false; 100];
    bad[53] = true;
    let (handled, given_up, calls) = work_off(&bad, 10, 3, false);
    assert_eq!((handled.len(), given_up), (99, vec![53]));
    // Nine good batches, one that fails, ten calls of one, two of them repeated.
    assert!(calls <= 9 + 1 + 10 + 2, "{calls}");
}

proptest! {
    #[test]
    fn exactly_the_bad_messages_are_given_up_and_all_keep_their_order(
        bad in prop::collection::vec(prop::bool::weighted(0.2), 1..40),
        batch in 1_usize..=10,
        max in 1_u32..6,
        names: bool,
    ) {
        let (handled, given_up, _) = work_off(&bad, batch, max, names);
        let numbers = |wanted: bool| (0..bad.len()).filter(|n| bad[*n] == wanted).collect::<Vec<_>>();
        prop_assert_eq!(handled, numbers(false));
        prop_assert_eq!(given_up, numbers(true));
    }

    #[test]
    fn nothing_behind_an_unsettled_message_is_ever_handled(
        attempts in prop::collection::vec(0_u32..5, 1..10),
        code in prop::sample::select(vec![200_u16, 302, 400, 404, 429, 500, 503]),
        named in prop::collection::vec(0_usize..10, 0..5),
        max in 1_u32..6,
    ) {
        let ids: Vec<&str> = named.iter().map(|n| IDS[n % attempts.len()]).collect();
        let answer = (code == 200 && !ids.is_empty()).then(|| failed(&ids));
        let step = step(&attempts, &status(code), answer.as_ref(), max);
        let first = named.iter().map(|n| n % attempts.len()).min();
        let expected = match (code, first) {
            (200, None) => attempts.len(),
            (200, Some(first)) => first,
            _ => 0,
        };
        prop_assert_eq!(step.handled, expected);
        prop_assert_eq!(step.then == Then::GoOn, step.handled == attempts.len());
    }
}
