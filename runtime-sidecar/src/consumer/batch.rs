//! Batches: a permit, then messages until the batch is full or its window is over, then one call.
//!
//! The permit comes first: it is what the limit counts, so nobody asks for messages that somebody
//! else could handle now. What arrives before it (asked for by the batch before) is kept for a moment
//! and then goes back.

mod handle;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use weir_broker::{BrokerError, Delivery, Permit, WorkQueue};

use super::delivery::{self, lost};
use super::hold::Hold;
use super::{Context, InFlight, Verdict};

use handle::{Batch, handle};

/// A batch without a window still waits this long for what is on its way.
const LINGER: Duration = Duration::from_millis(10);

/// How long messages are kept that came before the permit.
const WITHOUT_PERMIT: Duration = Duration::from_secs(2);

/// What a batch tells its engine.
pub enum Signal {
    /// It has its permit: ask for messages.
    Permitted,
    /// It takes no more messages.
    Gathered,
    /// It got no permit.
    Failed(BrokerError),
}

/// The engine's end of a batch that is being gathered. Dropping it gives everything back.
pub struct Collector {
    messages: mpsc::Sender<Item>,
    room: AtomicUsize,
    permitted: Arc<AtomicBool>,
}

struct Item {
    delivery: Delivery,
    _in_flight: InFlight,
    renewed: Instant,
}

impl Collector {
    /// A new batch of at most `most` messages, and the future that carries it to its end.
    pub fn start(
        context: Arc<Context>,
        queue: Arc<dyn WorkQueue>,
        most: usize,
        signal: mpsc::Sender<Signal>,
    ) -> (Self, impl Future<Output = Verdict> + Send + 'static) {
        let (messages, incoming) = mpsc::channel(most);
        let permitted = Arc::new(AtomicBool::new(false));
        let gather = Gather {
            context,
            most,
            incoming,
            items: Vec::new(),
            permitted: permitted.clone(),
            signal,
        };
        let collector = Self {
            messages,
            room: AtomicUsize::new(most),
            permitted,
        };
        (collector, gather.run(queue))
    }

    /// How many messages to ask for.
    pub fn wants(&self) -> usize {
        if self.permitted.load(Ordering::Acquire) {
            self.room.load(Ordering::Acquire)
        } else {
            0
        }
    }

    /// Adds a message, or hands it back when there is no room.
    #[allow(clippy::result_large_err, reason = "what is handed back is what came")]
    pub fn offer(
        &self,
        context: &Context,
        message: Delivery,
        now: Instant,
    ) -> Result<(), Delivery> {
        let taken = self
            .room
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |room| {
                room.checked_sub(1)
            });
        if taken.is_err() {
            return Err(message);
        }
        let in_flight = InFlight::new(&context.shared);
        let item = Item {
            delivery: message,
            _in_flight: in_flight,
            renewed: now,
        };
        self.messages
            .try_send(item)
            .map_err(|error| error.into_inner().delivery)
    }
}

/// A batch that is being gathered.
struct Gather {
    context: Arc<Context>,
    most: usize,
    incoming: mpsc::Receiver<Item>,
    items: Vec<Item>,
    permitted: Arc<AtomicBool>,
    signal: mpsc::Sender<Signal>,
}

impl Gather {
    async fn run(mut self, queue: Arc<dyn WorkQueue>) -> Verdict {
        let permit = match self.permit(&*queue).await {
            Some(Ok(permit)) => permit,
            Some(Err(error)) => {
                self.give_back().await;
                let _ = self.signal.send(Signal::Failed(error)).await;
                return Verdict::Other;
            }
            None => {
                self.give_back().await;
                return Verdict::Other;
            }
        };
        let permitted = Instant::now();
        self.permitted.store(true, Ordering::Release);
        let _ = self.signal.send(Signal::Permitted).await;
        let Some(permit_renewed) = self.fill(&*permit, permitted).await else {
            self.give_back().await;
            release(&*permit).await;
            return Verdict::Other;
        };
        let _ = self.signal.send(Signal::Gathered).await;
        let since = self
            .items
            .iter()
            .map(|item| item.renewed)
            .fold(permit_renewed, Instant::min);
        let held = Batch {
            items: self.items,
            permit,
        };
        let mut hold = Hold::new(&held, self.context.lease(), since);
        let verdict = handle(&self.context, &held, &mut hold).await;
        if verdict.is_err() {
            for item in &held.items {
                lost(&self.context.shared, &item.delivery);
            }
        }
        let _ = hold.insist(|| held.permit.release()).await;
        verdict.unwrap_or(Verdict::Other)
    }

    /// Waits for a permit; `None` when the batch was called off.
    async fn permit(
        &mut self,
        queue: &dyn WorkQueue,
    ) -> Option<Result<Box<dyn Permit>, BrokerError>> {
        let mut permit = queue.permit();
        loop {
            let patience = match self.items.first() {
                Some(first) => first.renewed + WITHOUT_PERMIT.min(self.context.lease() / 3),
                None => Instant::now() + Duration::from_hours(1),
            };
            tokio::select! {
                permit = &mut permit => return Some(permit),
                item = self.incoming.recv() => self.items.push(item?),
                () = sleep_until(patience) => {
                    // Room is not given back: the next batch asks for what is missing.
                    let items = std::mem::take(&mut self.items);
                    give_back(&self.context, items).await;
                }
            }
        }
    }

    /// Gathers until the batch is full or its window is over, keeping permit and messages; then the
    /// time of the permit's last renewal. `None` when the batch was called off or its permit is lost.
    async fn fill(&mut self, permit: &dyn Permit, permitted: Instant) -> Option<Instant> {
        let lease = self.context.lease();
        let window = self.context.consumer().batch_window_seconds;
        let window = Duration::from_secs(window.into()).max(LINGER);
        let mut permit_renewed = permitted;
        let mut ends = None;
        loop {
            if self.items.len() >= self.most {
                break;
            }
            if ends.is_none() && !self.items.is_empty() {
                ends = Some(Instant::now() + window);
            }
            let oldest = self
                .items
                .iter()
                .map(|item| item.renewed)
                .fold(permit_renewed, Instant::min);
            let renew_at = oldest + lease / 3;
            let wake = ends.map_or(renew_at, |ends| ends.min(renew_at));
            tokio::select! {
                biased;
                item = self.incoming.recv() => self.items.push(item?),
                () = sleep_until(wake) => {
                    if ends.is_some_and(|ends| Instant::now() >= ends) {
                        break;
                    }
                    permit_renewed = self.renew(permit, permit_renewed).await?;
                }
            }
        }
        // What was offered before the door is closed still belongs to this batch.
        self.incoming.close();
        while let Ok(item) = self.incoming.try_recv() {
            self.items.push(item);
        }
        Some(permit_renewed)
    }

    /// Renews everything once. What is lost leaves the batch; without a permit there is none.
    async fn renew(&mut self, permit: &dyn Permit, renewed: Instant) -> Option<Instant> {
        let gone = self.context.lease() * 9 / 10;
        let began = Instant::now();
        let leases = join_all(self.items.iter().map(|item| item.delivery.lease.extend())).await;
        let permit = permit.extend().await;
        let mut results = leases.into_iter();
        let context = &self.context;
        self.items.retain_mut(|item| {
            let kept = match results.next() {
                Some(Ok(())) | None => {
                    item.renewed = began;
                    true
                }
                Some(Err(BrokerError::LeaseOver { .. })) => false,
                Some(Err(_)) => item.renewed.elapsed() < gone,
            };
            if !kept {
                lost(&context.shared, &item.delivery);
            }
            kept
        });
        match permit {
            Ok(()) => Some(began),
            Err(BrokerError::LeaseOver { .. }) => None,
            // Not too often, and not for longer than it can be ours.
            Err(_) if renewed.elapsed() < gone => {
                tokio::time::sleep(Duration::from_millis(250)).await;
                Some(renewed)
            }
            Err(_) => None,
        }
    }

    async fn give_back(&mut self) {
        self.incoming.close();
        while let Ok(item) = self.incoming.try_recv() {
            self.items.push(item);
        }
        let items = std::mem::take(&mut self.items);
        give_back(&self.context, items).await;
    }
}

async fn give_back(context: &Arc<Context>, items: Vec<Item>) {
    let returns = items.into_iter().map(|item| {
        let shared = context.shared.clone();
        delivery::give_back(shared, context.lease(), item.delivery, item.renewed)
    });
    join_all(returns).await;
}

/// Gives a permit back that nothing depends on. Not given back, it ends with its lease.
async fn release(permit: &dyn Permit) {
    for _ in 0..3 {
        if permit.release().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
