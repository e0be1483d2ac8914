//! What was asked of the server and not yet answered.
//!
//! Pure. A delivery does not say which request it answers, only the end of a request says how much
//! of it was left. So the total is what counts, and it is exact: a consumer never has more
//! outstanding than it wants, nor fewer. How it spreads over the requests is an estimate (a server
//! serves them in turn) that every end corrects.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long the server keeps a request open.
pub(crate) const EXPIRES: Duration = Duration::from_secs(30);
/// How often it says that it still does.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);
/// Requests open at once: enough to keep slots filled, few enough for many processes.
pub(crate) const MOST_OPEN: usize = 8;
/// Requests that seem to be done but whose end may still correct the estimate.
const MOST_DONE: usize = 64;
/// After this the end of a request must have arrived.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Open {
    id: u64,
    batch: usize,
    /// Estimate of what is left; together they are the total.
    left: usize,
    ends: Instant,
}

/// The open requests of one consumer.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    open: VecDeque<Open>,
    last_id: u64,
    last_sign: Option<Instant>,
}

impl Pulls {
    /// Deliveries that may still come.
    pub(crate) fn owed(&self) -> usize {
        self.open.iter().map(|open| open.left).sum()
    }

    /// How much to ask for so that `wanted` can come, and the number of that request.
    pub(crate) fn to_ask(&self, wanted: usize) -> Option<(u64, usize)> {
        let batch = wanted.saturating_sub(self.owed());
        let open = self.open.iter().filter(|open| open.left > 0).count();
        (batch > 0 && open < MOST_OPEN).then_some((self.last_id + 1, batch))
    }

    /// The request was sent.
    pub(crate) fn asked(&mut self, id: u64, batch: usize, now: Instant) {
        if self.open.is_empty() {
            self.last_sign = Some(now);
        }
        self.last_id = id;
        self.open.push_back(Open {
            id,
            batch,
            left: batch,
            ends: now + EXPIRES + GRACE,
        });
    }

    /// A delivery came.
    pub(crate) fn delivered(&mut self, now: Instant) {
        self.last_sign = Some(now);
        if let Some(at) = self.open.iter().position(|open| open.left > 0)
            && let Some(mut served) = self.open.remove(at)
        {
            served.left -= 1;
            self.open.push_back(served);
        }
        self.tidy();
    }

    /// A heartbeat came.
    pub(crate) fn alive(&mut self, now: Instant) {
        self.last_sign = Some(now);
    }

    /// The server ended a request of which it had not delivered `pending`.
    pub(crate) fn ended(&mut self, id: u64, pending: usize, now: Instant) {
        self.last_sign = Some(now);
        let total = self.owed().saturating_sub(pending);
        self.open.retain(|open| open.id != id);
        self.spread(total);
    }

    /// Corrects the estimates so that together they are `total`.
    fn spread(&mut self, total: usize) {
        let mut owed = self.owed();
        for open in &mut self.open {
            if owed < total {
                let more = (total - owed).min(open.batch - open.left);
                open.left += more;
                owed += more;
            } else {
                let less = (owed - total).min(open.left);
                open.left -= less;
                owed -= less;
            }
        }
        self.tidy();
    }

    /// Forgets requests that can correct nothing any more.
    fn tidy(&mut self) {
        if self.owed() == 0 {
            self.open.clear();
        }
        if self.open.len() > MOST_OPEN + MOST_DONE
            && let Some(at) = self.open.iter().position(|open| open.left == 0)
        {
            self.open.remove(at);
        }
    }

    /// True when a request is open whose end must have been lost.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.open
            .iter()
            .any(|open| open.left > 0 && open.ends <= now)
    }

    /// True when the server has been silent for longer than it may be.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        !self.open.is_empty()
            && self
                .last_sign
                .is_some_and(|last| last + 2 * HEARTBEAT <= now)
    }

    /// When [`Pulls::is_overdue`] or [`Pulls::is_silent`] has something to say.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let left = self.open.iter().filter(|open| open.left > 0);
        let ends = left.map(|open| open.ends).min()?;
        Some(
            self.last_sign
                .map_or(ends, |last| ends.min(last + 2 * HEARTBEAT)),
        )
    }

    /// Nothing is open any more.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
        self.last_sign = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn one_request_asks_for_every_slot_freed_since_the_last() {
        let now = start();
        let mut pulls = Pulls::default();
        assert_eq!(pulls.to_ask(10), Some((1, 10)));
        pulls.asked(1, 10, now);
        assert_eq!(pulls.to_ask(10), None);
        for _ in 0..4 {
            pulls.delivered(now);
        }
        assert_eq!(
            (pulls.owed(), pulls.to_ask(6)),
            (6, None),
            "handed out, nothing freed"
        );
        assert_eq!(pulls.to_ask(9), Some((2, 3)));
    }

    #[test]
    fn the_end_of_one_request_gives_back_its_rest_only() {
        let now = start();
        let mut pulls = Pulls::default();
        pulls.asked(1, 10, now);
        pulls.asked(2, 5, now);
        pulls.delivered(now);
        pulls.delivered(now);
        pulls.ended(1, 8, now);
        assert_eq!(pulls.owed(), 5, "both deliveries were of the first request");
        pulls.ended(2, 5, now);
        assert_eq!((pulls.owed(), pulls.to_ask(5)), (0, Some((3, 5))));
    }

    #[test]
    fn a_silent_server_is_noticed_after_two_heartbeats() {
        let now = start();
        let mut pulls = Pulls::default();
        assert!(
            !pulls.is_silent(now + Duration::from_hours(1)),
            "nothing was asked"
        );
        pulls.asked(1, 1, now);
        pulls.alive(now + HEARTBEAT);
        assert!(!pulls.is_silent(now + 2 * HEARTBEAT));
        assert!(pulls.is_silent(now + 3 * HEARTBEAT));
        assert_eq!(pulls.next_wake(), Some(now + 3 * HEARTBEAT));
    }

    #[test]
    fn a_request_whose_end_was_lost_is_overdue() {
        let now = start();
        let mut pulls = Pulls::default();
        pulls.asked(1, 4, now);
        assert!(!pulls.is_overdue(now + EXPIRES));
        assert!(pulls.is_overdue(now + EXPIRES + GRACE));
        pulls.clear();
        assert_eq!(
            (pulls.is_overdue(now + EXPIRES + GRACE), pulls.to_ask(4)),
            (false, Some((2, 4)))
        );
    }

    #[derive(Debug, Clone)]
    enum Step {
        Want(usize),
        Deliver(usize),
        End(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1usize..6).prop_map(Step::Want),
            (0usize..8).prop_map(Step::Deliver),
            (0usize..8).prop_map(Step::End),
        ]
    }

    proptest! {
        /// Whichever request a server serves, the total is what it may still send.
        #[test]
        fn exactly_as_much_is_outstanding_as_was_asked(
            steps in prop::collection::vec(step(), 1..80),
        ) {
            let now = start();
            let mut pulls = Pulls::default();
            let mut server: Vec<(u64, usize)> = Vec::new();
            let mut wanted = 0;
            for step in steps {
                match step {
                    Step::Want(more) => wanted += more,
                    Step::Deliver(at) if !server.is_empty() => {
                        let at = at % server.len();
                        server[at].1 -= 1;
                        if server[at].1 == 0 {
                            server.remove(at);
                        }
                        pulls.delivered(now);
                        wanted -= 1;
                    }
                    Step::End(at) if !server.is_empty() => {
                        let (id, rest) = server.remove(at % server.len());
                        pulls.ended(id, rest, now);
                    }
                    Step::Deliver(_) | Step::End(_) => {}
                }
                let outstanding = |server: &[(u64, usize)]| -> usize {
                    server.iter().map(|(_, rest)| rest).sum()
                };
                prop_assert_eq!(pulls.owed(), outstanding(&server));
                if let Some((id, batch)) = pulls.to_ask(wanted) {
                    pulls.asked(id, batch, now);
                    server.push((id, batch));
                    prop_assert_eq!(outstanding(&server), wanted);
                }
                prop_assert!(outstanding(&server) <= wanted);
            }
        }
    }
}
