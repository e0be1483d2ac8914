//! How fast: a bucket of permissions that fills at a steady rate.

use std::time::Duration;

/// At most `rate` permissions a second, evenly spaced: of a second's worth none is given early.
///
/// Spans are counted from any fixed moment on a clock that never goes back. Permissions that were
/// not used for a while are lost, so that a pause is not followed by a burst.
#[derive(Clone, Debug)]
pub struct Pace {
    gap: Duration,
    next: Duration,
}

impl Pace {
    /// A rate of permissions a second; without one (or with 0) nobody waits.
    pub fn new(rate: Option<u32>) -> Self {
        let gap = match rate {
            None | Some(0) => Duration::ZERO,
            Some(rate) => Duration::from_secs(1) / rate,
        };
        Self {
            gap,
            next: Duration::ZERO,
        }
    }

    /// Takes the next permission at `now`; answers how long to wait before using it.
    pub fn take(&mut self, now: Duration) -> Duration {
        let at = self.next.max(now);
        self.next = at + self.gap;
        at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_rate_nobody_waits() {
        for rate in [None, Some(0)] {
            let mut pace = Pace::new(rate);
            assert!((0..100).all(|_| pace.take(Duration::ZERO).is_zero()));
        }
    }

    #[test]
    fn a_pause_is_not_followed_by_a_burst() {
        let mut pace = Pace::new(Some(10));
        assert_eq!(pace.take(Duration::ZERO), Duration::ZERO);
        let later = Duration::from_mins(1);
        assert_eq!(pace.take(later), Duration::ZERO);
        assert_eq!(pace.take(later), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn no_second_sees_more_than_the_rate(
            rate in 1_u32..200, arrivals in prop::collection::vec(0_u64..50, 1..400),
        ) {
            let mut pace = Pace::new(Some(rate));
            let mut now = Duration::ZERO;
            let mut used = Vec::new();
            for gap in arrivals {
                now += Duration::from_millis(gap);
                // Whoever asks waits, then uses the permission.
                now += pace.take(now);
                used.push(now);
            }
            for (first, at) in used.iter().enumerate() {
                let end = *at + Duration::from_micros(999_999);
                let within = used[first..].iter().take_while(|used| **used < end).count();
                prop_assert!(within <= rate as usize, "{within} in a second at {rate}/s");
            }
        }
    }
}
