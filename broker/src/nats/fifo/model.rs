//! The protocol of one group as a model: a stream, a consumer of turns, publishers and holders that take
//! their steps in any order, die between any two of them, lose their leases, calls that fail so that the group
//! rests, and a server that is killed and forgets what it delivered. Decisions are those of `judge`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::note::{Note, Standing, judge};

const HOLDERS: usize = 3;

/// What a holder does next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Idle,
    /// Reads whether the turn is alone, the note, and the head.
    Open,
    /// Makes sure that the turn is still its own, where that is in doubt.
    Verify(u64),
    /// Writes the note, where its own turn is in doubt.
    Claim(u64),
    /// In a call with this message.
    Call(u64),
    Remove(u64),
    /// The call failed: writes the note that the group rests.
    Rest(u64),
    /// Stores the schedule of the next turn.
    Wake,
    /// Reads on.
    More,
    /// Stores the turn again in place of its own.
    Requeue,
    /// Acknowledges the turn; then looks after the group, or not.
    Acknowledge(bool),
    Look,
    Ensure,
}

#[derive(Clone, Debug)]
struct Holder {
    step: Step,
    token: u64,
    doubtful: bool,
    /// Its turn may be held by somebody else whom the server forgot.
    suspect: bool,
    /// Where the note was when the turn was opened.
    written: u64,
    calls: u32,
}

impl Default for Holder {
    fn default() -> Self {
        Self {
            step: Step::Idle,
            token: 0,
            doubtful: false,
            suspect: false,
            written: 0,
            calls: 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Publisher {
    Idle,
    Stored,
}

/// What a delivery says about a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    /// It was delivered before, and the lease is over; or a schedule stored it.
    Again,
    /// It may have been delivered before, and the lease may not be over.
    Suspect,
}

/// Who has a token, as the server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waiting(Doubt),
    Delivered,
}

#[derive(Debug)]
struct World {
    last: u64,
    messages: BTreeSet<u64>,
    tokens: BTreeMap<u64, Place>,
    /// Sequence of the note, whether it claims the turn, and what else it says.
    note: u64,
    claimed: bool,
    known: Note,
    now: i64,
    /// When the schedule of the group stores a turn.
    wake: Option<Timestamp>,
    publisher: Publisher,
    holders: Vec<Holder>,
    /// The highest message that a call began with.
    called: u64,
    handled: BTreeSet<u64>,
    published: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        Self {
            last: 0,
            messages: BTreeSet::new(),
            tokens: BTreeMap::new(),
            note: 0,
            claimed: false,
            known: Note::default(),
            now: 0,
            wake: None,
            publisher: Publisher::Idle,
            holders: vec![Holder::default(); HOLDERS],
            called: 0,
            handled: BTreeSet::new(),
            published: BTreeSet::new(),
        }
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn is_alone(&self, token: u64) -> bool {
        self.tokens.len() == 1 && self.tokens.contains_key(&token)
    }

    fn ensure(&mut self) {
        if self.tokens.is_empty() {
            let token = self.next();
            self.tokens.insert(token, Place::Waiting(Doubt::None));
        }
    }

    fn standing(&self, alone: bool) -> Standing {
        let first = self.messages.first();
        let head = first.map(|first| self.known.due(*first, None));
        judge(alone, &self.known, head, self.clock())
    }

    fn clock(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    /// A while passes. A schedule that is due stores its turn, whether there is one or not.
    fn pass(&mut self) {
        self.now += 1;
        if self.wake.is_some_and(|due| due <= self.clock()) {
            self.wake = None;
            self.fire();
        }
    }

    fn publish(&mut self) {
        match self.publisher {
            Publisher::Idle => {
                let message = self.next();
                self.messages.insert(message);
                self.published.insert(message);
                self.publisher = Publisher::Stored;
            }
            Publisher::Stored => {
                self.ensure();
                self.publisher = Publisher::Idle;
            }
        }
    }

    /// Gives a waiting token to a holder that has none.
    fn deliver(&mut self, at: usize) {
        let waiting = self.tokens.iter().find_map(|(token, place)| match place {
            Place::Waiting(doubt) => Some((*token, *doubt)),
            Place::Delivered => None,
        });
        let holder = &mut self.holders[at];
        if holder.step != Step::Idle {
            return;
        }
        if let Some((token, doubt)) = waiting {
            self.tokens.insert(token, Place::Delivered);
            *holder = Holder {
                step: Step::Open,
                token,
                doubtful: doubt != Doubt::None,
                suspect: doubt == Doubt::Suspect,
                ..Holder::default()
            };
        }
    }

    /// A call with the first message begins, by a holder that may.
    fn call(&mut self, at: usize, message: u64) -> Result<(), String> {
        if message < self.called {
            return Err(format!("{message} is called after {}", self.called));
        }
        for (other, holder) in self.holders.iter().enumerate() {
            if other != at
                && let Step::Call(running) = holder.step
                && running != message
            {
                return Err(format!("{message} is called beside {running}"));
            }
        }
        if self.messages.range(..message).next().is_some() {
            return Err(format!("{message} overtakes"));
        }
        if self.known.due(message, None) > Some(self.clock()) {
            return Err(format!("{message} is called before its time"));
        }
        self.called = message;
        self.holders[at].step = Step::Call(message);
        self.holders[at].calls += 1;
        Ok(())
    }

    fn step(&mut self, at: usize, share: u32) -> Result<(), String> {
        let holder = self.holders[at].clone();
        let next = match holder.step {
            Step::Idle => {
                self.deliver(at);
                return Ok(());
            }
            Step::Open => {
                if holder.suspect && self.claimed {
                    // Left to its holder, whose heartbeats keep it for both.
                    self.holders[at] = Holder::default();
                    return Ok(());
                }
                self.holders[at].written = self.note;
                let alone = !holder.doubtful || self.is_alone(holder.token);
                match (self.standing(alone), self.messages.first()) {
                    (Standing::Run(_), Some(first)) => Step::Verify(*first),
                    (Standing::Wait(due), _) => {
                        self.wake = Some(due);
                        Step::Acknowledge(true)
                    }
                    _ => Step::Acknowledge(true),
                }
            }
            Step::Verify(message) if !holder.doubtful => return self.call(at, message),
            Step::Verify(message) => {
                if self.note == holder.written && !self.is_alone(holder.token) {
                    Step::Acknowledge(true)
                } else if self.note == holder.written && self.messages.first() == Some(&message) {
                    Step::Claim(message)
                } else {
                    Step::Idle
                }
            }
            Step::Claim(message) => {
                if self.note != holder.written {
                    self.holders[at] = Holder::default();
                    return Ok(());
                }
                self.note = self.next();
                self.claimed = true;
                self.holders[at].written = self.note;
                return self.call(at, message);
            }
            Step::Call(message) if self.fails(message) => Step::Rest(message),
            Step::Rest(message) => {
                let lost =
                    self.note != holder.written || holder.doubtful && !self.is_alone(holder.token);
                if lost {
                    Step::Idle
                } else {
                    let until = Timestamp::from_second(self.now + 3).unwrap();
                    self.note = self.next();
                    self.claimed = false;
                    self.known = self.known.resting(&[(message, 1)], until, 1);
                    Step::Wake
                }
            }
            Step::Wake => {
                self.wake = self.known.rest.as_ref().map(|rest| rest.until);
                Step::Acknowledge(true)
            }
            Step::Call(message) => {
                self.handled.insert(message);
                Step::Remove(message)
            }
            Step::Remove(message) => {
                self.messages.retain(|stored| *stored > message);
                Step::More
            }
            Step::More => {
                let lost = holder.doubtful
                    && (self.note != holder.written || !self.is_alone(holder.token));
                match self.messages.first() {
                    _ if lost => Step::Idle,
                    Some(_) if holder.calls > share => {
                        self.release(at);
                        Step::Requeue
                    }
                    Some(first) => Step::Verify(*first),
                    None => {
                        self.release(at);
                        Step::Acknowledge(true)
                    }
                }
            }
            Step::Requeue => {
                if self.tokens.keys().next_back() == Some(&holder.token) {
                    let token = self.next();
                    self.tokens.insert(token, Place::Waiting(Doubt::None));
                    Step::Acknowledge(false)
                } else {
                    Step::Acknowledge(true)
                }
            }
            Step::Acknowledge(look) => {
                self.tokens.remove(&holder.token);
                if look { Step::Look } else { Step::Idle }
            }
            Step::Look => match self.standing(true) {
                Standing::Run(_) => Step::Ensure,
                Standing::Wait(due) => {
                    self.wake = Some(due);
                    Step::Idle
                }
                _ => Step::Idle,
            },
            Step::Ensure => {
                self.ensure();
                Step::Idle
            }
        };
        if next == Step::Idle {
            self.holders[at] = Holder::default();
        } else {
            self.holders[at].step = next;
        }
        Ok(())
    }

    /// The lease of a holder is over: it does nothing more, and its token is delivered again. Also what
    /// becomes of a holder that dies.
    fn expire(&mut self, at: usize) {
        let token = std::mem::take(&mut self.holders[at]).token;
        if let Some(place) = self.tokens.get_mut(&token)
            && *place == Place::Delivered
        {
            *place = Place::Waiting(Doubt::Again);
        }
    }

    /// The first call with every third message fails, as far as the note knows.
    fn fails(&self, message: u64) -> bool {
        message.is_multiple_of(3) && self.known.attempts_of(message) == 0
    }

    /// The note says no more that the turn is held.
    fn release(&mut self, at: usize) {
        if self.note == self.holders[at].written {
            self.claimed = false;
        }
    }

    /// A schedule stores a turn whether there is one or not.
    fn fire(&mut self) {
        let token = self.next();
        self.tokens.insert(token, Place::Waiting(Doubt::Again));
    }

    /// The server forgets what it delivered. Holders lose their connection, know it, and claim their turns
    /// before anybody else opens one.
    fn kill_server(&mut self) {
        for (token, place) in &mut self.tokens {
            let mut holders = self.holders.iter();
            let expired = *place == Place::Waiting(Doubt::Again);
            if !expired || holders.any(|holder| holder.token == *token) {
                *place = Place::Waiting(Doubt::Suspect);
            }
        }
        for at in 0..HOLDERS {
            let holder = self.holders[at].clone();
            self.holders[at].doubtful = true;
            self.holders[at].suspect = true;
            let holds = !matches!(
                holder.step,
                Step::Idle | Step::Open | Step::Acknowledge(_) | Step::Look | Step::Ensure
            );
            if !holds {
                continue;
            }
            if self.note == holder.written && self.is_alone(holder.token) {
                self.note = self.next();
                self.claimed = true;
                self.holders[at].written = self.note;
            } else if !matches!(holder.step, Step::Call(_)) {
                self.holders[at] = Holder::default();
            }
        }
    }

    /// Everybody goes on until nothing is left to do.
    fn settle(&mut self, sweep: bool) -> Result<(), String> {
        for round in 0..1000 {
            if self.publisher == Publisher::Stored {
                self.publish();
            }
            for at in 0..HOLDERS {
                self.step(at, 3)?;
            }
            self.pass();
            if self.messages.is_empty() && self.tokens.is_empty() && self.wake.is_none() {
                return Ok(());
            }
            let idle = self.holders.iter().all(|holder| holder.step == Step::Idle);
            if idle && round % 10 == 9 {
                // Leases of tokens that nobody holds end.
                for place in self.tokens.values_mut() {
                    *place = Place::Waiting(Doubt::Again);
                }
                if sweep && !self.messages.is_empty() && self.wake.is_none() {
                    self.ensure();
                }
            }
        }
        Err(format!("left: {self:?}"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Whatever dies, expires or is forgotten: nothing overtakes, nothing is lost.
    #[test]
    fn order_holds_whatever_dies_between_two_steps(
        choices in prop::collection::vec((0u8..22, 0usize..HOLDERS), 1..160),
    ) {
        let mut world = World::new();
        for (choice, at) in choices {
            match choice {
                0..=4 => world.publish(),
                5..=15 => world.step(at, 1).map_err(TestCaseError::fail)?,
                16 => world.expire(at),
                17 => world.publisher = Publisher::Idle,
                18 => world.fire(),
                19..=20 => world.pass(),
                _ => world.kill_server(),
            }
        }
        world.settle(true).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&world.handled, &world.published);
    }

    /// While nobody dies no group is ever left without a turn, and every message is called once.
    #[test]
    fn no_group_is_forgotten_while_nobody_dies(
        choices in prop::collection::vec((0u8..18, 0usize..HOLDERS), 1..160),
    ) {
        let mut world = World::new();
        for (choice, at) in choices {
            match choice {
                0..=4 => world.publish(),
                15 => world.fire(),
                16..=17 => world.pass(),
                _ => {
                    let before = world.called;
                    world.step(at, 1).map_err(TestCaseError::fail)?;
                    let repeats = world.called == before
                        && matches!(world.holders[at].step, Step::Call(message) if message % 3 > 0);
                    prop_assert!(!repeats, "{:?}", world);
                }
            }
        }
        world.settle(false).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&world.handled, &world.published);
    }
}
