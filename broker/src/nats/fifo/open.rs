//! Opening a turn that was delivered: what it covers, or what becomes of it instead.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Message as Delivered;
use bytes::Bytes;
use futures::future::{join, join3};
use tokio::time::Instant;

use super::super::codec::Raw;
use super::super::consume::Terms;
use super::super::receipt::Receipt;
use super::super::redelivery::{Taken, source_of};
use super::super::settle::store_dead;
use super::Fifo;
use super::head::{Held, due_of};
use super::lease::NatsTurn;
use super::note::{Note, Standing, judge};
use crate::error::BrokerError;
use crate::fifo::{MOST_AHEAD, Turn};
use crate::task;

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often is looked whether what was acknowledged is gone.
const POLL: Duration = Duration::from_millis(10);
/// How long those who hold turns have to say so after an outage.
const GRACE: Duration = Duration::from_secs(1);
/// Dead letters that are made under one turn before others get theirs.
const MOST_BURIED: usize = 256;

/// The turn of a group as it was delivered.
pub(super) struct Token {
    /// The group as it is in subjects.
    pub(super) name: String,
    pub(super) group: String,
    pub(super) receipt: Receipt,
    pub(super) redelivered: bool,
    /// Others may believe that they hold the group.
    doubtful: bool,
    /// It may have been delivered before to somebody who still has it.
    suspect: bool,
    span: Duration,
    until: Mutex<Instant>,
}

impl Token {
    pub(super) fn sequence(&self) -> u64 {
        self.receipt.source().sequence
    }

    /// True since a connection was lost: the server may have forgotten that it delivered it.
    fn is_forgotten(&self) -> bool {
        let losses = self.receipt.shared().connection.link().borrow().losses;
        losses != self.receipt.losses()
    }

    /// Whether others may believe that they hold the group.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful || self.is_forgotten()
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps it for another lease.
    pub(super) async fn extend(&self) -> Result<(), BrokerError> {
        let until = Instant::now() + self.span;
        self.receipt.say("extend lease", "+WPI").await?;
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        Ok(())
    }

    async fn extend_in_time(&self) -> Result<(), BrokerError> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() + self.span / 2 < until {
            return Ok(());
        }
        self.extend().await
    }
}

/// The messages that a turn begins with.
pub(super) struct Opened {
    pub(super) note: Note,
    pub(super) written: u64,
    pub(super) front: bool,
    pub(super) held: Vec<Held>,
    /// Read already, not to be handed out yet.
    pub(super) ahead: Vec<Held>,
}

/// Takes in a turn that was delivered.
pub(super) fn take_in(fifo: &Fifo, raw: &Delivered, terms: Terms) -> Option<Taken<Turn>> {
    let (reply, source) = source_of(raw)?;
    let name = raw.subject.rsplit('.').next()?.to_owned();
    let scheduled = raw
        .headers
        .as_ref()
        .is_some_and(|headers| headers.get("Nats-Scheduler").is_some());
    let redelivered = source.delivered > 1;
    let token = Token {
        name,
        group: String::from_utf8_lossy(&raw.payload).into_owned(),
        redelivered,
        doubtful: redelivered || terms.suspect || scheduled,
        suspect: terms.suspect && !redelivered,
        receipt: Receipt::new(Arc::clone(&fifo.shared), reply, source),
        span: fifo.lease,
        until: Mutex::new(terms.until),
    };
    // A task, so that it goes on while nobody waits for turns.
    let opening = task::start(open(fifo.clone(), token));
    Some(Taken::Check(Box::pin(async move {
        opening.await.ok().flatten()
    })))
}

/// Opens a turn, for as long as its lease lasts.
async fn open(fifo: Fifo, token: Token) -> Option<Turn> {
    let mut pause = SHORTEST_PAUSE;
    if token.suspect && fifo.claims.lost_lately() {
        // Whoever still has it says so first.
        tokio::time::sleep(GRACE).await;
    }
    loop {
        match fifo.try_open(&token).await {
            Ok(None) => return None,
            Ok(Some(opened)) => {
                let messages = opened.held.iter().map(Held::as_turn_message).collect();
                let (group, redelivered) = (token.group.clone(), token.redelivered);
                let claims = Arc::clone(&fifo.claims);
                let lease = Arc::new(NatsTurn::new(fifo, token, opened));
                claims.note(&lease);
                return Some(Turn {
                    group,
                    messages,
                    redelivered,
                    lease,
                });
            }
            Err(_) if token.is_over() => return None,
            Err(error) => {
                tracing::debug!(group = token.group, %error, "a turn is opened again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl Fifo {
    async fn try_open(&self, token: &Token) -> Result<Option<Opened>, BrokerError> {
        let names = &self.shared.names;
        let alone = async {
            if token.is_doubtful() {
                self.is_alone(&token.name, token.sequence()).await
            } else {
                Ok(true)
            }
        };
        let subject = names.group(&token.name);
        let (alone, note, head) = join3(
            alone,
            self.note_at_start(&token.name),
            self.head(&subject, 1, self.most_read(), true),
        )
        .await;
        let (alone, (mut note, mut written), mut head) = (alone?, note?, head?);
        if (token.suspect || token.is_forgotten()) && note.claimed {
            // It is in other hands, and comes again if they let it fall.
            return Ok(None);
        }
        let mut front = note.front;
        if front && alone {
            let before = names.front(&token.name);
            let found = self.head(&before, 1, self.most_read(), true).await?;
            if found.is_empty() {
                note.front = false;
                written = self
                    .write_note(&token.name, &note, written)
                    .await?
                    .ok_or_else(|| self.changed())?;
                front = false;
            } else {
                head = found;
            }
        }
        let now = self.shared.clock.now();
        let standing = judge(alone, &note, head.iter().map(|raw| due_of(raw, &note)), now);
        let mut read = head.iter().map(|raw| Held::read(raw, &note));
        match standing {
            Standing::Drop => {
                if !alone {
                    self.clear_acknowledged(token).await?;
                }
                self.drop_turn(token).await.map(|()| None)
            }
            Standing::Wait(due) => {
                self.wake_at(&token.name, &token.group, due).await?;
                self.drop_turn(token).await.map(|()| None)
            }
            Standing::Bury => {
                let held: Vec<Held> = read.collect();
                self.bury(token, &mut note, written, held)
                    .await
                    .map(|()| None)
            }
            Standing::Run(count) => Ok(Some(Opened {
                held: read.by_ref().take(count.min(self.batch_max)).collect(),
                ahead: read.collect(),
                note,
                written,
                front,
            })),
        }
    }

    /// How many messages of a group are read at once.
    pub(super) fn most_read(&self) -> usize {
        self.batch_max.clamp(1, MOST_AHEAD)
    }

    /// Removes a turn, then makes sure that nothing to do stays without one.
    pub(super) async fn drop_turn(&self, token: &Token) -> Result<(), BrokerError> {
        self.take_away(token).await?;
        self.look_after(&token.name, &token.group).await
    }

    /// Acknowledges a turn. It is not there any more when this returns, which in a cluster an
    /// acknowledgement alone does not say.
    async fn take_away(&self, token: &Token) -> Result<(), BrokerError> {
        if !self.replicated {
            return token.receipt.acknowledge().await;
        }
        let (subject, sequence) = (self.shared.names.turn(&token.name), token.sequence());
        let is_there = |first: Option<Raw>| first.is_some_and(|first| first.sequence == sequence);
        if is_there(self.first_of(&subject, 1).await?) {
            self.remove_before(&subject, sequence + 1).await?;
        }
        token.receipt.acknowledge().await?;
        // An older one may be held by somebody, and is not to be removed with it.
        let until = Instant::now() + GRACE;
        while is_there(self.first_of(&subject, sequence).await?) {
            if Instant::now() > until {
                return Err(self.changed());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Removes turns before this one that were acknowledged and are there all the same, because a server was killed
    /// between the two.
    async fn clear_acknowledged(&self, token: &Token) -> Result<(), BrokerError> {
        let acknowledged = self.turns().await?.ack_floor.stream_seq;
        let subject = self.shared.names.turn(&token.name);
        let before = token.sequence().min(acknowledged + 1);
        self.remove_before(&subject, before).await
    }

    /// Gives a group a turn if it has anything to do.
    pub(super) async fn look_after(&self, name: &str, group: &str) -> Result<(), BrokerError> {
        let names = &self.shared.names;
        let subject = names.group(name);
        let (note, head) = join(self.note(name), self.first_of(&subject, 1)).await;
        let (note, mut first) = (note?.0, head?);
        if note.front
            && let Some(before) = self.first_of(&names.front(name), 1).await?
        {
            first = Some(before);
        }
        let now = self.shared.clock.now();
        match judge(true, &note, first.iter().map(|raw| due_of(raw, &note)), now) {
            Standing::Drop => Ok(()),
            Standing::Wait(due) => self.wake_at(name, group, due).await,
            Standing::Bury | Standing::Run(_) => self.ensure_turn(name, group).await,
        }
    }

    /// Stores the turn again behind those that wait, in place of the one that is held.
    pub(super) async fn requeue(&self, token: &Token) -> Result<(), BrokerError> {
        let subject = self.shared.names.turn(&token.name);
        let body = Bytes::from(token.group.clone());
        let again = self
            .store_if(
                &subject,
                async_nats::HeaderMap::new(),
                body,
                token.sequence(),
            )
            .await?;
        match again {
            Some(_) => self.take_away(token).await,
            // Another turn is there, or this one was taken away.
            None => self.drop_turn(token).await,
        }
    }

    /// Makes dead letters of what is stored of a group that was given up as a whole.
    async fn bury(
        &self,
        token: &Token,
        note: &mut Note,
        mut written: u64,
        mut held: Vec<Held>,
    ) -> Result<(), BrokerError> {
        let names = &self.shared.names;
        let mut buried = 0;
        loop {
            let subject = if note.front {
                names.front(&token.name)
            } else {
                names.group(&token.name)
            };
            for message in &held {
                token.extend_in_time().await?;
                if self.note(&token.name).await?.1 != written {
                    return Err(self.changed());
                }
                let (Some(holding), Some(group)) = (&note.hold, note.held_group()) else {
                    return Err(self.changed());
                };
                let failure = if holding.copy == message.copy {
                    holding.failure.clone()
                } else {
                    group.failure_of_followers(self.shared.clock.now())
                };
                store_dead(&self.shared, &message.message, &message.copy, &failure).await?;
                self.remove_before(&subject, message.sequence + 1).await?;
                buried += 1;
            }
            if buried >= MOST_BURIED {
                return self.requeue(token).await;
            }
            let head = self.head(&subject, 1, MOST_AHEAD, true).await?;
            held = head.iter().map(|raw| Held::read(raw, note)).collect();
            if !held.is_empty() {
                continue;
            }
            if !note.front {
                return self.drop_turn(token).await;
            }
            note.front = false;
            written = self
                .write_note(&token.name, note, written)
                .await?
                .ok_or_else(|| self.changed())?;
        }
    }
}
