//! Reading a stream from its beginning and on, into a value.
//!
//! A stream is a log: everybody who reads it sees the same records in the same order. What two
//! processes must agree on is therefore decided by the order of their records, in [`Fold::take`], and
//! who wrote one waits until it has come back to learn what it did.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, message::Delivery};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::codec::{self, number, properties};
use super::connection::{self, Connection, Failure, Live, REQUEST_TIMEOUT};
use crate::error::BrokerError;
use crate::task;

/// Records on their way at once.
const PREFETCH: u16 = 256;
/// Names a record, so that its writer recognises it.
const NONCE: &str = "weir-nonce";
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What the records of a stream make.
pub(crate) trait Fold: Default + Send + 'static {
    /// What became of a record; `true` where all that can be said is that it took effect.
    type Outcome: Send + 'static;

    /// Takes in the record at `offset`.
    fn take(&mut self, offset: u64, properties: &BasicProperties, body: &[u8]) -> Self::Outcome;
}

/// How far a stream was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// The offset of the first record that was seen.
    first: Option<u64>,
    /// The offset after the last one.
    next: u64,
    /// The stream does not exist.
    missing: bool,
    /// It is being read.
    attached: bool,
    /// What it held when it began to be read was read.
    synced: bool,
    /// Changes when reading begins anew.
    rounds: u64,
}

struct Shared<F: Fold> {
    connection: Connection,
    stream: String,
    fold: Mutex<F>,
    progress: watch::Sender<Progress>,
    /// Somebody waits for the stream to be read.
    hurry: Notify,
    /// Who waits for a record of their own.
    writers: Mutex<HashMap<u64, oneshot::Sender<F::Outcome>>>,
    /// Records of this process that were not read yet.
    own: Mutex<HashSet<u64>>,
}

impl<F: Fold> Shared<F> {
    fn fold(&self) -> MutexGuard<'_, F> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writers(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<F::Outcome>>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that is being read. Reading ends when it is dropped.
pub(crate) struct Tail<F: Fold> {
    shared: Arc<Shared<F>>,
    _task: AbortOnDropHandle<()>,
}

impl<F: Fold> Tail<F> {
    /// Begins to read; waits for nothing.
    pub(crate) fn start(connection: &Connection, stream: &str) -> Self {
        let (progress, _) = watch::channel(Progress::default());
        let shared = Arc::new(Shared {
            connection: connection.clone(),
            stream: stream.to_owned(),
            fold: Mutex::new(F::default()),
            progress,
            hurry: Notify::new(),
            writers: Mutex::new(HashMap::new()),
            own: Mutex::new(HashSet::new()),
        });
        let task = task::start(keep_reading(Arc::clone(&shared)));
        Self {
            shared,
            _task: task,
        }
    }

    /// Looks at the value as it is.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&F) -> T) -> T {
        look(&self.shared.fold())
    }

    /// Changes what does not follow from the records.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut F) -> T) -> T {
        change(&mut self.shared.fold())
    }

    /// The place after the last record that was read.
    pub(crate) fn next(&self) -> u64 {
        self.shared.progress.borrow().next
    }

    /// Something that changes with every record.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.shared.progress.subscribe())
    }

    /// Waits until everything is read that the stream held when reading it began, and what this process
    /// wrote since. What others write is read as it comes.
    pub(crate) async fn catch_up(&self, live: &Live) -> Result<(), BrokerError> {
        const OPERATION: &str = "read stream";
        let shared = &self.shared;
        let told = |failure: Failure| failure.told(&format!("stream {}", shared.stream));
        let work = async {
            let mut progress = shared.progress.subscribe();
            loop {
                let now = *progress.borrow_and_update();
                if now.synced && shared.own().is_empty() {
                    return Ok(());
                }
                if now.attached && !now.synced {
                    let end = match last(live, &shared.stream, now.next == 0).await {
                        Ok(last) => last.map_or(0, |last| last + 1),
                        Err(Failure::Missing) => 0,
                        Err(failure) => return Err(told(failure)),
                    };
                    let read = |then: &Progress| then.next >= end || then.rounds != now.rounds;
                    drop(progress.wait_for(read).await);
                    shared.progress.send_if_modified(|then| {
                        let same = then.rounds == now.rounds && then.attached;
                        then.synced |= same;
                        same
                    });
                    continue;
                }
                if now.missing {
                    // It may have been made since it was looked for.
                    live.ready(&shared.stream).await.map_err(told)?;
                }
                shared.hurry.notify_one();
                drop(progress.changed().await);
            }
        };
        tokio::select! {
            done = work => done,
            () = live.lost.cancelled() => Err(live.was_lost()),
            () = tokio::time::sleep(REQUEST_TIMEOUT) => Err(BrokerError::TimedOut {
                operation: OPERATION,
                after: REQUEST_TIMEOUT,
            }),
        }
    }

    /// As [`Tail::append`], and the next [`Tail::catch_up`] waits until it was read.
    pub(crate) async fn append_own(
        &self,
        live: &Live,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), Failure> {
        let nonce = fastrand::u64(..);
        let mut headers = properties.headers().clone().unwrap_or_default();
        headers.insert(
            NONCE.into(),
            AMQPValue::LongString(nonce.to_string().into()),
        );
        self.shared.own().insert(nonce);
        let stored = live
            .publish(
                "write record",
                &self.shared.stream,
                properties.with_headers(headers),
                body,
            )
            .await;
        if stored.is_err() {
            self.shared.own().remove(&nonce);
        }
        stored
    }

    /// Writes a record and waits until the broker has it.
    pub(crate) async fn append(
        &self,
        live: &Live,
        pairs: Vec<(String, String)>,
        body: &[u8],
    ) -> Result<(), Failure> {
        let properties = properties(pairs)?;
        live.publish("write record", &self.shared.stream, properties, body)
            .await
    }

    /// Writes a record and waits until it has come back. Answers what became of it.
    pub(crate) async fn append_and_read(
        &self,
        live: &Live,
        mut pairs: Vec<(String, String)>,
        body: &[u8],
    ) -> Result<F::Outcome, Failure> {
        const OPERATION: &str = "write record";
        let nonce = fastrand::u64(..);
        pairs.push((NONCE.to_owned(), nonce.to_string()));
        let (writer, came) = oneshot::channel();
        self.shared.writers().insert(nonce, writer);
        let forget = Forget {
            shared: &self.shared,
            nonce,
        };
        self.append(live, pairs, body).await?;
        self.shared.hurry.notify_one();
        let took = tokio::select! {
            took = came => took.map_err(|_| live.unreachable("the stream ended")),
            () = live.lost.cancelled() => Err(live.was_lost()),
            () = tokio::time::sleep(REQUEST_TIMEOUT) => Err(BrokerError::TimedOut {
                operation: OPERATION,
                after: REQUEST_TIMEOUT,
            }),
        };
        drop(forget);
        Ok(took?)
    }
}

/// Takes a writer out again that gave up.
struct Forget<'a, F: Fold> {
    shared: &'a Shared<F>,
    nonce: u64,
}

impl<F: Fold> Drop for Forget<'_, F> {
    fn drop(&mut self) {
        self.shared.writers().remove(&self.nonce);
    }
}

/// Tells of records that come.
pub(crate) struct Changes(watch::Receiver<Progress>);

impl Changes {
    /// Waits for a record that came since the last call. Cancel safe.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the stream does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        self.0.borrow().missing
    }
}

async fn keep_reading<F: Fold>(shared: Arc<Shared<F>>) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let live = shared.connection.when_live().await;
        let before = shared.progress.borrow().next;
        let ended = tokio::select! {
            ended = follow(&shared, &live) => ended,
            () = live.lost.cancelled() => Ok(()),
        };
        shared.progress.send_modify(|now| {
            now.attached = false;
            now.synced = false;
            now.rounds += 1;
        });
        if shared.progress.borrow().next != before {
            pause = SHORTEST_PAUSE;
        }
        match ended {
            Ok(()) => {}
            Err(Failure::Missing) => {
                restart(&shared);
                shared.own().clear();
                shared.progress.send_modify(|now| now.missing = true);
            }
            Err(failure) => {
                let error = failure.told(&shared.stream);
                tracing::debug!(%error, stream = shared.stream, "a stream is read again");
            }
        }
        let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        tokio::select! {
            () = tokio::time::sleep(jittered) => {}
            () = shared.hurry.notified() => tokio::time::sleep(SHORTEST_PAUSE).await,
            () = live.lost.cancelled() => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Forgets everything: the stream was made anew, or is gone.
fn restart<F: Fold>(shared: &Shared<F>) {
    *shared.fold() = F::default();
    shared.progress.send_modify(|now| {
        *now = Progress {
            rounds: now.rounds + 1,
            ..Progress::default()
        };
    });
}

/// Reads until the connection or the stream ends.
async fn follow<F: Fold>(shared: &Shared<F>, live: &Live) -> Result<(), Failure> {
    if shared.progress.borrow().first.is_some() {
        // Another stream of the same name may have taken the place of the one that was read.
        let end = last(live, &shared.stream, true)
            .await?
            .map_or(0, |last| last + 1);
        if end < shared.progress.borrow().next {
            restart(shared);
        }
    }
    let progress = *shared.progress.borrow();
    let from = match progress.first {
        Some(_) => AMQPValue::LongLongInt(progress.next as i64),
        None => AMQPValue::LongString("first".into()),
    };
    let mut deliveries = open(live, &shared.stream, from).await?;
    shared.progress.send_modify(|now| {
        now.missing = false;
        now.attached = true;
    });
    let mut unacknowledged = 0;
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery.map_err(|error| live.failure("read stream", &error))?;
        take(shared, &delivery);
        unacknowledged += 1;
        // Acknowledgements only let more come.
        if unacknowledged >= PREFETCH / 2 {
            acknowledge(live, &delivery).await?;
            unacknowledged = 0;
        }
    }
    Err(Failure::Missing)
}

fn take<F: Fold>(shared: &Shared<F>, delivery: &Delivery) {
    let Some(offset) = offset(delivery) else {
        return;
    };
    if offset < shared.progress.borrow().next {
        return;
    }
    let took = shared
        .fold()
        .take(offset, &delivery.properties, &delivery.data);
    shared.progress.send_modify(|now| {
        now.first.get_or_insert(offset);
        now.next = offset + 1;
    });
    let Some(nonce) = number(&delivery.properties, NONCE) else {
        return;
    };
    if let Some(writer) = shared.writers().remove(&nonce) {
        // Who waited may have given up.
        let _ = writer.send(took);
    }
    if shared.own().remove(&nonce) {
        shared.progress.send_modify(|_| {});
    }
}

/// The place of a record.
fn offset(delivery: &Delivery) -> Option<u64> {
    number(&delivery.properties, "x-stream-offset")
}

/// Records on their way, on a channel of their own.
struct Reading {
    channel: Channel,
    /// `None` when it has ended.
    deliveries: Option<lapin::Consumer>,
}

impl Reading {
    async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        self.deliveries.as_mut()?.next().await
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        connection::end(self.channel.clone(), self.deliveries.take());
    }
}

async fn open(live: &Live, stream: &str, from: AMQPValue) -> Result<Reading, Failure> {
    let channel = live.reading_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), from);
    // Polled in this order, which is the order in which their frames are sent.
    let qos = channel.basic_qos(PREFETCH, BasicQosOptions::default());
    let consumer = channel.basic_consume(
        stream.into(),
        "".into(),
        BasicConsumeOptions::default(),
        arguments,
    );
    let both = async { futures::try_join!(qos, consumer) };
    let ((), deliveries) = live.within("read stream", both).await?;
    Ok(Reading {
        channel,
        deliveries: Some(deliveries),
    })
}

/// The offset of the last record; `None` of an empty stream, which is only believed after a while where
/// it would be `surprising`.
async fn last(live: &Live, stream: &str, surprising: bool) -> Result<Option<u64>, Failure> {
    /// The last chunk comes at once; no chunk never does.
    const PATIENCE: Duration = Duration::from_millis(500);
    const QUIET: Duration = Duration::from_millis(20);
    let mut deliveries = open(live, stream, AMQPValue::LongString("last".into())).await?;
    let mut last = None;
    let mut came = 0;
    loop {
        let patience = match last {
            None if surprising => PATIENCE,
            _ => QUIET,
        };
        let Ok(delivery) = tokio::time::timeout(patience, deliveries.next()).await else {
            return Ok(last);
        };
        let delivery = match delivery {
            None => return Err(Failure::Missing),
            Some(delivery) => delivery.map_err(|error| live.failure("read stream", &error))?,
        };
        last = offset(&delivery).or(last);
        came += 1;
        if came >= PREFETCH / 2 {
            acknowledge(live, &delivery).await?;
            came = 0;
        }
    }
}

async fn acknowledge(live: &Live, delivery: &Delivery) -> Result<(), Failure> {
    let all = BasicAckOptions { multiple: true };
    live.within("read stream", delivery.acker.ack(all))
        .await
        .map(drop)
}

/// Reads the records at the given places, which are in order. Places without a record are left out.
pub(crate) async fn fetch(
    live: &Live,
    stream: &str,
    places: &[u64],
    now: jiff::Timestamp,
) -> Result<Vec<(u64, codec::Raw)>, Failure> {
    /// What lies between two places is read over, unless it is more than this.
    const FARTHEST: u64 = 2000;
    let mut found = Vec::with_capacity(places.len());
    let mut rest = places;
    while let Some(first) = rest.first().copied() {
        let far = rest
            .windows(2)
            .position(|pair| pair[1] - pair[0] > FARTHEST)
            .map_or(rest.len(), |at| at + 1);
        let (near, later) = rest.split_at(far);
        rest = later;
        let last = near.last().copied().unwrap_or(first);
        over(live, stream, first, last, |at, delivery| {
            if near.binary_search(&at).is_ok() {
                let raw = codec::Raw::new(&delivery.properties, delivery.data, now);
                found.push((at, raw));
            }
            true
        })
        .await?;
    }
    Ok(found)
}

/// Reads the records from one place through another, which is there, as long as `take` wants more.
pub(crate) async fn over(
    live: &Live,
    stream: &str,
    first: u64,
    last: u64,
    mut take: impl FnMut(u64, Delivery) -> bool,
) -> Result<(), Failure> {
    let mut deliveries = open(live, stream, AMQPValue::LongLongInt(first as i64)).await?;
    let mut unacknowledged = 0;
    let until = Instant::now() + REQUEST_TIMEOUT;
    loop {
        let next = async { Ok(deliveries.next().await) };
        let delivery = match live.within("read stream", next).await? {
            Some(delivery) => delivery.map_err(|error| live.failure("read stream", &error))?,
            None => return Err(Failure::Missing),
        };
        let Some(at) = offset(&delivery) else {
            continue;
        };
        unacknowledged += 1;
        if unacknowledged >= PREFETCH / 2 {
            acknowledge(live, &delivery).await?;
            unacknowledged = 0;
        }
        // A stream is read from the beginning of a block.
        let more = at < first || take(at, delivery);
        if !more || at >= last {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(BrokerError::TimedOut {
                operation: "read stream",
                after: REQUEST_TIMEOUT,
            }
            .into());
        }
    }
}
