//! The logs of a FIFO queue: which one is in use, writing to it, and going on to the next.
//!
//! A stream cannot be shortened by what was handled, so it is copied: the log is closed by a record, what is
//! still stored is written into a new stream, and the number of that stream is recorded as the one in
//! use. Who writes meanwhile waits. Each step may be repeated by another process when the one that took
//! it died.

mod renew;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use weir_core::message::Message;

use super::super::codec::{self, Raw, new_copy};
use super::super::connection::{Connection, Failure, Live, REQUEST_TIMEOUT};
use super::super::control::{self, Control};
use super::super::names::Names;
use super::super::tail::{Tail, fetch, over};
use super::book::Book;
use super::groups::Entry;
use super::record::{self, Outcome, Record, Stamped};
use crate::clock::Clock;
use crate::error::BrokerError;

/// How long a writer waits for the next log before it asks again which one is in use.
const LOOK: Duration = Duration::from_millis(200);
/// Records that are read beside one that is wanted and not at hand, and bytes after which no more are.
const READ_AHEAD: u64 = 2000;
const MOST_AHEAD_BYTES: usize = 4 * 1024 * 1024;

/// The log that is in use.
#[derive(Clone)]
pub(crate) struct Current {
    pub(crate) number: u64,
    pub(crate) tail: Arc<Tail<Book>>,
}

/// The logs of one queue.
pub(crate) struct Log {
    connection: Connection,
    clock: Arc<dyn Clock>,
    names: Names,
    replicas: u32,
    control: Arc<Tail<Control>>,
    current: Mutex<Option<Current>>,
    /// The next log, while this process waits for it.
    coming: Mutex<Option<renew::Coming>>,
    renewing: Mutex<Option<AbortOnDropHandle<()>>>,
    /// Held by whoever reads messages again.
    reading: tokio::sync::Mutex<()>,
}

impl Log {
    pub(crate) fn new(
        connection: Connection,
        clock: Arc<dyn Clock>,
        names: Names,
        replicas: u32,
        control: Arc<Tail<Control>>,
    ) -> Self {
        Self {
            connection,
            clock,
            names,
            replicas,
            control,
            current: Mutex::new(None),
            coming: Mutex::new(None),
            renewing: Mutex::new(None),
            reading: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn control(&self) -> &Arc<Tail<Control>> {
        &self.control
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// The log in use as far as this process knows.
    pub(crate) fn current(&self) -> Option<Current> {
        let number = self.control.read(|control| control.log)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*current
            && known.number == number
        {
            return Some(known.clone());
        }
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        let came = coming.take_if(|coming| coming.log.number <= number);
        let came = came
            .map(|came| came.log)
            .filter(|came| came.number == number);
        *current = Some(came.unwrap_or_else(|| self.tail_of(number)));
        current.clone()
    }

    fn tail_of(&self, number: u64) -> Current {
        let tail = Arc::new(Tail::start(&self.connection, &self.names.log(number)));
        Current { number, tail }
    }

    fn told(&self, failure: Failure) -> BrokerError {
        failure.told(&self.names.shown())
    }

    /// The log in use; reads which one it is where that is not known.
    pub(crate) async fn ready(&self, live: &Live) -> Result<Current, BrokerError> {
        if let Some(current) = self.current() {
            return Ok(current);
        }
        self.control.catch_up(live).await?;
        self.current().ok_or_else(|| self.told(Failure::Missing))
    }

    /// Writes a record and answers what became of it.
    pub(crate) async fn write(self: &Arc<Self>, record: Record) -> Result<Outcome, BrokerError> {
        let body = self.stamped(record)?;
        let mark = vec![(record::LOG.to_owned(), String::new())];
        self.append(mark, body.as_bytes()).await
    }

    /// Writes a record that carries a message.
    pub(crate) async fn write_with(
        self: &Arc<Self>,
        record: Record,
        message: &Message,
    ) -> Result<Outcome, BrokerError> {
        let mut pairs = codec::pairs(message, 0, &new_copy())?;
        pairs.push((record::LOG.to_owned(), self.stamped(record)?));
        self.append(pairs, &message.body).await
    }

    fn stamped(&self, record: Record) -> Result<String, BrokerError> {
        let at = self.now();
        written(&Stamped { at, record })
    }

    async fn append(
        self: &Arc<Self>,
        pairs: Vec<(String, String)>,
        body: &[u8],
    ) -> Result<Outcome, BrokerError> {
        let until = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let live = self.connection.live()?;
            let current = self.ready(&live).await?;
            let written = current
                .tail
                .append_and_read(&live, pairs.clone(), body)
                .await;
            let missing = match written {
                Ok(Outcome::Closed) => false,
                Err(Failure::Missing) => true,
                Ok(outcome) => return Ok(outcome),
                Err(failure) => return Err(self.told(failure)),
            };
            if Instant::now() > until {
                return Err(if missing {
                    self.told(Failure::Missing)
                } else {
                    BrokerError::TimedOut {
                        operation: "write record",
                        after: REQUEST_TIMEOUT,
                    }
                });
            }
            if missing {
                // Where it is gone with everything, so is what says which one is in use.
                live.ready(&self.names.state)
                    .await
                    .map_err(|failure| self.told(failure))?;
            }
            if !missing {
                // Whoever closed it may have died.
                self.renew_beside(u64::MAX);
            }
            let mut changes = self.control.changes();
            if self.control.read(|control| control.log) == Some(current.number) {
                drop(tokio::time::timeout(LOOK, changes.next()).await);
            }
        }
    }

    /// The log as it is now, whoever wrote to it.
    pub(crate) async fn look<T>(
        self: &Arc<Self>,
        read: impl FnOnce(&Book) -> T,
    ) -> Result<T, BrokerError> {
        self.write(Record::Look {}).await?;
        let current = self.current().ok_or_else(|| self.told(Failure::Missing))?;
        Ok(current.tail.read(read))
    }

    /// Reads messages that are stored. Those that were removed meanwhile may be left out.
    pub(crate) async fn messages(
        &self,
        of: &Current,
        entries: &[Entry],
    ) -> Result<Vec<(Entry, Arc<Raw>)>, BrokerError> {
        let at_hand = || of.tail.read(|book| book.bodies(entries));
        let lacking = |known: &[(Entry, Option<Arc<Raw>>)]| {
            let mut lacking: Vec<u64> = known
                .iter()
                .filter(|(_, raw)| raw.is_none())
                .map(|(entry, _)| entry.offset)
                .collect();
            lacking.sort_unstable();
            lacking
        };
        let mut known = at_hand();
        let mut read = HashMap::new();
        if !lacking(&known).is_empty() {
            // What one reads ahead is what the next would have asked for.
            let _one = self.reading.lock().await;
            known = at_hand();
            let lacking = lacking(&known);
            if !lacking.is_empty() {
                read = self.read_ahead(of, &lacking).await?;
            }
        }
        let found = known
            .into_iter()
            .filter_map(|(entry, raw)| Some((entry, raw.or_else(|| read.remove(&entry.offset))?)));
        Ok(found.collect())
    }

    /// Reads the records at some places, which are in order, and keeps those behind the first that will be wanted
    /// soon.
    async fn read_ahead(
        &self,
        of: &Current,
        places: &[u64],
    ) -> Result<HashMap<u64, Arc<Raw>>, BrokerError> {
        let live = self.connection.live()?;
        let (stream, now) = (self.names.log(of.number), self.clock.now());
        let (mut read, mut bytes) = (Vec::new(), 0);
        let first = places.first().copied().unwrap_or_default();
        let last = (first + READ_AHEAD).min(of.tail.next().saturating_sub(1));
        over(&live, &stream, first, last.max(first), |at, delivery| {
            let raw = Raw::new(&delivery.properties, delivery.data, now);
            bytes += raw.len();
            read.push((at, Arc::new(raw)));
            bytes < MOST_AHEAD_BYTES
        })
        .await
        .map_err(|failure| self.told(failure))?;
        of.tail.update(|book| book.read_again(&read));
        let mut found = read.into_iter().collect();
        self.add_lacking(&live, of.number, places, &mut found)
            .await?;
        Ok(found)
    }

    /// Reads those records at some places, which are in order, that were not found.
    async fn add_lacking(
        &self,
        live: &Live,
        number: u64,
        places: &[u64],
        found: &mut HashMap<u64, Arc<Raw>>,
    ) -> Result<(), BrokerError> {
        let places = places.iter().copied();
        let lacking: Vec<u64> = places.filter(|place| !found.contains_key(place)).collect();
        let read = fetch(live, &self.names.log(number), &lacking, self.clock.now())
            .await
            .map_err(|failure| self.told(failure))?;
        found.extend(read.into_iter().map(|(at, raw)| (at, Arc::new(raw))));
        Ok(())
    }

    /// Opens a log that begins with nothing.
    pub(crate) async fn open_first(&self, live: &Live, number: u64) -> Result<(), BrokerError> {
        let tail: Tail<Book> = Tail::start(&self.connection, &self.names.log(number));
        self.open(live, &tail, fastrand::u64(..), 0).await?;
        self.use_log(live, number).await
    }

    async fn open(
        &self,
        live: &Live,
        tail: &Tail<Book>,
        copier: u64,
        parts: u64,
    ) -> Result<(), BrokerError> {
        let body = self.stamped(Record::Opened { copier, parts })?;
        let mark = vec![(record::LOG.to_owned(), String::new())];
        tail.append_and_read(live, mark, body.as_bytes())
            .await
            .map_err(|failure| self.told(failure))?;
        if tail.read(|book| book.is_open() || book.is_sealed()) {
            return Ok(());
        }
        Err(live.unreachable("a part of the copy of the log is missing"))
    }

    async fn use_log(&self, live: &Live, number: u64) -> Result<(), BrokerError> {
        let record = control::Record::Log { number };
        let record = serde_json::to_vec(&record).unwrap_or_default();
        self.control
            .append_and_read(live, Vec::new(), &record)
            .await
            .map(drop)
            .map_err(|failure| self.told(failure))
    }

    /// Deletes the queue that shows that a consumer is there.
    pub(crate) async fn forget(&self, consumer: u64) -> Result<(), BrokerError> {
        self.delete_queue(&self.names.consumer(consumer)).await
    }

    /// Deletes a log that is not used any more.
    pub(crate) async fn delete(&self, number: u64) -> Result<(), BrokerError> {
        if self
            .control
            .read(|control| control.log)
            .is_none_or(|used| number >= used)
        {
            return Ok(());
        }
        self.delete_queue(&self.names.log(number)).await
    }

    async fn delete_queue(&self, name: &str) -> Result<(), BrokerError> {
        let live = self.connection.live()?;
        let channel = live
            .asking_channel()
            .await
            .map_err(|failure| self.told(failure))?;
        let deleted = channel.queue_delete(name.into(), QueueDeleteOptions::default());
        match live.within("delete queue", deleted).await {
            Ok(_) | Err(Failure::Missing) => Ok(()),
            Err(failure) => Err(self.told(failure)),
        }
    }
}

fn written(stamped: &Stamped) -> Result<String, BrokerError> {
    serde_json::to_string(stamped).map_err(|error| BrokerError::Refused {
        operation: "write record",
        why: error.to_string(),
    })
}
