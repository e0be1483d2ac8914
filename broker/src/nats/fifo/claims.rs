//! Turns that this process holds, claimed after an outage.
//!
//! A killed server may have forgotten whom it gave a turn, and give it to somebody else. So whoever comes
//! back after a loss of the connection first says which turns it still has; who gets a turn that may be such a
//! one waits for that.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::connection::Connection;
use super::lease::NatsTurn;
use crate::task;

/// How long after a loss turns may be in other hands that have not said so.
const LATELY: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Known {
    turns: Vec<Weak<NatsTurn>>,
    /// When turns that ended are forgotten next.
    tidy_at: usize,
    lost: Option<Instant>,
}

/// The turns of one queue in this process.
pub(super) struct Claims {
    known: Arc<Mutex<Known>>,
    _task: AbortOnDropHandle<()>,
}

impl Claims {
    pub(super) fn start(connection: &Connection) -> Self {
        let known = Arc::new(Mutex::new(Known::default()));
        let task = task::start(run(connection.clone(), Arc::clone(&known)));
        Self { known, _task: task }
    }

    /// Notes a turn that is held from now on.
    pub(super) fn note(&self, turn: &Arc<NatsTurn>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.turns.len() >= known.tidy_at {
            known.turns.retain(|turn| turn.strong_count() > 0);
            known.turns.shrink_to_fit();
            known.tidy_at = known.turns.len() * 2 + 16;
        }
        known.turns.push(Arc::downgrade(turn));
    }

    /// Whether the connection was lost a moment ago.
    pub(super) fn lost_lately(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.lost.is_some_and(|at| at.elapsed() < LATELY)
    }
}

async fn run(connection: Connection, known: Arc<Mutex<Known>>) {
    let mut link = connection.link();
    let mut losses = link.borrow_and_update().losses;
    loop {
        let changed = link.wait_for(|now| now.up && now.losses != losses).await;
        let Ok(now) = changed.map(|now| *now) else {
            return;
        };
        losses = now.losses;
        let turns: Vec<Arc<NatsTurn>> = {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.lost = Some(Instant::now());
            known.turns.iter().filter_map(Weak::upgrade).collect()
        };
        let claims = turns.iter().map(|turn| claim(turn));
        futures::future::join_all(claims).await;
    }
}

/// Claims a turn, for as long as its lease lasts.
async fn claim(turn: &NatsTurn) {
    const PAUSE: Duration = Duration::from_millis(50);
    while let Err(error) = turn.claim().await {
        if !error.is_transient() || turn.is_over() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
