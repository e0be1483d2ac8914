//! Retries: which retrier handles a failure, and how long it waits (aws-semantics 10.7.3, 10.7.4).

use std::time::Duration;

use super::failure::Failure;
use crate::definition::{Jitter, MAX_SECONDS, Retrier};
use crate::randomness::{Randomness, unit};

/// The delay before the next attempt; none when no retrier handles the failure, or the one that does is used up. `used`
/// counts the uses of each retrier during the visit.
pub(super) fn delay(
    retriers: &[Retrier],
    failure: &Failure,
    used: &mut Vec<u64>,
    randomness: &mut dyn Randomness,
) -> Option<Duration> {
    let index = retriers
        .iter()
        .position(|retrier| failure.matches(&retrier.error_equals))?;
    let retrier = &retriers[index];
    if used.len() <= index {
        used.resize(index + 1, 0);
    }
    if used[index] >= retrier.max_attempts {
        return None;
    }
    let delay = backoff(retrier, used[index]);
    used[index] += 1;
    Some(match retrier.jitter {
        Jitter::None => delay,
        Jitter::Full => delay.mul_f64(unit(randomness)),
    })
}

/// The delay after `used` earlier retries: `IntervalSeconds * BackoffRate ^ used`, at most `MaxDelaySeconds`.
fn backoff(retrier: &Retrier, used: u64) -> Duration {
    let most = retrier.max_delay_seconds.unwrap_or(MAX_SECONDS) as f64;
    let exponent = i32::try_from(used).unwrap_or(i32::MAX);
    let seconds = retrier.interval_seconds as f64 * retrier.backoff_rate.powi(exponent);
    // An infinite product is more than the most.
    Duration::from_secs_f64(if seconds < most { seconds } else { most })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::randomness::Seeded;

    fn retrier(names: &[&str], interval: u64, rate: f64, attempts: u64) -> Retrier {
        Retrier {
            error_equals: names.iter().map(|name| Arc::from(*name)).collect(),
            interval_seconds: interval,
            max_attempts: attempts,
            backoff_rate: rate,
            max_delay_seconds: None,
            jitter: Jitter::None,
        }
    }

    fn delays(retriers: &[Retrier], errors: &[&str]) -> Vec<Option<f64>> {
        let mut used = Vec::new();
        let mut source = Seeded::new(1);
        errors
            .iter()
            .map(|error| {
                delay(retriers, &Failure::new(error, ""), &mut used, &mut source)
                    .map(|delay| delay.as_secs_f64())
            })
            .collect()
    }

    #[test]
    fn each_retrier_counts_for_itself() {
        let retriers = [
            retrier(&["ErrorA", "ErrorB"], 1, 2.0, 2),
            retrier(&["ErrorC"], 5, 2.0, 3),
        ];
        assert_eq!(
            delays(
                &retriers,
                &["ErrorA", "ErrorB", "ErrorC", "ErrorB", "ErrorB"]
            ),
            [Some(1.0), Some(2.0), Some(5.0), None, None]
        );
    }

    #[test]
    fn delays_grow_by_the_rate_up_to_their_bound() {
        assert_eq!(
            delays(&[retrier(&["E"], 3, 1.5, 2)], &["E"; 3]),
            [Some(3.0), Some(4.5), None]
        );
        let mut capped = retrier(&["E"], 3, 10.0, 4);
        capped.max_delay_seconds = Some(40);
        assert_eq!(
            delays(&[capped], &["E"; 3]),
            [Some(3.0), Some(30.0), Some(40.0)]
        );
        let endless = retrier(&["E"], 99_999_999, 1e300, 99_999_999);
        assert_eq!(delays(&[endless], &["E"; 3])[2], Some(99_999_999.0));
        assert_eq!(delays(&[retrier(&["E"], 1, 1.0, 0)], &["E"]), [None]);
    }

    #[test]
    fn full_jitter_stays_between_nothing_and_the_delay() {
        let mut spread = retrier(&["States.ALL"], 8, 1.0, 1000);
        spread.jitter = Jitter::Full;
        let found: Vec<f64> = delays(&[spread], &["E"; 200])
            .into_iter()
            .flatten()
            .collect();
        assert!(found.iter().all(|delay| (0.0..=8.0).contains(delay)));
        assert!(found.iter().any(|delay| *delay < 2.0) && found.iter().any(|delay| *delay > 6.0));
    }
}
