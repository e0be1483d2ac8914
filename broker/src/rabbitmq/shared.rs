//! What all handles on one queue in this process share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use tokio::time::Instant;

use super::connection::{Connection, Failure, Live};
use super::control::{Control, Record};
use super::dead::Letters;
use super::dedup::Keys;
use super::fifo::log::Log;
use super::ladder::{self, Rung};
use super::names::Names;
use super::notes::{Note, Notes, Standing};
use super::permit::Permits;
use super::pool::Account;
use super::tail::Tail;
use super::topology::{self, Shape};
use crate::clock::Clock;
use crate::error::BrokerError;

/// Copies that are remembered to be done although the broker may not know.
const MOST_DONE: usize = 10_000;

pub(crate) struct Shared {
    pub(crate) connection: Connection,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) names: Names,
    pub(crate) lease: Duration,
    pub(crate) replicas: u32,
    /// How long dead letters are kept.
    pub(crate) retention: Duration,
    /// Where deduplication keys live.
    pub(crate) keys: Option<Keys>,
    /// How long a log may become before it is renewed, bytes, beside twice what is stored.
    pub(crate) log_bytes: u64,
    log: OnceLock<Arc<Log>>,
    control: OnceLock<Arc<Tail<Control>>>,
    notes: OnceLock<Tail<Notes>>,
    letters: OnceLock<Tail<Letters>>,
    permits: OnceLock<Permits>,
    done: Mutex<VecDeque<String>>,
    accounts: Mutex<Vec<Weak<Account>>>,
}

impl Shared {
    pub(crate) fn new(
        connection: Connection,
        clock: Arc<dyn Clock>,
        spec: &crate::transport::QueueSpec,
        keys: Option<Keys>,
        log_bytes: u64,
    ) -> Self {
        let config = &spec.config;
        Self {
            connection,
            clock,
            names: Names::of(&spec.object),
            lease: Duration::from_secs(u64::from(config.lease_seconds.max(1))),
            replicas: config.replicas,
            retention: Duration::from_secs(config.dead_letter_retention_seconds),
            keys,
            log_bytes,
            log: OnceLock::new(),
            control: OnceLock::new(),
            notes: OnceLock::new(),
            letters: OnceLock::new(),
            permits: OnceLock::new(),
            done: Mutex::new(VecDeque::new()),
            accounts: Mutex::new(Vec::new()),
        }
    }

    /// What was decided about the queue.
    pub(crate) fn control(&self) -> &Arc<Tail<Control>> {
        self.control
            .get_or_init(|| Arc::new(Tail::start(&self.connection, &self.names.state)))
    }

    /// The log of a FIFO queue.
    pub(crate) fn log(&self) -> &Arc<Log> {
        self.log.get_or_init(|| {
            Arc::new(Log::new(
                self.connection.clone(),
                Arc::clone(&self.clock),
                self.names.clone(),
                self.replicas,
                Arc::clone(self.control()),
            ))
        })
    }

    fn notes(&self) -> &Tail<Notes> {
        self.notes
            .get_or_init(|| Tail::start(&self.connection, &self.names.notes))
    }

    pub(crate) fn letters(&self) -> &Tail<Letters> {
        self.letters
            .get_or_init(|| Tail::start(&self.connection, &self.names.dead))
    }

    pub(crate) fn permits(self: &Arc<Self>) -> &Permits {
        self.permits.get_or_init(|| Permits::start(self))
    }

    /// Dead letters from before this are gone.
    pub(crate) fn oldest_letter(&self) -> Timestamp {
        let kept = SignedDuration::try_from(self.retention).unwrap_or(SignedDuration::MAX);
        self.clock.now().checked_sub(kept).unwrap_or(Timestamp::MIN)
    }

    fn told(&self, failure: Failure) -> BrokerError {
        failure.told(&self.names.shown())
    }

    /// Stores a copy that is delivered after `delay`.
    pub(crate) async fn store(
        &self,
        properties: BasicProperties,
        body: &[u8],
        delay: Duration,
    ) -> Result<(), BrokerError> {
        let live = self.connection.live()?;
        if delay.is_zero() {
            return live
                .publish("publish", &self.names.queue, properties, body)
                .await
                .map_err(|failure| self.told(failure));
        }
        let due = Instant::now() + delay;
        let Some(rung) = ladder::rung(delay) else {
            return Err(BrokerError::Refused {
                operation: "publish",
                why: format!(
                    "RabbitMQ delays a message by at most 365 days, not by {} s",
                    delay.as_secs()
                ),
            });
        };
        self.store_delayed(&live, properties, body, rung, due)
            .await
            .map_err(|failure| self.told(failure))
    }

    async fn store_delayed(
        &self,
        live: &Live,
        properties: BasicProperties,
        body: &[u8],
        rung: Rung,
        due: Instant,
    ) -> Result<(), Failure> {
        let queue = self.names.delay(rung.bucket);
        let expiring = |wait: u64| properties.clone().with_expiration(wait.to_string().into());
        match live
            .publish("publish", &queue, expiring(rung.wait), body)
            .await
        {
            Err(Failure::Missing) => {}
            done => return done,
        }
        self.make_delay(live, rung.bucket).await?;
        // Making it took a part of the delay.
        let left = due.saturating_duration_since(Instant::now());
        let wait = ladder::rung(left).map_or(1, |left| left.wait);
        live.publish("publish", &queue, expiring(wait), body).await
    }

    /// Makes a delay queue. That it may exist is recorded first, so that it is found again.
    async fn make_delay(&self, live: &Live, bucket: u64) -> Result<(), Failure> {
        let record = serde_json::to_vec(&Record::Delay { bucket }).unwrap_or_default();
        self.control().append(live, Vec::new(), &record).await?;
        let channel = live.asking_channel().await?;
        let name = self.names.delay(bucket);
        let arguments = topology::arguments(&self.names, Shape::Delay, self.replicas);
        let declared =
            channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments);
        live.within("declare queue", declared).await?;
        tokio::time::sleep(topology::YOUTH).await;
        Ok(())
    }

    /// An account of tokens for deliveries in this process.
    pub(crate) fn account(&self) -> Arc<Account> {
        let account = Arc::new(Account::default());
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|known| known.strong_count() > 0);
        accounts.push(Arc::downgrade(&account));
        account
    }

    /// Tokens for deliveries that this process holds, and deliveries that it has.
    pub(crate) fn held(&self) -> (u64, u64) {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let held = accounts
            .iter()
            .filter_map(Weak::upgrade)
            .map(|account| account.held());
        held.fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1))
    }

    /// Stores a dead letter.
    pub(crate) async fn store_dead(
        &self,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), BrokerError> {
        let live = self.connection.live()?;
        // Who lists the letters in this process finds this one.
        let stored = match self.letters.get() {
            Some(letters) => letters.append_own(&live, properties, body).await,
            None => {
                live.publish("publish dead letter", &self.names.dead, properties, body)
                    .await
            }
        };
        stored.map_err(|failure| failure.told(&format!("stream {}", self.names.dead)))
    }

    /// Writes a note about a copy.
    pub(crate) async fn note(&self, note: Note, copy: &str) -> Result<(), BrokerError> {
        let live = self.connection.live()?;
        self.notes()
            .append(&live, note.about(copy), b"")
            .await
            .map_err(|failure| self.told(failure))
    }

    /// Remembers that a copy must not be handled again.
    pub(crate) fn remember_done(&self, copy: &str) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if done.len() >= MOST_DONE {
            done.pop_front();
        }
        done.push_back(copy.to_owned());
    }

    pub(crate) fn is_done(&self, copy: &str) -> bool {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.iter().any(|known| known == copy)
    }

    /// What is known of a copy that comes again. Reads everything that was noted until now.
    pub(crate) async fn standing(&self, live: &Live, copy: &str) -> Result<Standing, Failure> {
        if self.is_done(copy) {
            return Ok(Standing {
                began: 0,
                done: true,
            });
        }
        self.notes()
            .append_and_read(live, Note::Look.about(copy), b"")
            .await?;
        Ok(self.notes().read(|notes| notes.standing(copy)))
    }
}
