//! Permits for batched calls: tokens of their own, handed to whoever waits, in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{Connection, Failure, Live};
use super::control::{Control, Which};
use super::pool::{Account, Pool};
use super::shared::Shared;
use super::tail::Tail;
use crate::error::BrokerError;
use crate::queue::Permit;
use crate::task;

/// Callers that may wait at once in one process.
const MOST_WAITING: usize = 1024;
const PAUSE: Duration = Duration::from_millis(200);

type Waiter = oneshot::Sender<Result<Granted, BrokerError>>;

/// Hands out the permits of one queue to this process.
pub(crate) struct Permits {
    waiters: mpsc::Sender<Waiter>,
    queue: String,
    lease: Duration,
    _task: AbortOnDropHandle<()>,
}

/// A permit that is out. The right ends with the connection, with its lease, or when it is dropped.
struct Granted {
    live: Arc<Live>,
    until: Arc<Mutex<Option<Instant>>>,
    account: Arc<Account>,
}

impl Drop for Granted {
    fn drop(&mut self) {
        release(&self.until, &self.account);
    }
}

/// Ends a permit once.
fn release(until: &Mutex<Option<Instant>>, account: &Account) {
    let held = until
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .is_some();
    if held {
        account.release(1);
    }
}

impl Permits {
    pub(crate) fn start(shared: &Shared) -> Self {
        let (waiters, queue) = mpsc::channel(MOST_WAITING);
        let pump = Pump {
            connection: shared.connection.clone(),
            control: Arc::clone(shared.control()),
            queue: shared.names.permits.clone(),
            lease: shared.lease,
            waiting: VecDeque::new(),
            waiters: queue,
        };
        Self {
            waiters,
            queue: shared.names.permits.clone(),
            lease: shared.lease,
            _task: task::start(pump.run()),
        }
    }

    /// Waits for a permit.
    pub(crate) async fn take(&self) -> Result<Box<dyn Permit>, BrokerError> {
        let gone = || BrokerError::Refused {
            operation: "take permit",
            why: format!("the permits of {} are not served any more", self.queue),
        };
        let (waiter, granted) = oneshot::channel();
        self.waiters.send(waiter).await.map_err(|_| gone())?;
        let granted = granted.await.map_err(|_| gone())??;
        Ok(Box::new(RabbitPermit {
            granted,
            queue: self.queue.clone(),
            lease: self.lease,
        }))
    }
}

struct Pump {
    connection: Connection,
    control: Arc<Tail<Control>>,
    queue: String,
    lease: Duration,
    waiting: VecDeque<Waiter>,
    waiters: mpsc::Receiver<Waiter>,
}

impl Pump {
    async fn run(mut self) {
        loop {
            let live = self.connection.when_live().await;
            let Err(failure) = self.session(&live).await else {
                return;
            };
            if let Failure::Missing = failure {
                let error = Failure::Missing.told(&format!("queue {}", self.queue));
                while let Ok(waiter) = self.waiters.try_recv() {
                    self.waiting.push_back(waiter);
                }
                for waiter in self.waiting.drain(..) {
                    drop(waiter.send(Err(error.clone())));
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Serves on one connection. `Ok` when nobody can ask any more.
    async fn session(&mut self, live: &Arc<Live>) -> Result<(), Failure> {
        live.ready(&self.queue).await?;
        let account = Arc::new(Account::default());
        let pool = Pool::open(
            self.connection.clone(),
            Arc::clone(live),
            Arc::clone(&self.control),
            Which::Permits,
            &self.queue,
            Arc::clone(&account),
        )
        .await?;
        let mut pool = task::start(pool.run());
        let mut out: Vec<Arc<Mutex<Option<Instant>>>> = Vec::new();
        loop {
            self.waiting.retain(|waiter| !waiter.is_closed());
            account.want(self.waiting.len());
            self.grant(live, &account, &mut out);
            out.retain(|until| {
                until
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .is_some()
            });
            let step = if out.is_empty() && self.waiting.is_empty() {
                Duration::from_mins(1)
            } else {
                (self.lease / 20).clamp(Duration::from_millis(20), Duration::from_secs(1))
            };
            tokio::select! {
                waiter = self.waiters.recv() => match waiter {
                    Some(waiter) => self.waiting.push_back(waiter),
                    None => return Ok(()),
                },
                () = account.gained.notified() => {}
                () = tokio::time::sleep(step) => {
                    let now = Instant::now();
                    for until in &out {
                        let over = until
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .is_some_and(|until| until <= now);
                        if over {
                            release(until, &account);
                        }
                    }
                }
                failure = &mut pool => return Err(failure.unwrap_or(Failure::Missing)),
                () = live.lost.cancelled() => {
                    return Err(live.was_lost().into());
                }
            }
        }
    }

    fn grant(
        &mut self,
        live: &Arc<Live>,
        account: &Arc<Account>,
        out: &mut Vec<Arc<Mutex<Option<Instant>>>>,
    ) {
        while !self.waiting.is_empty() && account.commit(1) == 1 {
            let until = Arc::new(Mutex::new(Some(Instant::now() + self.lease)));
            out.push(Arc::clone(&until));
            let mut granted = Granted {
                live: Arc::clone(live),
                until,
                account: Arc::clone(account),
            };
            while let Some(waiter) = self.waiting.pop_front() {
                match waiter.send(Ok(granted)) {
                    Err(Ok(refused)) => granted = refused,
                    _ => break,
                }
                if self.waiting.is_empty() {
                    drop(granted);
                    break;
                }
            }
            account.want(self.waiting.len());
        }
    }
}

struct RabbitPermit {
    granted: Granted,
    queue: String,
    lease: Duration,
}

#[async_trait]
impl Permit for RabbitPermit {
    async fn extend(&self) -> Result<(), BrokerError> {
        let mut until = self
            .granted
            .until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if until.is_none() || self.granted.live.lost.is_cancelled() {
            return Err(BrokerError::LeaseOver {
                id: self.queue.clone(),
            });
        }
        *until = Some(Instant::now() + self.lease);
        Ok(())
    }

    async fn release(&self) -> Result<(), BrokerError> {
        release(&self.granted.until, &self.granted.account);
        Ok(())
    }
}
