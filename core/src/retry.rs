//! When the next attempt is due, and what `Retry-After` says.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::RetryConfig;

/// Longest wait that `Retry-After` may ask for. A handler that asks for more is asked again after
/// this: one wrong clock must not stop a consumer for a year.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// The pause before the attempt that follows `failures` failed ones (1 or more; 0 counts as 1).
///
/// Uniform in `[d/2, d]` by `random` (in `0.0..1.0`; anything else counts as the nearest bound, NaN
/// as 0), where `d = min(maxSeconds, initialSeconds * multiplier^(failures-1))`, in milliseconds. A
/// multiplier of 0 counts as 1. No input overflows.
pub fn delay(policy: &RetryConfig, failures: u32, random: f64) -> Duration {
    let growth =
        u128::from(policy.multiplier.max(1)).saturating_pow(failures.max(1).saturating_sub(1));
    let seconds = u128::from(policy.initial_seconds)
        .saturating_mul(growth)
        .min(u128::from(policy.max_seconds));
    jitter(
        Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX)),
        random,
    )
}

/// Uniform in `[longest/2, longest]`, in whole milliseconds.
pub(crate) fn jitter(longest: Duration, random: f64) -> Duration {
    let half = longest / 2;
    half.saturating_add(part(longest.saturating_sub(half), random))
}

/// Uniform in `[0, whole]`, in whole milliseconds, rounded down.
pub(crate) fn part(whole: Duration, random: f64) -> Duration {
    let whole = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    let random = if random.is_nan() {
        0.0
    } else {
        random.clamp(0.0, 1.0)
    };
    Duration::from_millis(((whole as f64 * random) as u64).min(whole))
}

/// Reads a `Retry-After` value: whole seconds, or an HTTP-date in any of the three forms of RFC 9110
/// 5.6.7, the obsolete ones included.
///
/// At most [`LONGEST_RETRY_AFTER`]; a date in the past is zero. `None` for anything else, negative
/// and fractional numbers included: then the caller uses its own pause.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() {
        return None;
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a number are more than an hour, too.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    }
    let date = http_date(value, now)?;
    let wait = Duration::try_from(date.duration_since(now)).unwrap_or_default();
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Reads an HTTP-date (RFC 9110 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`, and the obsolete
/// `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`.
///
/// `now` decides the century of a two-digit year: the latest that is at most 50 years ahead. The day
/// of the week must be one, but need not fit the date; a leap second is read as the one before it.
pub fn http_date(value: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some((day_name, rest)) = value.split_once(", ") {
        let rest = rest.strip_suffix(" GMT")?;
        if let [day, month, year, time] = *rest.split(' ').collect::<Vec<_>>() {
            let known = WEEKDAYS.iter().any(|name| name[..3] == *day_name);
            return known.then(|| civil(number(year, 4)?, month, number(day, 2)?, time))?;
        }
        let (date, time) = rest.split_once(' ')?;
        let [day, month, year] = *date.split('-').collect::<Vec<_>>() else {
            return None;
        };
        let latest = TimeZone::UTC.to_datetime(now).year() + 50;
        let year = latest - (latest - number(year, 2)?).rem_euclid(100);
        return WEEKDAYS
            .contains(&day_name)
            .then(|| civil(year, month, number(day, 2)?, time))?;
    }
    let (day_name, rest) = value.split_once(' ')?;
    let (month, rest) = rest.split_once(' ')?;
    let (day, rest) = rest.split_at_checked(2)?;
    let day = day
        .strip_prefix(' ')
        .map_or_else(|| number(day, 2), |digit| number(digit, 1))?;
    let (time, year) = rest.strip_prefix(' ')?.split_once(' ')?;
    let known = WEEKDAYS.iter().any(|name| name[..3] == *day_name);
    known.then(|| civil(number(year, 4)?, month, day, time))?
}

const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A number of exactly `digits` decimal digits.
fn number(text: &str, digits: usize) -> Option<i16> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

fn civil(year: i16, month: &str, day: i16, time: &str) -> Option<Timestamp> {
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let [hour, minute, second] = *time.split(':').collect::<Vec<_>>() else {
        return None;
    };
    let date = DateTime::new(
        year,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
        i8::try_from(number(hour, 2)?).ok()?,
        i8::try_from(number(minute, 2)?).ok()?,
        i8::try_from(number(second, 2)?.min(if second == "60" { 59 } else { i16::MAX })).ok()?,
        0,
    );
    TimeZone::UTC.to_timestamp(date.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(initial: u32, multiplier: u32, max: u32) -> RetryConfig {
        RetryConfig {
            max_attempts: 5,
            initial_seconds: initial,
            multiplier,
            max_seconds: max,
            max_age_seconds: 345_600,
            permanent_statuses: Vec::new(),
        }
    }

    fn now() -> Timestamp {
        "1994-11-06T08:49:07Z".parse().unwrap()
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let policy = policy(1, 2, 900);
        let seconds: Vec<u64> = (1..=12).map(|n| delay(&policy, n, 1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(delay(&policy, 0, 1.0), delay(&policy, 1, 1.0));
        assert_eq!(delay(&policy, 1, 0.0), Duration::from_millis(500));
        assert_eq!(delay(&policy, 1, 0.5), Duration::from_millis(750));
    }

    #[test]
    fn nonsense_randomness_stays_within_the_bounds() {
        let policy = policy(10, 1, 10);
        for (random, millis) in [
            (f64::NAN, 5000),
            (-1.0, 5000),
            (f64::NEG_INFINITY, 5000),
            (2.0, 10_000),
            (f64::INFINITY, 10_000),
        ] {
            assert_eq!(
                delay(&policy, 3, random),
                Duration::from_millis(millis),
                "{random}"
            );
        }
    }

    #[test]
    fn retry_after_in_seconds_is_a_whole_number_and_at_most_an_hour() {
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7\t", Some(7)),
            ("0007", Some(7)),
            ("3600", Some(3600)),
            ("3601", Some(3600)),
            ("99999999999999999999999999", Some(3600)),
            ("", None),
            (" ", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1e3", None),
            ("0x10", None),
            ("1 2", None),
            ("soon", None),
            ("\u{0661}", None),
        ] {
            assert_eq!(
                retry_after(value, now()),
                seconds.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }

    #[test]
    fn retry_after_reads_all_three_date_forms_of_rfc_9110() {
        for value in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(
                retry_after(value, now()),
                Some(Duration::from_secs(30)),
                "{value}"
            );
        }
        let date = |value: &str| http_date(value, now()).map(|date| date.to_string());
        assert_eq!(
            date("Wed Nov 16 08:49:37 1994").as_deref(),
            Some("1994-11-16T08:49:37Z")
        );
        assert_eq!(
            date("Sat, 31 Dec 2016 23:59:60 GMT").as_deref(),
            Some("2016-12-31T23:59:59Z")
        );
    }

    #[test]
    fn a_date_in_the_past_is_now_and_a_far_one_is_an_hour() {
        assert_eq!(
            retry_after("Sun, 06 Nov 1993 08:49:37 GMT", now()),
            Some(Duration::ZERO)
        );
        assert_eq!(
            retry_after("Sun, 06 Nov 2994 08:49:37 GMT", now()),
            Some(LONGEST_RETRY_AFTER)
        );
    }

    #[test]
    fn a_two_digit_year_is_at_most_fifty_years_ahead() {
        let year =
            |value: &str| http_date(value, now()).map(|date| date.to_string()[..4].to_owned());
        assert_eq!(
            year("Sunday, 06-Nov-94 08:49:37 GMT").as_deref(),
            Some("1994")
        );
        assert_eq!(
            year("Sunday, 06-Nov-99 08:49:37 GMT").as_deref(),
            Some("1999")
        );
        assert_eq!(
            year("Sunday, 06-Nov-00 08:49:37 GMT").as_deref(),
            Some("2000")
        );
        assert_eq!(
            year("Sunday, 06-Nov-44 08:49:37 GMT").as_deref(),
            Some("2044")
        );
        assert_eq!(
            year("Sunday, 06-Nov-45 08:49:37 GMT").as_deref(),
            Some("1945")
        );
    }

    #[test]
    fn what_is_not_an_http_date_is_not_guessed_at() {
        for value in [
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Son, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Son Nov  6 08:49:37 1994",
            "Sun Nov  6 08:49:37 94",
            "1994-11-06T08:49:37Z",
            ", GMT",
            "é",
            "Sun Nov é",
        ] {
            assert_eq!(http_date(value, now()), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn pauses_match_the_formula_for_any_numbers(
            initial in any::<u32>(),
            multiplier in prop_oneof![0_u32..5, any::<u32>()],
            max in any::<u32>(),
            failures in prop_oneof![0_u32..70, any::<u32>()],
            random in 0.0..1.0,
        ) {
            let policy = policy(initial, multiplier, max);
            let mut longest = u128::from(initial);
            for _ in 1..failures.clamp(1, 200) {
                longest = longest.saturating_mul(multiplier.max(1).into()).min(u128::from(u64::MAX));
            }
            let longest = Duration::from_secs(longest.min(max.into()) as u64);
            let pause = delay(&policy, failures, random);
            prop_assert!(pause <= longest && pause >= longest / 2, "{pause:?} {longest:?}");
            prop_assert_eq!(delay(&policy, failures, 1.0), longest);
            prop_assert!(delay(&policy, failures.saturating_add(1), 1.0) >= longest);
        }

        #[test]
        fn dates_that_are_written_are_read_again(second in -62_135_596_800_i64..253_402_300_799) {
            let date = Timestamp::from_second(second).unwrap();
            let fixed = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            prop_assert_eq!(http_date(&fixed, now()), Some(date));
            let asctime = date.strftime("%a %b %e %H:%M:%S %Y").to_string();
            prop_assert_eq!(http_date(&asctime, now()), Some(date));
        }

        #[test]
        fn any_text_is_read_without_a_panic(value in "\\PC*", second in any::<i32>()) {
            let now = Timestamp::from_second(second.into()).unwrap();
            if let Some(wait) = retry_after(&value, now) {
                prop_assert!(wait <= LONGEST_RETRY_AFTER);
            }
        }
    }
}
