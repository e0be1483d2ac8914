//! Keeping what is leased while something slow goes on.
//!
//! The broker delivers a message again when it has not heard of it for a lease. So as long as we have
//! it we say so every third of a lease, and when we could not say so for a whole one we must assume
//! that somebody else has it: the call is dropped and nothing is settled.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weir_broker::BrokerError;

/// What is leased: a message, or a batch with its permit.
pub trait Renew: Sync {
    /// Keeps it for another lease.
    fn renew(&self) -> Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send + '_>>;
}

/// How something slow ended.
#[derive(Debug, PartialEq, Eq)]
pub enum During<T> {
    /// By itself.
    Done(T),
    /// Its time was over.
    Late,
    /// The lease may be somebody else's by now.
    Lost,
}

/// Somebody else may have it by now.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost;

/// A lease and what we know about it.
pub struct Hold<'a> {
    leased: &'a dyn Renew,
    span: Duration,
    /// From here on somebody else may have it.
    valid_until: Instant,
    renew_at: Instant,
}

impl<'a> Hold<'a> {
    /// Holds what was received at `since` for `lease`.
    pub fn new(leased: &'a dyn Renew, lease: Duration, since: Instant) -> Self {
        // A tenth is kept back: the broker's clock started before we heard of it.
        let span = lease * 9 / 10;
        Self {
            leased,
            span,
            valid_until: since + span,
            renew_at: since + span / 3,
        }
    }

    /// Whether it is surely still ours.
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.valid_until
    }

    /// Waits for `work`, at most until `deadline`, keeping the lease. `work` is dropped when it is
    /// late or when the lease is lost.
    pub async fn during<T>(
        &mut self,
        work: impl Future<Output = T>,
        deadline: Option<Instant>,
    ) -> During<T> {
        let mut work = pin!(work);
        let mut alarm = pin!(sleep_until(self.next_alarm(deadline, false)));
        let mut renewal: Option<Pin<Box<dyn Future<Output = _> + Send + '_>>> = None;
        let mut renewal_began = Instant::now();
        loop {
            tokio::select! {
                biased;
                done = work.as_mut() => {
                    return if self.is_valid() { During::Done(done) } else { During::Lost };
                }
                renewed = async { renewal.as_mut().expect("checked").await }, if renewal.is_some() => {
                    renewal = None;
                    match renewed {
                        Ok(()) => {
                            self.valid_until = renewal_began + self.span;
                            self.renew_at = renewal_began + self.span / 3;
                        }
                        Err(BrokerError::LeaseOver { .. }) => return During::Lost,
                        Err(error) => {
                            tracing::debug!(%error, "a lease was not extended");
                            self.renew_at = Instant::now() + jittered(self.span / 20);
                        }
                    }
                }
                () = alarm.as_mut() => {
                    let now = Instant::now();
                    if now >= self.valid_until {
                        return During::Lost;
                    }
                    if deadline.is_some_and(|deadline| now >= deadline) {
                        return During::Late;
                    }
                    if renewal.is_none() && now >= self.renew_at {
                        renewal_began = now;
                        renewal = Some(self.leased.renew());
                    }
                }
            }
            alarm
                .as_mut()
                .reset(self.next_alarm(deadline, renewal.is_some()));
        }
    }

    /// Repeats `operation` until it succeeds or the lease is lost. Returns how often it failed.
    pub async fn insist<F>(&mut self, operation: impl FnMut() -> F) -> Result<u32, Lost>
    where
        F: Future<Output = Result<(), BrokerError>>,
    {
        self.ask(operation).await.map(|((), failures)| failures)
    }

    /// As [`insist`](Self::insist), for what has an answer.
    pub async fn ask<T, F>(&mut self, mut operation: impl FnMut() -> F) -> Result<(T, u32), Lost>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let mut failures = 0_u32;
        loop {
            match self.during(operation(), None).await {
                During::Done(Ok(answer)) => return Ok((answer, failures)),
                During::Done(Err(BrokerError::LeaseOver { .. })) | During::Late | During::Lost => {
                    return Err(Lost);
                }
                During::Done(Err(error)) => {
                    if failures == 0 {
                        tracing::debug!(%error, "the broker did not settle a message; asking again");
                    }
                    failures += 1;
                    let pause = Duration::from_millis(50 << failures.min(7));
                    let pause = tokio::time::sleep(jittered(pause.min(Duration::from_secs(5))));
                    if !matches!(self.during(pause, None).await, During::Done(())) {
                        return Err(Lost);
                    }
                }
            }
        }
    }

    fn next_alarm(&self, deadline: Option<Instant>, renewing: bool) -> Instant {
        let mut next = self.valid_until;
        if !renewing {
            next = next.min(self.renew_at);
        }
        deadline.map_or(next, |deadline| next.min(deadline))
    }
}

/// Between half of `longest` and `longest`.
pub fn jittered(longest: Duration) -> Duration {
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    /// Answers renewals by a script: `works` of them succeed, the others fail.
    struct Broker {
        works: u32,
        asked: AtomicU32,
    }

    impl Broker {
        fn that_works(works: u32) -> Self {
            Self {
                works,
                asked: AtomicU32::new(0),
            }
        }
    }

    impl Renew for Broker {
        fn renew(&self) -> Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send + '_>> {
            Box::pin(async {
                if self.asked.fetch_add(1, Ordering::Relaxed) < self.works {
                    return Ok(());
                }
                Err(unreachable_broker())
            })
        }
    }

    fn unreachable_broker() -> BrokerError {
        BrokerError::Unreachable {
            servers: "nats://gone".to_owned(),
            why: "refused".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_call_keeps_its_lease_by_heartbeats() {
        let broker = Broker::that_works(u32::MAX);
        let mut hold = Hold::new(&broker, LEASE, Instant::now());
        let work = tokio::time::sleep(Duration::from_hours(1));
        assert_eq!(hold.during(work, None).await, During::Done(()));
        assert!((399..=401).contains(&broker.asked.load(Ordering::Relaxed)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_heartbeats_for_a_lease_the_call_is_dropped() {
        let broker = Broker::that_works(2);
        let start = Instant::now();
        let mut hold = Hold::new(&broker, LEASE, start);
        let work = tokio::time::sleep(Duration::from_hours(1));
        assert_eq!(hold.during(work, None).await, During::Lost);
        // Two renewals at 9 s and 18 s, then nothing for 27 s.
        assert_eq!(start.elapsed().as_secs(), 18 + 27);
        assert!(!hold.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_late_at_its_deadline_and_not_before() {
        let broker = Broker::that_works(u32::MAX);
        let start = Instant::now();
        let deadline = start + Duration::from_secs(31);
        let mut hold = Hold::new(&broker, LEASE, start);
        let never = std::future::pending::<()>();
        assert_eq!(hold.during(never, Some(deadline)).await, During::Late);
        assert_eq!(start.elapsed().as_secs(), 31);
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_after_a_long_sleep_of_the_process_is_not_settled() {
        let broker = Broker::that_works(u32::MAX);
        let mut hold = Hold::new(&broker, LEASE, Instant::now());
        // The process was stopped: the call has an answer, and the lease has passed meanwhile.
        tokio::time::advance(LEASE).await;
        assert_eq!(hold.during(async {}, None).await, During::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_settlement_is_repeated_until_the_broker_takes_it() {
        let broker = Broker::that_works(u32::MAX);
        let mut hold = Hold::new(&broker, LEASE, Instant::now());
        let mut left = 20;
        let failures = hold
            .insist(|| {
                left -= 1;
                let result = if left == 0 {
                    Ok(())
                } else {
                    Err(unreachable_broker())
                };
                async move { result }
            })
            .await;
        assert_eq!(failures, Ok(19));
    }

    #[tokio::test(start_paused = true)]
    async fn a_settlement_ends_with_the_lease() {
        let broker = Broker::that_works(0);
        let start = Instant::now();
        let mut hold = Hold::new(&broker, LEASE, start);
        let result = hold.insist(|| async { Err(unreachable_broker()) }).await;
        assert_eq!(result, Err(Lost));
        assert_eq!(start.elapsed().as_secs(), 27);
    }
}
