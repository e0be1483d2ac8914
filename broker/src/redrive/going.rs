//! One redrive while a process runs it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use weir_core::message::Message;
use weir_core::redrive::{Pace, Redrive, Redrives, State, identity};

use super::Runner;
use super::record::{RecordError, read_with_version, write};
use crate::error::BrokerError;
use crate::fifo::Hold;
use crate::queue::{Publication, StoredDeadLetter};

/// Pauses before a step is repeated.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Most letters that are read at once while none of them is wanted.
const MOST_AT_ONCE: usize = 128;

/// Why [`Runner::run`] returned before the redrive ended.
pub(super) enum Ended {
    /// Told to stop.
    Stopped,
    /// Told to be cancelled, while it waited for room.
    Cancelled,
    /// Another process runs it, or the record is another one.
    Lost,
    /// The broker, and not for a while only.
    Broker(BrokerError),
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
pub(super) struct Going<'a> {
    runner: &'a Runner,
    pace: Pace,
    pub(super) redrives: Redrives,
    version: u64,
    /// Positions of the letters of a redrive of ids, in order; looked up once.
    by_id: Option<Vec<u64>>,
    /// Letters that are read at once: more while none is wanted.
    reach: usize,
    /// Groups of a FIFO queue that send everything to the dead letters; looked up once.
    lost_groups: Option<BTreeSet<String>>,
}

impl<'a> Going<'a> {
    pub(super) fn new(runner: &'a Runner, redrives: Redrives, version: u64) -> Option<Self> {
        let latest = redrives.latest()?;
        Some(Self {
            runner,
            pace: Pace::new(latest.rate),
            reach: latest.hand(),
            redrives,
            version,
            by_id: None,
            lost_groups: None,
        })
    }
}

impl Going<'_> {
    pub(super) fn redrive(&mut self) -> &mut Redrive {
        &mut self.redrives.redrives[0]
    }

    fn now(&self) -> Timestamp {
        self.runner.clock.now()
    }

    pub(super) async fn run_to_end(&mut self) -> Result<(), Ended> {
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

    pub(super) async fn finish(&mut self, state: State, message: &str) -> Result<(), Ended> {
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
    pub(super) async fn fail(&mut self, error: &BrokerError) -> Result<(), Ended> {
        tracing::warn!(%error, "a redrive failed");
        self.finish(State::Failed, &error.to_string()).await
    }

    /// Writes the record as it is here, with a sign of life. False where another one is there.
    pub(super) async fn put(&mut self) -> Result<bool, BrokerError> {
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
