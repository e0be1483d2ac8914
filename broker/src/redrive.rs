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

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use weir_core::message::Message;
use weir_core::redrive::{Pace, Redrive, Redrives, State, StillActive, identity};

use crate::clock::Clock;
use crate::error::BrokerError;
use crate::fifo::Hold;
use crate::queue::{Publication, RecordName, StoredDeadLetter, WorkQueue};

/// How long the record of a redrive is kept when nobody writes it.
const RECORD_KEPT: Duration = Duration::from_hours(30 * 24);
/// Pauses before a step is repeated.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a change of the record is tried against others.
const TRIES: usize = 8;
/// Most letters that are read at once while none of them is wanted.
const MOST_AT_ONCE: usize = 128;

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

/// Why the record of the redrives was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// What is stored is not a record.
    #[error(
        "the record of the redrives cannot be read ({why}); was it written by a newer release?"
    )]
    Damaged {
        /// What the reader says.
        why: String,
    },
    /// Another redrive has not ended.
    #[error(transparent)]
    StillActive(#[from] StillActive),
    /// There is no such redrive.
    #[error("there is no redrive {id}; the last ten of each object are remembered")]
    NotFound {
        /// What was asked for.
        id: String,
    },
    /// Others change it all the time.
    #[error("the record of the redrives is being changed by others; try again")]
    Contended,
}

/// What is known of the redrives of a queue.
pub async fn read(queue: &dyn WorkQueue) -> Result<Redrives, RecordError> {
    read_with_version(queue).await.map(|(redrives, _)| redrives)
}

async fn read_with_version(queue: &dyn WorkQueue) -> Result<(Redrives, u64), RecordError> {
    let Some(record) = queue.record(RecordName::Redrives).await? else {
        return Ok((Redrives::default(), 0));
    };
    match serde_json::from_slice(&record.body) {
        Ok(redrives) => Ok((redrives, record.version)),
        Err(error) => Err(RecordError::Damaged {
            why: error.to_string(),
        }),
    }
}

/// Begins a redrive: from when this returns, it survives the process. It is carried out by [`Runner::run`].
///
/// `until`, `total` and `done` are filled in here, the times by whoever makes it.
pub async fn begin(queue: &dyn WorkQueue, redrive: Redrive) -> Result<Redrive, RecordError> {
    let mut redrive = redrive;
    redrive.until = queue.last_dead_letter().await?.unwrap_or(0);
    redrive.total = if redrive.ids.is_empty() {
        queue.depth().await?.dead
    } else {
        redrive.ids.len() as u64
    };
    change(queue, |redrives| {
        redrives.begin(redrive.clone())?;
        Ok(redrive.clone())
    })
    .await
}

/// Tells a redrive to end. Answers it as it is now: `Cancelling` while what is in hand is finished,
/// or as it ended.
pub async fn cancel(queue: &dyn WorkQueue, id: &str) -> Result<Redrive, RecordError> {
    change(queue, |redrives| {
        let found = redrives.redrives.iter_mut().find(|known| known.id == id);
        let Some(redrive) = found else {
            return Err(RecordError::NotFound { id: id.to_owned() });
        };
        redrive.cancel();
        Ok(redrive.clone())
    })
    .await
}

/// Changes the record, however many others do.
async fn change(
    queue: &dyn WorkQueue,
    edit: impl Fn(&mut Redrives) -> Result<Redrive, RecordError>,
) -> Result<Redrive, RecordError> {
    for _ in 0..TRIES {
        let (mut redrives, version) = read_with_version(queue).await?;
        let before = redrives.clone();
        let changed = edit(&mut redrives)?;
        if redrives == before || write(queue, &redrives, version).await?.is_some() {
            return Ok(changed);
        }
    }
    Err(RecordError::Contended)
}

async fn write(
    queue: &dyn WorkQueue,
    redrives: &Redrives,
    version: u64,
) -> Result<Option<u64>, BrokerError> {
    let body = serde_json::to_vec(redrives).expect("a record has only string keys");
    queue
        .put_record(RecordName::Redrives, version, body.into(), RECORD_KEPT)
        .await
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

/// Why [`Runner::run`] returned before the redrive ended.
enum Ended {
    /// Told to stop.
    Stopped,
    /// Told to be cancelled, while it waited for room.
    Cancelled,
    /// Another process runs it, or the record is another one.
    Lost,
    /// The broker, and not for a while only.
    Broker(BrokerError),
}

impl Runner {
    /// Runs the newest redrive until it ends, the process is told to stop, or another process runs
    /// it. Answers it as it is then; `None` where there is none to run.
    ///
    /// An error leaves the redrive as it was: it can be run again.
    pub async fn run(&self) -> Result<Option<Redrive>, RecordError> {
        let (redrives, version) = read_with_version(&*self.queue).await?;
        let Some(latest) = redrives.latest() else {
            return Ok(None);
        };
        if !latest.may_be_run_by(&self.owner, self.clock.now()) {
            return Ok(None);
        }
        let mut going = Going {
            runner: self,
            pace: Pace::new(latest.rate),
            reach: latest.hand(),
            redrives,
            version,
            by_id: None,
            lost_groups: None,
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

/// The next letters of a redrive that are to be moved.
struct Hand {
    wanted: Vec<StoredDeadLetter>,
    /// Letters between them that are not.
    passed: u64,
    /// Position of the last one that was looked at.
    reaches: u64,
}

impl Hand {
    /// As many as may be in hand, and what lies between them. What lies behind the last one is looked
    /// at again, so that every letter is counted once whenever the process ends.
    fn of(redrive: &Redrive, letters: Vec<StoredDeadLetter>) -> Self {
        let mut hand = Self {
            wanted: Vec::new(),
            passed: 0,
            reaches: redrive.done,
        };
        let mut between = 0;
        let mut last = redrive.done;
        for stored in letters {
            last = stored.position;
            if !redrive.wants(&stored.letter) {
                between += 1;
                continue;
            }
            hand.passed += std::mem::take(&mut between);
            hand.reaches = stored.position;
            hand.wanted.push(stored);
            if hand.wanted.len() == redrive.hand() {
                break;
            }
        }
        if hand.wanted.is_empty() {
            (hand.passed, hand.reaches) = (between, last);
        }
        hand
    }
}

/// A redrive while this process runs it.
struct Going<'a> {
    runner: &'a Runner,
    pace: Pace,
    redrives: Redrives,
    version: u64,
    /// Positions of the letters of a redrive of ids, in order; looked up once.
    by_id: Option<Vec<u64>>,
    /// Letters that are read at once: more while none is wanted.
    reach: usize,
    /// Groups of a FIFO queue that send everything to the dead letters; looked up once.
    lost_groups: Option<BTreeSet<String>>,
}

impl Going<'_> {
    fn redrive(&mut self) -> &mut Redrive {
        &mut self.redrives.redrives[0]
    }

    fn now(&self) -> Timestamp {
        self.runner.clock.now()
    }

    async fn run_to_end(&mut self) -> Result<(), Ended> {
        let owner = self.runner.owner.clone();
        self.redrive().owner = owner;
        self.save().await?;
        self.finish_in_hand().await?;
        loop {
            if self.redrive().state == State::Cancelling {
                return self.finish(State::Cancelled, "").await;
            }
            if self.runner.stop.is_cancelled() {
                return Err(Ended::Stopped);
            }
            let letters = self.next_letters().await?;
            if letters.is_empty() {
                return self.finish(State::Completed, "").await;
            }
            let Hand {
                wanted,
                passed,
                reaches,
            } = Hand::of(self.redrive(), letters);
            let redrive = self.redrive();
            redrive.counts.passed += passed;
            if wanted.is_empty() {
                redrive.done = reaches;
                self.reach = (self.reach * 2).min(MOST_AT_ONCE);
                let now = self.now();
                if self.redrive().is_silent(now) {
                    self.save().await?;
                }
                continue;
            }
            redrive.in_hand = wanted.iter().map(|stored| stored.position).collect();
            self.reach = redrive.hand();
            self.save().await?;
            if self.redrive().state == State::Cancelling {
                // Nothing of it was published yet.
                self.redrive().in_hand.clear();
                continue;
            }
            self.move_letters(wanted).await?;
            let redrive = self.redrive();
            redrive.done = redrive.done.max(reaches);
        }
    }

    /// The next letters to look at.
    async fn next_letters(&mut self) -> Result<Vec<StoredDeadLetter>, Ended> {
        let (done, until) = (self.redrive().done, self.redrive().until);
        if !self.redrive().ids.is_empty() {
            return self.next_of_ids(done, until).await;
        }
        let (queue, reach) = (&self.runner.queue, self.reach);
        let page = self
            .persist(|| queue.dead_letters(Some(done), reach))
            .await?;
        let mut letters = page.items;
        letters.retain(|stored| stored.position <= until);
        Ok(letters)
    }

    async fn next_of_ids(&mut self, done: u64, until: u64) -> Result<Vec<StoredDeadLetter>, Ended> {
        if self.by_id.is_none() {
            let mut positions = Vec::new();
            for id in self.redrive().ids.clone() {
                let queue = &self.runner.queue;
                let found = self.persist(|| queue.dead_letter(&id)).await?;
                positions.extend(found.map(|stored| stored.position));
            }
            positions.sort_unstable();
            positions.dedup();
            self.by_id = Some(positions);
        }
        let hand = self.redrive().hand();
        let positions: Vec<u64> = self
            .by_id
            .iter()
            .flatten()
            .copied()
            .filter(|position| *position > done && *position <= until)
            .take(hand)
            .collect();
        let mut letters = Vec::new();
        for position in positions {
            letters.extend(self.letter_at(position).await?);
        }
        Ok(letters)
    }

    /// The letter of a position, if it is there still.
    async fn letter_at(&mut self, position: u64) -> Result<Option<StoredDeadLetter>, Ended> {
        let queue = &self.runner.queue;
        let after = position.checked_sub(1);
        let page = self.persist(|| queue.dead_letters(after, 1)).await?;
        let mut items = page.items.into_iter();
        Ok(items.next().filter(|stored| stored.position == position))
    }

    /// What a process before this one had in hand: published and removed, whatever happened since.
    async fn finish_in_hand(&mut self) -> Result<(), Ended> {
        let in_hand = std::mem::take(&mut self.redrive().in_hand);
        let Some(last) = in_hand.last().copied() else {
            return Ok(());
        };
        let (mut letters, mut gone) = (Vec::new(), 0);
        for position in &in_hand {
            match self.letter_at(*position).await? {
                Some(letter) => letters.push(letter),
                None => gone += 1,
            }
        }
        let redrive = self.redrive();
        redrive.in_hand = in_hand;
        redrive.counts.moved += gone;
        self.move_letters(letters).await?;
        self.redrive().done = last;
        Ok(())
    }

    /// Publishes letters in order, then removes them. Nothing is in hand after it.
    async fn move_letters(&mut self, letters: Vec<StoredDeadLetter>) -> Result<(), Ended> {
        let mut published = Vec::with_capacity(letters.len());
        let mut stopped = None;
        let mut whole_groups = BTreeSet::new();
        for stored in letters {
            let group = stored.letter.message.group.clone().unwrap_or_default();
            match self.redrive_whole(&group).await {
                Ok(true) => drop(whole_groups.insert(group.clone())),
                Ok(false) => {}
                Err(ended) => {
                    stopped = Some(ended);
                    break;
                }
            }
            if whole_groups.contains(&group) {
                let position = stored.position;
                self.redrive().in_hand.retain(|held| *held != position);
                continue;
            }
            if self.runner.stop.is_cancelled() {
                stopped = Some(Ended::Stopped);
                break;
            }
            let wait = self.pace.take(self.runner.pauses.elapsed());
            if !wait.is_zero() {
                self.runner.pauses.sleep(wait).await;
            }
            match self.publish(&stored).await {
                Ok(true) => published.push(stored.position),
                Ok(false) => {
                    self.redrive().counts.failed += 1;
                    let position = stored.position;
                    self.redrive().in_hand.retain(|held| *held != position);
                }
                Err(ended) => {
                    stopped = Some(ended);
                    break;
                }
            }
        }
        for position in published {
            let queue = &self.runner.queue;
            // Not there any more: removed by somebody who went on with it, or expired.
            self.persist(|| queue.remove_dead_letter(position)).await?;
            let redrive = self.redrive();
            redrive.counts.moved += 1;
            redrive.in_hand.retain(|held| *held != position);
            redrive.done = redrive.done.max(position);
        }
        if let Some(ended) = stopped {
            return Err(ended);
        }
        self.redrive().in_hand.clear();
        Ok(())
    }

    /// Puts a group back as a whole, in front of what came later, where it was given up as a whole:
    /// published one by one, its messages would die again at once. The filter does not count for it.
    async fn redrive_whole(&mut self, group: &str) -> Result<bool, Ended> {
        if self.redrive().to.is_some() {
            return Ok(false);
        }
        let Ok(fifo) = self.runner.queue.fifo() else {
            return Ok(false);
        };
        if self.lost_groups.is_none() {
            let mut lost = BTreeSet::new();
            let mut after: Option<String> = None;
            loop {
                let page = self
                    .persist(|| fifo.held_groups(after.as_deref(), MOST_AT_ONCE))
                    .await?;
                let full = page.len() == MOST_AT_ONCE;
                after = page.last().map(|held| held.group.clone());
                lost.extend(
                    page.into_iter()
                        .filter(|held| held.hold == Hold::DeadLettered)
                        .map(|held| held.group),
                );
                if !full {
                    break;
                }
            }
            self.lost_groups = Some(lost);
        }
        let lost = self.lost_groups.get_or_insert_default();
        if !lost.contains(group) {
            return Ok(false);
        }
        let moved = self.persist(|| fifo.redrive_group(group)).await?;
        self.redrive().counts.moved += moved;
        self.lost_groups.get_or_insert_default().remove(group);
        Ok(true)
    }

    /// Stores a message once. False where the target never takes it.
    async fn publish(&mut self, stored: &StoredDeadLetter) -> Result<bool, Ended> {
        let publication = Publication {
            message: Message {
                accepted_at: self.now(),
                ..stored.letter.message.clone()
            },
            dedup: Some((
                identity(stored.position, &stored.letter),
                self.runner.queue.dead_letters_kept(),
            )),
            delay: Duration::ZERO,
        };
        let target = Arc::clone(&self.runner.target);
        match self.persist(|| target.publish(publication.clone())).await {
            Ok(_) => {
                self.redrive().message.clear();
                Ok(true)
            }
            Err(Ended::Broker(error @ BrokerError::TooLarge { .. })) => {
                self.redrive().message = format!("{}: {error}", stored.letter.message.id);
                Ok(false)
            }
            Err(ended) => Err(ended),
        }
    }

    /// Repeats a step while it fails for reasons that pass, with signs of life. Told to stop, it
    /// gives up at a failure.
    async fn persist<T, F>(&mut self, mut step: impl FnMut() -> F) -> Result<T, Ended>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match step().await {
                Ok(done) => return Ok(done),
                Err(error) if error.is_transient() => {
                    if self.runner.stop.is_cancelled() {
                        return Err(Ended::Stopped);
                    }
                    let now = self.now();
                    self.redrive().message = format!("waiting: {error}");
                    if self.redrive().is_silent(now) {
                        match self.put().await {
                            Ok(true) | Err(_) => {}
                            Ok(false) => self.adopt().await?,
                        }
                    }
                    // A broker that has no room has not stored it either.
                    let has_no_room = matches!(error, BrokerError::Full { .. });
                    if has_no_room && self.redrive().state == State::Cancelling {
                        return Err(Ended::Cancelled);
                    }
                }
                Err(error) => return Err(Ended::Broker(error)),
            }
            self.runner.pauses.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn finish(&mut self, state: State, message: &str) -> Result<(), Ended> {
        let now = self.now();
        let message = if message.is_empty() && self.redrive().counts.failed > 0 {
            self.redrive().message.clone()
        } else {
            message.to_owned()
        };
        self.redrive().finish(state, message, now);
        self.save().await
    }

    /// It cannot go on. What may have been published is found out by the next redrive.
    async fn fail(&mut self, error: &BrokerError) -> Result<(), Ended> {
        tracing::warn!(%error, "a redrive failed");
        self.finish(State::Failed, &error.to_string()).await
    }

    /// Writes the record as it is here, with a sign of life. False where another one is there.
    async fn put(&mut self) -> Result<bool, BrokerError> {
        let now = self.now();
        let redrive = self.redrive();
        // Later than the last one, whatever the clock says: the record must differ.
        let least = redrive.updated_at + SignedDuration::from_nanos(1);
        redrive.updated_at = if redrive.state.is_active() {
            now.max(least)
        } else {
            now
        };
        let written = write(&*self.runner.queue, &self.redrives, self.version).await?;
        if let Some(version) = written {
            self.version = version;
        }
        Ok(written.is_some())
    }

    /// Writes the record, however long the broker is away.
    async fn save(&mut self) -> Result<(), Ended> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.put().await {
                Ok(true) => return Ok(()),
                Ok(false) => self.adopt().await?,
                Err(error) if error.is_transient() => {
                    if self.runner.stop.is_cancelled() {
                        return Err(Ended::Stopped);
                    }
                    self.runner.pauses.sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(Ended::Broker(error)),
            }
        }
    }

    /// Somebody else has written: a cancel is obeyed, everything else ends this run.
    async fn adopt(&mut self) -> Result<(), Ended> {
        let (theirs, version) = match read_with_version(&*self.runner.queue).await {
            Ok(found) => found,
            Err(RecordError::Broker(error)) if error.is_transient() => return Ok(()),
            Err(RecordError::Broker(error)) => return Err(Ended::Broker(error)),
            Err(_) => return Err(Ended::Lost),
        };
        let (owner, id) = (self.runner.owner.clone(), self.redrive().id.clone());
        let Some(latest) = theirs.latest() else {
            return Err(Ended::Lost);
        };
        // At the beginning of a run the record still names the process before this one.
        let ours = latest.may_be_run_by(&owner, self.now());
        if latest.id != id || !ours || !latest.state.is_active() {
            return Err(Ended::Lost);
        }
        self.redrive().state = if self.redrive().state.is_active() {
            latest.state
        } else {
            self.redrive().state
        };
        self.version = version;
        Ok(())
    }
}
