//! What a consumer does on one connection.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::codec::{Raw, number};
use super::super::connection::{Failure, Live};
use super::super::control::Which;
use super::super::lanes::{Event, Lanes, Place, Settle};
use super::super::lease::{Command, RabbitLease, Standing};
use super::super::notes;
use super::super::pool::{Account, Pool};
use super::super::shared::Shared;
use super::{Pump, give_back};
use crate::error::BrokerError;
use crate::queue::Delivery;
use crate::task;

/// Most commands, or deliveries, that are taken in before anything else.
const MOST_AT_ONCE: usize = 1024;
/// When more may come than is wanted for so long, less is let come.
const GRACE: Duration = Duration::from_millis(50);
/// While some may come, what is wanted beyond that is gathered for so long: a few large lanes instead of many
/// small ones.
const GATHER: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_mins(1);

/// A delivery that is not settled.
struct Flight {
    place: Place,
    copy: Arc<str>,
    standing: Arc<Standing>,
}

/// A settlement.
struct Settling {
    place: Place,
    copy: Arc<str>,
    how: Settle,
    reply: Option<Reply>,
}

/// Whoever waits for a settlement.
struct Reply {
    standing: Arc<Standing>,
    done: oneshot::Sender<Result<(), BrokerError>>,
    /// Waits until the broker has taken it in.
    surely: bool,
}

impl Settling {
    /// Fails where somebody waits for it.
    fn fail(self, why: BrokerError) -> Option<Arc<str>> {
        match self.reply {
            Some(reply) => {
                reply.standing.lose();
                drop(reply.done.send(Err(why)));
                None
            }
            None => (self.how == Settle::Ack).then_some(self.copy),
        }
    }
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

impl Arrival {
    fn settling(&self, how: Settle) -> Settling {
        Settling {
            place: self.place,
            copy: self.raw.copy().into(),
            how,
            reply: None,
        }
    }
}

/// What belongs to one connection.
pub(super) struct Session {
    live: Arc<Live>,
    account: Arc<Account>,
    pool: AbortOnDropHandle<Failure>,
    lanes: Lanes,
    flights: HashMap<u64, Flight>,
    checking: FuturesUnordered<Pin<Box<dyn Future<Output = Checked> + Send>>>,
    /// Came and nobody wants them.
    spare: VecDeque<Arrival>,
    /// To be settled now.
    settle: Vec<Settling>,
    /// Sent; and sent before the broker was asked to say that it has taken it in.
    sent: Vec<Settling>,
    confirming: Vec<Settling>,
    surplus: Surplus,
    /// Since when tokens cover what is wanted beyond what may come.
    covered_since: Option<Instant>,
    /// When it is looked for leases that are over.
    expire_at: Instant,
}

impl Session {
    pub(super) async fn open(shared: &Shared, live: &Arc<Live>) -> Result<Self, Failure> {
        let account = shared.account();
        let lanes = Lanes::open(Arc::clone(live), &shared.names.queue).await?;
        let pool = Pool::open(
            shared.connection.clone(),
            Arc::clone(live),
            Arc::clone(shared.control()),
            Which::Slots,
            &shared.names.slots,
            Arc::clone(&account),
        )
        .await?;
        let now = Instant::now();
        Ok(Self {
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
            surplus: Surplus::new(now),
            covered_since: None,
            expire_at: now,
        })
    }

    /// Ends it when its connection is lost. Answers the copies that were handled and may come again.
    pub(super) fn end(self) -> Vec<Arc<str>> {
        for flight in self.flights.into_values() {
            flight.standing.lose();
        }
        let why = self.live.was_lost();
        // What was not even sent is acknowledged again by whoever waits for it.
        let settling = self
            .settle
            .into_iter()
            .chain(self.sent)
            .chain(self.confirming);
        settling
            .filter_map(|settling| settling.fail(why.clone()))
            .collect()
    }

    /// Messages that come when everything that is to be settled has gone, and those that came and are not handed out.
    fn coming(&self) -> usize {
        let settling = self.settle.iter();
        let settled = settling.filter(|settling| self.lanes.goes_on(settling.place));
        self.lanes.free() + settled.count() + self.checking.len() + self.spare.len()
    }

    /// Gives up what has been more than what is wanted for a while. Answers how much is more now.
    fn give_up(&mut self, now: Instant, wanted: usize) -> usize {
        let surplus = |session: &Self| session.coming().saturating_sub(wanted);
        // What goes back shall not come again at once, on a lane on which nobody wants it.
        for at in 0..self.settle.len() {
            if self.settle[at].how == Settle::Requeue && surplus(self) > 0 {
                self.lanes.cancel_of(self.settle[at].place);
            }
        }
        let rest = surplus(self);
        let rest = rest - self.surplus.see(now, rest);
        while surplus(self) > rest
            && let Some(arrival) = self.spare.pop_back()
        {
            self.lanes.cancel_of(arrival.place);
            self.settle.push(arrival.settling(Settle::Requeue));
        }
        self.lanes.shrink(surplus(self).saturating_sub(rest));
        surplus(self)
    }

    /// Gives back the messages whose leases are over. Looks every `step`.
    fn expire(&mut self, now: Instant, step: Duration) {
        if now < self.expire_at {
            return;
        }
        self.expire_at = now + step;
        let over = self
            .flights
            .extract_if(|_, flight| flight.standing.expire(now));
        let back = over.map(|(_, flight)| Settling {
            place: flight.place,
            copy: flight.copy,
            how: Settle::Requeue,
            reply: None,
        });
        self.settle.extend(back);
    }
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
    /// Works until the connection is lost. `Ok` when nobody needs the consumer any more.
    pub(super) async fn work(&mut self, session: &mut Session) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            session.expire(now, self.step());
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
                    standing: flight.standing,
                    done,
                    surely,
                };
                session.settle.push(Settling {
                    place: flight.place,
                    copy: flight.copy,
                    how,
                    reply: Some(reply),
                });
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
        if self.stopping || session.account.is_over() {
            session.lanes.close();
        }
        if self.stopping {
            session.account.want(0);
            return now + LONG;
        }
        let mut look = now + LONG;
        let coming = session.coming();
        session.account.want(self.wanted.saturating_sub(coming));
        if session.account.covered() > 0 {
            let gathered = *session.covered_since.get_or_insert(now) + GATHER;
            if coming == 0 || gathered <= now {
                session
                    .lanes
                    .grow(session.account.commit(usize::from(u16::MAX)));
                session.covered_since = None;
            } else {
                look = gathered;
            }
        } else {
            session.covered_since = None;
        }
        let surplus = session.give_up(now, self.wanted);
        if surplus > 0 {
            look = look.min(now + GRACE);
        }
        look
    }

    /// Sends what is to be settled.
    fn settle(&mut self, session: &mut Session) -> Result<(), Failure> {
        let mut freed = 0;
        let mut settlings = std::mem::take(&mut session.settle).into_iter();
        while let Some(mut settling) = settlings.next() {
            match session.lanes.settle(settling.place, settling.how) {
                Ok(gone) => freed += usize::from(gone),
                Err(failure) => {
                    session.settle.push(settling);
                    session.settle.extend(settlings);
                    return Err(failure);
                }
            }
            // Whoever stops ends soon, and must not end before this has gone.
            let waits = |reply: &mut Reply| !reply.surely && !self.stopping;
            if let Some(reply) = settling.reply.take_if(waits) {
                drop(reply.done.send(Ok(())));
            }
            session.sent.push(settling);
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
                let replies = session.confirming.drain(..);
                for reply in replies.filter_map(|settled| settled.reply) {
                    drop(reply.done.send(Ok(())));
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
            session.settle.push(arrival.settling(Settle::Ack));
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

    /// How often is looked for leases that are over.
    fn step(&self) -> Duration {
        (self.shared.lease / 20).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_in_excess_is_what_was_so_all_the_time() {
        let start = Instant::now();
        let mut surplus = Surplus::new(start);
        let mut see = |after: u64, now| surplus.see(start + Duration::from_millis(after), now);
        assert_eq!(
            [see(0, 3), see(20, 2), see(40, 5), see(50, 4)],
            [0, 0, 0, 2]
        );
        // A slot that is used again in between is no excess.
        assert_eq!([see(60, 1), see(80, 0), see(100, 1)], [0, 0, 0]);
        // Nor is what was so before.
        assert_eq!([see(101, 7), see(150, 7)], [0, 7]);
    }
}
