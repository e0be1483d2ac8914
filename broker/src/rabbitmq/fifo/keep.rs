//! What a consumer does beside handing out turns: it says what is wanted and that it is there, ends turns that
//! nobody extends, wakes groups whose time has come, moves dead-lettered groups, and renews the log.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::connection::{Failure, Live};
use super::Fifo;
use super::consume::Desk;
use super::record::{Outcome, Record};
use crate::error::BrokerError;
use crate::task;

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Others wake a group at the same time: who comes second finds it awake.
const JITTER_MILLIS: u64 = 15;
/// A consumer is not taken for gone before this.
const SHORTEST_SILENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether another consumer is connected.
const PROBE: Duration = Duration::from_millis(700);

/// Since when something is as it is, by the steady clock of this process.
struct Seen<K> {
    known: HashMap<K, (u64, Instant)>,
}

impl<K: Copy + Eq + Hash> Seen<K> {
    fn new() -> Self {
        let known = HashMap::new();
        Self { known }
    }

    /// Those that did not change for `span`, with the number that did not change.
    fn still(
        &mut self,
        all: impl Iterator<Item = (K, u64)>,
        now: Instant,
        span: Duration,
    ) -> Vec<(K, u64)> {
        let mut known = HashMap::new();
        let mut still = Vec::new();
        for (key, number) in all {
            let since = match self.known.get(&key) {
                Some((before, since)) if *before == number => *since,
                _ => now,
            };
            if now.duration_since(since) >= span {
                still.push((key, number));
            }
            known.insert(key, (number, since));
        }
        self.known = known;
        still
    }
}

struct Keeper {
    fifo: Arc<Fifo>,
    consumer: u64,
    desk: Arc<Desk>,
    live: Option<Arc<Live>>,
    log: Option<u64>,
    turns: Seen<u64>,
    seekers: Seen<u64>,
    chores: Instant,
    sign: Instant,
    moving: Option<AbortOnDropHandle<()>>,
    /// When it is looked next whether another consumer is connected.
    probe: Instant,
}

/// Keeps a consumer until it is dropped.
pub(super) async fn keep(fifo: Arc<Fifo>, consumer: u64, desk: Arc<Desk>) {
    let now = Instant::now();
    let mut keeper = Keeper {
        fifo,
        consumer,
        desk,
        live: None,
        log: None,
        turns: Seen::new(),
        seekers: Seen::new(),
        chores: now,
        sign: now,
        moving: None,
        probe: now,
    };
    let mut pause = SHORTEST_PAUSE;
    loop {
        let mut control = keeper.fifo.log.control().changes();
        let current = keeper.fifo.log.current();
        let mut changes = current.as_ref().map(|current| current.tail.changes());
        let wake = match keeper.round().await {
            Ok(wake) => {
                keeper.desk.is_there();
                pause = SHORTEST_PAUSE;
                wake
            }
            Err(error) => {
                if let BrokerError::Missing { .. } = error {
                    keeper.desk.tell_missing(error);
                } else {
                    tracing::debug!(%error, "a consumer of turns tries again");
                }
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        let changed = async {
            match &mut changes {
                Some(changes) => changes.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = control.next() => {}
            () = keeper.desk.asked.notified() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

impl Keeper {
    /// Does what is to be done now. Answers when to look again.
    async fn round(&mut self) -> Result<Instant, BrokerError> {
        let live = self.fifo.shared.connection.live()?;
        let log = self.fifo.log.ready(&live).await?.number;
        let reconnected = match &self.live {
            Some(known) => !Arc::ptr_eq(known, &live),
            None => true,
        };
        if reconnected {
            // What happened meanwhile is not read yet: nobody is late before it is.
            self.fifo.log.write(Record::Look {}).await?;
            (self.turns, self.seekers) = (Seen::new(), Seen::new());
            self.show(&live).await?;
            self.live = Some(Arc::clone(&live));
        }
        if self.log != Some(log) {
            // Nobody could extend anything while it was copied.
            self.turns = Seen::new();
            self.log = Some(log);
        }
        self.say_what_is_wanted().await?;
        let due = self.wake_groups().await?;
        let now = Instant::now();
        if now >= self.chores {
            self.chores =
                now + (self.fifo.lease / 20).clamp(SHORTEST_PAUSE, Duration::from_secs(1));
            self.give_a_sign(now).await?;
            self.end_what_is_lost().await?;
            if now >= self.probe {
                self.probe = now + PROBE;
                self.probe_another(&live).await?;
            }
            self.move_groups();
            self.fifo.log.renew_beside(self.fifo.shared.log_bytes);
        }
        Ok(due.map_or(self.chores, |due| due.min(self.chores)))
    }

    async fn say_what_is_wanted(&mut self) -> Result<(), BrokerError> {
        let consumer = self.consumer;
        loop {
            let Some(current) = self.fifo.log.current() else {
                return Ok(());
            };
            let record = {
                let slip = self.desk.slip();
                if slip.stopped {
                    return Ok(());
                }
                let (seeker, pending) = current.tail.read(|book| {
                    let groups = &book.groups;
                    (groups.seeker(consumer), groups.pending(consumer, slip.next))
                });
                let outstanding = slip.wanted.saturating_sub(pending);
                if outstanding == seeker.outstanding {
                    return Ok(());
                }
                Record::Want {
                    consumer,
                    outstanding,
                    granted: seeker.granted,
                }
            };
            self.fifo.log.write(record).await?;
            self.sign = Instant::now() + self.fifo.lease / 3;
        }
    }

    /// Lets groups wait for a turn whose time has come. Answers when the next one's comes.
    async fn wake_groups(&self) -> Result<Option<Instant>, BrokerError> {
        let due = || {
            let current = self.fifo.log.current()?;
            let due = current.tail.read(|book| book.groups.next_due())?;
            Some(due.saturating_sub(self.fifo.log.now()))
        };
        if due().is_some_and(|left| left <= 0) {
            let jitter = fastrand::u64(..JITTER_MILLIS);
            tokio::time::sleep(Duration::from_millis(jitter)).await;
            if due().is_some_and(|left| left <= 0) {
                self.fifo.log.write(Record::Look {}).await?;
            }
        }
        Ok(due().map(|left| {
            let left = u64::try_from(left).unwrap_or(0).clamp(1, 60_000);
            Instant::now() + Duration::from_millis(left)
        }))
    }

    async fn give_a_sign(&mut self, now: Instant) -> Result<(), BrokerError> {
        if now < self.sign || self.desk.slip().stopped {
            return Ok(());
        }
        self.sign = now + self.fifo.lease / 3;
        let consumer = self.consumer;
        let known = self.fifo.log.current().is_some_and(|current| {
            current
                .tail
                .read(|book| book.groups.seeker(consumer).outstanding > 0)
        });
        if known {
            self.fifo.log.write(Record::Alive { consumer }).await?;
        }
        Ok(())
    }

    /// Ends the turns of holders, and the wants of consumers, of whom nothing was heard for too long.
    async fn end_what_is_lost(&mut self) -> Result<(), BrokerError> {
        let Some(current) = self.fifo.log.current() else {
            return Ok(());
        };
        let lease = self.fifo.lease.mul_f64(1.0 + fastrand::f64() / 20.0);
        let silence = lease.max(SHORTEST_SILENCE);
        let own = self.consumer;
        let (turns, seekers): (Vec<_>, Vec<_>) = current.tail.read(|book| {
            let others = book.groups.seekers();
            let others = others.filter(|(consumer, _)| *consumer != own);
            (book.groups.turns().collect(), others.collect())
        });
        // Not before the look: this process may have slept until then, and would take what it sees for as
        // old as its sleep.
        let now = Instant::now();
        let lost = self.turns.still(turns.into_iter(), now, lease);
        let silent = self.seekers.still(seekers.into_iter(), now, silence);
        for (turn, extends) in lost {
            self.fifo
                .log
                .write(Record::Expire { turn, extends })
                .await?;
        }
        for (consumer, signs) in silent {
            self.fifo
                .log
                .write(Record::Silent { consumer, signs })
                .await?;
        }
        Ok(())
    }

    /// Holds a queue that goes with the connection, so that others see when this is not there any more.
    async fn show(&self, live: &Live) -> Result<(), BrokerError> {
        let told = |failure: Failure| failure.told(&self.fifo.shared.names.shown());
        let channel = live.asking_channel().await.map_err(told)?;
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let name = self.fifo.shared.names.consumer(self.consumer);
        let declared = channel.queue_declare(name.as_str().into(), options, FieldTable::default());
        live.within("declare queue", declared)
            .await
            .map(drop)
            .map_err(told)
    }

    /// Looks whether another consumer that waits for turns is connected. One that is not gets no more, and those
    /// that it has not begun go to others. Should it be wrong, it says what it wants again.
    async fn probe_another(&self, live: &Live) -> Result<(), BrokerError> {
        let Some(current) = self.fifo.log.current() else {
            return Ok(());
        };
        let all: Vec<(u64, u64)> = current.tail.read(|book| book.groups.seekers().collect());
        let others: Vec<_> = all
            .into_iter()
            .filter(|(consumer, _)| *consumer != self.consumer)
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let (consumer, signs) = others[fastrand::usize(..others.len())];
        if !matches!(
            live.ready(&self.fifo.shared.names.consumer(consumer)).await,
            Err(Failure::Missing)
        ) {
            return Ok(());
        }
        let lost = Record::Silent { consumer, signs };
        if self.fifo.log.write(lost).await? != Outcome::Took {
            return Ok(());
        }
        let idle = current.tail.read(|book| book.groups.not_begun(consumer));
        for turn in idle {
            let extends = 0;
            self.fifo
                .log
                .write(Record::Expire { turn, extends })
                .await?;
        }
        Ok(())
    }

    fn move_groups(&mut self) {
        if self.moving.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.moving = None;
        let Some(current) = self.fifo.log.current() else {
            return;
        };
        let groups = current.tail.read(|book| book.groups.to_move());
        if groups.is_empty() {
            return;
        }
        let (fifo, consumer) = (Arc::clone(&self.fifo), self.consumer);
        self.moving = Some(task::start(async move {
            for group in groups {
                if let Err(error) = fifo.move_group(&group, consumer).await {
                    tracing::debug!(%error, group, "a dead-lettered group is moved later");
                    return;
                }
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_change_is_still() {
        let mut seen = Seen::new();
        let (start, span) = (Instant::now(), Duration::from_secs(2));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(
            seen.still([(1, 0), (2, 0)].into_iter(), at(0), span)
                .is_empty()
        );
        assert!(
            seen.still([(1, 0), (2, 1)].into_iter(), at(1), span)
                .is_empty()
        );
        assert_eq!(
            seen.still([(1, 0), (2, 1)].into_iter(), at(2), span),
            [(1, 0)]
        );
        // It went and came: it begins anew.
        assert_eq!(seen.still([(2, 1)].into_iter(), at(3), span), [(2, 1)]);
        assert!(seen.still([(1, 0)].into_iter(), at(9), span).is_empty());
    }
}
