use proptest::prelude::*;

use super::*;
use crate::dead_letter::ANSWER_KEPT;

fn policy() -> RetryConfig {
    RetryConfig {
        max_attempts: 5,
        initial_seconds: 1,
        multiplier: 2,
        max_seconds: 900,
        max_age_seconds: 345_600,
        permanent_statuses: vec![400, 410, 413, 415, 422],
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn attempt(attempts_before: u32) -> Attempt {
    Attempt {
        attempts_before,
        accepted_at: at(0),
        now: at(10),
        random: 0.999_999,
    }
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered {
        status,
        retry_after: None,
        answer: "said".into(),
    }
}

fn answered_with_retry_after(status: u16) -> Outcome {
    Outcome::Answered {
        status,
        retry_after: Some(Duration::from_secs(7)),
        answer: String::new(),
    }
}

fn dead(decision: Decision) -> Failure {
    match decision {
        Decision::DeadLetter(failure) => failure,
        other => panic!("expected a dead letter, got {other:?}"),
    }
}

#[test]
fn every_2xx_is_an_ack_whatever_else_it_says() {
    for status in 200..300 {
        assert_eq!(
            decide(attempt(0), &answered(status), &policy()),
            Decision::Ack
        );
        assert_eq!(
            decide(attempt(9), &answered_with_retry_after(status), &policy()),
            Decision::Ack
        );
    }
}

#[test]
fn an_overloaded_handler_gets_its_message_back_later_and_nothing_is_counted() {
    let mut also_listed = policy();
    also_listed.permanent_statuses.extend([429, 503]);
    for policy in [policy(), also_listed] {
        for status in [429, 503] {
            let decision = decide(attempt(4), &answered(status), &policy);
            assert_eq!(decision, Decision::GiveBack { retry_after: None });
        }
        for status in [429, 500, 502, 503, 504, 529] {
            let decision = decide(attempt(4), &answered_with_retry_after(status), &policy);
            assert_eq!(
                decision,
                Decision::GiveBack {
                    retry_after: Some(Duration::from_secs(7))
                }
            );
        }
    }
}

#[test]
fn retry_after_on_anything_but_5xx_and_429_changes_nothing() {
    for status in [301, 404, 408, 425] {
        let decision = decide(attempt(0), &answered_with_retry_after(status), &policy());
        assert!(
            matches!(decision, Decision::Retry { attempts: 1, .. }),
            "{status}"
        );
    }
}

#[test]
fn a_permanent_status_dead_letters_at_the_first_attempt_with_the_answer() {
    for status in [400, 410, 413, 415, 422] {
        let failure = dead(decide(attempt(0), &answered(status), &policy()));
        assert_eq!(failure.reason, Reason::PermanentStatus);
        assert_eq!(failure.attempts, 1);
        assert_eq!(failure.last_status, Some(status));
        assert_eq!(failure.message, format!("handler answered {status}"));
        assert_eq!(failure.answer, "said");
        assert_eq!(failure.failed_at, at(10));
    }
    let mut listed = policy();
    listed.permanent_statuses = vec![500];
    let failure = dead(decide(attempt(0), &answered_with_retry_after(500), &listed));
    assert_eq!(failure.reason, Reason::PermanentStatus);
}

#[test]
fn everything_else_is_retried_until_attempts_run_out() {
    let outcomes = [
        answered(100),
        answered(302),
        answered(404),
        answered(500),
        answered(599),
        answered(0),
        answered(999),
        Outcome::FailedInBatch {
            why: "named in batchItemFailures".into(),
        },
        Outcome::TimedOut {
            after: Duration::from_secs(30),
        },
        Outcome::Unreachable {
            why: "connection refused".into(),
        },
    ];
    for outcome in &outcomes {
        for before in 0..4 {
            match decide(attempt(before), outcome, &policy()) {
                Decision::Retry { delay, attempts } => {
                    assert_eq!(attempts, before + 1);
                    let longest = Duration::from_secs(1 << before);
                    assert!(delay <= longest && delay >= longest / 2, "{delay:?}");
                }
                other => panic!("{outcome:?} after {before}: {other:?}"),
            }
        }
        let failure = dead(decide(attempt(4), outcome, &policy()));
        assert_eq!((failure.reason, failure.attempts), (Reason::MaxAttempts, 5));
    }
}

#[test]
fn failures_read_as_one_line() {
    let line = |outcome: &Outcome| dead(decide(attempt(4), outcome, &policy())).message;
    let second = Duration::from_secs(1);
    assert_eq!(
        line(&Outcome::TimedOut { after: 30 * second }),
        "no answer within 30 s"
    );
    assert_eq!(
        line(&Outcome::TimedOut { after: second / 4 }),
        "no answer within 250 ms"
    );
    assert_eq!(
        line(&Outcome::Unreachable {
            why: "reset\r\nby\u{0}peer".into()
        }),
        "handler could not be reached: reset  by peer"
    );
    assert_eq!(
        line(&Outcome::FailedInBatch {
            why: "answer is not JSON".into()
        }),
        "failed in a batch: answer is not JSON"
    );
}

#[test]
fn a_long_answer_is_cut_between_characters() {
    let outcome = Outcome::Answered {
        status: 400,
        retry_after: None,
        answer: "ü".repeat(ANSWER_KEPT),
    };
    let failure = dead(decide(attempt(0), &outcome, &policy()));
    assert_eq!(failure.answer.len(), ANSWER_KEPT);
    let outcome = Outcome::Answered {
        status: 400,
        retry_after: None,
        answer: "€".repeat(ANSWER_KEPT),
    };
    let failure = dead(decide(attempt(0), &outcome, &policy()));
    assert_eq!(failure.answer.len(), ANSWER_KEPT / 3 * 3);
}

/// aws-semantics 2.6: with a limit of 60 s and a first pause of 60 s the event is discarded at its
/// first failure; with 90 s it gets one retry.
#[test]
fn the_age_limit_is_checked_against_the_next_attempt() {
    let mut limited = policy();
    limited.initial_seconds = 120;
    // The jitter makes this pause 60 s at least.
    let first = Attempt {
        attempts_before: 0,
        accepted_at: at(0),
        now: at(0),
        random: 0.0,
    };
    limited.max_age_seconds = 60;
    let failure = dead(decide(first, &answered(500), &limited));
    assert_eq!((failure.reason, failure.attempts), (Reason::MaxAge, 1));
    assert_eq!(
        failure.message,
        "handler answered 500; the next attempt would be past maxAgeSeconds (60 s)"
    );
    limited.max_age_seconds = 90;
    let delay = Duration::from_mins(1);
    assert_eq!(
        decide(first, &answered(500), &limited),
        Decision::Retry { delay, attempts: 1 }
    );
}

#[test]
fn a_message_that_is_too_old_or_never_had_an_outcome_is_not_tried() {
    let mut limited = policy();
    limited.max_age_seconds = 60;
    assert_eq!(before_call(0, at(0), at(59), &limited), None);
    let failure = before_call(3, at(0), at(60), &limited).unwrap();
    assert_eq!((failure.reason, failure.attempts), (Reason::MaxAge, 3));
    assert_eq!(failure.message, "older than maxAgeSeconds (60 s)");

    assert_eq!(before_call(4, at(0), at(1), &limited), None);
    let failure = before_call(5, at(0), at(1), &limited).unwrap();
    assert_eq!((failure.reason, failure.attempts), (Reason::NoOutcome, 5));
    assert_eq!(failure.message, "5 attempts ended without an outcome");
}

#[test]
fn a_clock_that_runs_behind_makes_nothing_old() {
    assert_eq!(before_call(0, at(0), Timestamp::MIN, &policy()), None);
    let behind = Attempt {
        now: at(-1_000_000),
        ..attempt(0)
    };
    assert!(matches!(
        decide(behind, &answered(500), &policy()),
        Decision::Retry { .. }
    ));
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let wait = prop::option::of(any::<Duration>());
    prop_oneof![
        (any::<u16>(), wait, ".{0,20}").prop_map(|(status, retry_after, answer)| {
            Outcome::Answered {
                status,
                retry_after,
                answer,
            }
        }),
        (200_u16..600).prop_map(answered),
        ".{0,20}".prop_map(|why| Outcome::FailedInBatch { why }),
        any::<Duration>().prop_map(|after| Outcome::TimedOut { after }),
        ".{0,20}".prop_map(|why| Outcome::Unreachable { why }),
    ]
}

fn any_policy() -> impl Strategy<Value = RetryConfig> {
    let numbers = (
        any::<u32>(),
        any::<u32>(),
        any::<u32>(),
        any::<u32>(),
        any::<u64>(),
    );
    (numbers, prop::collection::vec(any::<u16>(), 0..5)).prop_map(
        |((max_attempts, initial_seconds, multiplier, max_seconds, max_age_seconds), list)| {
            RetryConfig {
                max_attempts,
                initial_seconds,
                multiplier,
                max_seconds,
                max_age_seconds,
                permanent_statuses: list,
            }
        },
    )
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (Timestamp::MIN.as_second()..=Timestamp::MAX.as_second())
        .prop_map(|second| Timestamp::from_second(second).unwrap())
}

proptest! {
    #[test]
    fn decisions_hold_for_any_input(
        (before, accepted_at, now, random) in (any::<u32>(), any_time(), any_time(), any::<f64>()),
        outcome in any_outcome(),
        policy in any_policy(),
    ) {
        let attempt = Attempt { attempts_before: before, accepted_at, now, random };
        match decide(attempt, &outcome, &policy) {
            Decision::Ack => {
                let answered = matches!(outcome, Outcome::Answered { status: 200..=299, .. });
                prop_assert!(answered);
            }
            Decision::GiveBack { .. } => {
                let answered = matches!(outcome, Outcome::Answered { status: 429 | 500..=599, .. });
                prop_assert!(answered);
            }
            Decision::Retry { delay, attempts } => {
                prop_assert_eq!(attempts, before + 1);
                prop_assert!(attempts < policy.max_attempts);
                prop_assert!(delay <= Duration::from_secs(policy.max_seconds.into()));
                // What is scheduled is tried: nothing waits for an attempt that will not be made.
                let due = now.checked_add(delay).unwrap_or(Timestamp::MAX);
                prop_assert_eq!(before_call(attempts, accepted_at, due, &policy), None);
            }
            Decision::DeadLetter(failure) => {
                prop_assert!(failure.attempts == before.saturating_add(1));
                prop_assert!(failure.answer.len() <= ANSWER_KEPT);
                prop_assert!(!failure.message.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn without_a_random_part_the_same_input_gives_the_same_decision(
        outcome in any_outcome(), policy in any_policy(), before in any::<u32>(),
    ) {
        prop_assert_eq!(
            decide(attempt(before), &outcome, &policy),
            decide(attempt(before), &outcome, &policy)
        );
    }
}
