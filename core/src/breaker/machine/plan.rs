//! What the record should become next, and what that means for those that wait.

use std::collections::BTreeSet;

use super::{
    Breaker, Effect, Force, LONGEST_WAIT, Moment, PERMIT_MARGIN, PROPOSAL_PAUSE, Permit, Phase,
    Proposal, Reason, Record, State, Store, heading, millis,
};

/// Most transitions of one step while alone: opened, half-open with permits, and settled.
const MOST_TRANSITIONS: usize = 4;

impl Breaker {
    /// Proposes what is due, or does it where there is nobody to ask, and answers those that wait.
    pub(super) fn proceed(&mut self, now: Moment, random: f64, effects: &mut Vec<Effect>) {
        self.notice_permits();
        if self.config.force == Force::Automatic {
            if self.store == Store::Here {
                self.propose(now, random, effects);
            } else {
                for _ in 0..MOST_TRANSITIONS {
                    let Some(next) = self.next(self.acting(), now, random) else {
                        break;
                    };
                    self.ahead = Some(next);
                    self.enter(now, true);
                }
            }
        }
        self.answer_waiting(now, effects);
    }

    fn propose(&mut self, now: Moment, random: f64, effects: &mut Vec<Effect>) {
        if self.proposal.is_some() || self.elapsed < self.not_before {
            return;
        }
        let carried = self.carry_over(now);
        let next = carried.or_else(|| self.next(&self.record, now, random));
        let lost = (self.stored < self.record.version).then(|| self.record.clone());
        let Some(next) = next.or(lost) else { return };
        let record = Record {
            version: self.record.version.max(self.stored).saturating_add(1),
            ..next
        };
        if record.state() == State::Open && record.generation != self.record.generation {
            self.ahead = Some(record.clone());
            self.enter(now, true);
        }
        effects.push(Effect::Propose {
            expected: self.stored,
            record: record.clone(),
        });
        self.proposal = Some(Proposal {
            record,
            asked: self.elapsed,
        });
    }

    /// An opening of our own that the store does not know yet, as its next record. What else is ahead
    /// of the store gives way to it.
    fn carry_over(&mut self, now: Moment) -> Option<Record> {
        let ahead = self.ahead.take()?;
        let open = ahead.state() == State::Open && self.record.state() == State::Closed;
        if !open || self.elapsed >= self.probes_from {
            self.enter(now, true);
            return None;
        }
        let record = Record {
            version: 0,
            generation: self.record.generation.saturating_add(1),
            permits: Vec::new(),
            ..ahead
        };
        // It is the same opening under another number: its time goes on.
        self.entered = heading(&record);
        Some(record)
    }

    /// What should come after `base`, if anything. The version is the proposer's to set.
    fn next(&self, base: &Record, now: Moment, random: f64) -> Option<Record> {
        let opened = |reason| {
            let open_time = self.config.open_time(base.opens.saturating_add(1), random);
            base.opened(reason, open_time, now)
        };
        match base.state {
            Phase::Closed => self.trip().map(opened),
            Phase::Open { .. } if self.elapsed >= self.probes_from => {
                let next = base.half_opened(now);
                Some(self.with_permits(&next).unwrap_or(next))
            }
            Phase::Open { .. } => self.with_permits(base),
            Phase::HalfOpen { successes } => {
                let settled =
                    |permit: &&Permit| self.is_own(permit) && permit.generation == base.generation;
                let ended: Vec<bool> = base
                    .permits
                    .iter()
                    .filter(settled)
                    .filter_map(|permit| self.ended.get(&permit.number).copied())
                    .collect();
                if ended.contains(&false) {
                    let next = opened(Reason::ProbeFailed);
                    return Some(self.with_permits(&next).unwrap_or(next));
                }
                let successes = successes.saturating_add(ended.len() as u32);
                if successes >= self.config.half_open.successes {
                    return Some(base.closed(now));
                }
                let next = Record {
                    state: Phase::HalfOpen { successes },
                    ..base.clone()
                };
                self.with_permits(&next)
                    .or_else(|| (next != *base).then_some(next))
            }
        }
    }

    /// Why the breaker should open, if it should.
    fn trip(&self) -> Option<Reason> {
        let row = self.config.trip.consecutive_failures;
        if row > 0 && self.streak >= row {
            return Some(Reason::ConsecutiveFailures);
        }
        self.config.breach(self.window())
    }

    /// The record without the permits that are no longer used, and, if probes pass, with those that
    /// waiting calls need. `None` if that is what it has.
    fn with_permits(&self, base: &Record) -> Option<Record> {
        let used: BTreeSet<u64> = self
            .waiting
            .iter()
            .map(|waiting| waiting.number)
            .chain(self.running.keys().copied())
            .collect();
        let mut permits = base.permits.clone();
        permits.retain(|permit| {
            let used = !self.is_own(permit) || used.contains(&permit.number);
            used && (self.waiting.is_empty() || !self.is_expired(permit))
        });
        if let Phase::HalfOpen { successes } = base.state {
            for waiting in &self.waiting {
                let has = permits
                    .iter()
                    .any(|permit| self.is_own(permit) && permit.number == waiting.number);
                if !has && self.room_for(base.generation, successes, &permits) > 0 {
                    permits.push(Permit {
                        replica: self.replica.clone(),
                        epoch: self.epoch,
                        number: waiting.number,
                        generation: base.generation,
                        millis: millis(self.config.timeout() + PERMIT_MARGIN),
                    });
                }
            }
        }
        (permits != base.permits).then(|| Record {
            permits,
            ..base.clone()
        })
    }

    /// How many calls may wait for a permit, with those that do.
    pub(super) fn room(&self) -> usize {
        let acting = self.acting();
        let (generation, successes) = match acting.state {
            Phase::HalfOpen { successes } => (acting.generation, successes),
            Phase::Open { .. } => (acting.generation.saturating_add(1), 0),
            Phase::Closed => return 0,
        };
        let valid: Vec<Permit> = acting
            .permits
            .iter()
            .filter(|permit| !self.is_expired(permit))
            .cloned()
            .collect();
        self.room_for(generation, successes, &valid)
    }

    /// How many permits more there may be: no more at once than `probes`, and no more in all than
    /// are needed, so that a round that goes well calls the target exactly that often.
    fn room_for(&self, generation: u64, successes: u32, permits: &[Permit]) -> usize {
        let probes = self.config.half_open.probes as usize;
        let at_once = match self.store {
            Store::None | Store::Here => probes.saturating_sub(permits.len()),
            Store::Away => {
                let waiting = permits.iter().filter(|permit| {
                    self.is_own(permit) && !self.running.contains_key(&permit.number)
                });
                1_usize.saturating_sub(waiting.count() + self.running.len())
            }
        };
        let in_round = permits
            .iter()
            .filter(|permit| permit.generation == generation)
            .count();
        let needed = probes.max(self.config.half_open.successes as usize);
        at_once.min(needed.saturating_sub(in_round + successes as usize))
    }

    fn is_own(&self, permit: &Permit) -> bool {
        permit.epoch == self.epoch && permit.replica == self.replica
    }

    fn is_expired(&self, permit: &Permit) -> bool {
        self.seen.iter().any(|(known, seen)| {
            known == permit && self.elapsed >= seen.saturating_add(permit.millis)
        })
    }

    /// Starts the time of permits that were not known, and forgets those that are gone.
    pub(super) fn notice_permits(&mut self) {
        let acting = self.ahead.as_ref().unwrap_or(&self.record);
        if acting.permits.is_empty() && self.record.permits.is_empty() {
            self.seen.clear();
            self.ended.clear();
            return;
        }
        let mut seen = Vec::new();
        let mut own = BTreeSet::new();
        for permit in self.record.permits.iter().chain(&acting.permits) {
            if seen.iter().any(|(known, _)| known == permit) {
                continue;
            }
            let known = self.seen.iter().find(|(known, _)| known == permit);
            seen.push((
                permit.clone(),
                known.map_or(self.elapsed, |(_, since)| *since),
            ));
            if self.is_own(permit) {
                own.insert(permit.number);
            }
        }
        self.seen = seen;
        self.ended.retain(|number, _| own.contains(number));
    }

    /// Begins a term if what is acted on is another state than before. `live` if that came about just
    /// now; else it may be any time ago, and only the clock that wrote it can tell.
    pub(super) fn enter(&mut self, now: Moment, live: bool) {
        let heading = heading(self.acting());
        if heading == self.entered {
            return;
        }
        let (_, state, since, open_for) = heading;
        self.entered = heading;
        self.begin_term();
        match state {
            State::Closed => self.running.clear(),
            State::Open => {
                let over = since.after(std::time::Duration::from_millis(open_for));
                let remaining = millis(over.since(now)).min(open_for);
                let remaining = if live { open_for } else { remaining };
                self.probes_from = self.elapsed.saturating_add(remaining);
            }
            State::HalfOpen => {}
        }
    }

    fn answer_waiting(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.notice_permits();
        let mut room = self.room();
        for waiting in std::mem::take(&mut self.waiting) {
            let permit = self
                .acting()
                .permits
                .iter()
                .find(|permit| self.is_own(permit) && permit.number == waiting.number)
                .cloned();
            let in_time = self.elapsed - waiting.asked <= millis(LONGEST_WAIT);
            match (self.state(), permit) {
                (State::Closed, _) => effects.push(self.admit(waiting.call, now, None)),
                (State::HalfOpen, Some(permit)) if in_time => {
                    let until = waiting.asked.saturating_add(permit.millis);
                    self.running.insert(waiting.number, until);
                    effects.push(self.admit(waiting.call, now, Some(waiting.number)));
                }
                (State::HalfOpen, None) if room > 0 => {
                    room -= 1;
                    self.waiting.push(waiting);
                }
                (State::Open, _) if self.is_due() && room > 0 => {
                    room -= 1;
                    self.waiting.push(waiting);
                }
                _ => effects.push(self.refuse(waiting.call)),
            }
        }
    }

    fn is_due(&self) -> bool {
        self.config.force == Force::Automatic && self.elapsed >= self.probes_from
    }

    /// Until when a proposal that was lost although nothing changed is not repeated.
    pub(super) fn pause_proposals(&mut self) {
        self.not_before = self.elapsed + millis(PROPOSAL_PAUSE);
    }
}
