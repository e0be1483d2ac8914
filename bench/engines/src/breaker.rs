//! The circuit breaker: one call through a closed breaker, admitted and recorded.
//!
//! Beside it what one writes by hand: a ring of buckets and a state behind a mutex, the same window and
//! the same rules, and the rule judged when a call failed.

use std::hint::black_box;
use std::sync::Mutex;

use weir_core::breaker::counter::{Admission, Counter};
use weir_core::breaker::{Breaker, BreakerConfig, Event, Moment, Outcome, Tally};

use crate::timing::{Cost, measure, median};

const CALLS: u64 = 4_000_000;
const ROUNDS: usize = 7;

/// The hand-written one.
struct Guarded {
    config: BreakerConfig,
    inner: Mutex<Inner>,
}

struct Inner {
    open_until: u64,
    slot: u64,
    buckets: [Tally; 20],
}

impl Guarded {
    fn new(config: BreakerConfig) -> Self {
        let inner = Inner {
            open_until: 0,
            slot: 0,
            buckets: [Tally::default(); 20],
        };
        Self {
            config,
            inner: Mutex::new(inner),
        }
    }

    fn admit(&self, now: Moment) -> bool {
        let inner = self.inner.lock().expect("not poisoned");
        now.as_millis() >= inner.open_until
    }

    fn record(&self, failed: bool, began: Moment, now: Moment) {
        let slow = self.config.is_slow(now.since(began));
        let mut inner = self.inner.lock().expect("not poisoned");
        let slot = now.as_millis() / 1_500;
        while inner.slot < slot {
            inner.slot = (inner.slot + 1).max(slot.saturating_sub(20));
            let index = (inner.slot % 20) as usize;
            inner.buckets[index] = Tally::default();
        }
        let bucket = &mut inner.buckets[(slot % 20) as usize];
        bucket.calls += 1;
        bucket.failures += u64::from(failed);
        bucket.slow += u64::from(slow);
        if failed || slow {
            let total = inner
                .buckets
                .iter()
                .fold(Tally::default(), |sum, bucket| sum.plus(*bucket));
            if self.config.breach(total).is_some() {
                inner.open_until = now.as_millis() + 10_000;
            }
        }
    }

    fn total(&self) -> u64 {
        let inner = self.inner.lock().expect("not poisoned");
        inner.buckets.iter().map(|bucket| bucket.calls).sum()
    }
}

/// The clock of the runs: it is an argument, so reading one is in neither cost.
fn reading(call: u64) -> Moment {
    Moment::from_millis(black_box(1_800_000_000_000 + (call >> 14)))
}

fn ours(threads: usize, config: &BreakerConfig) -> Cost {
    let mut breaker = Breaker::alone(config.clone());
    breaker.step(Event::Tick, reading(0), 0.0);
    let counter = Counter::new(breaker.standing());
    let cost = measure(threads, CALLS, |_| {
        for call in 0..CALLS {
            let now = reading(call);
            if let Admission::Pass(ticket) = counter.admit(now) {
                black_box(counter.record(ticket, black_box(Outcome::Succeeded), now));
            }
        }
    });
    let counted = counter.drain();
    assert_eq!(
        counted.tally.calls,
        CALLS * threads as u64,
        "every call is counted"
    );
    breaker.step(Event::Counted(counted), reading(CALLS), 0.0);
    assert_eq!(breaker.window().calls, CALLS * threads as u64);
    cost
}

fn by_hand(threads: usize, config: &BreakerConfig) -> Cost {
    let guarded = Guarded::new(config.clone());
    let cost = measure(threads, CALLS, |_| {
        for call in 0..CALLS {
            let now = reading(call);
            if guarded.admit(now) {
                guarded.record(black_box(false), now, now);
            }
        }
    });
    assert_eq!(
        guarded.total(),
        CALLS * threads as u64,
        "every call is counted"
    );
    cost
}

/// One call through the state machine itself, as a shell without a counter would do it.
fn stepped(config: &BreakerConfig) -> Cost {
    let mut breaker = Breaker::alone(config.clone());
    let machine = Mutex::new(&mut breaker);
    measure(1, CALLS / 10, |_| {
        let mut breaker = machine.lock().expect("not poisoned");
        for call in 0..CALLS / 10 {
            let now = reading(call);
            let effects = breaker.step(Event::Call { call }, now, 0.0);
            if let Some(&weir_core::breaker::Effect::Admit { ticket, .. }) = effects.first() {
                let outcome = black_box(Outcome::Succeeded);
                black_box(breaker.step(Event::Ended { ticket, outcome }, now, 0.0));
            }
        }
    })
}

/// Prints the table.
pub fn compare() {
    let config = BreakerConfig::default();
    println!(
        "breaker: admit + record, closed; ns a call, medians of {ROUNDS} rounds of {CALLS} calls a thread\n\
         {:<28}{:>8}{:>10}{:>10}{:>8}",
        "", "threads", "wall ns", "cpu ns", "ratio"
    );
    for threads in [1, 2] {
        let rounds: Vec<(Cost, Cost)> = (0..ROUNDS)
            .map(|_| (by_hand(threads, &config), ours(threads, &config)))
            .collect();
        let hand = (
            median(rounds.iter().map(|(hand, _)| hand.wall)),
            median(rounds.iter().map(|(hand, _)| hand.cpu)),
        );
        let weir = (
            median(rounds.iter().map(|(_, weir)| weir.wall)),
            median(rounds.iter().map(|(_, weir)| weir.cpu)),
        );
        for (name, (wall, cpu)) in [("mutex around a ring", hand), ("weir counter", weir)] {
            println!(
                "{name:<28}{threads:>8}{wall:>10.1}{cpu:>10.1}{:>8.2}",
                wall / hand.0
            );
        }
    }
    let step = (0..ROUNDS).map(|_| stepped(&config));
    let costs: Vec<Cost> = step.collect();
    println!(
        "{:<28}{:>8}{:>10.1}{:>10.1}",
        "weir machine, both steps",
        1,
        median(costs.iter().map(|cost| cost.wall)),
        median(costs.iter().map(|cost| cost.cpu)),
    );
    drain(&config);
}

/// What whoever runs the machine pays each time it looks.
fn drain(config: &BreakerConfig) {
    let mut breaker = Breaker::alone(config.clone());
    let counter = Counter::new(breaker.standing());
    let looks = CALLS / 40;
    let machine = Mutex::new(&mut breaker);
    let cost = measure(1, looks, |_| {
        let mut breaker = machine.lock().expect("not poisoned");
        for look in 0..looks {
            let counted = counter.drain();
            black_box(breaker.step(Event::Counted(counted), reading(look), 0.0));
            black_box(counter.stand(breaker.standing()));
        }
    });
    println!(
        "{:<28}{:>8}{:>10.1}{:>10.1}",
        "drain, step, stand", 1, cost.wall, cost.cpu
    );
}
