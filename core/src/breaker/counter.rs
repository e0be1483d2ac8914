//! Counting on the hot path: admitting a call and recording its end without the machine.
//!
//! While the breaker is closed nothing has to be decided for a call, so a [`Counter`] lets it through
//! after one load and counts its end with one compare-and-swap in a cell that, as a rule, no other
//! thread uses. Whoever runs the machine drains the counter, steps the machine with what came out, and
//! tells the counter the new [`Standing`].
//!
//! Totals are exact. A call is counted in one cell of one shard, by its outcome; each cell carries the
//! term for which it counts, and draining or starting a new term takes the count out in the same
//! atomic operation. So a call is either in exactly one drain, or its term was over when it ended, and
//! then it is in none. Which shard a thread uses matters to speed alone.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::window::Tally;
use super::{Moment, Outcome, Ticket, millis};

/// Shards of a counter. With more threads than that some share one.
pub const SHARDS: usize = 16;

/// Bits of a cell that count; the others are the end of the term's number.
const COUNT_BITS: u32 = 40;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// Bits of the longest and of the current row of failures; the others are as in a cell.
const ROW_BITS: u32 = 20;
const ROW: u64 = (1 << ROW_BITS) - 1;

/// Never slow.
const NEVER: u64 = u64::MAX;

const PASS: u64 = 0;
const REFUSE_UNTIL: u64 = 1;
const REFUSE_FOR: u64 = 2;
const ASK: u64 = 3;

/// What the counter may do by itself, from [`super::Breaker::standing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The term of the machine. It grows with each change of what calls are told.
    pub term: u64,
    /// What calls are told.
    pub answer: Answer,
    /// From when on a call is slow; `None` if slow calls are not judged.
    pub slow_after: Option<Duration>,
    /// `trip.consecutiveFailures`; 0 if rows of failures are not judged.
    pub row: u32,
}

/// What a call is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It passes.
    Pass,
    /// It is refused until then; after it, ask the machine.
    RefuseUntil(Moment),
    /// It is refused, and told to come back after that.
    RefuseFor(Duration),
    /// Ask the machine, with [`super::Event::Call`].
    Ask,
}

/// What [`Counter::admit`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Make the call, and bring the ticket back with the outcome.
    Pass(Ticket),
    /// Answer with the fallback.
    Refuse {
        /// For `Retry-After`.
        retry_after: Duration,
    },
    /// Ask the machine, with [`super::Event::Call`].
    Ask,
}

/// What was counted in one term since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The term.
    pub term: u64,
    /// The calls.
    pub tally: Tally,
    /// The longest row of failures that ended since, or is going on. 0 if rows are not judged.
    pub streak: u32,
}

/// Counts the calls of one breaker in one replica. Shared by all threads.
#[derive(Debug, Default)]
pub struct Counter {
    standing: Padded<Words>,
    row: Padded<AtomicU64>,
    shards: [Padded<Shard>; SHARDS],
}

/// Alone in its cache lines: two of them, which are fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// The standing. Read by every call, written rarely.
#[derive(Debug, Default)]
struct Words {
    /// The term and, in the lowest two bits, which answer.
    term: AtomicU64,
    until: AtomicU64,
    pause: AtomicU64,
    slow_after: AtomicU64,
    row: AtomicU32,
}

/// One cell for each outcome, so that one operation counts a whole call.
#[derive(Debug, Default)]
struct Shard {
    succeeded: AtomicU64,
    succeeded_slowly: AtomicU64,
    failed: AtomicU64,
    failed_slowly: AtomicU64,
}

impl Counter {
    /// A counter that has counted nothing.
    pub fn new(standing: Standing) -> Self {
        let counter = Self::default();
        let _nothing = counter.stand(standing);
        counter
    }

    /// Whether a call that begins at `now` passes.
    #[inline]
    pub fn admit(&self, now: Moment) -> Admission {
        let words = &self.standing.0;
        let term = words.term.load(Ordering::Acquire);
        if term & 3 == PASS {
            return Admission::Pass(Ticket {
                term: term >> 2,
                began: now,
                probe: None,
            });
        }
        words.turn_away(term & 3, now)
    }

    /// Counts a call that [`Counter::admit`] let through and that ended at `now`. True if it failed or
    /// was slow, and counts: then the machine should look soon, since it may open.
    #[inline]
    pub fn record(&self, ticket: Ticket, outcome: Outcome, now: Moment) -> bool {
        let words = &self.standing.0;
        let slow = millis(now.since(ticket.began)) >= words.slow_after.load(Ordering::Relaxed);
        let shard = &self.shards[shard()].0;
        let (cell, failed) = match (outcome, slow) {
            (Outcome::Succeeded, false) => (&shard.succeeded, false),
            (Outcome::Succeeded, true) => (&shard.succeeded_slowly, false),
            (Outcome::Failed, false) => (&shard.failed, true),
            (Outcome::Failed, true) => (&shard.failed_slowly, true),
            (Outcome::Abandoned, _) => return false,
        };
        if !count(cell, ticket.term) {
            return false;
        }
        if words.row.load(Ordering::Relaxed) > 0 {
            self.line_up(ticket.term, failed);
        }
        failed || slow
    }

    /// Takes out what was counted since the last time.
    pub fn drain(&self) -> Counted {
        let term = self.standing.0.term.load(Ordering::Acquire) >> 2;
        self.take(
            term,
            |cell| cell.fetch_and(!COUNT, Ordering::AcqRel),
            |row| {
                let current = row & ROW;
                row & !(ROW << ROW_BITS) | current << ROW_BITS
            },
        )
    }

    /// Takes over what the machine says, and takes out what was counted before that. A call that was
    /// let through in another term no longer counts.
    ///
    /// One caller at a time, the one that steps the machine.
    pub fn stand(&self, standing: Standing) -> Counted {
        let words = &self.standing.0;
        let before = words.term.load(Ordering::Acquire) >> 2;
        let counted = if before == standing.term {
            self.drain()
        } else {
            // First the cells: no ticket of the new term can come before they are ready for it.
            let empty = tag(standing.term);
            self.take(before, |cell| cell.swap(empty, Ordering::AcqRel), |_| empty)
        };
        let slow_after = standing.slow_after.map_or(NEVER, millis);
        words.slow_after.store(slow_after, Ordering::Relaxed);
        words.row.store(standing.row, Ordering::Relaxed);
        let answer = match standing.answer {
            Answer::Pass => PASS,
            Answer::Ask => ASK,
            Answer::RefuseUntil(until) => {
                words.until.store(until.as_millis(), Ordering::Relaxed);
                REFUSE_UNTIL
            }
            Answer::RefuseFor(pause) => {
                words.pause.store(millis(pause), Ordering::Relaxed);
                REFUSE_FOR
            }
        };
        words
            .term
            .store(standing.term << 2 | answer, Ordering::Release);
        counted
    }

    fn take(
        &self,
        term: u64,
        empty: impl Fn(&AtomicU64) -> u64,
        next_row: impl Fn(u64) -> u64,
    ) -> Counted {
        let mut tally = Tally::default();
        for Padded(shard) in &self.shards {
            for (cell, failed, slow) in [
                (&shard.succeeded, false, false),
                (&shard.succeeded_slowly, false, true),
                (&shard.failed, true, false),
                (&shard.failed_slowly, true, true),
            ] {
                let calls = empty(cell) & COUNT;
                tally = tally.plus(Tally {
                    calls,
                    failures: if failed { calls } else { 0 },
                    slow: if slow { calls } else { 0 },
                });
            }
        }
        let update = |row| Some(next_row(row));
        let row = self
            .row
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
        let row = row.unwrap_or_else(|row| row);
        Counted {
            term,
            tally,
            streak: (row >> ROW_BITS & ROW) as u32,
        }
    }

    /// Puts one more failure in the row, or ends the row. Free for successes that follow successes.
    fn line_up(&self, term: u64, failed: bool) {
        let next = |row: u64| {
            let (longest, current) = (row >> ROW_BITS & ROW, row & ROW);
            if row & !COUNT != tag(term) || (!failed && current == 0) {
                return None;
            }
            let current = if failed { (current + 1).min(ROW) } else { 0 };
            Some(tag(term) | longest.max(current) << ROW_BITS | current)
        };
        // An error says that there was nothing to change.
        let _ = self
            .row
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }
}

impl Words {
    #[cold]
    fn turn_away(&self, answer: u64, now: Moment) -> Admission {
        match answer {
            REFUSE_UNTIL => {
                let until = Moment::from_millis(self.until.load(Ordering::Relaxed));
                if now < until {
                    let retry_after = until.since(now);
                    Admission::Refuse { retry_after }
                } else {
                    Admission::Ask
                }
            }
            REFUSE_FOR => Admission::Refuse {
                retry_after: Duration::from_millis(self.pause.load(Ordering::Relaxed)),
            },
            _ => Admission::Ask,
        }
    }
}

/// The part of a cell that tells the term.
fn tag(term: u64) -> u64 {
    term << COUNT_BITS
}

/// One more, unless the cell counts for another term. A full cell stays full.
#[inline]
fn count(cell: &AtomicU64, term: u64) -> bool {
    let mut known = cell.load(Ordering::Relaxed);
    loop {
        if known & !COUNT != tag(term) {
            return false;
        }
        if known & COUNT == COUNT {
            return true;
        }
        match cell.compare_exchange_weak(known, known + 1, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(other) => known = other,
        }
    }
}

/// The shard of this thread.
#[inline]
fn shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get() % SHARDS
    })
}

#[cfg(test)]
mod tests;
