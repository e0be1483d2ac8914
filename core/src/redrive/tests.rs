use super::*;
use crate::dead_letter::{Failure, Reason};
use crate::message::{Headers, Message};
use crate::object::Kind;

pub(super) fn message(id: &str) -> Message {
    Message {
        id: id.to_owned(),
        accepted_at: Timestamp::UNIX_EPOCH,
        headers: Headers::new(),
        group: None,
        body: "b".into(),
    }
}

fn letter(id: &str) -> DeadLetter {
    DeadLetter {
        message: message(id),
        failure: Failure {
            reason: Reason::MaxAttempts,
            attempts: 3,
            failed_at: Timestamp::UNIX_EPOCH,
            last_status: Some(500),
            message: "handler answered 500".to_owned(),
            answer: String::new(),
        },
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn redrive() -> Redrive {
    Redrive {
        id: "r1".to_owned(),
        object: ObjectKey::new(Kind::Webhook, "shop", "stripe"),
        to: None,
        by: None,
        filter: "reason=MaxAttempts".parse().unwrap(),
        ids: Vec::new(),
        rate: None,
        state: State::Running,
        counts: Counts::default(),
        total: 4,
        until: 40,
        done: 10,
        in_hand: vec![11, 12],
        message: String::new(),
        started_at: at(100),
        updated_at: at(100),
        finished_at: None,
        owner: "p1".to_owned(),
    }
}

#[test]
fn only_a_silent_owner_is_replaced() {
    let redrive = redrive();
    assert!(redrive.may_be_run_by("p1", at(100)));
    assert!(!redrive.may_be_run_by("p2", at(109)));
    assert!(redrive.may_be_run_by("p2", at(110)));
    assert!(
        !redrive.may_be_run_by("p2", at(0)),
        "a clock that is behind"
    );
    let mut left = redrive.clone();
    left.owner.clear();
    assert!(left.may_be_run_by("p2", at(100)));
    let mut done = redrive;
    done.finish(State::Completed, "", at(120));
    assert!(!done.may_be_run_by("p1", at(1000)));
    assert!(done.in_hand.is_empty() && done.finished_at == Some(at(120)));
}

#[test]
fn a_cancel_waits_for_what_is_in_hand_and_comes_too_late_for_what_has_ended() {
    let mut running = redrive();
    assert!(running.cancel() && running.cancel());
    assert_eq!(running.state, State::Cancelling);
    assert_eq!(running.in_hand, [11, 12]);
    running.finish(State::Cancelled, "", at(1));
    assert!(!running.cancel());
    assert_eq!(running.state, State::Cancelled);
}

#[test]
fn ids_and_filter_must_both_want_a_letter() {
    let mut redrive = redrive();
    assert!(redrive.wants(&letter("a")));
    redrive.ids = vec!["b".to_owned()];
    assert!(!redrive.wants(&letter("a")) && redrive.wants(&letter("b")));
    redrive.filter = "reason=MaxAge".parse().unwrap();
    assert!(!redrive.wants(&letter("b")));
}

#[test]
fn progress_is_never_beyond_its_end() {
    let mut redrive = redrive();
    assert_eq!(redrive.percent(), 0);
    redrive.counts.moved = 1;
    redrive.counts.passed = 1;
    redrive.counts.failed = 1;
    assert_eq!(redrive.percent(), 75);
    redrive.counts.moved = 9;
    assert_eq!(redrive.percent(), 100);
    redrive.total = 0;
    assert_eq!(redrive.percent(), 100);
}

#[test]
fn one_redrive_is_active_at_a_time_and_few_are_remembered() {
    let mut all = Redrives::default();
    all.begin(redrive()).unwrap();
    let error = all.begin(redrive()).unwrap_err().to_string();
    assert!(
        error.contains("r1") && error.contains("cancel it"),
        "{error}"
    );
    for number in 0..30 {
        all.redrives[0].finish(State::Completed, "", at(number));
        let next = Redrive {
            id: format!("n{number}"),
            ids: vec!["a".to_owned()],
            ..redrive()
        };
        all.begin(next).unwrap();
    }
    assert_eq!(all.redrives.len(), MOST_KEPT);
    assert_eq!(all.latest().unwrap().id, "n29");
    assert!(all.redrives[1..].iter().all(|ended| ended.ids.is_empty()));
    assert!(all.find("n25").is_some() && all.find("r1").is_none());
}

#[test]
fn a_slow_redrive_has_less_in_hand() {
    let hand = |rate| Redrive { rate, ..redrive() }.hand();
    assert_eq!(
        [hand(None), hand(Some(1)), hand(Some(5)), hand(Some(5000))],
        [16, 1, 5, 16]
    );
}

#[test]
fn the_record_reads_what_it_writes_and_leaves_out_what_says_nothing() {
    let redrive = redrive();
    let written = serde_json::to_string(&redrive).unwrap();
    assert_eq!(serde_json::from_str::<Redrive>(&written).unwrap(), redrive);
    assert!(
        written.contains(r#""filter":"reason=MaxAttempts""#),
        "{written}"
    );
    for absent in ["\"to\"", "\"ids\"", "\"message\"", "\"rate\""] {
        assert!(!written.contains(absent), "{absent} in {written}");
    }
}

#[test]
fn an_identity_names_one_death_of_one_message() {
    let first = identity(7, &letter("a"));
    assert_eq!(first, "redrive:7:0:a");
    let mut later = letter("a");
    later.failure.failed_at = at(1);
    assert_ne!(first, identity(7, &later));
    assert_ne!(first, identity(8, &letter("a")));
}
