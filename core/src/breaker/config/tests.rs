use proptest::prelude::*;

use super::*;
use crate::breaker::Reason;

fn with(change: impl FnOnce(&mut BreakerConfig)) -> BreakerConfig {
    let mut config = BreakerConfig::default();
    change(&mut config);
    config
}

fn refusal(change: impl FnOnce(&mut BreakerConfig)) -> String {
    let wrong = with(change).validate().expect_err("not valid");
    let messages: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    messages.join("\n")
}

fn tally(calls: u64, failures: u64, slow: u64) -> Tally {
    Tally {
        calls,
        failures,
        slow,
    }
}

#[test]
fn defaults_are_valid_and_as_documented() {
    let config: BreakerConfig = serde_json::from_str("{}").unwrap();
    assert_eq!(config, BreakerConfig::default());
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(
        serde_json::to_value(&config).unwrap(),
        serde_json::json!({
            "trip": {
                "failurePercent": 50, "slowPercent": 100, "slowSeconds": 2, "minimumCalls": 20,
                "windowSeconds": 30, "consecutiveFailures": 0, "failureStatuses": ["429", "5xx"],
            },
            "open": {
                "initialSeconds": 10, "multiplier": 2, "maxSeconds": 300, "jitterPercent": 10,
            },
            "halfOpen": {"probes": 3, "successes": 3},
            "timeoutSeconds": 10,
            "force": "",
        })
    );
}

#[test]
fn force_is_written_as_users_write_it() {
    for (text, force) in [
        ("", Force::Automatic),
        ("Open", Force::Open),
        ("Closed", Force::Closed),
    ] {
        let config: BreakerConfig =
            serde_json::from_value(serde_json::json!({ "force": text })).unwrap();
        assert_eq!(config.force, force);
    }
    assert!(serde_json::from_str::<BreakerConfig>(r#"{"force": "HalfOpen"}"#).is_err());
    assert!(serde_json::from_str::<BreakerConfig>(r#"{"trips": {}}"#).is_err());
}

#[test]
fn a_number_outside_its_bounds_is_refused_with_the_bounds() {
    assert_eq!(
        refusal(|config| config.trip.failure_percent = 101),
        "trip.failurePercent is 101; write a number from 0 to 100"
    );
    assert_eq!(
        refusal(|config| config.half_open.probes = 0),
        "halfOpen.probes is 0; write a number from 1 to 100"
    );
    assert_eq!(
        refusal(|config| config.timeout_seconds = 43_201),
        "timeoutSeconds is 43201; write a number from 1 to 43200"
    );
}

#[test]
fn every_bound_is_the_last_that_is_allowed() {
    type Change = fn(&mut BreakerConfig) -> &mut u32;
    let fields: [(Change, u32, u32); 13] = [
        (|config| &mut config.trip.failure_percent, 0, 100),
        (|config| &mut config.trip.slow_percent, 0, 100),
        (|config| &mut config.trip.slow_seconds, 1, 43_200),
        (|config| &mut config.trip.minimum_calls, 1, 1_000_000),
        (|config| &mut config.trip.window_seconds, 1, 3_600),
        (|config| &mut config.trip.consecutive_failures, 0, 1_000_000),
        (|config| &mut config.open.initial_seconds, 1, 300),
        (|config| &mut config.open.multiplier, 1, 100),
        (|config| &mut config.open.max_seconds, 10, 86_400),
        (|config| &mut config.open.jitter_percent, 0, 50),
        (|config| &mut config.half_open.probes, 1, 100),
        (|config| &mut config.half_open.successes, 1, 1_000),
        (|config| &mut config.timeout_seconds, 1, 43_200),
    ];
    for (field, least, greatest) in fields {
        for (value, valid) in [
            (least, true),
            (greatest, true),
            (greatest + 1, false),
            (u32::MAX, false),
        ] {
            let config = with(|config| *field(config) = value);
            assert_eq!(config.validate().is_ok(), valid, "{config:?}");
        }
        if least > 0 {
            let config = with(|config| *field(config) = least - 1);
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let refusal = refusal(|config| {
        config.trip.minimum_calls = 0;
        config.open.max_seconds = 5;
        config.trip.failure_statuses = vec!["5XX".to_owned(), "4x".to_owned(), "700".to_owned()];
    });
    assert_eq!(
        refusal.lines().collect::<Vec<_>>(),
        [
            "trip.minimumCalls is 0; write a number from 1 to 1000000",
            "open.maxSeconds is 5 and open.initialSeconds is 10; write an open.maxSeconds of at least \
             10, or an open.initialSeconds of at most 5",
            "trip.failureStatuses has \"4x\"; write a status from \"100\" to \"599\" or a class from \
             \"1xx\" to \"5xx\"",
            "trip.failureStatuses has \"700\"; write a status from \"100\" to \"599\" or a class from \
             \"1xx\" to \"5xx\"",
        ]
    );
}

#[test]
fn a_breaker_that_could_never_open_is_refused() {
    let refusal = refusal(|config| {
        config.trip.failure_percent = 0;
        config.trip.slow_percent = 0;
    });
    assert!(refusal.contains("write at least one of them"), "{refusal}");
    let valid = with(|config| {
        config.trip.failure_percent = 0;
        config.trip.slow_percent = 0;
        config.trip.consecutive_failures = 1;
    });
    assert_eq!(valid.validate(), Ok(()));
}

#[test]
fn a_long_list_of_statuses_is_refused_and_not_read_to_its_end() {
    let refusal = refusal(|config| config.trip.failure_statuses = vec!["x".repeat(1_000); 51]);
    assert!(refusal.contains("has 51 entries; write at most 50"));
    assert!(refusal.len() < 10_000);
}

#[test]
fn by_default_429_and_every_5xx_fail_and_other_statuses_do_not() {
    let statuses = BreakerConfig::default().failure_statuses();
    for status in 0..=999 {
        let failed = status == 429 || (500..=599).contains(&status);
        assert_eq!(
            statuses.judge(status) == Outcome::Failed,
            failed,
            "{status}"
        );
    }
    assert_eq!(statuses.judge(u16::MAX), Outcome::Succeeded);
}

#[test]
fn an_empty_list_of_statuses_matches_none() {
    let config = with(|config| config.trip.failure_statuses.clear());
    assert_eq!(config.validate(), Ok(()));
    assert!((0..=999).all(|status| !config.failure_statuses().contains(status)));
}

#[test]
fn shares_are_reached_at_exactly_their_percent() {
    let config = BreakerConfig::default();
    assert_eq!(config.breach(tally(20, 9, 0)), None);
    assert_eq!(config.breach(tally(20, 10, 0)), Some(Reason::FailureRate));
    assert_eq!(config.breach(tally(21, 10, 0)), None);
    assert_eq!(config.breach(tally(20, 0, 19)), None);
    assert_eq!(config.breach(tally(20, 0, 20)), Some(Reason::SlowRate));
    assert_eq!(config.breach(tally(19, 19, 19)), None);
    assert_eq!(config.breach(Tally::default()), None);
}

#[test]
fn a_share_of_zero_percent_is_not_judged() {
    let config = with(|config| config.trip.failure_percent = 0);
    assert_eq!(config.breach(tally(100, 100, 0)), None);
    let config = with(|config| config.trip.slow_percent = 0);
    assert_eq!(config.breach(tally(100, 0, 100)), None);
    assert!(!config.is_slow(Duration::from_hours(1)));
}

#[test]
fn a_call_is_slow_from_exactly_slow_seconds_on() {
    let config = BreakerConfig::default();
    assert!(!config.is_slow(Duration::from_millis(1_999)));
    assert!(config.is_slow(Duration::from_secs(2)));
}

#[test]
fn open_times_double_up_to_the_longest() {
    let config = with(|config| config.open.jitter_percent = 0);
    let seconds: Vec<u64> = (1..8)
        .map(|opens| config.open_time(opens, 0.7).as_secs())
        .collect();
    assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(config.open_time(0, 0.0), config.open_time(1, 0.0));
}

proptest! {
    #[test]
    fn open_times_never_shrink_and_stay_inside_their_bounds(
        initial in 1_u32..=86_400, multiplier in 1_u32..=100, more in 0_u32..=86_400,
        jitter_percent in 0_u32..=50, opens: u32, random: f64,
    ) {
        let config = with(|config| {
            config.open = OpenConfig {
                initial_seconds: initial,
                multiplier,
                max_seconds: initial.saturating_add(more).min(86_400),
                jitter_percent,
            };
        });
        prop_assert_eq!(config.validate(), Ok(()));
        let time = config.open_time(opens, random);
        let whole = config.open_time(opens, 0.0);
        prop_assert!(time <= whole);
        prop_assert!(time >= whole * (100 - jitter_percent) / 100);
        prop_assert!(whole >= Duration::from_secs(initial.into()));
        prop_assert!(whole <= Duration::from_secs(config.open.max_seconds.into()));
        prop_assert!(whole <= config.open_time(opens.saturating_add(1), 0.0));
    }

    #[test]
    fn no_configuration_overflows(
        initial: u32, multiplier: u32, max_seconds: u32, jitter_percent: u32, opens: u32, random: f64,
        calls: u64, failures: u64, slow: u64, percent: u32,
    ) {
        let config = with(|config| {
            config.open = OpenConfig {
                initial_seconds: initial, multiplier, max_seconds, jitter_percent,
            };
            config.trip.failure_percent = percent;
        });
        let _ = config.open_time(opens, random);
        let _ = config.breach(tally(calls, failures, slow));
        let _ = config.validate();
    }

    #[test]
    fn a_share_opens_exactly_when_it_is_at_least_the_percent(
        calls in 1_u64..1_000, failed in 0_u64..1_000, percent in 1_u32..=100, minimum in 1_u32..100,
    ) {
        let failures = failed.min(calls);
        let config = with(|config| {
            config.trip.failure_percent = percent;
            config.trip.minimum_calls = minimum;
        });
        let expected = calls >= minimum.into()
            && failures as f64 / calls as f64 * 100.0 >= f64::from(percent) - 1e-9;
        prop_assert_eq!(config.breach(tally(calls, failures, 0)).is_some(), expected);
    }

    #[test]
    fn a_status_text_is_a_status_a_class_or_refused(text in "[0-9a-zX]{0,4}") {
        let read = text.parse::<Statuses>();
        let number = text.parse::<u16>().ok().filter(|_| text.len() == 3);
        let class = text.to_lowercase();
        let class = ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().position(|known| *known == class);
        match read {
            Ok(set) => for status in 0..700 {
                let expected = number == Some(status)
                    || class.is_some_and(|class| usize::from(status / 100) == class + 1);
                prop_assert_eq!(set.contains(status), expected);
            },
            Err(_) => prop_assert!(
                class.is_none() && !number.is_some_and(|number| (100..600).contains(&number))
            ),
        }
    }
}
