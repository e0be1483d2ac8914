//! The right to handle the first messages of a group: records that name the turn, which do nothing when the
//! turn is not there any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use weir_core::dead_letter::Failure;

use super::super::codec;
use super::Fifo;
use super::groups::Groups;
use super::record::{HeldNote, Outcome, Record};
use crate::error::BrokerError;
use crate::fifo::{MOST_AHEAD, TurnLease, TurnMessage};

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Over,
    NoMore,
    LetGo,
    Resting,
    Blocked,
    DeadLettered,
}

struct State {
    /// Messages of the turn that are not settled, by their numbers.
    batch: Vec<(u64, TurnMessage)>,
    /// Messages that were handed out.
    handed: usize,
    until: Instant,
    ended: Option<Ended>,
    /// An end that was asked for without an answer.
    ending: Option<Ended>,
    /// The message whose dead letter is stored.
    lettered: Option<u64>,
}

/// The lease of one turn.
pub(crate) struct RabbitTurn {
    fifo: Arc<Fifo>,
    group: String,
    turn: u64,
    state: Mutex<State>,
}

impl RabbitTurn {
    pub(crate) fn new(
        fifo: Arc<Fifo>,
        group: String,
        turn: u64,
        batch: Vec<(u64, TurnMessage)>,
        until: Instant,
    ) -> Self {
        let state = State {
            handed: batch.len(),
            batch,
            until,
            ended: None,
            ending: None,
            lettered: None,
        };
        Self {
            fifo,
            group,
            turn,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> BrokerError {
        BrokerError::LeaseOver {
            id: format!("turn {} of group {:?}", self.turn, self.group),
        }
    }

    /// Refuses where the turn is known to be over.
    fn held(&self) -> Result<(), BrokerError> {
        let mut state = self.state();
        if state.ended.is_none() && Instant::now() >= state.until {
            state.ended = Some(Ended::Over);
        }
        match state.ended {
            None => Ok(()),
            Some(_) => Err(self.over()),
        }
    }

    /// Writes a record that needs the turn.
    async fn with_turn(&self, record: Record) -> Result<(), BrokerError> {
        self.held()?;
        if self.fifo.log.write(record).await? == Outcome::Took {
            return Ok(());
        }
        self.state().ended.get_or_insert(Ended::Over);
        Err(self.over())
    }

    /// Writes a record that keeps the turn.
    async fn keep(&self, record: Record) -> Result<(), BrokerError> {
        let until = Instant::now() + self.fifo.lease;
        self.with_turn(record).await?;
        let mut state = self.state();
        state.until = state.until.max(until);
        Ok(())
    }

    /// Writes a record that ends the turn. May be repeated: where the answer to the first was lost, `done` says
    /// whether it took effect.
    async fn end_with(
        &self,
        how: Ended,
        record: Record,
        done: impl FnOnce(&Groups) -> bool + Send,
    ) -> Result<(), BrokerError> {
        if self.state().ended == Some(how) {
            return Ok(());
        }
        self.held()?;
        let repeated = self.state().ending.replace(how) == Some(how);
        let took = match self.fifo.log.write(record).await? {
            Outcome::Took => true,
            _ if repeated => self.fifo.log.look(|book| done(&book.groups)).await?,
            _ => false,
        };
        self.state().ended = Some(if took { how } else { Ended::Over });
        if took { Ok(()) } else { Err(self.over()) }
    }

    fn first(&self) -> Option<(u64, TurnMessage)> {
        self.state().batch.first().cloned()
    }

    /// Stores the dead letter of the first message while the turn is held. Its number.
    async fn store_letter(&self, failure: &Failure) -> Result<Option<u64>, BrokerError> {
        self.keep(Record::Extend { turn: self.turn }).await?;
        let Some((number, held)) = self.first() else {
            return Ok(None);
        };
        if self.state().lettered == Some(number) {
            return Ok(Some(number));
        }
        let copy = format!("{}-{number}", self.turn);
        let properties = codec::encode_dead(&held.message, failure, &copy)?;
        self.fifo
            .shared
            .store_dead(properties, &held.message.body)
            .await?;
        self.state().lettered = Some(number);
        Ok(Some(number))
    }

    fn note(&self, dead: bool, failure: &Failure) -> HeldNote {
        HeldNote {
            dead,
            since: self.fifo.shared.clock.now(),
            message_id: self
                .first()
                .map(|(_, held)| held.message.id)
                .unwrap_or_default(),
            failure: failure.clone(),
        }
    }

    fn numbers(&self) -> Vec<u64> {
        self.state()
            .batch
            .iter()
            .map(|(number, _)| *number)
            .collect()
    }
}

#[async_trait]
impl TurnLease for RabbitTurn {
    async fn begin(&self) -> Result<(), BrokerError> {
        let messages = self.numbers();
        let turn = self.turn;
        self.keep(Record::Begin { turn, messages }).await
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        self.keep(Record::Extend { turn: self.turn }).await
    }

    async fn ack(&self, count: usize) -> Result<(), BrokerError> {
        let messages: Vec<u64> = self.numbers().into_iter().take(count).collect();
        if messages.is_empty() {
            return Ok(());
        }
        let record = Record::Ack {
            group: self.group.clone(),
            messages: messages.clone(),
        };
        self.fifo.log.write(record).await?;
        let mut state = self.state();
        state.batch.retain(|(number, _)| !messages.contains(number));
        Ok(())
    }

    async fn count(&self, attempts: &[u32]) -> Result<(), BrokerError> {
        let numbers = self.numbers().into_iter();
        let attempts = numbers.zip(attempts.iter().copied()).collect();
        let turn = self.turn;
        self.with_turn(Record::Count { turn, attempts }).await
    }

    async fn rest(
        &self,
        delay: Duration,
        attempts: &[u32],
        suspects: usize,
    ) -> Result<(), BrokerError> {
        let until = self.fifo.due_after(delay);
        let numbers = self.numbers();
        let record = Record::Rest {
            turn: self.turn,
            until: if numbers.is_empty() { 0 } else { until },
            attempts: numbers
                .iter()
                .copied()
                .zip(attempts.iter().copied())
                .collect(),
            suspects: numbers.iter().copied().take(suspects).collect(),
        };
        let group = self.group.clone();
        self.end_with(Ended::Resting, record, move |groups| {
            groups.rests(&group) > 0
        })
        .await
    }

    async fn dead_letter(&self, failure: &Failure) -> Result<(), BrokerError> {
        let Some(number) = self.store_letter(failure).await? else {
            return Ok(());
        };
        let (turn, messages) = (self.turn, vec![number]);
        self.with_turn(Record::Moved { turn, messages }).await?;
        self.state().batch.retain(|(known, _)| *known != number);
        Ok(())
    }

    async fn dead_letter_group(&self, failure: &Failure) -> Result<(), BrokerError> {
        if self.state().ended == Some(Ended::DeadLettered) {
            return Ok(());
        }
        let held = self.note(true, failure);
        let (group, id) = (self.group.clone(), held.message_id.clone());
        let done = move |groups: &Groups| {
            let known = groups.held(&group);
            known.is_some_and(|held| held.dead && held.message_id == id)
        };
        if self.state().ending == Some(Ended::DeadLettered)
            && self.fifo.log.look(|book| done(&book.groups)).await?
        {
            self.state().ended = Some(Ended::DeadLettered);
            return Ok(());
        }
        let letter = self.store_letter(failure).await?;
        let turn = self.turn;
        let record = Record::Hold { turn, letter, held };
        self.end_with(Ended::DeadLettered, record, done).await
    }

    async fn block_group(&self, failure: &Failure) -> Result<(), BrokerError> {
        let held = self.note(false, failure);
        let (group, id) = (self.group.clone(), held.message_id.clone());
        let record = Record::Hold {
            turn: self.turn,
            letter: None,
            held,
        };
        self.end_with(Ended::Blocked, record, move |groups| {
            let known = groups.held(&group);
            known.is_some_and(|held| !held.dead && held.message_id == id)
        })
        .await
    }

    async fn more(&self) -> Result<Option<Vec<TurnMessage>>, BrokerError> {
        if self.state().ended == Some(Ended::NoMore) {
            return Ok(None);
        }
        self.held()?;
        let numbers = self.numbers();
        if !numbers.is_empty() {
            self.fifo.recount(&self.group, &mut self.state().batch);
            let state = self.state();
            // What somebody else handled late is not there any more.
            if !state.batch.is_empty() {
                let messages = state.batch.iter().map(|(_, held)| held.clone());
                return Ok(Some(messages.collect()));
            }
        }
        let share = self.state().handed < MOST_AHEAD;
        let next = self.fifo.first_of(&self.group, share).await?;
        if next.is_empty() {
            let record = Record::End { turn: self.turn };
            self.end_with(Ended::NoMore, record, |_| true).await?;
            return Ok(None);
        }
        let messages = next.iter().map(|(_, held)| held.clone()).collect();
        let mut state = self.state();
        state.handed += next.len();
        state.batch = next;
        Ok(Some(messages))
    }

    async fn end(&self) -> Result<(), BrokerError> {
        let record = Record::End { turn: self.turn };
        self.end_with(Ended::LetGo, record, |_| true).await
    }
}
