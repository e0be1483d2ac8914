//! The state machine of one replica.
//!
//! Three things are kept apart: the *record* is what the store holds as far as is known; what is
//! *ahead* of it is what this replica acts on in the meantime; the *term* counts the changes of what
//! is acted on, so that the result of a call that began before a change is known to be late.
//!
//! - **Opening** is acted on at once and proposed at the same time: nobody waits for the store to be
//!   protected. Whoever proposes second takes over what the first one wrote.
//! - **A probe** waits until its permit stands in the store, for [`LONGEST_WAIT`] at most.
//! - **Without the store** the replica goes on alone from what it knew, with one probe at a time. When
//!   the store is back, what it holds counts; only an opening of one's own is proposed again.
//!
//! Whoever runs it: feed every event, carry out every effect in order, call with [`Event::Tick`] after
//! [`Breaker::wake_in`]. All lists are bounded by `halfOpen.probes` or by the bounds of [`super::peers`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::{BreakerConfig, Force};
use super::counter::{Answer, Standing};
use super::peers::{Delta, Peers};
use super::record::{Permit, Phase, Reason, Record};
use super::window::{Tally, Window, slot_width};
use super::{Moment, Outcome, State, Ticket, millis};

mod calls;
mod event;
mod plan;
mod store;

pub use event::{Effect, Event};

/// Longest time a call waits for a permit, after which it is refused.
pub const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How much longer than a call a permit is valid: the wait, and as much again for what lies between an
/// effect and the call, and between the end of a call and its event.
pub const PERMIT_MARGIN: Duration = Duration::from_secs(5);

/// Longest time without an answer to a proposal, after which the store counts as away.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(5);

/// Shortest time between two deltas while nothing fails.
pub const QUIET_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest time between two deltas while calls fail or are slow.
pub const TROUBLE_INTERVAL: Duration = Duration::from_millis(25);

/// What a refused caller is told to wait while probes are under way.
pub const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// How long a proposal that was lost to nobody is not repeated.
const PROPOSAL_PAUSE: Duration = Duration::from_millis(200);

/// Time stands still here, so that a clock that jumps over all time does no harm to sums.
const LAST: u64 = u64::MAX / 2;

/// Where the shared record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    /// There is none: every replica is for itself.
    None,
    /// It answers.
    Here,
    /// It does not, or has not been read yet.
    Away,
}

#[derive(Clone, Debug)]
struct Waiting {
    call: u64,
    /// Of the permit it asks for.
    number: u64,
    asked: u64,
}

#[derive(Clone, Debug)]
struct Proposal {
    record: Record,
    asked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    None,
    Quiet,
    Trouble,
}

/// What distinguishes one state from the next.
type Heading = (u64, State, Moment, u64);

/// The state machine of one breaker in one replica.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    replica: String,
    epoch: u64,
    store: Store,

    /// The last reading of the caller's clock.
    reading: Option<Moment>,
    /// Milliseconds that have passed since the first reading. Every `u64` time below is one of these.
    elapsed: u64,

    record: Record,
    /// The version that the store holds; less than the record's if the store lost it.
    stored: u64,
    ahead: Option<Record>,
    proposal: Option<Proposal>,
    not_before: u64,
    term: u64,
    entered: Heading,
    /// When the open time is over.
    probes_from: u64,

    window: Window,
    streak: u32,
    peers: Peers,
    news: News,
    published: Option<u64>,

    waiting: Vec<Waiting>,
    /// Probes that were let through, by number, and when each counts as lost.
    running: BTreeMap<u64, u64>,
    /// Probes that ended, by number, until the store knows: whether each succeeded.
    ended: BTreeMap<u64, bool>,
    /// When each permit in the record was seen first.
    seen: Vec<(Permit, u64)>,
    numbers: u64,
}

impl Breaker {
    /// A closed breaker that shares its state. Until the store was read it is alone, and lets calls
    /// through although the others may have opened: send [`Event::Stored`] or [`Event::StoreAway`]
    /// before the first call.
    ///
    /// `replica` names this replica among all (its pod); `epoch` grows each time it starts, and
    /// milliseconds since 1970 will do. `config` must be valid.
    pub fn shared(config: BreakerConfig, replica: &str, epoch: u64) -> Self {
        Self::new(config, replica, epoch, Store::Away)
    }

    /// A closed breaker that shares nothing: every replica counts, opens and probes for itself.
    pub fn alone(config: BreakerConfig) -> Self {
        Self::new(config, "", 0, Store::None)
    }

    fn new(config: BreakerConfig, replica: &str, epoch: u64, store: Store) -> Self {
        let record = Record::default();
        Self {
            peers: Peers::new(width(&config)),
            config,
            replica: replica.to_owned(),
            epoch,
            store,
            reading: None,
            elapsed: 0,
            entered: heading(&record),
            record,
            stored: 0,
            ahead: None,
            proposal: None,
            not_before: 0,
            term: 1,
            probes_from: 0,
            window: Window::new(0),
            streak: 0,
            news: News::None,
            published: None,
            waiting: Vec::new(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            seen: Vec::new(),
            numbers: 0,
        }
    }

    /// Takes in one event at `now`; `random`, in `0.0..1.0`, is for the jitter of the open time. What
    /// is answered is to be done in this order.
    pub fn step(&mut self, event: Event, now: Moment, random: f64) -> Vec<Effect> {
        let before = self.state();
        self.pass(now);
        let mut effects = Vec::new();
        match event {
            Event::Tick => self.peers.forget_silent(self.elapsed),
            Event::Call { call } => self.ask(call, now, &mut effects),
            Event::Ended { ticket, outcome } => self.end(ticket, outcome, now),
            Event::Counted(counted) => self.count(counted.term, counted.tally, counted.streak),
            Event::Heard(delta) => self.hear(&delta),
            Event::Stored(record) => self.read(record, now),
            Event::Changed(record) => self.see(record, now),
            Event::Accepted { version } => self.accepted(version, now),
            Event::Lost { version, current } => self.lost(version, current, now),
            Event::StoreAway => self.store_away(),
            Event::Configured(config) => self.configure(config),
        }
        self.expire(&mut effects);
        self.proceed(now, random, &mut effects);
        self.publish(&mut effects);
        let after = self.state();
        if after != before {
            let reason = match self.config.force {
                Force::Automatic => self.acting().reason,
                Force::Open | Force::Closed => Reason::Forced,
            };
            effects.push(Effect::Became {
                state: after,
                reason,
            });
        }
        effects
    }

    /// The state that callers meet.
    pub fn state(&self) -> State {
        match self.config.force {
            Force::Automatic => self.acting().state(),
            Force::Open => State::Open,
            Force::Closed => State::Closed,
        }
    }

    /// The record that this replica acts on, for the status; `force` is not in it.
    pub fn acting(&self) -> &Record {
        self.ahead.as_ref().unwrap_or(&self.record)
    }

    /// True while the shared record cannot be reached, so that this replica decides alone.
    pub fn is_degraded(&self) -> bool {
        self.store == Store::Away
    }

    /// Everything in the window, over all replicas as far as is known.
    pub fn window(&self) -> Tally {
        let own = self.window.total(self.slot());
        own.plus(self.peers.total(self.acting().generation, self.elapsed))
    }

    /// When probes will be let through, if the breaker is open by its rules and that is still to come.
    pub fn next_probe(&self) -> Option<Moment> {
        let open = self.config.force == Force::Automatic && self.acting().state() == State::Open;
        let remaining = self.probes_from.checked_sub(self.elapsed)?;
        let reading = self.reading.filter(|_| open && remaining > 0)?;
        Some(reading.after(Duration::from_millis(remaining)))
    }

    /// What calls are to be told without asking the machine, until it has taken in another event.
    pub fn standing(&self) -> Standing {
        let answer = match (self.config.force, self.state()) {
            (_, State::Closed) => Answer::Pass,
            (Force::Open, _) => Answer::RefuseFor(self.forced_pause()),
            (_, State::Open) => self.next_probe().map_or(Answer::Ask, Answer::RefuseUntil),
            (_, State::HalfOpen) => Answer::Ask,
        };
        Standing {
            term: self.term,
            answer,
            slow_after: (self.config.trip.slow_percent > 0)
                .then(|| Duration::from_secs(self.config.trip.slow_seconds.into())),
            row: self.config.trip.consecutive_failures,
        }
    }

    /// After how long an [`Event::Tick`] is due, if nothing else happens before.
    pub fn wake_in(&self) -> Option<Duration> {
        let open = self.config.force == Force::Automatic && self.acting().state() == State::Open;
        let asked = self
            .waiting
            .iter()
            .map(|waiting| waiting.asked + millis(LONGEST_WAIT) + 1);
        let silent = self
            .proposal
            .iter()
            .map(|proposal| proposal.asked + millis(LONGEST_SILENCE));
        let running = self.running.values().copied();
        let lifetimes = self
            .seen
            .iter()
            .filter(|_| !self.waiting.is_empty())
            .map(|(permit, seen)| seen.saturating_add(permit.millis));
        let held = (self.not_before > self.elapsed).then_some(self.not_before);
        asked
            .chain(silent)
            .chain(running)
            .chain(lifetimes)
            .chain(held)
            .chain((open && self.proposal.is_none()).then_some(self.probes_from))
            .chain(self.publish_at())
            .filter(|at| *at > self.elapsed)
            .min()
            .map(|at| Duration::from_millis(at - self.elapsed))
    }

    fn pass(&mut self, now: Moment) {
        let passed = self.reading.map_or(0, |reading| millis(now.since(reading)));
        self.elapsed = self.elapsed.saturating_add(passed).min(LAST);
        self.reading = Some(now);
        let slot = self.slot();
        self.window.advance(slot);
    }

    fn slot(&self) -> u64 {
        self.elapsed / millis(width(&self.config)).max(1)
    }

    fn hear(&mut self, delta: &Delta) {
        if self.store != Store::None && delta.replica != self.replica {
            self.peers.merge(delta, self.elapsed);
        }
    }

    fn configure(&mut self, config: BreakerConfig) {
        if width(&config) != width(&self.config) {
            self.peers = Peers::new(width(&config));
        }
        let restart = width(&config) != width(&self.config) || config.force != self.config.force;
        self.config = config;
        if restart {
            self.begin_term();
        }
    }

    /// From here on nothing counts that began before.
    fn begin_term(&mut self) {
        self.term += 1;
        self.window = Window::new(self.slot());
        self.streak = 0;
        self.news = News::None;
    }

    /// Gives up on what took too long.
    fn expire(&mut self, effects: &mut Vec<Effect>) {
        let elapsed = self.elapsed;
        self.running.retain(|_, until| elapsed < *until);
        let longest = millis(LONGEST_WAIT);
        for waiting in &self.waiting {
            if elapsed - waiting.asked > longest {
                effects.push(self.refuse(waiting.call));
            }
        }
        self.waiting
            .retain(|waiting| elapsed - waiting.asked <= longest);
        let silent = self
            .proposal
            .as_ref()
            .is_some_and(|proposal| elapsed - proposal.asked >= millis(LONGEST_SILENCE));
        if silent {
            self.store_away();
        }
    }

    fn publish_at(&self) -> Option<u64> {
        let interval = match self.news {
            News::None => return None,
            News::Quiet => QUIET_INTERVAL,
            News::Trouble => TROUBLE_INTERVAL,
        };
        let last = self.published.map_or(0, |last| last + millis(interval));
        (self.store != Store::None && self.counts()).then_some(last)
    }

    fn publish(&mut self, effects: &mut Vec<Effect>) {
        if self.publish_at().is_some_and(|at| at <= self.elapsed) {
            effects.push(Effect::Publish(Delta::of(
                &self.window,
                (&self.replica, self.epoch),
                self.acting().generation,
                width(&self.config),
            )));
            self.published = Some(self.elapsed);
            self.news = News::None;
        }
    }
}

fn width(config: &BreakerConfig) -> Duration {
    slot_width(Duration::from_secs(config.trip.window_seconds.into()))
}

fn heading(record: &Record) -> Heading {
    let open_for = match record.state {
        Phase::Open { millis } => millis,
        Phase::Closed | Phase::HalfOpen { .. } => 0,
    };
    (record.generation, record.state(), record.since, open_for)
}

#[cfg(test)]
mod tests;
