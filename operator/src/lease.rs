//! One operator at a time: a Lease, taken and kept by compare-and-set on its `resourceVersion`.
//!
//! The clocks of other machines are not trusted: a holder counts as gone when its record has not
//! changed for a whole lease duration *as observed here*. The holder stops writing (see
//! [`crate::fence`]) well before anybody else may conclude that, and ends its process when it could
//! not renew.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::{Lease as Record, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::time::{Instant, sleep, timeout};
use weir_broker::Clock;

use crate::error::chain;
use crate::fence::Fence;

/// Name of the Lease.
pub const NAME: &str = "weir-operator";

/// The times of a lease. `renew` < `stop_writing` < `duration`.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// After this long without a change the holder is gone.
    pub duration: Duration,
    /// After this long without a renewal the holder stops writing and ends.
    pub stop_writing: Duration,
    /// How often the holder renews, and how often the others look.
    pub renew: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            stop_writing: Duration::from_secs(10),
            renew: Duration::from_secs(2),
        }
    }
}

/// Why the lease was lost.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Somebody else has it.
    #[error("the lease was taken by {0}")]
    Taken(String),
    /// It could not be renewed in time.
    #[error("the lease could not be renewed for {} s", .0.as_secs())]
    NotRenewed(Duration),
}

/// A candidate for the lease.
pub struct Lease<'a> {
    api: Api<Record>,
    identity: String,
    times: Times,
    fence: Fence,
    clock: &'a dyn Clock,
    /// The record as last seen, and when it was first seen like that.
    observed: Option<(Record, Instant)>,
}

impl<'a> Lease<'a> {
    /// A candidate named `identity`. `api` must not be fenced by `fence`.
    pub fn new(
        api: Api<Record>,
        identity: String,
        times: Times,
        fence: Fence,
        clock: &'a dyn Clock,
    ) -> Self {
        Self {
            api,
            identity,
            times,
            fence,
            clock,
            observed: None,
        }
    }

    /// Waits until the lease is ours.
    pub async fn acquire(&mut self) {
        loop {
            let started = Instant::now();
            match timeout(self.times.renew, self.try_once()).await {
                Ok(Ok(Attempt::Ours)) => {
                    self.fence.open_until(started + self.times.stop_writing);
                    return;
                }
                Ok(Ok(Attempt::Theirs(holder))) => {
                    tracing::debug!(holder, "another operator holds the lease");
                }
                Ok(Ok(Attempt::Conflict)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = chain(&error), "lease cannot be looked at");
                }
                Err(_) => tracing::warn!("lease cannot be looked at: no answer"),
            }
            sleep(jittered(self.times.renew)).await;
        }
    }

    /// Keeps the lease. Returns only when it is lost; nothing is written from then on.
    pub async fn hold(&mut self) -> Lost {
        let mut renewed = Instant::now();
        loop {
            sleep(self.times.renew).await;
            let started = Instant::now();
            match timeout(self.times.renew, self.try_once()).await {
                Ok(Ok(Attempt::Ours)) => {
                    renewed = started;
                    self.fence.open_until(started + self.times.stop_writing);
                }
                Ok(Ok(Attempt::Theirs(holder))) => {
                    self.fence.close();
                    return Lost::Taken(holder);
                }
                Ok(Ok(Attempt::Conflict)) => {}
                Ok(Err(error)) => tracing::warn!(error = chain(&error), "lease not renewed"),
                Err(_) => tracing::warn!("lease not renewed: no answer"),
            }
            if renewed.elapsed() >= self.times.stop_writing {
                self.fence.close();
                return Lost::NotRenewed(renewed.elapsed());
            }
        }
    }

    /// Gives the lease up, so that the next one need not wait. Best effort.
    pub async fn release(&mut self) {
        self.fence.close();
        let Some((mut record, _)) = self.observed.take() else {
            return;
        };
        if holder(&record) != Some(&self.identity) {
            return;
        }
        record.spec.get_or_insert_default().holder_identity = None;
        let parameters = PostParams::default();
        let replaced = self.api.replace(NAME, &parameters, &record);
        if let Ok(Err(error)) = timeout(self.times.renew, replaced).await {
            tracing::warn!(error = chain(&error), "lease not released");
        }
    }

    /// Looks at the record, and writes it where it is ours, free or abandoned.
    async fn try_once(&mut self) -> Result<Attempt, kube::Error> {
        let Some(found) = self.api.get_opt(NAME).await? else {
            let created = self
                .api
                .create(&PostParams::default(), &self.record(None))
                .await;
            return self.written(created);
        };
        let now = Instant::now();
        let since = match &self.observed {
            Some((seen, since)) if seen.spec == found.spec => *since,
            _ => now,
        };
        self.observed = Some((found.clone(), since));
        if let Some(other) = holder(&found).filter(|holder| **holder != self.identity) {
            let theirs = found
                .spec
                .as_ref()
                .and_then(|spec| spec.lease_duration_seconds)
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(self.times.duration, Duration::from_secs);
            if now.duration_since(since) < theirs.max(self.times.duration) {
                return Ok(Attempt::Theirs(other.clone()));
            }
            tracing::info!(holder = other, "taking an abandoned lease");
        }
        let wanted = self.record(Some(&found));
        let replaced = self
            .api
            .replace(NAME, &PostParams::default(), &wanted)
            .await;
        self.written(replaced)
    }

    fn written(&mut self, result: Result<Record, kube::Error>) -> Result<Attempt, kube::Error> {
        match result {
            Ok(record) => {
                self.observed = Some((record, Instant::now()));
                Ok(Attempt::Ours)
            }
            // Somebody was faster; the next look says who.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(Attempt::Conflict)
            }
            Err(error) => Err(error),
        }
    }

    /// The record that makes us the holder; it replaces exactly `found`.
    fn record(&self, found: Option<&Record>) -> Record {
        let before = found
            .and_then(|record| record.spec.clone())
            .unwrap_or_default();
        // A renewal has to be seen as a change, also where the clock stands still or goes back.
        let least = before
            .renew_time
            .as_ref()
            .map(|last| last.0 + SignedDuration::from_micros(1));
        let now = MicroTime(least.map_or(self.clock.now(), |least| least.max(self.clock.now())));
        let ours = before.holder_identity.as_ref() == Some(&self.identity);
        let metadata = found.map_or_else(
            || ObjectMeta {
                name: Some(NAME.to_owned()),
                ..ObjectMeta::default()
            },
            |record| record.metadata.clone(),
        );
        Record {
            metadata: ObjectMeta {
                managed_fields: None,
                ..metadata
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.times.duration.as_secs().max(1)).ok(),
                renew_time: Some(now.clone()),
                acquire_time: if ours { before.acquire_time } else { Some(now) },
                lease_transitions: Some(
                    before.lease_transitions.unwrap_or(0) + i32::from(found.is_some() && !ours),
                ),
                ..before
            }),
        }
    }
}

enum Attempt {
    Ours,
    Theirs(String),
    Conflict,
}

fn holder(record: &Record) -> Option<&String> {
    record
        .spec
        .as_ref()?
        .holder_identity
        .as_ref()
        .filter(|holder| !holder.is_empty())
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}
