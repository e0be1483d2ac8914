//! Pulling: one inbox, and requests for exactly the slots that are free.
//!
//! It never ends on an error and never prefetches. Whenever it cannot be sure what a server still
//! owes (connection lost, server silent) it listens on a new inbox, so that an old request cannot
//! deliver on top of a new one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use futures::{FutureExt as _, future};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::api::{ConsumerInfo, Failure};
use super::connection::Link;
use super::heard::Heard;
use super::pull::{EXPIRES, HEARTBEAT, Pulls};
use super::queue::Shared;
use super::redelivery::Taken;
use super::topology::WORKERS;
use crate::error::BrokerError;
use crate::queue::{Consumer, Delivery};

/// Pauses after something that went wrong.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long what is on its way may take to arrive after a stop.
const LAST_ARRIVALS: Duration = Duration::from_secs(5);

type Checking<T> = FuturesUnordered<Pin<Box<dyn Future<Output = Option<T>> + Send>>>;
/// Makes of a message that came what is handed out.
pub(crate) type Take<T> = Box<dyn Fn(Message, Terms) -> Option<Taken<T>> + Send + Sync>;

/// What is known of a delivery beside its message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// It may be a redelivery although it does not say so.
    pub(crate) suspect: bool,
    /// How long its lease lasts. The server's clock began when it sent; ours ends first.
    pub(crate) until: Instant,
}

struct Inbox {
    /// Requests are answered below this.
    prefix: String,
    messages: Subscriber,
    /// Nothing was sent to it before this.
    since: Instant,
    /// Losses of the connection when it was made.
    losses: u64,
}

/// A consumer of one queue, which hands out `T`.
pub(crate) struct Puller<T> {
    shared: Arc<Shared>,
    take: Take<T>,
    lease: Duration,
    heard: Heard,
    wanted: usize,
    pulls: Pulls,
    inbox: Option<Inbox>,
    link: watch::Receiver<Link>,
    /// Losses of the connection that were noticed.
    losses: u64,
    /// Came on an inbox that is not used any more, each with the earliest time at which it was sent.
    salvaged: VecDeque<(Message, Instant)>,
    /// Deliveries whose standing is being read.
    checking: Checking<T>,
    /// Most deliveries that may be out, over all processes.
    outstanding: usize,
    /// So many first deliveries may be redeliveries that a killed server has forgotten. It forgets at
    /// most what was out, and that comes before everything else.
    suspect: usize,
    /// The server answered as if the consumer were gone.
    doubted: bool,
    /// The loss of the topology is reported once, then waited out.
    told_missing: bool,
    pause: Duration,
    paused_until: Option<Instant>,
    stopped: Option<Instant>,
}

impl<T: Send + 'static> Puller<T> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        outstanding: usize,
        lease: Duration,
        take: Take<T>,
    ) -> Self {
        let heard = Heard::start(Arc::clone(&shared), lease);
        let link = shared.connection.link();
        let losses = link.borrow().losses;
        Self {
            shared,
            take,
            lease,
            heard,
            wanted: 0,
            pulls: Pulls::default(),
            inbox: None,
            link,
            losses,
            salvaged: VecDeque::new(),
            checking: FuturesUnordered::new(),
            outstanding,
            suspect: outstanding,
            doubted: false,
            told_missing: false,
            pause: SHORTEST_PAUSE,
            paused_until: None,
            stopped: None,
        }
    }

    /// Whether the consumer exists.
    pub(crate) async fn check(&mut self) -> Result<(), BrokerError> {
        let stream = &self.shared.names.stream;
        let subject = format!("CONSUMER.INFO.{stream}.{WORKERS}");
        let connection = &self.shared.connection;
        match connection
            .api::<ConsumerInfo>("read consumer", &subject, &Value::Null)
            .await
        {
            Ok(_) => Ok(()),
            Err(Failure::NoResponders) => Err(connection.unavailable("JetStream does not answer")),
            Err(failure) => Err(failure.told(&format!("consumer {WORKERS} of stream {stream}"))),
        }
    }

    /// Waits a little longer each time before the server is asked again.
    fn back_off(&mut self) {
        let pause = self.pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.paused_until = Some(Instant::now() + pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn went_well(&mut self) {
        self.pause = SHORTEST_PAUSE;
        self.told_missing = false;
    }

    /// Stops listening where it did, keeping what already came.
    fn abandon_inbox(&mut self) {
        let since = self.earliest();
        if let Some(mut inbox) = self.inbox.take() {
            while let Some(Some(message)) = inbox.messages.next().now_or_never() {
                if message.status.is_none() {
                    self.salvaged.push_back((message, since));
                }
            }
        }
        self.pulls.clear();
    }

    /// Makes sure that there is an inbox of this connection, and asks for what is wanted.
    async fn ask(&mut self) -> Result<(), BrokerError> {
        let link = *self.link.borrow_and_update();
        let now = Instant::now();
        if self.losses != link.losses {
            self.abandon_inbox();
            if !link.up {
                return Ok(());
            }
            // Not repeated when this is cancelled: it only saves waiting for leases.
            self.losses = link.losses;
            self.suspect = self.outstanding;
            let (recent, connection) = (&self.shared.recent, &self.shared.connection);
            recent.repeat(connection, &self.shared.names.stream).await;
        }
        if self.pulls.is_silent(now) {
            tracing::warn!(
                stream = self.shared.names.stream,
                "no heartbeat; asking anew"
            );
            self.abandon_inbox();
        }
        if self.pulls.is_overdue(now) {
            self.abandon_inbox();
        }
        if !link.up || self.stopped.is_some() || self.paused_until.is_some_and(|at| at > now) {
            return Ok(());
        }
        self.paused_until = None;
        if self.doubted {
            match self.check().await {
                Ok(()) => {
                    self.doubted = false;
                    self.told_missing = false;
                    self.abandon_inbox();
                    self.back_off();
                    return Ok(());
                }
                Err(error @ BrokerError::Missing { .. }) => {
                    self.back_off();
                    if self.told_missing {
                        return Ok(());
                    }
                    self.told_missing = true;
                    return Err(error);
                }
                Err(_) => {
                    self.back_off();
                    return Ok(());
                }
            }
        }
        let wanted = self
            .wanted
            .saturating_sub(self.checking.len() + self.salvaged.len());
        let Some((id, batch)) = self.pulls.to_ask(wanted) else {
            return Ok(());
        };
        if self.inbox.is_none() && !self.listen(link.losses).await {
            self.back_off();
            return Ok(());
        }
        let Some(inbox) = &self.inbox else {
            return Ok(());
        };
        let reply = format!("{}.{id}", inbox.prefix);
        let subject = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{WORKERS}",
            self.shared.names.stream
        );
        let body = json!({
            "batch": batch,
            "expires": EXPIRES.as_nanos() as u64,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
        });
        let body = Bytes::from(body.to_string());
        let connection = &self.shared.connection;
        let sent = connection
            .send("pull", &subject, Some(&reply), HeaderMap::new(), body)
            .await;
        if sent.is_ok() {
            self.pulls.asked(id, batch, Instant::now());
        } else {
            // It may have been sent after all: then only to an inbox that nobody reads.
            self.abandon_inbox();
            self.back_off();
        }
        Ok(())
    }

    async fn listen(&mut self, losses: u64) -> bool {
        let client = self.shared.connection.client();
        let since = Instant::now();
        let prefix = client.new_inbox();
        match client.subscribe(format!("{prefix}.*")).await {
            Ok(messages) => {
                self.inbox = Some(Inbox {
                    prefix,
                    messages,
                    since,
                    losses,
                });
                true
            }
            Err(_) => false,
        }
    }

    /// What comes on the inbox was not sent before this.
    fn earliest(&self) -> Instant {
        let heard = self.heard.since();
        let inbox = self.inbox.as_ref();
        inbox.map_or(heard, |inbox| heard.max(inbox.since))
    }

    /// Takes in what came and was not sent before `since`: a delivery that can be handed out at once, or nothing yet.
    fn take(&mut self, message: Message, since: Instant) -> Option<T> {
        let suspect = self.suspect > 0;
        self.suspect = self.suspect.saturating_sub(1);
        let until = since + self.lease * 9 / 10;
        if until <= Instant::now() {
            tracing::debug!(
                stream = self.shared.names.stream,
                "a delivery came when its lease may have been over; it comes again"
            );
            return None;
        }
        match (self.take)(message, Terms { suspect, until })? {
            Taken::New(taken) => Some(taken),
            Taken::Check(check) => {
                self.checking.push(check);
                None
            }
        }
    }

    /// What a status of the server means for the request that it ends.
    fn note_status(&mut self, message: &Message) {
        let now = Instant::now();
        let Some(status) = message.status else { return };
        let id = self.inbox.as_ref().and_then(|inbox| {
            message
                .subject
                .strip_prefix(inbox.prefix.as_str())?
                .strip_prefix('.')?
                .parse()
                .ok()
        });
        let pending = message.headers.as_ref().and_then(|headers| {
            headers
                .get("Nats-Pending-Messages")?
                .as_str()
                .parse::<usize>()
                .ok()
        });
        let description = message.description.as_deref().unwrap_or_default();
        if status.as_u16() == 100 {
            self.pulls.alive(now);
            return;
        }
        match (id, pending) {
            (Some(id), Some(pending)) => self.pulls.ended(id, pending, now),
            // How much of it is left is unknown: everything is asked anew.
            _ => self.abandon_inbox(),
        }
        match status.as_u16() {
            404 | 408 => {}
            409 if description.contains("Leadership") || description.contains("Shutdown") => {
                self.back_off();
            }
            409 if description.contains("Deleted") => {
                self.doubted = true;
            }
            503 => {
                self.doubted = true;
                self.back_off();
            }
            _ => {
                tracing::warn!(
                    stream = self.shared.names.stream,
                    status = status.as_u16(),
                    description,
                    "a pull was refused"
                );
                self.back_off();
            }
        }
    }

    /// When the next step is due although nothing comes.
    fn wake_at(&self) -> Option<Instant> {
        [self.pulls.next_wake(), self.paused_until, self.stopped]
            .into_iter()
            .flatten()
            .min()
    }

    fn hand_out(&mut self, taken: T) -> T {
        self.wanted = self.wanted.saturating_sub(1);
        taken
    }

    /// True when nothing can come any more.
    fn is_over(&mut self) -> bool {
        let Some(until) = self.stopped else {
            return false;
        };
        let lost = self.inbox.as_ref().is_some_and(|inbox| {
            let link = *self.link.borrow();
            !link.up || link.losses != inbox.losses
        });
        if lost || Instant::now() >= until {
            self.abandon_inbox();
        }
        self.inbox.is_none() && self.salvaged.is_empty() && self.checking.is_empty()
    }

    pub(crate) fn want(&mut self, more: usize) {
        if self.stopped.is_none() {
            self.wanted += more;
        }
    }

    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// The next one; see [`Consumer::next`].
    pub(crate) async fn next(&mut self) -> Result<Option<T>, BrokerError> {
        loop {
            if self.is_over() {
                return Ok(None);
            }
            while let Some((message, since)) = self.salvaged.pop_front() {
                if let Some(delivery) = self.take(message, since) {
                    return Ok(Some(self.hand_out(delivery)));
                }
            }
            self.ask().await?;
            let wake = self.wake_at();
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => future::pending().await,
                }
            };
            let message = async {
                match &mut self.inbox {
                    Some(inbox) => inbox.messages.next().await,
                    None => future::pending().await,
                }
            };
            // Dropping any of these loses nothing: each is asked again.
            tokio::select! {
                biased;
                Some(checked) = self.checking.next(), if !self.checking.is_empty() => {
                    if let Some(delivery) = checked {
                        return Ok(Some(self.hand_out(delivery)));
                    }
                }
                message = message => match message {
                    Some(message) if message.status.is_some() => self.note_status(&message),
                    Some(message) => {
                        self.pulls.delivered(Instant::now());
                        self.went_well();
                        let since = self.earliest();
                        if let Some(delivery) = self.take(message, since) {
                            return Ok(Some(self.hand_out(delivery)));
                        }
                    }
                    None => {
                        self.inbox = None;
                        self.pulls.clear();
                        self.back_off();
                    }
                },
                changed = self.link.changed() => if changed.is_err() {
                    // The client is gone, which only happens when the process ends.
                    future::pending::<()>().await;
                },
                () = sleep => {}
            }
        }
    }

    pub(crate) async fn stop(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        self.stopped = Some(Instant::now() + LAST_ARRIVALS);
        self.wanted = 0;
        let Some(inbox) = &mut self.inbox else { return };
        // The server sends nothing to an inbox without listener; what it has sent still comes.
        let drained = tokio::time::timeout(LAST_ARRIVALS, inbox.messages.drain()).await;
        if !matches!(drained, Ok(Ok(()))) {
            self.abandon_inbox();
        }
    }
}

#[async_trait]
impl Consumer for Puller<Delivery> {
    fn want(&mut self, more: usize) {
        Puller::want(self, more);
    }

    fn wanted(&self) -> usize {
        Puller::wanted(self)
    }

    async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        Puller::next(self).await
    }

    async fn stop(&mut self) {
        Puller::stop(self).await;
    }
}
