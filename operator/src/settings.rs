//! Times and limits of the operator. [`Settings::default`] is what the binary uses; tests shorten it.

use std::time::Duration;

/// Times and limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often an object is looked at when nothing happens; drift in the broker is repaired then.
    pub resync: Duration,
    /// How long a deletion waits for the broker before topology is left behind.
    pub deletion_timeout: Duration,
    /// How long a broker may be silent before conditions say so.
    pub broker_grace: Duration,
    /// How long something an object refers to may be missing before it counts as stalled.
    pub reference_grace: Duration,
    /// How often numbers are looked at.
    pub numbers_interval: Duration,
    /// How long numbers may be old before a condition says so.
    pub numbers_grace: Duration,
    /// How often an object whose messages are being handled is reconciled: its pods may know of something
    /// that is wrong.
    pub busy_resync: Duration,
    /// Longest reconcile.
    pub reconcile_timeout: Duration,
    /// First pause after a failure.
    pub first_pause: Duration,
    /// Longest pause after failures.
    pub longest_pause: Duration,
    /// How often something that is about to be ready is looked at.
    pub progress_interval: Duration,
    /// Reconciles of one kind at once, deletions apart.
    pub concurrency: usize,
    /// Deletions of one kind at once.
    pub deletion_concurrency: usize,
    /// How long one list and its watches are followed before a new list is made.
    pub relist: Duration,
    /// How long events of one object are gathered before it is reconciled.
    pub debounce: Duration,
    /// How long an unused connection to a broker is kept.
    pub broker_idle: Duration,
    /// How long a Secret with broker credentials is remembered.
    pub credentials_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            resync: seconds(300),
            deletion_timeout: seconds(600),
            broker_grace: seconds(120),
            reference_grace: seconds(60),
            numbers_interval: seconds(30),
            numbers_grace: seconds(120),
            busy_resync: seconds(60),
            reconcile_timeout: seconds(60),
            first_pause: seconds(1),
            longest_pause: seconds(300),
            progress_interval: seconds(5),
            concurrency: 8,
            deletion_concurrency: 4,
            relist: seconds(600),
            debounce: Duration::from_millis(200),
            broker_idle: seconds(900),
            credentials_ttl: seconds(30),
        }
    }
}
