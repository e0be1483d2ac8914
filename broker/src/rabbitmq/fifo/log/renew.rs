//! Going on to the next log: closing one, copying what is still stored, and opening the next.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use super::super::super::apply::declare;
use super::super::super::codec::{self, Raw};
use super::super::super::connection::Live;
use super::super::super::tail::Tail;
use super::super::super::topology::LOG;
use super::super::book::Book;
use super::super::record::{self, Outcome, Piece, Record, Stamped};
use super::{Current, Log, written};
use crate::error::BrokerError;
use crate::task;

/// When no part of a copy came for so long, or up to twice as long, another process begins one.
const PATIENCE: Duration = Duration::from_secs(2);
/// A log that is not used any more is left to those who still read it for so long.
const KEPT: Duration = Duration::from_secs(10);
/// Parts of a copy that are on their way at once.
const COPIED_AT_ONCE: usize = 256;
/// Pieces of one part.
const IN_A_PART: usize = 64;
/// Messages that are read at once for a copy.
const READ_AT_ONCE: usize = 512;

/// The next log, which another process may be copying.
pub(super) struct Coming {
    pub(super) log: Current,
    waiting: Waiting,
}

/// Waiting for somebody to go on with something.
struct Waiting {
    /// How far it has come, and since when it has not come further.
    reached: u64,
    since: Instant,
    patience: Duration,
}

impl Waiting {
    fn new(now: Instant, patience: Duration) -> Self {
        Self {
            reached: 0,
            since: now,
            patience,
        }
    }

    /// Whether it has not come further for too long. If so, it has as long again.
    fn is_over(&mut self, reached: u64, now: Instant) -> bool {
        let over = reached == self.reached && now - self.since >= self.patience;
        if reached != self.reached || over {
            (self.reached, self.since) = (reached, now);
        }
        over
    }
}

impl Log {
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
                    task::start(log.delete_later(old)).detach();
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the log is renewed later"),
            }
        }));
    }

    async fn delete_later(self: Arc<Self>, old: u64) {
        tokio::time::sleep(KEPT).await;
        if let Err(error) = self.delete(old).await {
            // Whoever makes the topology finds it.
            tracing::debug!(%error, old, "an old log is kept for now");
        }
    }

    /// Goes on to the next log where this one is worn, or closed by somebody who did not go on. Answers the
    /// number of the log that is not used any more.
    async fn renew(&self, log_bytes: u64) -> Result<Option<u64>, BrokerError> {
        let live = self.connection.live()?;
        let current = self.ready(&live).await?;
        let (worn, sealed) = current
            .tail
            .read(|book| (book.is_worn(log_bytes), book.is_sealed()));
        if !worn && !sealed {
            return Ok(None);
        }
        let next = current.number + 1;
        let to = {
            let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
            coming.take_if(|known| known.log.number != next);
            let coming = coming.get_or_insert_with(|| Coming {
                log: self.tail_of(next),
                // Not the same for all processes: one of them is to begin anew.
                waiting: Waiting::new(Instant::now(), PATIENCE.mul_f64(1.0 + fastrand::f64())),
            });
            let reached = coming.log.tail.next();
            if sealed && !coming.waiting.is_over(reached, Instant::now()) {
                return Ok(None);
            }
            coming.log.clone()
        };
        declare(
            &live,
            &self.names,
            &self.names.log(next),
            LOG,
            self.replicas,
        )
        .await?;
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
        self.copy(&live, &current, &to.tail).await?;
        self.use_log(&live, next).await?;
        tracing::debug!(log = self.names.log(next), "a log goes on");
        Ok(Some(current.number))
    }

    /// Writes what a closed log holds into the next one, and opens it.
    async fn copy(
        &self,
        live: &Live,
        from: &Current,
        tail: &Tail<Book>,
    ) -> Result<(), BrokerError> {
        let (pieces, messages) = from.tail.read(|book| book.groups.pieces());
        let (copier, at) = (fastrand::u64(..), self.now());
        let part = |index: u64, pieces: Vec<Piece>| {
            let record = Record::Part {
                copier,
                index,
                pieces,
            };
            written(&Stamped { at, record })
        };
        let mut parts = 0;
        let mut some = Vec::new();
        for pieces in pieces.chunks(IN_A_PART) {
            let mark = vec![(record::LOG.to_owned(), String::new())];
            let body = part(parts, pieces.to_vec())?;
            some.push((mark, bytes::Bytes::from(body)));
            parts += 1;
        }
        self.write_parts(live, tail, some).await?;
        // Their order is that of the parts' numbers. Read and written they are in the order of the log.
        let mut numbered = Vec::with_capacity(messages.len());
        for (offset, piece) in messages {
            numbered.push((offset, parts, piece));
            parts += 1;
        }
        numbered.sort_unstable_by_key(|(offset, ..)| *offset);
        for some in numbered.chunks(READ_AT_ONCE) {
            let offsets: Vec<u64> = some.iter().map(|(offset, ..)| *offset).collect();
            let read = self.bodies(live, from, &offsets).await?;
            let mut parts = Vec::with_capacity(some.len());
            for (offset, index, piece) in some {
                let Some(raw) = read.get(offset) else {
                    return Err(live.unreachable("a message of the log could not be read"));
                };
                let message = raw.message().message;
                let mut pairs = codec::pairs(&message, 0, &raw.copy())?;
                let record = part(*index, vec![piece.clone()])?;
                pairs.push((record::LOG.to_owned(), record));
                parts.push((pairs, message.body));
            }
            self.write_parts(live, tail, parts).await?;
        }
        self.open(live, tail, copier, parts).await
    }

    /// What is stored at some places, which are in order.
    async fn bodies(
        &self,
        live: &Live,
        from: &Current,
        offsets: &[u64],
    ) -> Result<HashMap<u64, Arc<Raw>>, BrokerError> {
        let mut known: HashMap<u64, Arc<Raw>> = from.tail.read(|book| {
            let at_hand = offsets.iter().map(|offset| (*offset, book.body(*offset)));
            at_hand
                .filter_map(|(offset, raw)| Some((offset, raw?)))
                .collect()
        });
        self.add_lacking(live, from.number, offsets, &mut known)
            .await?;
        Ok(known)
    }

    async fn write_parts(
        &self,
        live: &Live,
        tail: &Tail<Book>,
        parts: Vec<(Vec<(String, String)>, bytes::Bytes)>,
    ) -> Result<(), BrokerError> {
        futures::stream::iter(parts)
            .map(|(pairs, body)| async move { tail.append(live, pairs, &body).await })
            .buffer_unordered(COPIED_AT_ONCE)
            .try_for_each(|()| async { Ok(()) })
            .await
            .map_err(|failure| self.told(failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_copy_that_nobody_adds_to_is_begun_anew() {
        let start = Instant::now();
        let mut waiting = Waiting::new(start, Duration::from_secs(3));
        let mut is_over =
            |reached, second| waiting.is_over(reached, start + Duration::from_secs(second));
        assert!(!is_over(0, 2));
        // However long it takes, as long as there is more of it.
        for second in 3..60 {
            assert!(!is_over(second, second));
        }
        assert!(!is_over(59, 61));
        assert!(is_over(59, 62));
        assert!(!is_over(59, 64), "whoever begins anew has as long again");
        assert!(is_over(59, 65));
    }
}
