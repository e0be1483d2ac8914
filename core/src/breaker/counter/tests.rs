use std::sync::atomic::AtomicBool;
use std::thread;

use super::Outcome::{Abandoned, Failed, Succeeded};
use super::*;

fn standing(term: u64, answer: Answer) -> Standing {
    Standing {
        term,
        answer,
        slow_after: Some(Duration::from_secs(2)),
        row: 5,
    }
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

fn pass(counter: &Counter, now: Moment) -> Ticket {
    match counter.admit(now) {
        Admission::Pass(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_outcome_is_counted_once_as_what_it_was() {
    let counter = Counter::new(standing(1, Answer::Pass));
    let calls = [
        (Succeeded, 1_999, false),
        (Succeeded, 2_000, true),
        (Failed, 0, true),
        (Failed, 2_000, true),
        (Abandoned, 9_000, false),
    ];
    for (outcome, took, attend) in calls {
        let ticket = pass(&counter, at(1_000));
        assert_eq!(counter.record(ticket, outcome, at(1_000 + took)), attend);
    }
    let tally = Tally {
        calls: 4,
        failures: 2,
        slow: 2,
    };
    let counted = counter.drain();
    assert_eq!((counted.term, counted.tally), (1, tally));
    assert_eq!(counter.drain().tally, Tally::default());
}

#[test]
fn a_call_that_began_in_an_earlier_term_is_not_counted() {
    let counter = Counter::new(standing(1, Answer::Pass));
    let (early, late) = (pass(&counter, at(0)), pass(&counter, at(0)));
    counter.record(early, Failed, at(1));
    let counted = counter.stand(standing(2, Answer::RefuseUntil(at(500))));
    assert_eq!((counted.term, counted.tally), (1, Tally::one(true, false)));
    assert!(!counter.record(late, Failed, at(2)));
    counter.stand(standing(3, Answer::Pass));
    assert!(!counter.record(late, Failed, at(3)));
    assert_eq!(counter.drain().tally, Tally::default());
    assert_eq!(counter.drain().term, 3);
}

#[test]
fn an_open_breaker_refuses_without_the_machine_until_it_is_time_to_ask() {
    let counter = Counter::new(standing(2, Answer::RefuseUntil(at(10_000))));
    let retry_after = Duration::from_millis(1);
    assert_eq!(counter.admit(at(9_999)), Admission::Refuse { retry_after });
    assert_eq!(counter.admit(at(10_000)), Admission::Ask);
    let retry_after = Duration::from_secs(10);
    counter.stand(standing(3, Answer::RefuseFor(retry_after)));
    assert_eq!(
        counter.admit(at(u64::MAX)),
        Admission::Refuse { retry_after }
    );
    counter.stand(standing(4, Answer::Ask));
    assert_eq!(counter.admit(at(0)), Admission::Ask);
}

#[test]
fn the_longest_row_of_failures_is_kept_until_it_was_seen() {
    let counter = Counter::new(standing(1, Answer::Pass));
    let record = |outcomes: &[Outcome]| {
        for outcome in outcomes {
            let ticket = pass(&counter, at(0));
            counter.record(ticket, *outcome, at(0));
        }
        counter.drain().streak
    };
    assert_eq!(
        record(&[Succeeded, Failed, Failed, Failed, Succeeded, Failed]),
        3
    );
    assert_eq!(record(&[]), 1);
    assert_eq!(record(&[Failed, Abandoned, Failed]), 3);
    assert_eq!(record(&[Succeeded]), 3);
    assert_eq!(record(&[Succeeded]), 0);
    record(&[Failed]);
    counter.stand(standing(2, Answer::Pass));
    assert_eq!(record(&[Failed]), 1);
}

#[test]
fn nothing_is_slow_where_slow_calls_are_not_judged() {
    let counter = Counter::new(Standing {
        slow_after: None,
        ..standing(1, Answer::Pass)
    });
    let ticket = pass(&counter, at(0));
    assert!(!counter.record(ticket, Succeeded, at(u64::MAX - 1)));
    assert_eq!(counter.drain().tally.slow, 0);
}

#[test]
fn a_clock_that_goes_back_makes_no_call_slow() {
    let counter = Counter::new(standing(1, Answer::Pass));
    let ticket = pass(&counter, at(100_000));
    assert!(!counter.record(ticket, Succeeded, at(1)));
}

#[test]
fn a_full_cell_stays_full() {
    let cell = AtomicU64::new(tag(7) | COUNT);
    assert!(count(&cell, 7));
    assert_eq!(cell.load(Ordering::Relaxed), tag(7) | COUNT);
}

#[test]
fn totals_are_exact_with_threads_that_count_and_one_that_drains() {
    const CALLS: u64 = 50_000;
    let counter = Counter::new(standing(1, Answer::Pass));
    let running = AtomicBool::new(true);
    let total = thread::scope(|scope| {
        let drains = scope.spawn(|| {
            let mut total = Tally::default();
            while running.load(Ordering::Acquire) {
                total = total.plus(counter.drain().tally);
            }
            total.plus(counter.drain().tally)
        });
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for call in 0..CALLS {
                        let ticket = pass(&counter, at(0));
                        let failed = call % 10 == 0;
                        let outcome = if failed { Failed } else { Succeeded };
                        counter.record(ticket, outcome, at(if call % 4 == 0 { 2_000 } else { 0 }));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        running.store(false, Ordering::Release);
        drains.join().unwrap()
    });
    let expected = Tally {
        calls: 4 * CALLS,
        failures: 4 * CALLS / 10,
        slow: CALLS,
    };
    assert_eq!(total, expected);
}

#[test]
fn a_new_term_begins_with_nothing_however_many_threads_are_counting() {
    let counter = Counter::new(standing(1, Answer::Pass));
    let running = AtomicBool::new(true);
    let progress = AtomicU64::new(0);
    let counted = thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    // How many calls of each term were counted, as the threads know it.
                    let mut counted = vec![0_u64; 400];
                    while running.load(Ordering::Acquire) {
                        let ticket = pass(&counter, at(0));
                        if counter.record(ticket, Failed, at(0)) {
                            counted[ticket.term as usize] += 1;
                            progress.fetch_add(1, Ordering::AcqRel);
                        }
                    }
                    counted
                })
            })
            .collect();
        let mut drained = vec![0; 400];
        for term in 2..400 {
            // The next term begins while the threads are in the middle of this one.
            let known = progress.load(Ordering::Acquire);
            let waits = (0..1_000_000).take_while(|_| progress.load(Ordering::Acquire) == known);
            waits.for_each(|_| thread::yield_now());
            let counted = counter.stand(standing(term, Answer::Pass));
            drained[counted.term as usize] += counted.tally.calls;
        }
        running.store(false, Ordering::Release);
        let known: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        let last = counter.drain();
        drained[last.term as usize] += last.tally.calls;
        for term in 0..400 {
            let sum: u64 = known.iter().map(|counted| counted[term]).sum();
            assert_eq!(drained[term], sum, "term {term}");
        }
        drained
    });
    assert!(counted.iter().sum::<u64>() > 0);
}
