//! The logs of a FIFO queue: which one is in use, writing to it, and going on to the next.
//!
//! A stream cannot be shortened by what was handled, so it is copied: the log is closed by a record, what is
//! still stored is written into a new stream, and the number of that stream is recorded as the one in
//! use. Who writes meanwhile waits. Each step may be repeated by another process when the one that took
//! it died.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use weir_core::message::Message;

use super::super::apply::declare;
use super::super::codec::{self, Raw, new_copy};
use super::super::connection::{Connection, Failure, Live, REQUEST_TIMEOUT};
use super::super::control::{self, Control};
use super::super::names::Names;
use super::super::tail::{Tail, fetch};
use super::super::topology::LOG;
use super::book::Book;
use super::groups::Entry;
use super::record::{self, Outcome, Piece, Record, Stamped};
use crate::clock::Clock;
use crate::error::BrokerError;
use crate::task;

/// How long a writer waits for the next log before it asks again which one is in use.
const LOOK: Duration = Duration::from_millis(200);
/// After this, and the time to copy what is stored, another process copies a closed log.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that are copied in a second, at least.
const COPIED_IN_A_SECOND: u64 = 8 * 1024 * 1024;
/// A log that is not used any more is left to those who still read it for so long.
const KEPT: Duration = Duration::from_secs(10);
/// Parts of a copy that are written at once.
const COPIED_AT_ONCE: usize = 64;
/// Messages that are read at once for a copy.
const READ_AT_ONCE: usize = 512;

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
    /// A closed log, and since when it was seen to be closed.
    closed: Mutex<Option<(u64, Instant)>>,
    renewing: Mutex<Option<AbortOnDropHandle<()>>>,
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
            closed: Mutex::new(None),
            renewing: Mutex::new(None),
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
        let tail = Arc::new(Tail::start(&self.connection, &self.names.log(number)));
        *current = Some(Current { number, tail });
        current.clone()
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
    pub(crate) async fn write(&self, record: Record) -> Result<Outcome, BrokerError> {
        let body = self.stamped(record)?;
        let mark = vec![(record::LOG.to_owned(), String::new())];
        self.append(mark, body.as_bytes()).await
    }

    /// Writes a record that carries a message.
    pub(crate) async fn write_with(
        &self,
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
        &self,
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
                self.renew(u64::MAX).await?;
            }
            let mut changes = self.control.changes();
            if self.control.read(|control| control.log) == Some(current.number) {
                drop(tokio::time::timeout(LOOK, changes.next()).await);
            }
        }
    }

    /// The log as it is now, whoever wrote to it.
    pub(crate) async fn look<T>(&self, read: impl FnOnce(&Book) -> T) -> Result<T, BrokerError> {
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
        let known = of.tail.read(|book| book.bodies(entries));
        let mut missing: Vec<u64> = known
            .iter()
            .filter(|(_, raw)| raw.is_none())
            .map(|(entry, _)| entry.offset)
            .collect();
        if missing.is_empty() {
            let found = known.into_iter();
            return Ok(found
                .filter_map(|(entry, raw)| Some((entry, raw?)))
                .collect());
        }
        missing.sort_unstable();
        let live = self.connection.live()?;
        let now = self.clock.now();
        let read = fetch(&live, &self.names.log(of.number), &missing, now)
            .await
            .map_err(|failure| self.told(failure))?;
        let read: std::collections::HashMap<u64, Arc<Raw>> = read
            .into_iter()
            .map(|(offset, raw)| (offset, Arc::new(raw)))
            .collect();
        let found = known.into_iter().filter_map(|(entry, raw)| {
            Some((entry, raw.or_else(|| read.get(&entry.offset).cloned())?))
        });
        Ok(found.collect())
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

    /// Goes on to the next log, where that is needed, whoever lives on here.
    pub(crate) fn renew_beside(self: &Arc<Self>, log_bytes: u64) {
        let needed = self.current().is_some_and(|current| {
            current
                .tail
                .read(|book| book.is_worn(log_bytes) || book.is_sealed())
        });
        let mut renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        if !needed || renewing.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let log = Arc::clone(self);
        *renewing = Some(task::start(async move {
            match log.renew(log_bytes).await {
                Ok(Some(old)) => {
                    tokio::time::sleep(KEPT).await;
                    if let Err(error) = log.delete(old).await {
                        // Whoever makes the topology finds it.
                        tracing::debug!(%error, old, "an old log is kept for now");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the log is renewed later"),
            }
        }));
    }

    /// Goes on to the next log where this one is worn, or closed by somebody who did not go on. Answers the
    /// number of the log that is not used any more.
    pub(crate) async fn renew(&self, log_bytes: u64) -> Result<Option<u64>, BrokerError> {
        let live = self.connection.live()?;
        let current = self.ready(&live).await?;
        let (worn, sealed, stored) = current.tail.read(|book| {
            let (_, stored) = book.groups.stored();
            (book.is_worn(log_bytes), book.is_sealed(), stored)
        });
        if sealed {
            let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            match *closed {
                Some((number, since)) if number == current.number => {
                    let copying = Duration::from_secs(stored / COPIED_IN_A_SECOND);
                    if since.elapsed() < PATIENCE + copying {
                        return Ok(None);
                    }
                    *closed = Some((number, Instant::now()));
                }
                _ => {
                    *closed = Some((current.number, Instant::now()));
                    return Ok(None);
                }
            }
        } else if !worn {
            return Ok(None);
        }
        let next = current.number + 1;
        let name = self.names.log(next);
        declare(&live, &self.names, &name, LOG, self.replicas).await?;
        if !sealed {
            let body = self.stamped(Record::Seal {})?;
            let mark = vec![(record::LOG.to_owned(), String::new())];
            let outcome = current.tail.append_and_read(&live, mark, body.as_bytes());
            let outcome = outcome.await.map_err(|failure| self.told(failure))?;
            if outcome != Outcome::Took {
                // Another process goes on.
                return Ok(None);
            }
        }
        self.copy(&live, &current, &name).await?;
        self.use_log(&live, next).await?;
        tracing::debug!(log = name, "a log goes on");
        Ok(Some(current.number))
    }

    /// Writes what a closed log holds into the next one, and opens it.
    async fn copy(&self, live: &Live, from: &Current, to: &str) -> Result<(), BrokerError> {
        let tail: Tail<Book> = Tail::start(&self.connection, to);
        let (pieces, messages) = from.tail.read(|book| book.groups.pieces());
        let copier = fastrand::u64(..);
        let at = self.now();
        let mut index = 0;
        let mut part = |piece: Piece| {
            let record = Record::Part {
                copier,
                index,
                piece,
            };
            index += 1;
            written(&Stamped { at, record })
        };
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let mark = vec![(record::LOG.to_owned(), String::new())];
            parts.push((mark, bytes::Bytes::from(part(piece)?)));
        }
        self.write_parts(live, &tail, parts).await?;
        for some in messages.chunks(READ_AT_ONCE) {
            let mut offsets: Vec<u64> = some.iter().map(|(offset, _)| *offset).collect();
            offsets.sort_unstable();
            let read = fetch(
                live,
                &self.names.log(from.number),
                &offsets,
                self.clock.now(),
            )
            .await
            .map_err(|failure| self.told(failure))?;
            let read: std::collections::HashMap<u64, Raw> = read.into_iter().collect();
            let mut parts = Vec::with_capacity(some.len());
            for (offset, piece) in some {
                let Some(raw) = read.get(offset) else {
                    return Err(live.unreachable("a message of the log could not be read"));
                };
                let message = raw.message().message;
                let mut pairs = codec::pairs(&message, 0, &raw.copy())?;
                pairs.push((record::LOG.to_owned(), part(piece.clone())?));
                parts.push((pairs, message.body));
            }
            self.write_parts(live, &tail, parts).await?;
        }
        self.open(live, &tail, copier, index).await
    }

    async fn write_parts(
        &self,
        live: &Live,
        tail: &Tail<Book>,
        parts: Vec<(Vec<(String, String)>, bytes::Bytes)>,
    ) -> Result<(), BrokerError> {
        let mut parts = parts.into_iter();
        loop {
            let some: Vec<_> = parts.by_ref().take(COPIED_AT_ONCE).collect();
            if some.is_empty() {
                return Ok(());
            }
            let writing = some
                .into_iter()
                .map(|(pairs, body)| async move { tail.append(live, pairs, &body).await });
            futures::future::try_join_all(writing)
                .await
                .map_err(|failure| self.told(failure))?;
        }
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
