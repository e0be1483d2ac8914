//! How long to wait after a failure, for each object on its own.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Failures in a row of each object. A success forgets them.
#[derive(Debug)]
pub struct Backoff<K> {
    first: Duration,
    longest: Duration,
    failures: Mutex<HashMap<K, u32>>,
}

impl<K: Eq + Hash + Clone> Backoff<K> {
    /// Pauses from `first` to `longest`, doubled each time.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a failure and says how long to wait. `random` is in 0..1.
    pub fn failed(&self, key: &K, random: f64) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.clone()).or_insert(0);
        let pause = self
            .first
            .saturating_mul(1_u32 << (*count).min(20))
            .min(self.longest);
        *count = count.saturating_add(1);
        // Between half and all of it, so that objects that failed together do not return together.
        pause.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Forgets the failures of an object, which succeeded or is gone.
    pub fn forget(&self, key: &K) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_start_again_after_a_success() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(5));
        let pauses: Vec<u64> = (0..12)
            .map(|_| backoff.failed(&"a", 1.0).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(
            backoff.failed(&"b", 1.0).as_secs(),
            1,
            "objects are counted apart"
        );
        backoff.forget(&"a");
        assert_eq!(backoff.failed(&"a", 0.0), Duration::from_millis(500));
    }
}
