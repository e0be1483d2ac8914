//! Calls, from the question whether they pass to what is known of their end.

use std::time::Duration;

use super::{
    Breaker, Effect, Force, Moment, News, Outcome, PROBE_PAUSE, State, Tally, Ticket, Waiting,
};

impl Breaker {
    pub(super) fn ask(&mut self, call: u64, now: Moment, effects: &mut Vec<Effect>) {
        let due = self.acting().state() == State::HalfOpen || self.elapsed >= self.probes_from;
        if self.state() == State::Closed {
            effects.push(self.admit(call, now, None));
        } else if self.config.force == Force::Open {
            let retry_after = self.forced_pause();
            effects.push(Effect::Refuse { call, retry_after });
        } else if due && self.waiting.len() < self.room() {
            self.numbers += 1;
            self.waiting.push(Waiting {
                call,
                number: self.numbers,
                asked: self.elapsed,
            });
        } else {
            effects.push(self.refuse(call));
        }
    }

    pub(super) fn admit(&self, call: u64, now: Moment, probe: Option<u64>) -> Effect {
        let ticket = Ticket {
            term: self.term,
            began: now,
            probe,
        };
        Effect::Admit { call, ticket }
    }

    pub(super) fn refuse(&self, call: u64) -> Effect {
        let remaining = self.probes_from.saturating_sub(self.elapsed);
        let retry_after = match self.acting().state() {
            State::Open if remaining > 0 => Duration::from_millis(remaining),
            _ => PROBE_PAUSE,
        };
        Effect::Refuse { call, retry_after }
    }

    /// Nobody knows when a person will think otherwise; the first open time is as good as any.
    pub(super) fn forced_pause(&self) -> Duration {
        Duration::from_secs(self.config.open.initial_seconds.into())
    }

    pub(super) fn end(&mut self, ticket: Ticket, outcome: Outcome, now: Moment) {
        let slow = self.config.is_slow(now.since(ticket.began));
        let failed = outcome == Outcome::Failed;
        if let Some(number) = ticket.probe {
            let known = self.running.remove(&number).is_some();
            let judged = outcome != Outcome::Abandoned && self.config.force == Force::Automatic;
            if known && judged {
                self.ended.insert(number, !failed && !slow);
            }
        } else if outcome != Outcome::Abandoned {
            let streak = if failed {
                self.streak.saturating_add(1)
            } else {
                0
            };
            self.count(ticket.term, Tally::one(failed, slow), streak);
        }
    }

    /// Counts calls, unless that is late: they began before the state changed.
    pub(super) fn count(&mut self, term: u64, tally: Tally, streak: u32) {
        if term == self.term && self.counts() && !tally.is_empty() {
            self.window.add(tally);
            self.streak = streak;
            let trouble = tally.failures > 0 || tally.slow > 0;
            self.news = self
                .news
                .max(if trouble { News::Trouble } else { News::Quiet });
        }
    }

    pub(super) fn counts(&self) -> bool {
        self.config.force == Force::Automatic && self.acting().state() == State::Closed
    }
}
