//! Asking a queue for exactly so many messages.
//!
//! A request is a consumer that may have so many messages unacknowledged. When they have all come it is
//! cancelled. An acknowledgement before that may bring one message more: whatever comes before the broker has
//! confirmed that the consumer is cancelled is seen, and what nobody asked for goes back at once. Were the
//! consumer forgotten here before it is there, such a message would be nobody's for as long as the connection
//! lasts.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::stream::{self, SelectAll, Stream, StreamExt as _};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use super::connection::{self, Failure, Live};
use super::lanes::{Settle, settle};

type Deliveries = Pin<Box<dyn Stream<Item = (u64, Option<lapin::Result<Delivery>>)> + Send>>;

/// Requests on one queue.
pub(crate) struct Pulls {
    live: Arc<Live>,
    channel: Channel,
    queue: String,
    /// What the next consumer may have unacknowledged.
    prefetch: u16,
    deliveries: SelectAll<Deliveries>,
    /// How many messages each request is still owed.
    owed: HashMap<u64, u16>,
    last: u64,
}

impl Pulls {
    /// Opens a channel.
    pub(crate) async fn open(live: Arc<Live>, queue: &str) -> Result<Self, Failure> {
        let channel = live.consuming_channel().await?;
        Ok(Self {
            live,
            channel,
            queue: queue.to_owned(),
            prefetch: 0,
            deliveries: SelectAll::new(),
            owed: HashMap::new(),
            last: 0,
        })
    }

    /// Messages that were asked for and have not come.
    pub(crate) fn open_credit(&self) -> usize {
        self.owed.values().map(|owed| usize::from(*owed)).sum()
    }

    /// Settles what is given and asks for `more` messages, in one round trip. When it returns, the
    /// broker has taken all of it in.
    pub(crate) async fn exchange(
        &mut self,
        settled: &[(u64, Settle)],
        more: usize,
    ) -> Result<(), Failure> {
        let more = u16::try_from(more).unwrap_or(u16::MAX);
        // A frame is sent when its future is first looked at. Nothing is lost by not waiting for more:
        // the answer below comes after all of them were taken in.
        for (tag, how) in settled {
            settle(&self.live, &self.channel, *tag, *how)?;
        }
        let prefetch = if more > 0 { more } else { self.prefetch };
        // The answer comes after everything before it was taken in. It changes nothing where it
        // repeats what holds.
        let qos = async {
            if more > 0 && prefetch == self.prefetch {
                return Ok(());
            }
            self.channel
                .basic_qos(prefetch, BasicQosOptions::default())
                .await
        };
        let number = self.last + 1;
        let consume = async {
            if more == 0 {
                return Ok(None);
            }
            self.channel
                .basic_consume(
                    self.queue.as_str().into(),
                    format!("r{number}").into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await
                .map(Some)
        };
        // Polled in this order, which is the order in which their frames are sent.
        let work = async {
            let ((), consumer) = futures::try_join!(qos, consume)?;
            Ok(consumer)
        };
        let consumer = self.live.within("consume", work).await?;
        self.prefetch = prefetch;
        if let Some(consumer) = consumer {
            self.last = number;
            self.owed.insert(number, more);
            let deliveries = consumer.map(move |delivery| (number, Some(delivery)));
            let end = stream::once(std::future::ready((number, None)));
            self.deliveries.push(Box::pin(deliveries.chain(end)));
        }
        Ok(())
    }

    /// The next message. An error means that the requests are lost, because the queue is gone or the
    /// channel is. Waits for ever where nothing was asked for. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Delivery, Failure> {
        loop {
            let Some((number, delivery)) = self.deliveries.next().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match delivery {
                Some(Ok(delivery)) => {
                    if self.note(number) {
                        return Ok(delivery);
                    }
                    self.refuse(&delivery)?;
                }
                Some(Err(error)) => return Err(self.live.failure("consume", &error)),
                None if self.owed.contains_key(&number) => return Err(Failure::Missing),
                None => {}
            }
        }
    }

    /// Counts a message of a request, and ends the request with its last one. False where it was not asked for.
    fn note(&mut self, number: u64) -> bool {
        let Some(owed) = self.owed.get_mut(&number) else {
            return false;
        };
        *owed -= 1;
        if *owed == 0 {
            self.owed.remove(&number);
            let options = BasicCancelOptions { nowait: false };
            let cancel = self
                .channel
                .basic_cancel(format!("r{number}").into(), options);
            // Its frame is sent now. The answer ends the stream of the consumer, whoever waits for it.
            drop(cancel.now_or_never());
        }
        true
    }

    /// Gives back what nobody asked for.
    fn refuse(&self, delivery: &Delivery) -> Result<(), Failure> {
        settle(
            &self.live,
            &self.channel,
            delivery.delivery_tag,
            Settle::Requeue,
        )
    }

    /// Takes every request back, and returns what had come of them.
    pub(crate) async fn cancel(&mut self) -> Result<Vec<Delivery>, Failure> {
        let numbers: Vec<u64> = self.owed.keys().copied().collect();
        for number in &numbers {
            let options = BasicCancelOptions::default();
            let cancel = self
                .channel
                .basic_cancel(format!("r{number}").into(), options);
            self.live.within("cancel", cancel).await?;
        }
        let mut rest = Vec::new();
        // All consumers are cancelled: their streams end after what came before.
        loop {
            let next = tokio::select! {
                next = self.deliveries.next() => next,
                () = self.live.lost.cancelled() => return Err(self.live.was_lost().into()),
            };
            match next {
                Some((number, Some(Ok(delivery)))) => {
                    if self.note(number) {
                        rest.push(delivery);
                    } else {
                        self.refuse(&delivery)?;
                    }
                }
                Some((_, Some(Err(error)))) => return Err(self.live.failure("consume", &error)),
                Some((_, None)) => {}
                None => break,
            }
        }
        self.owed.clear();
        Ok(rest)
    }
}

impl Drop for Pulls {
    fn drop(&mut self) {
        connection::end(self.channel.clone(), std::mem::take(&mut self.deliveries));
    }
}
