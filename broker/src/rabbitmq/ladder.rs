//! Which delay queue a delayed message waits in.
//!
//! A queue only looks at its head for messages whose time has come. So the queues of an object are a
//! ladder, each for delays up to twice those of the one below: what waits behind a head is late by at
//! most half of the longest delay of its queue.

use std::time::Duration;

/// The shortest bucket, milliseconds.
const SHORTEST: u64 = 250;
/// The longest delay that RabbitMQ takes: 365 days, milliseconds.
pub(crate) const LONGEST: u64 = 365 * 24 * 60 * 60 * 1000;

/// The buckets that every queue has from the beginning. What they hold is due sooner than a new one is
/// safe to use.
pub(crate) const SHORT: [u64; 5] = [250, 500, 1000, 2000, 4000];

/// Where a delay waits, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rung {
    /// Longest delay of the queue, milliseconds: its name.
    pub(crate) bucket: u64,
    /// Time to live of the message, milliseconds, rounded up: never before its time.
    pub(crate) wait: u64,
}

/// The rung of a delay; `None` for one over [`LONGEST`]. A delay of zero has none either: it needs no
/// waiting.
pub(crate) fn rung(delay: Duration) -> Option<Rung> {
    let wait = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    if wait == 0 || wait > LONGEST {
        return None;
    }
    let mut bucket = SHORTEST;
    while bucket < wait {
        bucket *= 2;
    }
    Some(Rung {
        bucket: bucket.min(LONGEST),
        wait,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delays_are_rounded_up_and_bounded() {
        let rung = |delay| rung(delay).map(|rung| (rung.bucket, rung.wait));
        assert_eq!(rung(Duration::ZERO), None);
        assert_eq!(rung(Duration::from_nanos(1)), Some((250, 1)));
        assert_eq!(rung(Duration::from_micros(250_001)), Some((500, 251)));
        assert_eq!(
            rung(Duration::from_millis(LONGEST)),
            Some((LONGEST, LONGEST))
        );
        assert_eq!(rung(Duration::from_millis(LONGEST + 1)), None);
        assert_eq!(rung(Duration::MAX), None);
    }

    proptest! {
        #[test]
        fn what_waits_behind_a_head_is_late_by_half_a_bucket_at_most(delay in 250..LONGEST) {
            let rung = rung(Duration::from_millis(delay)).unwrap();
            prop_assert!(rung.bucket >= delay && rung.bucket <= 2 * delay);
            prop_assert!(rung.bucket - rung.wait <= rung.bucket / 2);
        }
    }
}
