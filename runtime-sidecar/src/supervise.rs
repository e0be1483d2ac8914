//! Supervision: every task belongs to a set that somebody awaits, and every long loop shows that it
//! makes progress.
//!
//! An essential task that ends or panics ends the whole runtime with an error: a process that has lost
//! a part of itself must be restarted, not stay "ready".

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A loop ticks at least this often when it has nothing to do.
pub const TICK: Duration = Duration::from_secs(2);

/// A loop that has not ticked for this long is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Why the runtime ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A part that must always run has ended.
    #[error("task {task} ended: {why}")]
    TaskEnded {
        /// Which part.
        task: String,
        /// What it said.
        why: String,
    },
    /// A part that must always run has panicked.
    #[error("task {task} panicked: {why}")]
    TaskPanicked {
        /// Which part.
        task: String,
        /// Text of the panic.
        why: String,
    },
    /// Calls were still running when the time to drain was over. Their messages come again.
    #[error("{calls} calls were still running when the time to drain was over")]
    DrainCutShort {
        /// Calls that were cut off.
        calls: usize,
    },
}

/// The essential tasks of one runtime.
#[derive(Default)]
pub struct Supervisor {
    tasks: JoinSet<(&'static str, Result<(), RunError>)>,
}

impl Supervisor {
    /// Runs an essential task. It may end with `Ok` only when it was told to stop.
    pub fn spawn<F>(&mut self, task: &'static str, future: F)
    where
        F: Future<Output = Result<(), RunError>> + Send + 'static,
    {
        self.tasks.spawn(async move { (task, future.await) });
    }

    /// The next task that ends: its name, or why it should not have ended. `None` when none is left.
    pub async fn next_end(&mut self) -> Option<Result<&'static str, RunError>> {
        Some(match self.tasks.join_next().await? {
            Ok((task, Ok(()))) => Ok(task),
            Ok((_, Err(why))) => Err(why),
            Err(error) => Err(panicked("essential", error)),
        })
    }
}

/// What to say of a task that did not end by itself.
pub fn panicked(task: &str, error: JoinError) -> RunError {
    let why = match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned()),
        Err(error) => error.to_string(),
    };
    RunError::TaskPanicked {
        task: task.to_owned(),
        why,
    }
}

/// Cancels a token when the task that holds it panics. For tasks that a library spawns for us.
pub struct PanicAlarm(pub CancellationToken);

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

/// Name and last sign of life of a loop.
type Beat = (String, Arc<AtomicU64>);

/// The heartbeats of all loops, for `/live`.
#[derive(Clone)]
pub struct Hearts {
    start: Instant,
    beats: Arc<Mutex<Vec<Beat>>>,
}

/// The heartbeat of one loop. Dropping it takes the loop off the list.
pub struct Heart {
    hearts: Hearts,
    last: Arc<AtomicU64>,
}

impl Default for Hearts {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            beats: Arc::default(),
        }
    }
}

impl Hearts {
    /// Adds a loop.
    pub fn add(&self, name: impl Into<String>) -> Heart {
        let last = Arc::new(AtomicU64::new(self.elapsed_ms()));
        self.lock().push((name.into(), last.clone()));
        Heart {
            hearts: self.clone(),
            last,
        }
    }

    /// Loops without a sign of life for [`STUCK_AFTER`], with the time since the last one.
    pub fn stuck(&self) -> Vec<(String, Duration)> {
        let now = self.elapsed_ms();
        self.lock()
            .iter()
            .map(|(name, last)| {
                let silent = now.saturating_sub(last.load(Ordering::Relaxed));
                (name.clone(), Duration::from_millis(silent))
            })
            .filter(|(_, silent)| *silent >= STUCK_AFTER)
            .collect()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Beat>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heart {
    /// Progress was made.
    pub fn beat(&self) {
        self.last.store(self.hearts.elapsed_ms(), Ordering::Relaxed);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.hearts
            .lock()
            .retain(|(_, last)| !Arc::ptr_eq(last, &self.last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_is_silent_for_half_a_minute_is_stuck_until_it_beats() {
        let hearts = Hearts::default();
        let heart = hearts.add("consumer webhook/a.b");
        tokio::time::advance(Duration::from_millis(29_999)).await;
        assert!(hearts.stuck().is_empty());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(hearts.stuck()[0].0, "consumer webhook/a.b");
        heart.beat();
        assert!(hearts.stuck().is_empty());
        tokio::time::advance(STUCK_AFTER).await;
        drop(heart);
        assert!(
            hearts.stuck().is_empty(),
            "a loop that is gone is not stuck"
        );
    }

    #[tokio::test]
    async fn a_panic_of_an_essential_task_is_an_error_with_its_text() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("intake", async { panic!("out of luck") });
        let end = supervisor.next_end().await.unwrap();
        assert!(end.unwrap_err().to_string().contains("out of luck"));
        assert!(supervisor.next_end().await.is_none());
    }
}
