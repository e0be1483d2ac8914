//! The gate of one replica: how many calls it may start, given what its handler said.
//!
//! A handler that answers 429 or 503 (or another 5xx with `Retry-After`) closes the gate. Nothing is
//! started until a pause has passed: what `Retry-After` asks for, else a jittered pause that doubles
//! from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`] with each refused trial in a row. Then *one* call is let
//! through; each success opens one slot more, so that a round of successes doubles the open slots,
//! up to the replica's limit.
//!
//! Refusals of calls that were started before the gate closed are answers to an old question: they
//! neither close it again nor make the pause grow, so a storm of refusals counts as one. (While the
//! gate is still closed, a longer `Retry-After` among them is honoured.)
//!
//! The gate keeps no clock: `now` is the time since any fixed start and must not run backwards.

use std::time::Duration;

use crate::retry::{jitter, part};

/// Longest first pause, when the handler does not say how long.
pub const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Longest pause, when the handler does not say how long.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A slot that was taken. It must be handed back to the gate it came from, exactly once.
#[derive(Debug)]
#[must_use = "a slot that is not handed back is lost"]
pub struct Slot {
    /// How often the gate had closed when the slot was taken.
    closings: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    /// Most calls at once.
    max: usize,
    /// Most calls at once that were started since the gate last closed.
    open: usize,
    /// Nothing is started before this.
    closed_until: Duration,
    /// Longest pause of the next closing.
    pause: Duration,
    /// How often the gate has closed.
    closings: u64,
    /// Calls that were started since the gate last closed.
    running: usize,
    /// Calls that were started before that, and have not ended.
    running_before: usize,
}

impl Gate {
    /// An open gate for at most `max` calls at once; 0 lets nothing through.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            open: max,
            closed_until: Duration::ZERO,
            pause: FIRST_PAUSE,
            closings: 0,
            running: 0,
            running_before: 0,
        }
    }

    /// Changes the limit. Calls above a smaller one are not stopped, only not replaced.
    pub fn set_max(&mut self, max: usize) {
        self.open = if self.open >= self.max {
            max
        } else {
            self.open.min(max).max(1)
        };
        self.max = max;
    }

    /// How many calls may be started now.
    pub fn allowance(&self, now: Duration) -> usize {
        if now < self.closed_until {
            return 0;
        }
        let in_all = self.max.saturating_sub(self.running + self.running_before);
        in_all.min(self.open.saturating_sub(self.running))
    }

    /// Calls that have a slot.
    pub fn running(&self) -> usize {
        self.running + self.running_before
    }

    /// True while fewer calls are let through than the limit, for metrics and status.
    pub fn is_restricted(&self) -> bool {
        self.open < self.max
    }

    /// Takes a slot, if there is one. Take it before the message is pulled, and hand it back with
    /// [`Gate::other_outcome`] when none came.
    pub fn start(&mut self, now: Duration) -> Option<Slot> {
        if self.allowance(now) == 0 {
            return None;
        }
        self.running += 1;
        Some(Slot {
            closings: self.closings,
        })
    }

    /// The handler did its work: one slot more is open.
    pub fn succeeded(&mut self, slot: Slot) {
        if self.release(slot) {
            self.pause = FIRST_PAUSE;
            self.open = self.open.saturating_add(1).min(self.max);
        }
    }

    /// The call said nothing about how full the handler is: it failed or timed out, or no message
    /// came for the slot. Nothing opens, nothing closes.
    pub fn other_outcome(&mut self, slot: Slot) {
        self.release(slot);
    }

    /// The handler refused the call. `retry_after` is what it asked for, already capped;
    /// `random` is uniform in `0.0..1.0`.
    ///
    /// `Retry-After` counts as [`FIRST_PAUSE`] at least, and up to a tenth is added to it, so that
    /// replicas which share a handler do not come back as one.
    pub fn refused(
        &mut self,
        slot: Slot,
        now: Duration,
        retry_after: Option<Duration>,
        random: f64,
    ) {
        let asked = retry_after.map(|wait| {
            let wait = wait.max(FIRST_PAUSE);
            wait.saturating_add(part(wait / 10, random))
        });
        if self.release(slot) {
            let pause = asked.unwrap_or_else(|| jitter(self.pause, random));
            self.closed_until = now.saturating_add(pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.open = self.max.min(1);
            self.closings += 1;
            self.running_before += self.running;
            self.running = 0;
        } else if let Some(pause) = asked
            && now < self.closed_until
        {
            self.closed_until = self.closed_until.max(now.saturating_add(pause));
        }
    }

    /// When to ask for the [`allowance`](Gate::allowance) again although no call has ended: the end
    /// of the pause. `None` when no pause is under way.
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        (now < self.closed_until).then_some(self.closed_until)
    }

    /// True for a call that was started since the gate last closed.
    fn release(&mut self, Slot { closings }: Slot) -> bool {
        let current = closings == self.closings;
        let running = if current {
            &mut self.running
        } else {
            &mut self.running_before
        };
        *running = running.saturating_sub(1);
        current
    }
}

#[cfg(test)]
mod tests;
