//! What the store said.

use super::{Breaker, Moment, Record, State, Store};

impl Breaker {
    /// The store was read.
    pub(super) fn read(&mut self, current: Option<Record>, now: Moment) {
        if self.store == Store::None {
            return;
        }
        let version = current.as_ref().map_or(0, |record| record.version);
        if self
            .proposal
            .as_ref()
            .is_some_and(|proposal| version >= proposal.record.version)
        {
            self.proposal = None;
        }
        self.stored = version;
        let live = self.store == Store::Here;
        self.store = Store::Here;
        let newer = current.filter(|current| *current > self.record);
        self.take_over(newer, now, live);
    }

    /// The store told of a change; that may be late.
    pub(super) fn see(&mut self, record: Record, now: Moment) {
        if record.version >= self.record.version {
            self.read(Some(record), now);
        }
    }

    /// The proposal stands.
    pub(super) fn accepted(&mut self, version: u64, now: Moment) {
        let answered = self
            .proposal
            .take_if(|proposal| proposal.record.version == version);
        let Some(proposal) = answered else { return };
        self.stored = version;
        self.take_over(Some(proposal.record), now, true);
    }

    /// The proposal does not stand, because something else does.
    pub(super) fn lost(&mut self, version: u64, current: Option<Record>, now: Moment) {
        let known = self.stored;
        let answered = self
            .proposal
            .take_if(|proposal| proposal.record.version == version);
        if answered.is_none() {
            // An answer to a proposal that the store has already told us about.
            if let Some(record) = current {
                self.see(record, now);
            }
            return;
        }
        self.read(current, now);
        if self.stored <= known {
            self.pause_proposals();
        }
    }

    /// The store cannot be reached: what was proposed may stand or not.
    pub(super) fn store_away(&mut self) {
        if self.store == Store::Here {
            self.store = Store::Away;
        }
        self.proposal = None;
    }

    /// Acts on what the store holds. An opening of our own is kept while the store says closed: it is
    /// proposed (again) on top of that.
    fn take_over(&mut self, newer: Option<Record>, now: Moment, live: bool) {
        if let Some(record) = newer {
            self.record = record;
        }
        let keep = self.proposal.is_some()
            || self.ahead.as_ref().is_some_and(|ahead| {
                ahead.state() == State::Open
                    && self.record.state() == State::Closed
                    && self.elapsed < self.probes_from
            });
        if !keep {
            self.ahead = None;
        }
        self.enter(now, live);
    }
}
