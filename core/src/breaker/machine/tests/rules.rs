//! The machine beside a naive recount of all calls, and in the hands of a hostile world.

use proptest::prelude::*;

use super::*;
use crate::breaker::counter::Counted;

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
        let mut config = plain();
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
        let mut config = plain();
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
                let mut config = plain();
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
