//! A consumer: takes tokens, lets as many messages come as they cover and are wanted, keeps the leases.
//!
//! A message that was handled is acknowledged without waiting for the broker, which lets the next one
//! come in its place. One that nobody wants by then waits for a moment and goes back.
//!
//! Everything of one connection is a session. When the connection is lost, so is what was delivered
//! on it, and a new session begins. The task lives as long as the consumer or one of its leases.

mod session;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::session::Session;
use super::connection::{Failure, Live};
use super::lease::Command;
use super::notes::Note;
use super::shared::Shared;
use crate::error::BrokerError;
use crate::queue::{Consumer, Delivery};
use crate::task;

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
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
        if self.told_missing {
            // Who consumes from a queue that is just being removed ends the connection. The work queue
            // is the first to go and the last to come.
            live.ready(&self.shared.names.queue).await?;
        }
        self.note_done().await?;
        let mut session = Session::open(&self.shared, live).await?;
        let ended = self.work(&mut session).await;
        for copy in session.end() {
            self.shared.remember_done(&copy);
            self.unknown.push(copy);
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
}
