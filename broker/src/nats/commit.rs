//! The committer of a stream: one atomic batch under way at a time, arrivals gather behind it.
//!
//! It never holds more than its budget and never answers a store as done before the server did.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::future::join_all;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::api::{BATCH_INCOMPLETE, Failure, MessageAnswer, NO_MESSAGE, PubAck};
use super::codec::{Raw, put};
use super::connection::{Connection, REQUEST_TIMEOUT, parse};
use super::group::{Guarded, Outcome, Pace, Verdict, fits, follow, judge, merge};
use crate::error::BrokerError;
use crate::task;

/// Stores that wait or are under way, for one stream of one process.
const MOST_WAITING: usize = 8192;
const MOST_WAITING_KIB: usize = 64 * 1024;
/// How long a store is tried before its outcome is given up as unknown.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a process may have under way on one stream, in messages and bytes.
pub(crate) struct Budget {
    messages: Arc<Semaphore>,
    kib: Arc<Semaphore>,
}

/// A part of a budget, given back when dropped.
pub(crate) struct Share(#[expect(dead_code, reason = "held")] [OwnedSemaphorePermit; 2]);

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            messages: Arc::new(Semaphore::new(MOST_WAITING)),
            kib: Arc::new(Semaphore::new(MOST_WAITING_KIB)),
        }
    }

    /// Takes a share, or nothing: nobody waits here.
    pub(crate) fn take(&self, bytes: usize) -> Option<Share> {
        let kib = u32::try_from(bytes / 1024 + 1).ok()?;
        let message = Arc::clone(&self.messages).try_acquire_owned().ok()?;
        let kib = Arc::clone(&self.kib).try_acquire_many_owned(kib).ok()?;
        Some(Share([message, kib]))
    }
}

struct Job {
    store: Guarded,
    answer: oneshot::Sender<Result<Outcome, BrokerError>>,
    _share: Share,
}

/// The committer of one stream.
pub(crate) struct Committer {
    jobs: mpsc::Sender<Job>,
    shown: String,
    _task: AbortOnDropHandle<()>,
}

impl Committer {
    pub(crate) fn start(connection: Connection, stream: String) -> Self {
        let (jobs, queue) = mpsc::channel(MOST_WAITING);
        let shown = format!("stream {stream}");
        let task = task::start(run(connection, stream, queue));
        Self {
            jobs,
            shown,
            _task: task,
        }
    }

    /// Stores an entry with its key. The outcome is the server's; an error leaves it unknown.
    pub(crate) async fn commit(
        &self,
        store: Guarded,
        share: Share,
    ) -> Result<Outcome, BrokerError> {
        let (answer, outcome) = oneshot::channel();
        self.jobs
            .try_send(Job {
                store,
                answer,
                _share: share,
            })
            .map_err(|_| BrokerError::Full {
                what: format!("the way to {}", self.shown),
            })?;
        outcome.await.unwrap_or_else(|_| {
            Err(BrokerError::Refused {
                operation: "publish",
                why: format!("the committer of {} ended", self.shown),
            })
        })
    }
}

async fn run(connection: Connection, stream: String, mut queue: mpsc::Receiver<Job>) {
    let mut held: Option<Job> = None;
    let mut pace = Pace::default();
    loop {
        let first = match held.take() {
            Some(job) => job,
            None => match queue.recv().await {
                Some(job) => job,
                None => return,
            },
        };
        let mut bytes = first.store.size();
        let mut jobs = vec![first];
        let until = pace.gather_until();
        loop {
            let next = match queue.try_recv() {
                Ok(job) => job,
                Err(_) if jobs.len() >= pace.enough() => break,
                Err(_) => match timeout_at(until, queue.recv()).await {
                    Ok(Some(job)) => job,
                    Ok(None) | Err(_) => break,
                },
            };
            let more = next.store.size();
            if !fits(jobs.len(), bytes, more) {
                held = Some(next);
                break;
            }
            bytes += more;
            jobs.push(next);
        }
        let (stores, began) = (jobs.len(), Instant::now());
        commit_all(&connection, &stream, jobs).await;
        pace = Pace::after(stores, began, Instant::now());
    }
}

/// Commits until every job has its answer.
async fn commit_all(connection: &Connection, stream: &str, jobs: Vec<Job>) {
    let until = Instant::now() + PATIENCE;
    let (mut leading, mut following) = merge(jobs, |job| &job.store);
    let mut pause = Duration::from_millis(10);
    while !leading.is_empty() {
        match send(connection, &leading).await {
            Ok(()) => {
                for job in leading.drain(..) {
                    settle(job, Ok(Outcome::Stored), &mut following);
                }
                return;
            }
            Err(failure) if failure.is_wrong_sequence() => {
                leading = sift(connection, stream, leading, &mut following).await;
            }
            Err(Failure::Broker(BrokerError::TimedOut { .. })) => {
                // Unknown: what was stored shows in the keys, the rest is safe to commit again.
                leading = sift(connection, stream, leading, &mut following).await;
            }
            Err(Failure::Api(error))
                if error.err_code == BATCH_INCOMPLETE || matches!(error.code, 429 | 503) =>
            {
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            Err(failure) => {
                let error = no_stream(connection, stream, failure).await;
                refuse(leading, &error, &mut following);
                return;
            }
        }
        if Instant::now() >= until {
            let error = BrokerError::TimedOut {
                operation: "publish",
                after: PATIENCE,
            };
            refuse(leading, &error, &mut following);
            return;
        }
    }
}

/// What a failure to store means: nobody listening is a missing stream only if it is missing.
pub(crate) async fn no_stream(
    connection: &Connection,
    stream: &str,
    failure: Failure,
) -> BrokerError {
    let shown = format!("stream {stream}");
    if !matches!(failure, Failure::NoResponders) {
        return failure.told(&shown);
    }
    let subject = format!("STREAM.INFO.{stream}");
    let read: Result<super::api::Done, Failure> = connection
        .api("read stream", &subject, &serde_json::Value::Null)
        .await;
    match read {
        Err(failure) if failure.is_absent() => BrokerError::Missing { what: shown },
        _ => connection.unavailable(format!("{shown} has no leader")),
    }
}

fn refuse(jobs: Vec<Job>, error: &BrokerError, following: &mut HashMap<String, Vec<Job>>) {
    for job in jobs {
        settle(job, Err(error.clone()), following);
    }
}

/// Answers a job and those that wait for the same key. Nobody may be waiting any more.
fn settle(
    job: Job,
    outcome: Result<Outcome, BrokerError>,
    following: &mut HashMap<String, Vec<Job>>,
) {
    for follower in following.remove(&job.store.key).unwrap_or_default() {
        let theirs = match &outcome {
            Ok(outcome) => Ok(follow(&follower.store, &job.store, outcome)),
            Err(error) => Err(error.clone()),
        };
        drop(follower.answer.send(theirs));
    }
    drop(job.answer.send(outcome));
}

/// Reads the keys of a refused batch, answers what is decided and returns the rest.
async fn sift(
    connection: &Connection,
    stream: &str,
    jobs: Vec<Job>,
    following: &mut HashMap<String, Vec<Job>>,
) -> Vec<Job> {
    let reads = jobs
        .iter()
        .map(|job| last(connection, stream, &job.store.key));
    let keys = join_all(reads).await;
    let mut rest = Vec::new();
    for (job, key) in jobs.into_iter().zip(keys) {
        let verdict = match key {
            Ok(key) => judge(
                &job.store,
                key.as_ref().map(|key| (key.sequence, key.body.as_ref())),
            ),
            // Committing again is safe, and says the same.
            Err(_) => Verdict::Again,
        };
        match verdict {
            Verdict::Again => rest.push(job),
            Verdict::Settled(outcome) => settle(job, Ok(outcome), following),
        }
    }
    rest
}

/// The last message of a subject, read from the stream's leader.
pub(crate) async fn last(
    connection: &Connection,
    stream: &str,
    subject: &str,
) -> Result<Option<Raw>, Failure> {
    let api = format!("STREAM.MSG.GET.{stream}");
    let body = json!({ "last_by_subj": subject });
    match connection
        .api::<MessageAnswer>("read message", &api, &body)
        .await
    {
        Ok(answer) => Ok(Some(answer.message.into())),
        Err(failure) if failure.code() == NO_MESSAGE => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Sends one atomic batch: each key, then what it guards.
async fn send(connection: &Connection, jobs: &[Job]) -> Result<(), Failure> {
    const OPERATION: &str = "publish";
    let batch = format!("{:032x}", fastrand::u128(..));
    let count = jobs.len() * 2;
    let mut sequence = 0;
    let mut numbered = |mut headers: HeaderMap| {
        sequence += 1;
        put(&mut headers, "Nats-Batch-Id", &batch)?;
        put(&mut headers, "Nats-Batch-Sequence", &sequence.to_string())?;
        if sequence == count {
            put(&mut headers, "Nats-Batch-Commit", "1")?;
        }
        Ok::<_, BrokerError>(headers)
    };
    for (at, Job { store, .. }) in jobs.iter().enumerate() {
        let mut key = HeaderMap::new();
        put(
            &mut key,
            "Nats-Expected-Last-Subject-Sequence",
            &store.expected.to_string(),
        )?;
        put(
            &mut key,
            "Nats-TTL",
            &format!("{}s", store.kept_seconds.max(1)),
        )?;
        let key = numbered(key)?;
        connection
            .send(OPERATION, &store.key, None, key, store.mark.clone())
            .await?;
        let headers = numbered(store.headers.clone())?;
        if at + 1 < jobs.len() {
            connection
                .send(OPERATION, &store.subject, None, headers, store.body.clone())
                .await?;
        } else {
            let answer = connection
                .request(OPERATION, &store.subject, Some(headers), store.body.clone())
                .await?;
            // An empty answer is the flow control of a batch that is not over.
            if answer.payload.is_empty() {
                return Err(BrokerError::TimedOut {
                    operation: OPERATION,
                    after: REQUEST_TIMEOUT,
                }
                .into());
            }
            parse::<PubAck>(OPERATION, &Bytes::clone(&answer.payload))?;
        }
    }
    Ok(())
}
