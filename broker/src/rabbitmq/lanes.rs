//! Messages of a queue, so many of them at once.
//!
//! A lane is a consumer of the broker that may have so many messages unacknowledged. What is settled
//! lets the next message come, without a further question: as long as somebody wants as many messages as
//! before, nothing is asked at all. A lane is never made larger or smaller. More lanes are opened beside it;
//! or it is cancelled, and what came of it before the broker confirmed that is taken in like any other.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::stream::{self, FuturesUnordered, SelectAll, Stream, StreamExt as _};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::FieldTable;

use super::connection::{self, Failure, Live};

type Deliveries = Pin<Box<dyn Stream<Item = (u64, Option<lapin::Result<Delivery>>)> + Send>>;
type Opening = Pin<Box<dyn Future<Output = (u64, Result<lapin::Consumer, Failure>)> + Send>>;
type Answer = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// How a message is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settle {
    /// It is removed.
    Ack,
    /// It goes back. The broker counts that for nothing, or only where nobody looks.
    Requeue,
}

/// Settles a message on its channel. The frame is on its way when this returns.
pub(crate) fn settle(live: &Live, channel: &Channel, tag: u64, how: Settle) -> Result<(), Failure> {
    // A frame is sent when its future is first looked at, and nothing is answered.
    let sent = match how {
        Settle::Ack => channel
            .basic_ack(tag, BasicAckOptions::default())
            .now_or_never(),
        Settle::Requeue => {
            let options = BasicNackOptions {
                multiple: false,
                requeue: true,
            };
            channel.basic_nack(tag, options).now_or_never()
        }
    };
    match sent {
        Some(Err(error)) => Err(live.failure("settle", &error)),
        _ => Ok(()),
    }
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    lane: u64,
    tag: u64,
}

/// What the broker says.
pub(crate) enum Event {
    Came(Place, Box<Delivery>),
    /// A lane has ended that could have brought so many messages more.
    Freed(usize),
    /// Everything that was settled before [`Lanes::sync`] was taken in.
    Synced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    /// To be cancelled as soon as it is open.
    Unwanted,
    Cancelled,
}

#[derive(Clone, Copy, Debug)]
struct Lane {
    stage: Stage,
    /// Messages that it may have unacknowledged.
    size: usize,
    /// Those that it has.
    flying: usize,
}

impl Lane {
    /// Messages that may come before anything is settled.
    fn free(self) -> usize {
        self.size.saturating_sub(self.flying)
    }

    fn stays(self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Open)
    }
}

/// The lanes of one queue.
pub(crate) struct Lanes {
    live: Arc<Live>,
    channel: Channel,
    queue: String,
    deliveries: SelectAll<Deliveries>,
    opening: FuturesUnordered<Opening>,
    syncing: Option<Answer>,
    known: HashMap<u64, Lane>,
    last: u64,
}

impl Lanes {
    /// Opens a channel.
    pub(crate) async fn open(live: Arc<Live>, queue: &str) -> Result<Self, Failure> {
        let channel = live.consuming_channel().await?;
        Ok(Self {
            live,
            channel,
            queue: queue.to_owned(),
            deliveries: SelectAll::new(),
            opening: FuturesUnordered::new(),
            syncing: None,
            known: HashMap::new(),
            last: 0,
        })
    }

    /// Messages that may come without anything else.
    pub(crate) fn free(&self) -> usize {
        let staying = self.known.values().filter(|lane| lane.stays());
        staying.map(|lane| lane.free()).sum()
    }

    /// Whether no message comes any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether what is settled there lets another message come.
    pub(crate) fn goes_on(&self, place: Place) -> bool {
        let lane = self.known.get(&place.lane);
        lane.is_some_and(|lane| lane.stays())
    }

    /// Lets so many messages more come.
    pub(crate) fn grow(&mut self, more: usize) {
        if more == 0 {
            return;
        }
        self.last += 1;
        let number = self.last;
        let lane = Lane {
            stage: Stage::Opening,
            size: more,
            flying: 0,
        };
        self.known.insert(number, lane);
        let (live, channel, queue) = (
            Arc::clone(&self.live),
            self.channel.clone(),
            self.queue.clone(),
        );
        self.opening.push(Box::pin(async move {
            let prefetch = u16::try_from(more).unwrap_or(u16::MAX);
            let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
            let consumer = channel.basic_consume(
                queue.as_str().into(),
                tag_of(number).into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            // Polled in this order, which is the order in which their frames are sent.
            let both = async { futures::try_join!(qos, consumer) };
            let opened = live.within("consume", both).await;
            (number, opened.map(|((), consumer)| consumer))
        }));
    }

    /// Lets at least so many messages less come, as far as there are lanes that may bring any.
    pub(crate) fn shrink(&mut self, less: usize) {
        let mut left = less;
        while left > 0 {
            let staying = self.known.iter().filter(|(_, lane)| lane.stays());
            let may_bring = staying.filter(|(_, lane)| lane.free() > 0);
            let Some((number, lane)) = may_bring.min_by_key(|(number, lane)| (lane.size, **number))
            else {
                return;
            };
            left = left.saturating_sub(lane.free());
            let number = *number;
            self.cancel(number);
        }
    }

    /// Lets no message come any more from where this one did.
    pub(crate) fn cancel_of(&mut self, place: Place) {
        self.cancel(place.lane);
    }

    /// Lets no message come any more.
    pub(crate) fn close(&mut self) {
        let staying = self.known.iter().filter(|(_, lane)| lane.stays());
        let numbers: Vec<u64> = staying.map(|(number, _)| *number).collect();
        for number in numbers {
            self.cancel(number);
        }
    }

    fn cancel(&mut self, number: u64) {
        let Some(lane) = self.known.get_mut(&number) else {
            return;
        };
        lane.stage = match lane.stage {
            Stage::Opening => Stage::Unwanted,
            Stage::Open => {
                let options = BasicCancelOptions { nowait: false };
                let cancel = self.channel.basic_cancel(tag_of(number).into(), options);
                // Its frame is sent now. The answer ends the stream of the consumer, whoever waits for it.
                drop(cancel.now_or_never());
                Stage::Cancelled
            }
            stage => stage,
        };
    }

    /// Settles a message. True where none comes in its place.
    pub(crate) fn settle(&mut self, place: Place, how: Settle) -> Result<bool, Failure> {
        settle(&self.live, &self.channel, place.tag, how)?;
        let Some(lane) = self.known.get_mut(&place.lane) else {
            return Ok(true);
        };
        lane.flying = lane.flying.saturating_sub(1);
        if lane.stays() {
            return Ok(false);
        }
        lane.size = lane.size.saturating_sub(1);
        Ok(true)
    }

    /// Asks the broker to say when it has taken in what was settled until now. False while it is asked already.
    pub(crate) fn sync(&mut self) -> bool {
        if self.syncing.is_some() {
            return false;
        }
        let (live, channel) = (Arc::clone(&self.live), self.channel.clone());
        self.syncing = Some(Box::pin(async move {
            // What it sets holds for lanes that are opened later, which set it for themselves.
            let asked = channel.basic_qos(1, BasicQosOptions::default());
            live.within("settle", asked).await
        }));
        true
    }

    /// What comes next. An error means that the lanes are lost, because the queue is gone or the channel is.
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            let answered = async {
                match &mut self.syncing {
                    Some(answer) => answer.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((number, delivery)) = self.deliveries.next() => {
                    if let Some(event) = self.came(number, delivery)? {
                        return Ok(event);
                    }
                }
                Some((number, opened)) = self.opening.next() => self.opened(number, opened?),
                answered = answered => {
                    self.syncing = None;
                    return answered.map(|()| Event::Synced);
                }
            }
        }
    }

    fn opened(&mut self, number: u64, consumer: lapin::Consumer) {
        let deliveries = consumer.map(move |delivery| (number, Some(delivery)));
        let end = stream::once(std::future::ready((number, None)));
        self.deliveries.push(Box::pin(deliveries.chain(end)));
        if let Some(lane) = self.known.get_mut(&number) {
            let unwanted = lane.stage == Stage::Unwanted;
            lane.stage = Stage::Open;
            if unwanted {
                self.cancel(number);
            }
        }
    }

    fn came(
        &mut self,
        number: u64,
        delivery: Option<lapin::Result<Delivery>>,
    ) -> Result<Option<Event>, Failure> {
        let Some(lane) = self.known.get_mut(&number) else {
            return Ok(None);
        };
        match delivery {
            Some(Ok(delivery)) => {
                lane.flying += 1;
                let place = Place {
                    lane: number,
                    tag: delivery.delivery_tag,
                };
                Ok(Some(Event::Came(place, Box::new(delivery))))
            }
            Some(Err(error)) => Err(self.live.failure("consume", &error)),
            None if lane.stage == Stage::Cancelled => {
                let free = lane.free();
                self.known.remove(&number);
                Ok(Some(Event::Freed(free)))
            }
            None => Err(Failure::Missing),
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        let consumers = (
            std::mem::take(&mut self.deliveries),
            std::mem::take(&mut self.opening),
        );
        connection::end(self.channel.clone(), consumers);
    }
}

fn tag_of(number: u64) -> String {
    format!("l{number}")
}
