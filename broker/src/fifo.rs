//! A FIFO queue: order within groups, groups in parallel, one turn of a group at a time.
//!
//! Messages come in through [`WorkQueue::publish`](crate::WorkQueue::publish) and are read through the
//! readers of the same trait; what differs is how they are handled. A *turn* is the right to handle the
//! first stored messages of one group, held under one lease by one consumer. While it is held nobody
//! else gets a message of the group, and what is behind the turn stays stored.
//!
//! ```text
//! turn.messages -> begin -> call the handler -> ack(handled)              -> more -> next messages, or the end
//!                                            -> count(attempts), a pause  -> begin -> the same messages again
//!                                            -> rest(delay, attempts)     (the turn is over; the same messages come again after it)
//!                                            -> dead_letter(failure)      -> more
//!                                            -> dead_letter_group | block_group | end   (the turn is over)
//! ```
//!
//! # Guarantees
//! Every transport keeps these, and the conformance suite has a test for each. They stand beside those of
//! [`crate::queue`], of which 1 (stored before it returns), 3, 4, 6 to 10 hold with "turn" for "delivery".
//!
//! 1. **Order**: the messages of a group are handed out in the order in which they were stored. A later
//!    message of a group is never handed out while an earlier one is stored, whatever is killed, started,
//!    scaled, redelivered or repartitioned meanwhile. Groups have no order among each other.
//! 2. **One turn of a group at a time**, over all consumers of all processes, until its lease is over.
//! 3. **Exact limit**: turns that are neither ended nor past their lease never exceed `limit`. A change
//!    takes effect without a restart; lowering it drains. A group that waits for a turn costs nothing.
//! 4. **No group stops another**: whatever happens to one group (it fails, waits for its time, is blocked, is
//!    a million messages long) the others get their turns; a turn that is held takes one of `limit`, nothing
//!    else. Groups that wait get their turns in the order in which they began to wait, so a busy group
//!    comes again only after those that waited.
//! 5. **Retry is in place**: what failed comes again before anything behind it. For a short pause the turn is kept;
//!    for a longer one the group *rests* ([`TurnLease::rest`]): it gives its place of the limit back at once,
//!    gets no turn before its time whatever is published, and then goes on from the first message that is still
//!    stored. Attempts ([`TurnLease::count`]) and rests are durable: they survive kills of every process and of
//!    the server. When a process dies, its turn comes again after the lease, from that same message.
//! 6. **Attempts are exact** as in [`crate::queue`], 6: unfinished calls count from the second delivery on.
//! 7. **Giving up keeps order**: dead letters of a group are stored in the order of its messages, each before
//!    its message leaves the queue. A group that was dead-lettered as a whole sends everything that comes
//!    later after it, in order; a blocked group keeps everything stored. Both stay so over restarts of
//!    everything until [`FifoQueue::release_group`] or [`FifoQueue::redrive_group`].
//! 8. **After the lease nothing happens**: a holder that slept past its lease starts nothing out of turn,
//!    because [`TurnLease::begin`] refuses, and every settlement but `ack` is refused with `LeaseOver`. A late
//!    `ack` removes what it names and nothing else.
//! 9. **A delay holds its group**: a message that is not due yet is not handed out, and nothing behind it
//!    in its group is; the wait holds no slot of the limit. So is the first message of a group that rests.
//! 10. **Nothing is prefetched** but the messages of turns that somebody asked for, at most `batch_max`
//!     each (a transport may read up to [`MOST_AHEAD`] messages of a group under a turn that it holds). An
//!     idle group costs a process nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use weir_core::dead_letter::Failure;
use weir_core::message::Message;

use crate::error::BrokerError;

/// Most messages of a group that a process holds under one turn.
pub const MOST_AHEAD: usize = 64;

/// The side of a FIFO queue that consumers and operators use. Opened by
/// [`WorkQueue::fifo`](crate::WorkQueue::fifo).
#[async_trait]
pub trait FifoQueue: Send + Sync + 'static {
    /// Starts to take turns. The topology must exist.
    async fn consume(&self) -> Result<Box<dyn TurnConsumer>, BrokerError>;

    /// Numbers of the groups, of now.
    async fn groups(&self) -> Result<GroupCounts, BrokerError>;

    /// Groups that are blocked or dead-lettered as a whole, in a stable order, at most `limit`, after
    /// the group `after`.
    async fn held_groups(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HeldGroup>, BrokerError>;

    /// Lets a blocked or dead-lettered group go on, with its attempts at 0: a blocked one from its first
    /// message, a dead-lettered one with what comes next (its dead letters stay). False when the
    /// group is not held. May be repeated.
    async fn release_group(&self, group: &str) -> Result<bool, BrokerError>;

    /// Puts every dead letter of a group back, in order, before everything that is stored of the group,
    /// then lets the group go on. Returns how many were put back. May be repeated after an error and
    /// then goes on where it was; while it is under way the group gets no turn.
    async fn redrive_group(&self, group: &str) -> Result<u64, BrokerError>;
}

/// Numbers of the groups of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Groups that have or could have a turn now: what scaling goes by. May count for a moment a
    /// group whose last message was just handled.
    pub runnable: u64,
    /// Turns that are held; part of `runnable`.
    pub in_turn: u64,
    /// Groups blocked or dead-lettered as a whole.
    pub held: u64,
}

/// How a group is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Its messages stay stored.
    Blocked,
    /// Its messages become dead letters.
    DeadLettered,
}

/// A group that gets no turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldGroup {
    /// Its name.
    pub group: String,
    /// How it is held.
    pub hold: Hold,
    /// Since when.
    pub since: Timestamp,
    /// Id of the message that was given up.
    pub message_id: String,
    /// Why.
    pub failure: Failure,
}

impl HeldGroup {
    /// Why the messages behind the one that was given up become dead letters.
    pub(crate) fn failure_of_followers(&self, now: Timestamp) -> Failure {
        Failure {
            reason: self.failure.reason,
            attempts: 0,
            failed_at: now,
            last_status: None,
            message: format!(
                "its group was given up with message {}: {}",
                self.message_id, self.failure.message
            ),
            answer: String::new(),
        }
    }
}

/// One consumer of turns. Stop it and take what still comes before dropping it, as with
/// [`Consumer`](crate::Consumer).
#[async_trait]
pub trait TurnConsumer: Send {
    /// Says that `more` further turns can be started at once.
    fn want(&mut self, more: usize);

    /// Turns asked for and not yet handed out.
    fn wanted(&self) -> usize;

    /// The next turn. Cancel safe, but only while it is awaited does the consumer look after its groups (moves the
    /// messages of a dead-lettered group, lets a delayed one wait): await it also while nothing is wanted. Waits for ever while there is none and survives outages; `None` after
    /// [`TurnConsumer::stop`], when everything that was on its way has been handed out. An error means
    /// that the queue cannot be consumed as it is (its topology is gone); the consumer stays usable.
    async fn next(&mut self) -> Result<Option<Turn>, BrokerError>;

    /// Asks for nothing more.
    async fn stop(&mut self);
}

/// A message of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnMessage {
    /// The message.
    pub message: Message,
    /// Attempts that counted before.
    pub attempts: u32,
    /// It was in a call of several that failed as a whole before its group rested: to be called alone.
    pub suspect: bool,
}

/// The first messages of one group, held under a lease.
pub struct Turn {
    /// The group.
    pub group: String,
    /// 1 to `batch_max` messages, in order.
    pub messages: Vec<TurnMessage>,
    /// True when the broker had given out this turn before without an end.
    pub redelivered: bool,
    /// Holds it and settles it.
    pub lease: Arc<dyn TurnLease>,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids = self.messages.iter().map(|held| &held.message.id);
        f.debug_struct("Turn")
            .field("group", &self.group)
            .field("ids", &ids.collect::<Vec<_>>())
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}

/// The right to handle the first messages of a group. Each method may be repeated after a transient
/// error until it succeeds; one at a time, except `extend`, which may run beside the others.
///
/// "The first message" is always the first that this turn has not settled. The lease ends `lease_seconds`
/// after the turn was handed out or last extended; after that everything but `ack` answers
/// [`BrokerError::LeaseOver`] and does nothing. Once the turn has ended (`more` said `None`, or one of the
/// ending settlements succeeded), all but repeats of that same call answer `LeaseOver`, too.
///
/// A turn ends only through these methods or through its lease: dropping it settles nothing, and the
/// group waits until the lease is over.
#[async_trait]
pub trait TurnLease: Send + Sync + 'static {
    /// Records, where that is needed to count it, that the handler is about to be called with all
    /// messages of the turn, and makes sure that the turn is still this one's. To be awaited before every call.
    async fn begin(&self) -> Result<(), BrokerError>;

    /// Keeps the turn for another `lease_seconds`. Call it every third of that, pauses included.
    async fn extend(&self) -> Result<(), BrokerError>;

    /// The first `count` messages were handled. Returns after the broker confirmed their removal. The
    /// turn goes on with those behind them, also when none is left.
    async fn ack(&self, count: usize) -> Result<(), BrokerError>;

    /// A call ended without success, and from now on the first messages have these attempts: the first
    /// message `attempts[0]`, and so on; those without a number stay as they are. Durable. The turn goes on.
    async fn count(&self, attempts: &[u32]) -> Result<(), BrokerError>;

    /// A call ended without success, and is to be made again after `delay`: as [`TurnLease::count`] with
    /// `attempts` (none where nothing counts), and from when this returns the group rests. Its place of the limit
    /// is free; it gets no turn before `delay` is over (measured from this call, rounded up to milliseconds), and
    /// then from its first message on. The first `suspects` messages come again as
    /// [`suspect`](TurnMessage::suspect); a message that was marked before and is not among them is not marked
    /// any more. Durable, attempts and time in one step: after a kill at any point either nothing of it is known and the
    /// turn comes again after its lease, or all of it is. [`FifoQueue::redrive_group`] ends a rest. Ends the
    /// turn. With nothing left of the turn it is [`TurnLease::end`].
    async fn rest(
        &self,
        delay: Duration,
        attempts: &[u32],
        suspects: usize,
    ) -> Result<(), BrokerError>;

    /// Gives the first message up: stores its dead letter, then removes it. The turn goes on with
    /// those behind it.
    async fn dead_letter(&self, failure: &Failure) -> Result<(), BrokerError>;

    /// Gives the whole group up: the first message with `failure`, then everything stored behind it and
    /// everything that comes later become dead letters, in order. Ends the turn as soon as this is durable;
    /// the messages behind the first may still be on their way to the dead letters then.
    async fn dead_letter_group(&self, failure: &Failure) -> Result<(), BrokerError>;

    /// Blocks the group: everything stays stored and the group gets no turn. Ends the turn.
    async fn block_group(&self, failure: &Failure) -> Result<(), BrokerError>;

    /// The next 1 to `batch_max` messages to handle under this turn: those that are left of the turn, or
    /// when none is left those that are stored behind them. `None` when the group has no more now, or has had
    /// its share while others wait; then the turn has ended. To be asked when the messages are settled.
    async fn more(&self) -> Result<Option<Vec<TurnMessage>>, BrokerError>;

    /// Lets go: what is left is deliverable at once, in order, with nothing counted but what
    /// [`TurnLease::count`] recorded. A call that [`TurnLease::begin`] recorded since is undone. Ends the turn.
    async fn end(&self) -> Result<(), BrokerError>;
}

/// Refuses what the kind of a queue does not offer.
pub(crate) fn wrong_kind(wanted_fifo: bool) -> BrokerError {
    BrokerError::Refused {
        operation: "consume",
        why: if wanted_fifo {
            "it is not a FIFO queue: its messages are taken one by one, not by turns".to_owned()
        } else {
            "it is a FIFO queue: its messages are taken by turns, not one by one".to_owned()
        },
    }
}

/// Refuses to make one kind of queue of the other.
pub(crate) fn other_kind(stream: &str) -> BrokerError {
    BrokerError::Refused {
        operation: "apply queue",
        why: format!(
            "stream {stream} exists as the other kind of queue, with or without order; \
             use another name or delete the old object with its messages"
        ),
    }
}
