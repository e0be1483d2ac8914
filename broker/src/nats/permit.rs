//! Permits for batched calls: `limit` messages that are held unacknowledged and given back.
//!
//! One task of the stream pulls for everybody who waits, so that a permit that arrives for somebody
//! who gave up goes to the next one instead of being lost until its lease ends.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::api::Failure;
use super::connection::Connection;
use super::pull::{EXPIRES, HEARTBEAT, Pulls};
use super::topology::PERMITS;
use crate::error::BrokerError;
use crate::queue::Permit;
use crate::task;

/// Callers that may wait at once in one process.
const MOST_WAITING: usize = 1024;
const PAUSE: Duration = Duration::from_millis(500);

type Waiter = oneshot::Sender<Result<Granted, BrokerError>>;

/// A permit on its way to whoever asked. It goes back when they are not there any more.
struct Granted {
    reply: String,
    /// `None` once it was taken.
    back: Option<mpsc::UnboundedSender<String>>,
}

impl Granted {
    fn taken(mut self) -> String {
        self.back = None;
        std::mem::take(&mut self.reply)
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            drop(back.send(std::mem::take(&mut self.reply)));
        }
    }
}

/// Hands out the permits of one stream to this process.
pub(crate) struct Permits {
    connection: Connection,
    stream: String,
    waiters: mpsc::Sender<Waiter>,
    _task: AbortOnDropHandle<()>,
}

impl Permits {
    pub(crate) fn start(connection: Connection, stream: String) -> Self {
        let (waiters, queue) = mpsc::channel(MOST_WAITING);
        // Holds at most the permits that were granted: bounded by the limit.
        let (back, returned) = mpsc::unbounded_channel();
        let pump = Pump {
            connection: connection.clone(),
            stream: stream.clone(),
            waiting: VecDeque::new(),
            pulls: Pulls::default(),
            inbox: None,
            back,
        };
        let task = task::start(pump.run(queue, returned));
        Self {
            connection,
            stream,
            waiters,
            _task: task,
        }
    }

    /// Waits for a permit.
    pub(crate) async fn take(&self) -> Result<Box<dyn Permit>, BrokerError> {
        let gone = || {
            self.connection
                .unavailable("the permits of this process ended")
        };
        let (waiter, granted) = oneshot::channel();
        self.waiters.send(waiter).await.map_err(|_| gone())?;
        let reply = granted.await.map_err(|_| gone())??.taken();
        Ok(Box::new(NatsPermit {
            connection: self.connection.clone(),
            shown: format!("consumer {PERMITS} of stream {}", self.stream),
            reply,
        }))
    }
}

struct Inbox {
    prefix: String,
    messages: Subscriber,
    losses: u64,
}

struct Pump {
    connection: Connection,
    stream: String,
    waiting: VecDeque<Waiter>,
    pulls: Pulls,
    inbox: Option<Inbox>,
    back: mpsc::UnboundedSender<String>,
}

impl Pump {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Waiter>,
        mut returned: mpsc::UnboundedReceiver<String>,
    ) {
        let mut link = self.connection.link();
        let mut paused_until = Instant::now();
        loop {
            self.waiting.retain(|waiter| !waiter.is_closed());
            let now = *link.borrow_and_update();
            if self
                .inbox
                .as_ref()
                .is_some_and(|inbox| inbox.losses != now.losses)
                || self.pulls.is_silent(Instant::now())
                || self.pulls.is_overdue(Instant::now())
            {
                self.inbox = None;
                self.pulls.clear();
            }
            let mut wake = self
                .pulls
                .next_wake()
                .unwrap_or_else(|| Instant::now() + HEARTBEAT);
            let may_ask = now.up && paused_until <= Instant::now();
            if may_ask && !self.ask(now.losses).await {
                paused_until = Instant::now() + PAUSE;
            }
            if !self.waiting.is_empty() && paused_until > Instant::now() {
                wake = wake.min(paused_until);
            }
            let message = async {
                match &mut self.inbox {
                    Some(inbox) => inbox.messages.next().await,
                    None => futures::future::pending().await,
                }
            };
            tokio::select! {
                waiter = queue.recv() => match waiter {
                    Some(waiter) => self.waiting.push_back(waiter),
                    None => return,
                },
                message = message => match message {
                    Some(message) if message.status.is_some() => {
                        if !self.note_status(&message).await {
                            paused_until = Instant::now() + PAUSE;
                        }
                    }
                    Some(message) => {
                        self.pulls.delivered(Instant::now());
                        if let Some(reply) = message.reply {
                            self.grant(reply.as_str().to_owned()).await;
                        }
                    }
                    None => {
                        self.inbox = None;
                        self.pulls.clear();
                    }
                },
                Some(reply) = returned.recv() => self.grant(reply).await,
                changed = link.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Asks for as many permits as there are waiters.
    async fn ask(&mut self, losses: u64) -> bool {
        let Some((id, batch)) = self.pulls.to_ask(self.waiting.len()) else {
            return true;
        };
        if self.inbox.is_none() {
            let prefix = self.connection.client().new_inbox();
            match self
                .connection
                .client()
                .subscribe(format!("{prefix}.*"))
                .await
            {
                Ok(messages) => {
                    self.inbox = Some(Inbox {
                        prefix,
                        messages,
                        losses,
                    });
                }
                Err(_) => return false,
            }
        }
        let Some(inbox) = &self.inbox else {
            return false;
        };
        let reply = format!("{}.{id}", inbox.prefix);
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{PERMITS}", self.stream);
        let body = json!({
            "batch": batch,
            "expires": EXPIRES.as_nanos() as u64,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
        });
        let body = Bytes::from(body.to_string());
        let sent = self
            .connection
            .send("pull", &subject, Some(&reply), HeaderMap::new(), body)
            .await;
        if sent.is_ok() {
            self.pulls.asked(id, batch, Instant::now());
        }
        sent.is_ok()
    }

    /// Gives a permit to whoever has waited longest and still does.
    async fn grant(&mut self, reply: String) {
        let mut granted = Granted {
            reply,
            back: Some(self.back.clone()),
        };
        while let Some(waiter) = self.waiting.pop_front() {
            let Err(Ok(refused)) = waiter.send(Ok(granted)) else {
                return;
            };
            granted = refused;
        }
        let reply = granted.taken();
        let back = Bytes::from_static(b"-NAK");
        if let Err(failure) = self
            .connection
            .request("give back permit", &reply, None, back)
            .await
        {
            let error = failure.told(&self.stream);
            tracing::debug!(%error, "a permit comes back when its lease ends");
        }
    }

    /// False when asking again at once is no use.
    async fn note_status(&mut self, message: &Message) -> bool {
        let Some(status) = message.status else {
            return true;
        };
        if status.as_u16() == 100 {
            self.pulls.alive(Instant::now());
            return true;
        }
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
        if let (Some(id), Some(pending)) = (id, pending) {
            self.pulls.ended(id, pending, Instant::now());
        } else {
            // How much of it is left is unknown: everything is asked anew.
            self.inbox = None;
            self.pulls.clear();
        }
        if status.as_u16() == 503 || status.as_u16() == 409 {
            self.refuse_if_missing().await;
        }
        matches!(status.as_u16(), 404 | 408)
    }

    async fn refuse_if_missing(&mut self) {
        let subject = format!("CONSUMER.INFO.{}.{PERMITS}", self.stream);
        let read: Result<super::api::Done, Failure> = self
            .connection
            .api("read consumer", &subject, &serde_json::Value::Null)
            .await;
        if let Err(failure) = read
            && failure.is_absent()
        {
            let error = failure.told(&format!("consumer {PERMITS} of stream {}", self.stream));
            for waiter in self.waiting.drain(..) {
                drop(waiter.send(Err(error.clone())));
            }
        }
    }
}

struct NatsPermit {
    connection: Connection,
    shown: String,
    reply: String,
}

impl NatsPermit {
    async fn say(&self, operation: &'static str, word: &'static [u8]) -> Result<(), BrokerError> {
        self.connection
            .request(operation, &self.reply, None, Bytes::from_static(word))
            .await
            .map(|_| ())
            .map_err(|failure| failure.told(&self.shown))
    }
}

#[async_trait]
impl Permit for NatsPermit {
    async fn extend(&self) -> Result<(), BrokerError> {
        self.say("extend permit", b"+WPI").await
    }

    async fn release(&self) -> Result<(), BrokerError> {
        self.say("give back permit", b"-NAK").await
    }
}
