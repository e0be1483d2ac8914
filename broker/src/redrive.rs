//! Carrying out a redrive: reads dead letters in order, publishes each, removes it.
//!
//! What a redrive is, and what a queue keeps about it, is [`weir_core::redrive`]. Any process may
//! call [`Runner::run`]; one that is killed is followed by another one. Nothing is acknowledged here and
//! nothing is consumed: the only operations are `publish`, `remove_dead_letter` and `put_record`.
//!
//! # Why a kill loses and doubles nothing
//! For each letter, in this order, each step after the one before was confirmed:
//!
//! 1. *record*: its position is written to the record as "in hand";
//! 2. *publish*: the message is stored under an identity that names the letter
//!    ([`weir_core::redrive::identity`]), atomically with it, and the queue remembers the identity for
//!    as long as it keeps dead letters;
//! 3. *remove*: the letter is removed;
//! 4. the next *record* says that it is done.
//!
//! Killed before 2: the letter is there and nothing was published; whoever goes on publishes it.
//! Killed between 2 and 3, or while the answer to 2 was on its way: the letter is there and its
//! message may be stored; whoever goes on publishes under the same identity, is told "known", and
//! removes it. The identity outlives the letter, so that this holds however much later it is, and
//! also when it is another redrive that goes on. Killed between 3 and 4: the letter is in hand and not
//! there any more: it counts as moved, and nothing is done. A redrive that is cancelled finishes what
//! is in hand first, so that no letter stays whose message is stored elsewhere.
//!
//! Two processes that take each other for dead may both run it: every step of both is one of the above,
//! and may be repeated. Their records are written by compare-and-set, so that one of them stops.
//!
//! A letter is published with its id, its group, its headers and its body, with no attempts, and
//! with an age that begins now: one that was given up because of its age would be given up again
//! (aws-semantics 5.2.6). In order of position, one after the other, so that the order within a group
//! is the order in which its messages died. A group of a FIFO queue that was given up as a whole is put
//! back as a whole, before what came later ([`crate::fifo::FifoQueue::redrive_group`]).

mod going;
mod record;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use weir_core::redrive::{Redrive, State};

use self::going::{Ended, Going};
use self::record::read_with_version;
pub use self::record::{RecordError, begin, cancel, read};
use crate::clock::Clock;
use crate::queue::WorkQueue;

/// Waiting, so that tests need not.
#[async_trait]
pub trait Pauses: Send + Sync + 'static {
    /// Time since any fixed moment; never goes back.
    fn elapsed(&self) -> Duration;

    /// Waits.
    async fn sleep(&self, span: Duration);
}

/// The clock of the runtime.
pub struct RealPauses(tokio::time::Instant);

impl Default for RealPauses {
    fn default() -> Self {
        Self(tokio::time::Instant::now())
    }
}

#[async_trait]
impl Pauses for RealPauses {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

/// What a process runs redrives with.
#[derive(Clone)]
pub struct Runner {
    /// The queue whose dead letters are moved.
    pub queue: Arc<dyn WorkQueue>,
    /// Where they go: the same queue, unless the redrive says otherwise.
    pub target: Arc<dyn WorkQueue>,
    /// Time of day.
    pub clock: Arc<dyn Clock>,
    /// Waiting.
    pub pauses: Arc<dyn Pauses>,
    /// This process, as no other is called.
    pub owner: String,
    /// Ends it after the letter that is being published; it stays `Running`, for whoever is next.
    pub stop: CancellationToken,
}

impl Runner {
    /// Runs the newest redrive until it ends, the process is told to stop, or another process runs
    /// it. Answers it as it is then; `None` where there is none to run.
    ///
    /// An error leaves the redrive as it was: it can be run again.
    pub async fn run(&self) -> Result<Option<Redrive>, RecordError> {
        let (redrives, version) = read_with_version(&*self.queue).await?;
        let now = self.clock.now();
        if !redrives
            .latest()
            .is_some_and(|latest| latest.may_be_run_by(&self.owner, now))
        {
            return Ok(None);
        }
        let Some(mut going) = Going::new(self, redrives, version) else {
            return Ok(None);
        };
        let ended = match going.run_to_end().await {
            Err(Ended::Broker(error)) => going.fail(&error).await,
            Err(Ended::Cancelled) => going.finish(State::Cancelled, "").await,
            ended => ended,
        };
        match ended {
            Ok(()) | Err(Ended::Cancelled) => {}
            Err(Ended::Stopped) => {
                // So that whoever is next need not wait, and begins where this one stopped. What
                // cannot be written now is found out then.
                going.redrive().owner.clear();
                drop(going.put().await);
            }
            Err(Ended::Lost) => return Ok(read(&*self.queue).await?.redrives.into_iter().next()),
            Err(Ended::Broker(error)) => return Err(error.into()),
        }
        Ok(going.redrives.redrives.into_iter().next())
    }
}
