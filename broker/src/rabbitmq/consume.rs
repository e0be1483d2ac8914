//! A consumer: takes tokens, asks for as many messages as they cover and are wanted, keeps the leases.
//!
//! Everything of one connection is a session. When the connection is lost, so is what was delivered
//! on it, and a new session begins. The task lives as long as the consumer or one of its leases.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::codec::{Raw, number};
use super::connection::{Failure, Live};
use super::control::Which;
use super::lease::{Command, RabbitLease, Standing};
use super::notes;
use super::pool::{Account, Pool};
use super::pulls::{Pulls, Settle};
use super::shared::Shared;
use crate::error::BrokerError;
use crate::queue::{Consumer, Delivery};
use crate::task;

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Most commands, or deliveries, that are taken in before one round trip.
const MOST_AT_ONCE: usize = 1024;

/// A consumer of one queue.
pub(crate) struct RabbitConsumer {
    wanted: usize,
    stopped: bool,
    commands: mpsc::UnboundedSender<Command>,
    deliveries: mpsc::UnboundedReceiver<Result<Delivery, BrokerError>>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl RabbitConsumer {
    pub(crate) fn start(shared: Arc<Shared>) -> Self {
        let (commands, orders) = mpsc::unbounded_channel();
        // Holds at most what was wanted.
        let (out, deliveries) = mpsc::unbounded_channel();
        let own = Arc::new(OnceLock::new());
        let pump = Pump {
            shared,
            commands: commands.downgrade(),
            orders,
            out: Some(out),
            own: Arc::clone(&own),
            wanted: 0,
            stopping: false,
            last: 0,
            told_missing: false,
        };
        let task = Arc::new(task::start(pump.run()));
        // Before this nobody can want anything.
        drop(own.set(Arc::downgrade(&task)));
        Self {
            wanted: 0,
            stopped: false,
            commands,
            deliveries,
            _task: task,
        }
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        drop(self.commands.send(Command::Stop));
        // What nobody took goes back at once instead of after its lease.
        self.deliveries.close();
        while let Ok(delivery) = self.deliveries.try_recv() {
            if let Ok(delivery) = delivery {
                give_back(&delivery);
            }
        }
    }
}

/// Gives a delivery back without waiting.
fn give_back(delivery: &Delivery) {
    let lease = Arc::clone(&delivery.lease);
    // Its first step sends the command; nobody waits for the answer.
    drop(async move { lease.give_back().await }.now_or_never());
}

#[async_trait]
impl Consumer for RabbitConsumer {
    fn want(&mut self, more: usize) {
        if !self.stopped && more > 0 {
            self.wanted += more;
            drop(self.commands.send(Command::Want(more)));
        }
    }

    fn wanted(&self) -> usize {
        self.wanted
    }

    async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        match self.deliveries.recv().await {
            Some(Ok(delivery)) => {
                self.wanted = self.wanted.saturating_sub(1);
                Ok(Some(delivery))
            }
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }

    async fn stop(&mut self) {
        self.stopped = true;
        drop(self.commands.send(Command::Stop));
    }
}

/// The task of a consumer.
struct Pump {
    shared: Arc<Shared>,
    commands: mpsc::WeakUnboundedSender<Command>,
    orders: mpsc::UnboundedReceiver<Command>,
    /// `None` after a stop, when everything was handed out.
    out: Option<mpsc::UnboundedSender<Result<Delivery, BrokerError>>>,
    own: Arc<OnceLock<Weak<AbortOnDropHandle<()>>>>,
    /// Wanted and not asked of the broker.
    wanted: usize,
    stopping: bool,
    /// Number of the last delivery.
    last: u64,
    /// The loss of the topology is reported once, then waited out.
    told_missing: bool,
}

/// A delivery that is not settled.
struct Flight {
    tag: u64,
    standing: Arc<Standing>,
}

/// A settlement on its way.
type Done = (Arc<Standing>, oneshot::Sender<Result<(), BrokerError>>);

type Checked = (Unchecked, Result<notes::Standing, Failure>);

/// A delivery that came again.
struct Unchecked {
    tag: u64,
    raw: Raw,
}

/// What belongs to one connection.
struct Session {
    live: Arc<Live>,
    account: Arc<Account>,
    pool: AbortOnDropHandle<Failure>,
    pulls: Pulls,
    flights: HashMap<u64, Flight>,
    checking: FuturesUnordered<Pin<Box<dyn Future<Output = Checked> + Send>>>,
    /// What goes with the next exchange.
    settle: Vec<(u64, Settle)>,
    done: Vec<Done>,
    /// Slots that are free after the next exchange.
    freed: usize,
}

impl Pump {
    async fn run(mut self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let live = self.while_down(None).await;
            let Some(live) = live else { return };
            match self.session(&live).await {
                Ok(()) => return,
                Err(failure) => {
                    if let Failure::Missing = failure {
                        self.tell_missing();
                    } else {
                        let error = failure.told(&self.shared.names.shown());
                        tracing::debug!(%error, queue = self.shared.names.queue, "consuming anew");
                    }
                }
            }
            if !self.told_missing {
                pause = SHORTEST_PAUSE;
            }
            let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            if self.while_down(Some(jittered)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn tell_missing(&mut self) {
        if !std::mem::replace(&mut self.told_missing, true) {
            let error = BrokerError::Missing {
                what: self.shared.names.shown(),
            };
            if let Some(out) = &self.out {
                drop(out.send(Err(error)));
            }
        }
    }

    /// Obeys while there is no session, for `pause` and until there is a connection. `None` when
    /// nobody needs this consumer any more.
    async fn while_down(&mut self, pause: Option<Duration>) -> Option<Arc<Live>> {
        let connection = self.shared.connection.clone();
        let up = async {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            connection.when_live().await
        };
        tokio::pin!(up);
        loop {
            if self.stopping {
                // Nothing is on its way without a connection.
                self.out = None;
            }
            tokio::select! {
                live = &mut up => return Some(live),
                order = self.orders.recv() => match order? {
                    Command::Want(more) => self.wanted += more,
                    Command::Stop => {
                        self.stopping = true;
                        self.wanted = 0;
                    }
                    Command::Settle { done, .. } => {
                        if let Some(done) = done {
                            drop(done.send(Err(self.shared.connection.unreachable())));
                        }
                    }
                },
            }
        }
    }

    /// Consumes on one connection, until it is lost. `Ok` when nobody needs this consumer any more.
    async fn session(&mut self, live: &Arc<Live>) -> Result<(), Failure> {
        let account = self.shared.account();
        if self.told_missing {
            // Who consumes from a queue that is just being removed ends the connection. The work queue
            // is the first to go and the last to come.
            live.ready(&self.shared.names.queue).await?;
        }
        let pulls = Pulls::open(Arc::clone(live), &self.shared.names.queue).await?;
        let pool = Pool::open(
            self.shared.connection.clone(),
            Arc::clone(live),
            Arc::clone(self.shared.control()),
            Which::Slots,
            &self.shared.names.slots,
            Arc::clone(&account),
        )
        .await?;
        let mut session = Session {
            live: Arc::clone(live),
            account,
            pool: task::start(pool.run()),
            pulls,
            flights: HashMap::new(),
            checking: FuturesUnordered::new(),
            settle: Vec::new(),
            done: Vec::new(),
            freed: 0,
        };
        let ended = self.work(&mut session).await;
        // What was asked for and did not come is wanted still.
        self.wanted += session.pulls.open_credit() + session.checking.len();
        for flight in session.flights.values() {
            flight.standing.lose();
        }
        for (standing, done) in session.done.drain(..) {
            standing.lose();
            drop(done.send(Err(session.live.was_lost())));
        }
        ended
    }

    async fn work(&mut self, session: &mut Session) -> Result<(), Failure> {
        loop {
            self.exchange(session).await?;
            if self.stopping && self.out.is_some() {
                self.end_requests(session).await?;
            }
            session
                .account
                .fly(session.flights.len() + session.checking.len());
            let expiry = self.expiry(session);
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => {
                        self.obey(session, order);
                        for _ in 1..MOST_AT_ONCE {
                            let Ok(order) = self.orders.try_recv() else { break };
                            self.obey(session, order);
                        }
                    }
                    None => return Ok(()),
                },
                delivery = session.pulls.next() => {
                    self.take_in(session, delivery?);
                    // All that are there, before the next round trip.
                    for _ in 1..MOST_AT_ONCE {
                        let Some(delivery) = session.pulls.next().now_or_never() else { break };
                        self.take_in(session, delivery?);
                    }
                    self.told_missing = false;
                }
                Some((unchecked, standing)) = session.checking.next() => {
                    self.checked(session, &unchecked, standing?);
                }
                () = session.account.gained.notified() => {}
                () = tokio::time::sleep_until(expiry) => session.expire(),
                failure = &mut session.pool => {
                    return Err(failure.unwrap_or(Failure::Missing));
                }
                () = session.live.lost.cancelled() => {
                    return Err(session.live.was_lost().into());
                }
            }
        }
    }

    fn obey(&mut self, session: &mut Session, order: Command) {
        match order {
            Command::Want(more) => {
                if !self.stopping {
                    self.wanted += more;
                }
            }
            Command::Stop => {
                self.stopping = true;
                self.wanted = 0;
            }
            Command::Settle { number, how, done } => {
                let Some(flight) = session.flights.remove(&number) else {
                    if let Some(done) = done {
                        // It was settled, or given back when its connection ended.
                        drop(done.send(Err(self.shared.connection.unreachable())));
                    }
                    return;
                };
                session.settle.push((flight.tag, how));
                session.freed += 1;
                if let Some(done) = done {
                    session.done.push((flight.standing, done));
                }
            }
        }
    }

    /// One round trip: settles what is to be settled, asks for what is wanted and covered.
    async fn exchange(&mut self, session: &mut Session) -> Result<(), Failure> {
        session.account.want(self.wanted);
        let more = session.account.commit(usize::from(u16::MAX));
        if more == 0 && session.settle.is_empty() {
            return Ok(());
        }
        let settle = std::mem::take(&mut session.settle);
        session.pulls.exchange(&settle, more).await?;
        self.wanted -= more;
        session.account.release(std::mem::take(&mut session.freed));
        for (_, done) in session.done.drain(..) {
            drop(done.send(Ok(())));
        }
        Ok(())
    }

    /// After a stop: takes requests back and hands out what came.
    async fn end_requests(&mut self, session: &mut Session) -> Result<(), Failure> {
        let open = session.pulls.open_credit();
        if open > 0 {
            let rest = session.pulls.cancel().await?;
            session.account.release(open.saturating_sub(rest.len()));
            for delivery in rest {
                self.take_in(session, delivery);
            }
        }
        if session.checking.is_empty() {
            self.out = None;
        }
        Ok(())
    }

    fn take_in(&mut self, session: &mut Session, delivery: lapin::message::Delivery) {
        let properties = &delivery.properties;
        let again = delivery.redelivered
            || number(properties, "x-delivery-count").is_some_and(|count| count > 0)
            || number(properties, "x-acquired-count").is_some_and(|count| count > 0);
        let tag = delivery.delivery_tag;
        let unchecked = Unchecked {
            tag,
            raw: Raw::new(properties, delivery.data, self.shared.clock.now()),
        };
        if !again {
            self.hand_out(session, &unchecked, false, 0);
            return;
        }
        let (shared, live) = (Arc::clone(&self.shared), Arc::clone(&session.live));
        session.checking.push(Box::pin(async move {
            let standing = shared.standing(&live, &unchecked.raw.copy()).await;
            (unchecked, standing)
        }));
    }

    fn checked(&mut self, session: &mut Session, unchecked: &Unchecked, standing: notes::Standing) {
        if standing.done {
            session.settle.push((unchecked.tag, Settle::Ack));
            session.freed += 1;
            if !self.stopping {
                self.wanted += 1;
            }
            return;
        }
        self.hand_out(session, unchecked, true, standing.began);
    }

    fn hand_out(&mut self, session: &mut Session, of: &Unchecked, again: bool, began: u32) {
        self.last += 1;
        let number = self.last;
        let standing = Arc::new(Standing::new(Instant::now() + self.shared.lease));
        let flight = Flight {
            tag: of.tag,
            standing: Arc::clone(&standing),
        };
        session.flights.insert(number, flight);
        let copy = of.raw.copy();
        let stored = of.raw.message();
        let attempts = stored.attempts.saturating_add(began);
        let parts = self
            .commands
            .upgrade()
            .zip(self.own.get().and_then(Weak::upgrade));
        let Some((commands, consumer)) = parts else {
            return;
        };
        let lease = RabbitLease {
            shared: Arc::clone(&self.shared),
            standing,
            commands,
            _consumer: consumer,
            number,
            message: stored.message.clone(),
            copy,
            redelivered: again,
            begun: AtomicBool::new(false),
        };
        let delivery = Delivery {
            message: stored.message,
            attempts,
            redelivered: again,
            lease: Arc::new(lease),
        };
        let refused = match &self.out {
            Some(out) => out
                .send(Ok(delivery))
                .err()
                .and_then(|refused| refused.0.ok()),
            None => Some(delivery),
        };
        if let Some(delivery) = refused {
            give_back(&delivery);
        }
    }

    /// When the next lease may end.
    fn expiry(&self, session: &Session) -> Instant {
        let step =
            (self.shared.lease / 20).clamp(Duration::from_millis(20), Duration::from_secs(1));
        if session.flights.is_empty() {
            Instant::now() + Duration::from_mins(1)
        } else {
            Instant::now() + step
        }
    }
}

impl Session {
    /// Gives back the messages whose leases are over.
    fn expire(&mut self) {
        let now = Instant::now();
        let over: Vec<u64> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.standing.expire(now))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            if let Some(flight) = self.flights.remove(&number) {
                self.settle.push((flight.tag, Settle::Requeue));
                self.freed += 1;
            }
        }
    }
}
