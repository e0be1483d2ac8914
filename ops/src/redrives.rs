//! Whoever carries out redrives: those that were begun here, and those that a process before this
//! one left behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use weir_broker::Clock;
use weir_broker::redrive::{Pauses, RealPauses, Runner, read};
use weir_core::object::ObjectKey;

use crate::directory::{Directory, Entry, News};

/// Redrives at once; more wait.
const AT_ONCE: usize = 32;
/// Objects that wait to be looked at because somebody changed their redrives.
const WAITING: usize = 1024;
/// How often new objects are looked for.
const TICK: Duration = Duration::from_secs(1);
/// When an object is looked at again whose redrive somebody else runs, or whose broker is away.
const AGAIN: Duration = Duration::from_secs(3);

/// Tells [`Redrives`] that something changed.
#[derive(Clone)]
pub struct Orders {
    owner: Arc<str>,
    orders: mpsc::Sender<ObjectKey>,
}

impl Orders {
    /// The redrives of this object were changed. Losing it loses nothing but a few seconds.
    pub(crate) fn look_at(&self, object: &ObjectKey) {
        self.orders.try_send(object.clone()).ok();
    }

    /// What this process is called in records.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }
}

/// Carries out redrives.
pub struct Redrives<D> {
    directory: Arc<D>,
    clock: Arc<dyn Clock>,
    pauses: Arc<dyn Pauses>,
    owner: Arc<str>,
    orders: mpsc::Receiver<ObjectKey>,
    /// Objects that were looked at; UID, and when to look again.
    seen: BTreeMap<ObjectKey, (String, Option<Instant>)>,
    running: BTreeMap<ObjectKey, tokio::task::Id>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl<D: Directory> Redrives<D> {
    /// None yet.
    pub fn new(directory: Arc<D>, clock: Arc<dyn Clock>) -> (Self, Orders) {
        let (sender, orders) = mpsc::channel(WAITING);
        let owner: Arc<str> = format!("{:032x}", fastrand::u128(..)).into();
        let told = Orders {
            owner: Arc::clone(&owner),
            orders: sender,
        };
        let redrives = Self {
            directory,
            clock,
            pauses: Arc::new(RealPauses::default()),
            owner,
            orders,
            seen: BTreeMap::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
        };
        (redrives, told)
    }

    /// Runs until `stop`, then lets go of what runs: the next process goes on with it. `alive` is
    /// called at least every few seconds.
    pub async fn run(mut self, stop: CancellationToken, alive: impl Fn() + Send) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(object) = self.orders.recv() => {
                    self.seen.remove(&object);
                    self.look().await;
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.ended(ended.map_or_else(|panicked| panicked.id(), |(id, ())| id));
                }
                _ = ticks.tick() => {
                    alive();
                    self.look().await;
                }
            }
        }
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// A redrive ended here. What it left, if anything, is looked at again in a while.
    fn ended(&mut self, task: tokio::task::Id) {
        let again = Instant::now() + AGAIN;
        let objects = self.running.extract_if(.., |_, running| *running == task);
        for (object, _) in objects {
            if let Some((_, look)) = self.seen.get_mut(&object) {
                *look = Some(again);
            }
        }
    }

    /// Looks at every object whose redrives are not known.
    async fn look(&mut self) {
        if !self.directory.may_change() {
            return;
        }
        let entries = self.directory.all(None);
        self.seen
            .retain(|key, (uid, _)| entries.iter().any(|e| e.key == *key && e.uid == *uid));
        let now = Instant::now();
        for entry in &entries {
            let seen = self.seen.get(&entry.key);
            let is_due = seen.is_none_or(|(_, again)| again.is_some_and(|again| again <= now));
            if !is_due || entry.queue.is_none() {
                continue;
            }
            if self.running.contains_key(&entry.key) || self.running.len() >= AT_ONCE {
                continue;
            }
            let again = match look_at(entry, &self.owner, &*self.clock).await {
                Found::Nothing => None,
                Found::Others => Some(now + AGAIN),
                Found::Ours(to) => {
                    let target = to.map(|to| {
                        let key = entries.iter().find(|other| other.key == to);
                        key.and_then(|other| other.queue.clone())
                    });
                    match (target, &entry.queue) {
                        // Perhaps it is only not known yet.
                        (Some(None), _) | (_, None) => Some(now + AGAIN),
                        (target, Some(queue)) => {
                            let runner = Runner {
                                queue: Arc::clone(queue),
                                target: target.flatten().unwrap_or_else(|| Arc::clone(queue)),
                                clock: Arc::clone(&self.clock),
                                pauses: Arc::clone(&self.pauses),
                                owner: self.owner.to_string(),
                                stop: self.stop.clone(),
                            };
                            let directory = Arc::clone(&self.directory);
                            let task = carry_out(runner, entry.key.clone(), directory);
                            let id = self.tasks.spawn(task).id();
                            self.running.insert(entry.key.clone(), id);
                            None
                        }
                    }
                }
            };
            self.seen
                .insert(entry.key.clone(), (entry.uid.clone(), again));
        }
    }
}

enum Found {
    Nothing,
    /// Another process runs it, or the broker does not say.
    Others,
    /// To be run here, and where its messages go where that is elsewhere.
    Ours(Option<ObjectKey>),
}

async fn look_at(entry: &Entry, owner: &str, clock: &dyn Clock) -> Found {
    let Some(queue) = &entry.queue else {
        return Found::Others;
    };
    let known = match read(&**queue).await {
        Ok(known) => known,
        Err(weir_broker::redrive::RecordError::Broker(error)) if error.is_transient() => {
            return Found::Others;
        }
        Err(error) => {
            tracing::debug!(object = %entry.key, %error, "no record of redrives");
            return Found::Nothing;
        }
    };
    match known.latest() {
        Some(latest) if latest.may_be_run_by(owner, clock.now()) => Found::Ours(latest.to.clone()),
        Some(latest) if latest.state.is_active() => Found::Others,
        _ => Found::Nothing,
    }
}

async fn carry_out<D: Directory>(runner: Runner, object: ObjectKey, directory: Arc<D>) {
    match runner.run().await {
        Ok(Some(ended)) => {
            tracing::info!(
                %object, redrive = ended.id, state = ended.state.as_str(),
                moved = ended.counts.moved, "a redrive ends here"
            );
            if !ended.state.is_active() {
                directory
                    .tell(&object, News::Redriven(Box::new(ended)))
                    .await;
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%object, %error, "a redrive is interrupted"),
    }
}
