//! The lease on one turn, and what can be done under it.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use weir_core::dead_letter::Failure;

use super::super::queue::due;
use super::super::settle::store_dead;
use super::Fifo;
use super::head::Held;
use super::note::{Holding, How, Note};
use super::open::{Opened, Token};
use crate::error::BrokerError;
use crate::fifo::{TurnLease, TurnMessage};

/// A turn goes on with its group for so long before others that wait get theirs.
const SHARE: Duration = Duration::from_millis(500);
/// And for at most so many messages.
const MOST_IN_A_ROW: usize = 256;
/// So many messages are read at least when a group turns out to have more.
const AHEAD: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    NoMore,
    LetGo,
    DeadLettered,
    Blocked,
    Resting,
    /// Somebody else has the group.
    Lost,
}

/// Who has a group, as far as one of its turns can learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Others,
    /// Another turn is there beside this one, which ends itself when it is opened.
    Nobodys,
}

struct Progress {
    /// Since when it has its share, and how many messages it has had of it.
    began: Instant,
    handed: usize,
    note: Note,
    /// Where the note is written; 0 for nowhere.
    written: u64,
    /// The messages come from before all others of the group.
    front: bool,
    /// Handed out and not settled.
    held: VecDeque<Held>,
    /// Read and not handed out.
    ahead: VecDeque<Held>,
    /// Sequence of the last message that was read.
    last: u64,
    ended: Option<Ending>,
}

/// The right to handle the first messages of a group.
pub(super) struct NatsTurn {
    fifo: Fifo,
    token: Token,
    /// What it signs its notes with.
    writer: u64,
    progress: Mutex<Progress>,
}

impl NatsTurn {
    pub(super) fn new(fifo: Fifo, token: Token, opened: Opened) -> Self {
        let (held, ahead) = (VecDeque::from(opened.held), VecDeque::from(opened.ahead));
        let last = ahead.back().or(held.back()).map_or(0, |held| held.sequence);
        Self {
            fifo,
            token,
            writer: fastrand::u64(1..),
            progress: Mutex::new(Progress {
                began: Instant::now(),
                note: opened.note,
                written: opened.written,
                front: opened.front,
                handed: held.len(),
                held,
                ahead,
                last,
                ended: None,
            }),
        }
    }

    fn over(&self) -> BrokerError {
        BrokerError::LeaseOver {
            id: format!("of group {:?}", self.token.group),
        }
    }

    /// Where the messages of the turn are.
    fn subject(&self, progress: &Progress) -> String {
        let names = &self.fifo.shared.names;
        if progress.front {
            names.front(&self.token.name)
        } else {
            names.group(&self.token.name)
        }
    }

    /// The progress of a turn that has not ended.
    async fn going(&self) -> Result<MutexGuard<'_, Progress>, BrokerError> {
        let progress = self.progress.lock().await;
        if progress.ended.is_some() || self.token.is_over() {
            return Err(self.over());
        }
        Ok(progress)
    }

    /// The progress of a turn that is still this one's.
    async fn held(&self) -> Result<MutexGuard<'_, Progress>, BrokerError> {
        let mut progress = self.going().await?;
        if self.token.is_doubtful() && self.whose(&progress).await? != Whose::Ours {
            progress.ended = Some(Ending::Lost);
            return Err(self.over());
        }
        Ok(progress)
    }

    /// Learns from the leader whether somebody else has taken the group.
    async fn whose(&self, progress: &Progress) -> Result<Whose, BrokerError> {
        let (fifo, name) = (&self.fifo, &self.token.name);
        if fifo.note(name).await?.1 != progress.written {
            return Ok(Whose::Others);
        }
        if !fifo.is_alone(name, self.token.sequence()).await? {
            return Ok(Whose::Nobodys);
        }
        if let Some(first) = progress.held.front() {
            let subject = self.subject(progress);
            let stored = fifo.first_of(&subject, 1).await?;
            if stored.is_none_or(|stored| stored.sequence != first.sequence) {
                return Ok(Whose::Others);
            }
        }
        Ok(Whose::Ours)
    }

    /// Replaces the note. Whoever wrote it meanwhile has the group.
    async fn write(&self, progress: &mut Progress, note: Note) -> Result<(), BrokerError> {
        let note = note.of(self.writer, &self.token.group);
        let name = &self.token.name;
        if let Some(sequence) = self.fifo.write_note(name, &note, progress.written).await? {
            progress.written = sequence;
            progress.note = note;
            return Ok(());
        }
        // An answer that was lost is not somebody else's note, who may say the same.
        let (known, sequence) = self.fifo.note(name).await?;
        if known == note {
            progress.written = sequence;
            progress.note = note;
            return Ok(());
        }
        progress.ended = Some(Ending::Lost);
        Err(self.over())
    }

    /// Makes it known after an outage that the turn is held, or learns that somebody else has it.
    pub(super) async fn claim(&self) -> Result<(), BrokerError> {
        let mut progress = self.held().await?;
        let note = Note {
            claimed: true,
            ..progress.note.clone()
        };
        self.write(&mut progress, note).await
    }

    /// True when there is nothing to claim any more.
    pub(super) fn is_over(&self) -> bool {
        self.token.is_over()
    }

    /// Removes the first `count` messages of the turn.
    async fn remove(&self, progress: &mut Progress, count: usize) -> Result<(), BrokerError> {
        let count = count.min(progress.held.len());
        let Some(last) = count
            .checked_sub(1)
            .and_then(|last| progress.held.get(last))
        else {
            return Ok(());
        };
        if count == 1 && !self.fifo.replicated {
            self.fifo.remove_one(last.sequence).await?;
        } else {
            let subject = self.subject(progress);
            self.fifo.remove_before(&subject, last.sequence + 1).await?;
        }
        progress.held.drain(..count);
        Ok(())
    }

    /// Forgets attempts of messages that are not there any more.
    async fn tidy(&self, progress: &mut Progress) -> Result<(), BrokerError> {
        if progress.written == 0 || !progress.held.is_empty() {
            return Ok(());
        }
        let note = progress.note.ended(&[]);
        if note.says_nothing() {
            self.fifo
                .clear_note(&self.token.name, progress.written)
                .await?;
            progress.written = 0;
            progress.note = Note::default();
        } else if note != progress.note {
            self.write(progress, note).await?;
        }
        Ok(())
    }

    /// Reads on behind the last message that was read.
    async fn read_on(&self, progress: &mut Progress) -> Result<(), BrokerError> {
        let most = self.fifo.most_read().max(AHEAD);
        loop {
            let subject = self.subject(progress);
            let from = progress.last + 1;
            let read = self.fifo.head(&subject, from, most, false).await?;
            let read = read.iter().map(|raw| Held::read(raw, &progress.note));
            progress.ahead.extend(read);
            if let Some(last) = progress.ahead.back() {
                progress.last = last.sequence;
            }
            if !progress.ahead.is_empty() || !progress.front {
                return Ok(());
            }
            // What came before all others is handled; whether that is so, the leader says.
            if self.fifo.first_of(&subject, 1).await?.is_some() {
                return Ok(());
            }
            let note = Note {
                front: false,
                ..progress.note.clone()
            };
            self.write(progress, note).await?;
            progress.front = false;
            progress.last = 0;
        }
    }

    /// Gives what is left back.
    async fn let_go(&self, progress: &mut Progress) -> Result<(), BrokerError> {
        let note = progress.note.ended(&attempts(&progress.held));
        if progress.written > 0 && note != progress.note {
            self.write(progress, note).await?;
        }
        self.tidy(progress).await?;
        self.fifo.requeue(&self.token).await
    }

    /// Holds the group for reasons that are written down.
    async fn hold(
        &self,
        progress: &mut Progress,
        how: How,
        failure: &Failure,
    ) -> Result<(), BrokerError> {
        if progress.note.hold.is_some() {
            return Ok(());
        }
        let first = progress.held.front();
        let holding = Holding {
            how,
            since: self.fifo.shared.clock.now(),
            message_id: first
                .map(|held| held.message.id.clone())
                .unwrap_or_default(),
            copy: first.map(|held| held.copy.clone()).unwrap_or_default(),
            failure: failure.clone(),
        };
        let note = Note {
            hold: Some(holding),
            ..progress.note.ended(&[])
        };
        self.write(progress, note).await
    }
}

/// Messages with their attempts.
fn attempts(held: &VecDeque<Held>) -> Vec<(u64, u32)> {
    held.iter()
        .map(|held| (held.sequence, held.attempts))
        .collect()
}

#[async_trait]
impl TurnLease for NatsTurn {
    async fn begin(&self) -> Result<(), BrokerError> {
        let mut progress = self.going().await?;
        if !self.token.is_doubtful() {
            return Ok(());
        }
        let whose = self.whose(&progress).await?;
        if whose == Whose::Nobodys {
            // No call of this turn is under way. Left to its lease it would keep the group waiting for as long.
            self.fifo.drop_turn(&self.token).await?;
        }
        if whose != Whose::Ours {
            progress.ended = Some(Ending::Lost);
            return Err(self.over());
        }
        let note = progress.note.calling(&attempts(&progress.held));
        // Written even if nothing changes: of two that believe to hold the group one is refused.
        self.write(&mut progress, note).await
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        let mut progress = self.held().await?;
        // Who holds the group for redriving waits until this was asked.
        if self.fifo.note(&self.token.name).await?.1 != progress.written {
            progress.ended = Some(Ending::Lost);
            return Err(self.over());
        }
        drop(progress);
        self.token.extend().await
    }

    async fn ack(&self, count: usize) -> Result<(), BrokerError> {
        let mut progress = self.progress.lock().await;
        self.remove(&mut progress, count).await
    }

    async fn count(&self, counted: &[u32]) -> Result<(), BrokerError> {
        let mut progress = self.held().await?;
        for (held, attempts) in progress.held.iter_mut().zip(counted) {
            held.attempts = *attempts;
        }
        let note = progress.note.counted(&attempts(&progress.held));
        self.write(&mut progress, note).await
    }

    async fn rest(
        &self,
        delay: Duration,
        counted: &[u32],
        suspects: usize,
    ) -> Result<(), BrokerError> {
        if self.progress.lock().await.ended == Some(Ending::Resting) {
            return Ok(());
        }
        let mut progress = self.held().await?;
        for (held, attempts) in progress.held.iter_mut().zip(counted) {
            held.attempts = *attempts;
        }
        if progress.held.is_empty() {
            self.let_go(&mut progress).await?;
        } else {
            let until = due(self.fifo.shared.clock.now(), delay);
            let known = attempts(&progress.held);
            let note = progress.note.resting(&known, until, suspects);
            self.write(&mut progress, note).await?;
            // Before the turn goes: whatever dies now, one of them makes the group go on.
            let (name, group) = (&self.token.name, &self.token.group);
            self.fifo.wake_at(name, group, until).await?;
            self.fifo.drop_turn(&self.token).await?;
        }
        progress.ended = Some(Ending::Resting);
        Ok(())
    }

    async fn dead_letter(&self, failure: &Failure) -> Result<(), BrokerError> {
        let mut progress = self.held().await?;
        let Some(first) = progress.held.front() else {
            return Ok(());
        };
        store_dead(&self.fifo.shared, &first.message, &first.copy, failure).await?;
        self.remove(&mut progress, 1).await
    }

    async fn dead_letter_group(&self, failure: &Failure) -> Result<(), BrokerError> {
        if self.progress.lock().await.ended == Some(Ending::DeadLettered) {
            return Ok(());
        }
        let mut progress = self.held().await?;
        self.hold(&mut progress, How::DeadLettered, failure).await?;
        self.fifo.requeue(&self.token).await?;
        progress.ended = Some(Ending::DeadLettered);
        Ok(())
    }

    async fn block_group(&self, failure: &Failure) -> Result<(), BrokerError> {
        if self.progress.lock().await.ended == Some(Ending::Blocked) {
            return Ok(());
        }
        let mut progress = self.held().await?;
        self.hold(&mut progress, How::Blocked, failure).await?;
        self.fifo.drop_turn(&self.token).await?;
        progress.ended = Some(Ending::Blocked);
        Ok(())
    }

    async fn more(&self) -> Result<Option<Vec<TurnMessage>>, BrokerError> {
        if self.progress.lock().await.ended == Some(Ending::NoMore) {
            return Ok(None);
        }
        let mut progress = self.held().await?;
        if progress.held.is_empty() {
            self.tidy(&mut progress).await?;
            if progress.began.elapsed() >= SHARE || progress.handed >= MOST_IN_A_ROW {
                if self.fifo.turns().await?.num_pending > 0 {
                    self.fifo.requeue(&self.token).await?;
                    progress.ended = Some(Ending::NoMore);
                    return Ok(None);
                }
                progress.began = Instant::now();
                progress.handed = 0;
            }
            if progress.ahead.is_empty() {
                self.read_on(&mut progress).await?;
            }
            let now = self.fifo.shared.clock.now();
            while progress.held.len() < self.fifo.batch_max
                && progress
                    .ahead
                    .front()
                    .is_some_and(|next| next.due.is_none_or(|due| due <= now))
            {
                let next = progress.ahead.pop_front();
                progress.held.extend(next);
                progress.handed += 1;
            }
        }
        if progress.held.is_empty() {
            self.fifo.drop_turn(&self.token).await?;
            progress.ended = Some(Ending::NoMore);
            return Ok(None);
        }
        Ok(Some(
            progress.held.iter().map(Held::as_turn_message).collect(),
        ))
    }

    async fn end(&self) -> Result<(), BrokerError> {
        if self.progress.lock().await.ended == Some(Ending::LetGo) {
            return Ok(());
        }
        let mut progress = self.held().await?;
        self.let_go(&mut progress).await?;
        progress.ended = Some(Ending::LetGo);
        Ok(())
    }
}
