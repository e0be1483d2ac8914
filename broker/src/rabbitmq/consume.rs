//! A consumer: takes tokens, lets as many messages come as they cover and are wanted, keeps the leases.
//!
//! A message that was handled is acknowledged without waiting for the broker, which lets the next one
//! come in its place. One that nobody wants by then waits for a moment and goes back.
//!
//! Everything of one connection is a session. When the connection is lost, so is what was delivered
//! on it, and a new session begins. The task lives as long as the consumer or one of its leases.

use std::collections::{HashMap, VecDeque};
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
use super::lanes::{Event, Lanes, Place, Settle};
use super::lease::{Command, RabbitLease, Standing};
use super::notes::{self, Note};
use super::pool::{Account, Pool};
use super::shared::Shared;
use crate::error::BrokerError;
use crate::queue::{Consumer, Delivery};
use crate::task;

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Most commands, or deliveries, that are taken in before anything else.
const MOST_AT_ONCE: usize = 1024;
/// When more may come than is wanted for so long, less is let come.
const GRACE: Duration = Duration::from_millis(50);
/// While some may come, what is wanted beyond that is gathered for so long: a few large lanes instead of many
/// small ones.
const GATHER: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_mins(1);

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
            unknown: Vec::new(),
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
    /// Wanted and not handed out.
    wanted: usize,
    stopping: bool,
    /// Number of the last delivery.
    last: u64,
    /// The loss of the topology is reported once, then waited out.
    told_missing: bool,
    /// Copies that were handled and acknowledged when a connection was lost. They may come again.
    unknown: Vec<Arc<str>>,
}

/// A delivery that is not settled.
struct Flight {
    place: Place,
    copy: Arc<str>,
    standing: Arc<Standing>,
}

/// A settlement on its way.
struct Settled {
    flight: Flight,
    how: Settle,
    /// Whoever waits for the broker.
    done: Option<oneshot::Sender<Result<(), BrokerError>>>,
}

type Checked = (Arrival, Result<notes::Standing, Failure>);

/// A message that was not handed out yet.
struct Arrival {
    place: Place,
    raw: Raw,
    again: bool,
    /// Calls that began on it before.
    began: u32,
}

/// What belongs to one connection.
struct Session {
    live: Arc<Live>,
    account: Arc<Account>,
    pool: AbortOnDropHandle<Failure>,
    lanes: Lanes,
    flights: HashMap<u64, Flight>,
    checking: FuturesUnordered<Pin<Box<dyn Future<Output = Checked> + Send>>>,
    /// Came and nobody wants them.
    spare: VecDeque<Arrival>,
    /// To be settled now.
    settle: Vec<(Flight, Settle, Reply)>,
    /// Sent, and sent before the broker was asked to say that it has taken it in.
    sent: Vec<Settled>,
    confirming: Vec<Settled>,
    surplus: Surplus,
    /// Since when more is wanted and covered than may come.
    lacking_since: Option<Instant>,
    /// When it is looked for leases that are over.
    expire_at: Instant,
}

struct Reply {
    done: Option<oneshot::Sender<Result<(), BrokerError>>>,
    surely: bool,
}

/// How much more may come than is wanted, over a while.
struct Surplus {
    since: Instant,
    least: usize,
}

impl Surplus {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            least: usize::MAX,
        }
    }

    /// Takes in how much it is now. Answers what it was at least, once in a [`GRACE`].
    fn see(&mut self, now: Instant, surplus: usize) -> usize {
        self.least = self.least.min(surplus);
        if now - self.since < GRACE {
            return 0;
        }
        std::mem::replace(self, Self::new(now)).least
    }
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
                        drop(done.send(Err(self.shared.connection.unreachable())));
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
        self.note_done().await?;
        let lanes = Lanes::open(Arc::clone(live), &self.shared.names.queue).await?;
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
            lanes,
            flights: HashMap::new(),
            checking: FuturesUnordered::new(),
            spare: VecDeque::new(),
            settle: Vec::new(),
            sent: Vec::new(),
            confirming: Vec::new(),
            surplus: Surplus::new(Instant::now()),
            lacking_since: None,
            expire_at: Instant::now(),
        };
        let ended = self.work(&mut session).await;
        for flight in session.flights.values() {
            flight.standing.lose();
        }
        for (flight, _, reply) in session.settle.drain(..) {
            flight.standing.lose();
            if let Some(done) = reply.done {
                drop(done.send(Err(session.live.was_lost())));
            }
        }
        for settled in session.confirming.drain(..).chain(session.sent.drain(..)) {
            match settled.done {
                Some(done) => {
                    settled.flight.standing.lose();
                    drop(done.send(Err(session.live.was_lost())));
                }
                None if settled.how == Settle::Ack => {
                    self.shared.remember_done(&settled.flight.copy);
                    self.unknown.push(settled.flight.copy);
                }
                None => {}
            }
        }
        ended
    }

    /// Makes known what was handled when a connection was lost, to whoever gets it next.
    async fn note_done(&mut self) -> Result<(), Failure> {
        let noting = self
            .unknown
            .iter()
            .map(|copy| self.shared.note(Note::Done, copy));
        match futures::future::try_join_all(noting).await {
            // The queue is gone, and they with it.
            Ok(_) | Err(BrokerError::Missing { .. }) => self.unknown.clear(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn work(&mut self, session: &mut Session) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            self.expire(session, now);
            let look = self.balance(session, now);
            self.settle(session)?;
            if self.stopping
                && session.lanes.is_closed()
                && session.checking.is_empty()
                && session.spare.is_empty()
            {
                self.out = None;
            }
            let unsettled = session.flights.len() + session.checking.len() + session.spare.len();
            session.account.fly(unsettled);
            let look = if session.flights.is_empty() {
                look
            } else {
                look.min(session.expire_at)
            };
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
                event = session.lanes.next() => {
                    self.learn(session, event?);
                    for _ in 1..MOST_AT_ONCE {
                        let Some(event) = session.lanes.next().now_or_never() else { break };
                        self.learn(session, event?);
                    }
                }
                Some((arrival, standing)) = session.checking.next() => {
                    self.checked(session, arrival, standing?);
                }
                () = session.account.gained.notified() => {}
                () = tokio::time::sleep_until(look) => {}
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
            Command::Settle {
                number,
                how,
                done,
                surely,
            } => {
                let Some(flight) = session.flights.remove(&number) else {
                    // It was settled, or given back when its connection ended.
                    drop(done.send(Err(self.shared.connection.unreachable())));
                    return;
                };
                let reply = Reply {
                    done: Some(done),
                    surely,
                };
                session.settle.push((flight, how, reply));
            }
        }
    }

    /// Hands out what waits, and lets come what is wanted and covered. Returns when to look again.
    fn balance(&mut self, session: &mut Session, now: Instant) -> Instant {
        while (self.wanted > 0 || self.stopping)
            && let Some(arrival) = session.spare.pop_front()
        {
            self.hand_out(session, &arrival);
        }
        if self.stopping || session.account.has_surplus() {
            session.account.want(0);
            session.lanes.close();
        }
        if self.stopping {
            return now + LONG;
        }
        let mut look = now + LONG;
        let coming = session.lanes.free() + session.checking.len();
        let lacking = self.wanted.saturating_sub(coming);
        session.account.want(lacking);
        if session.account.covered() > 0 {
            let gathered = *session.lacking_since.get_or_insert(now) + GATHER;
            if coming == 0 || gathered <= now {
                let more = session.account.commit(usize::from(u16::MAX));
                session.lanes.grow(more);
                session.lacking_since = None;
            } else {
                look = gathered;
            }
        } else {
            session.lacking_since = None;
        }
        let surplus = (coming + session.spare.len()).saturating_sub(self.wanted);
        let back = session
            .settle
            .iter()
            .any(|(_, how, _)| *how == Settle::Requeue);
        let shrink = session.surplus.see(now, surplus);
        if surplus > 0 && (shrink > 0 || back) {
            let less = if back { surplus } else { shrink };
            let spare = session.spare.len().min(less);
            session.lanes.shrink(less);
            for arrival in session.spare.drain(..spare) {
                let flight = Flight {
                    place: arrival.place,
                    copy: arrival.raw.copy().into(),
                    standing: Arc::new(Standing::new(now)),
                };
                let reply = Reply {
                    done: None,
                    surely: false,
                };
                session.settle.push((flight, Settle::Requeue, reply));
            }
        }
        if surplus > 0 {
            look = look.min(now + GRACE);
        }
        look
    }

    /// Sends what is to be settled.
    fn settle(&mut self, session: &mut Session) -> Result<(), Failure> {
        let mut freed = 0;
        for (flight, how, reply) in std::mem::take(&mut session.settle) {
            freed += usize::from(session.lanes.settle(flight.place, how)?);
            // Whoever stops ends soon, and must not end before this has gone.
            let done = match reply.done {
                Some(done) if !reply.surely && !self.stopping => {
                    drop(done.send(Ok(())));
                    None
                }
                done => done,
            };
            session.sent.push(Settled { flight, how, done });
        }
        session.account.release(freed);
        if !session.sent.is_empty() && session.lanes.sync() {
            session.confirming = std::mem::take(&mut session.sent);
        }
        Ok(())
    }

    fn learn(&mut self, session: &mut Session, event: Event) {
        match event {
            Event::Came(place, delivery) => {
                self.told_missing = false;
                self.take_in(session, place, *delivery);
            }
            Event::Freed(messages) => session.account.release(messages),
            Event::Synced => {
                for settled in session.confirming.drain(..) {
                    if let Some(done) = settled.done {
                        drop(done.send(Ok(())));
                    }
                }
            }
        }
    }

    fn take_in(&mut self, session: &mut Session, place: Place, delivery: lapin::message::Delivery) {
        let properties = &delivery.properties;
        let again = delivery.redelivered
            || number(properties, "x-delivery-count").is_some_and(|count| count > 0)
            || number(properties, "x-acquired-count").is_some_and(|count| count > 0);
        let arrival = Arrival {
            place,
            raw: Raw::new(properties, delivery.data, self.shared.clock.now()),
            again,
            began: 0,
        };
        if !again {
            self.arrived(session, arrival);
            return;
        }
        let (shared, live) = (Arc::clone(&self.shared), Arc::clone(&session.live));
        session.checking.push(Box::pin(async move {
            let standing = shared.standing(&live, &arrival.raw.copy()).await;
            (arrival, standing)
        }));
    }

    fn checked(&mut self, session: &mut Session, mut arrival: Arrival, standing: notes::Standing) {
        if standing.done {
            let flight = Flight {
                place: arrival.place,
                copy: arrival.raw.copy().into(),
                standing: Arc::new(Standing::new(Instant::now())),
            };
            let reply = Reply {
                done: None,
                surely: false,
            };
            session.settle.push((flight, Settle::Ack, reply));
            return;
        }
        arrival.began = standing.began;
        self.arrived(session, arrival);
    }

    fn arrived(&mut self, session: &mut Session, arrival: Arrival) {
        if self.wanted > 0 || self.stopping {
            self.hand_out(session, &arrival);
        } else {
            session.spare.push_back(arrival);
        }
    }

    fn hand_out(&mut self, session: &mut Session, of: &Arrival) {
        self.wanted = self.wanted.saturating_sub(1);
        self.last += 1;
        let number = self.last;
        let standing = Arc::new(Standing::new(Instant::now() + self.shared.lease));
        let copy: Arc<str> = of.raw.copy().into();
        let flight = Flight {
            place: of.place,
            copy: Arc::clone(&copy),
            standing: Arc::clone(&standing),
        };
        session.flights.insert(number, flight);
        let stored = of.raw.message();
        let attempts = stored.attempts.saturating_add(of.began);
        let again = of.again;
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

    /// Gives back the messages whose leases are over.
    fn expire(&self, session: &mut Session, now: Instant) {
        if now < session.expire_at {
            return;
        }
        let step =
            (self.shared.lease / 20).clamp(Duration::from_millis(20), Duration::from_secs(1));
        session.expire_at = now + step;
        let over: Vec<u64> = session
            .flights
            .iter()
            .filter(|(_, flight)| flight.standing.expire(now))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            if let Some(flight) = session.flights.remove(&number) {
                let reply = Reply {
                    done: None,
                    surely: false,
                };
                session.settle.push((flight, Settle::Requeue, reply));
            }
        }
    }
}
