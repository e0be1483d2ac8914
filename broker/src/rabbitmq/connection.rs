//! Connections to the broker: one to publish, one to consume, kept for ever.
//!
//! They are two because a broker that is out of memory or disk stops reading from connections that
//! publish, and acknowledgements must get through then. When one of them is lost, both are: what was
//! delivered on the old connection cannot be settled on a new one, and everything that belongs to it
//! ends with its [`Live`]. Nothing is buffered while there is none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::address::Address;
use super::management::Management;
use super::version;
use crate::error::BrokerError;
use crate::task;

/// How long an answer may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often the state of a connection is looked at beside its events.
const LOOK: Duration = Duration::from_secs(1);

/// What an operation on the broker ended with.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no such queue.
    Missing,
    /// A queue of this name is made differently.
    Differs(String),
    /// Somebody else holds it exclusively.
    Locked,
    /// The queue takes no more.
    Full,
    /// Anything else.
    Broker(BrokerError),
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

impl Failure {
    /// The error, said of `what`.
    pub(crate) fn told(self, what: &str) -> BrokerError {
        match self {
            Self::Missing => BrokerError::Missing {
                what: what.to_owned(),
            },
            Self::Differs(how) => BrokerError::Conflict {
                what: what.to_owned(),
                owner: format!("somebody who made it differently ({how})"),
            },
            Self::Locked => BrokerError::Unreachable {
                servers: what.to_owned(),
                why: "its topology is being changed by others".to_owned(),
            },
            Self::Full => BrokerError::Full {
                what: what.to_owned(),
            },
            Self::Broker(error) => error,
        }
    }
}

/// Two connections that live and end together.
pub(crate) struct Live {
    consuming: lapin::Connection,
    publishing: lapin::Connection,
    /// Streams are read on a connection of its own, made when it is needed: the broker ends the
    /// connection of whoever reads a stream that is just being made, moved or removed.
    reading: tokio::sync::Mutex<Option<lapin::Connection>>,
    connect: Connect,
    /// Why it was lost.
    why: Arc<Mutex<String>>,
    /// The channel of publications; one that was closed by a refusal is replaced.
    publisher: Mutex<Channel>,
    /// Cancelled when either connection is lost.
    pub(crate) lost: CancellationToken,
    shown: Arc<str>,
    _watching: [AbortOnDropHandle<()>; 2],
}

/// How to connect to one node.
#[derive(Clone)]
struct Connect {
    address: Address,
    vhost: String,
    tls: OwnedTLSConfig,
}

impl Connect {
    async fn connect(&self, role: &str) -> lapin::Result<lapin::Connection> {
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("weir {role}").into())
            .configure_backoff(|backoff| backoff.with_max_times(0));
        let runtime = lapin::runtime::default_runtime()?;
        let uri = self.address.uri(&self.vhost);
        lapin::Connection::connect_uri_with_config(uri, properties, self.tls.clone(), runtime).await
    }
}

impl Live {
    async fn open(connect: Connect) -> lapin::Result<Self> {
        let publishing = connect.connect("publishing").await?;
        let consuming = connect.connect("consuming").await?;
        let publisher = confirming(&publishing).await?;
        let lost = CancellationToken::new();
        let why = Arc::new(Mutex::new("the connection was lost".to_owned()));
        let watching = [&publishing, &consuming].map(|connection| {
            let (lost, status, why) = (lost.clone(), connection.status().clone(), Arc::clone(&why));
            let mut events = connection.events_listener();
            task::start(async move {
                loop {
                    let event = tokio::time::timeout(LOOK, events.next()).await;
                    let ended = match event {
                        Ok(Some(Event::Error(error))) => {
                            let ended = !status.connected();
                            if ended {
                                *why.lock().unwrap_or_else(PoisonError::into_inner) =
                                    format!("the connection was lost: {error}");
                            }
                            ended
                        }
                        Ok(None) => true,
                        Ok(Some(_)) | Err(_) => !status.connected(),
                    };
                    if ended {
                        lost.cancel();
                        return;
                    }
                }
            })
        });
        Ok(Self {
            consuming,
            publishing,
            reading: tokio::sync::Mutex::new(None),
            why,
            publisher: Mutex::new(publisher),
            lost,
            shown: connect.address.shown().into(),
            connect,
            _watching: watching,
        })
    }

    pub(crate) fn unreachable(&self, why: impl Into<String>) -> BrokerError {
        BrokerError::Unreachable {
            servers: self.shown.to_string(),
            why: why.into(),
        }
    }

    /// How it is told that the connection was lost.
    pub(crate) fn was_lost(&self) -> BrokerError {
        self.unreachable(self.why_lost())
    }

    fn why_lost(&self) -> String {
        self.why
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Runs `work` while the connections last, at most [`REQUEST_TIMEOUT`].
    pub(crate) async fn within<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Failure> {
        self.within_for(REQUEST_TIMEOUT, operation, work).await
    }

    /// Runs `work` while the connections last, at most so long.
    async fn within_for<T>(
        &self,
        patience: Duration,
        operation: &'static str,
        work: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => done.map_err(|error| self.failure(operation, &error)),
            () = self.lost.cancelled() => Err(self.was_lost().into()),
            () = tokio::time::sleep(patience) => Err(BrokerError::TimedOut {
                operation,
                after: patience,
            }
            .into()),
        }
    }

    /// What an error of the client means.
    pub(crate) fn failure(&self, operation: &'static str, error: &lapin::Error) -> Failure {
        let lapin::ErrorKind::ProtocolError(refusal) = error.kind() else {
            return self.unreachable(error.to_string()).into();
        };
        let why = refusal.get_message().as_str().to_owned();
        match refusal.get_id() {
            404 if why.contains("no queue") || why.contains("no exchange") => Failure::Missing,
            405 => Failure::Locked,
            // The broker ends connections when it stops, and when what is asked for is not ready.
            // A queue whose node is down, or has only just started, is not found, either.
            320 | 404 | 541 => self.unreachable(why).into(),
            406 if why.contains("larger than") => BrokerError::TooLarge {
                size: 0,
                limit: super::MAX_MESSAGE_BYTES,
            }
            .into(),
            406 => Failure::Differs(why),
            _ => BrokerError::Refused { operation, why }.into(),
        }
    }

    /// A channel to consume on.
    pub(crate) async fn consuming_channel(&self) -> Result<Channel, Failure> {
        self.within("open channel", self.consuming.create_channel())
            .await
    }

    /// A channel to read streams on.
    pub(crate) async fn reading_channel(&self) -> Result<Channel, Failure> {
        let mut reading = self.reading.lock().await;
        if reading
            .as_ref()
            .is_none_or(|known| !known.status().connected())
        {
            let made = self
                .within("connect", self.connect.connect("reading"))
                .await?;
            *reading = Some(made);
        }
        match &*reading {
            Some(connection) => {
                self.within("open channel", connection.create_channel())
                    .await
            }
            None => Err(self.unreachable("there is no connection").into()),
        }
    }

    /// A channel on the publishing connection, for questions and changes.
    pub(crate) async fn asking_channel(&self) -> Result<Channel, Failure> {
        self.within("open channel", self.publishing.create_channel())
            .await
    }

    /// Publishes to a queue and waits until the broker has stored it.
    pub(crate) async fn publish(
        &self,
        operation: &'static str,
        queue: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), Failure> {
        if self.publishing.status().blocked() {
            return Err(BrokerError::Full {
                what: "the broker (it is out of memory or disk)".to_owned(),
            }
            .into());
        }
        let channel = self.publisher().await?;
        self.publish_on(
            &channel,
            operation,
            queue,
            properties,
            body,
            REQUEST_TIMEOUT,
        )
        .await
    }

    /// As [`Live::publish`], on a channel that has confirms.
    pub(crate) async fn publish_on(
        &self,
        channel: &Channel,
        operation: &'static str,
        queue: &str,
        properties: BasicProperties,
        body: &[u8],
        patience: Duration,
    ) -> Result<(), Failure> {
        let options = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let work = async {
            channel
                .basic_publish("".into(), queue.into(), options, body, properties)
                .await?
                .await
        };
        match self.within_for(patience, operation, work).await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(self.returned(queue).await),
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(Failure::Full),
        }
    }

    /// Why a message to `queue` came back. A broker that has just started finds a queue a moment after it
    /// listens: what is not there now may be there.
    async fn returned(&self, queue: &str) -> Failure {
        match self.ready(queue).await {
            Ok(_) => self
                .unreachable(format!("queue {queue} is only just there"))
                .into(),
            Err(failure) => failure,
        }
    }

    async fn publisher(&self) -> Result<Channel, Failure> {
        let known = self
            .publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if known.status().connected() {
            return Ok(known);
        }
        let made = self
            .within("open channel", confirming(&self.publishing))
            .await?;
        let mut publisher = self
            .publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        publisher.clone_from(&made);
        Ok(made)
    }

    /// A channel with confirms on the publishing connection.
    pub(crate) async fn confirming_channel(&self) -> Result<Channel, Failure> {
        self.within("open channel", confirming(&self.publishing))
            .await
    }

    /// How many messages of a queue are ready; of a stream, how many it holds.
    pub(crate) async fn ready(&self, queue: &str) -> Result<u64, Failure> {
        let channel = self.asking_channel().await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
        let found = self.within("read queue", declared).await?;
        let ready = u64::from(found.message_count());
        close(channel);
        Ok(ready)
    }
}

/// Ends a channel that was used well; dropping it does that.
pub(crate) fn close(channel: Channel) {
    drop(channel);
}

/// Closes a channel, and drops the consumers that were on it after that. Before, the library would cancel
/// them, each in a task of its own, and end the whole connection where the channel is closing by then. Nor would
/// it close a channel on which there is something that nobody took.
pub(crate) fn end<T: Send + 'static>(channel: Channel, consumers: T) {
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    task::start(async move {
        // Where it is closed already, that was the aim.
        let _ = channel.close(200, "OK".into()).await;
        drop(consumers);
    })
    .detach();
}

async fn confirming(connection: &lapin::Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

/// What there is at the moment.
#[derive(Clone, Default)]
enum State {
    #[default]
    Down,
    Up(Arc<Live>),
    /// The server is too old.
    Refused(BrokerError),
}

/// The connections, whatever they are at the moment. Clones share them.
#[derive(Clone)]
pub(crate) struct Connection {
    state: watch::Receiver<State>,
    connected: watch::Receiver<bool>,
    pub(crate) management: Management,
    shown: Arc<str>,
    last_error: Arc<Mutex<String>>,
    version: Arc<Mutex<Option<String>>>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Connection {
    /// Starts to connect and returns at once. An error means that the configuration cannot work.
    pub(crate) async fn open(
        uri_file: &str,
        management_url: Option<&str>,
        vhost: Option<&str>,
        ca_file: Option<&str>,
    ) -> Result<Self, BrokerError> {
        let addresses = Address::read(uri_file).await?;
        let first = &addresses[0];
        let vhost = vhost.unwrap_or_else(|| first.vhost());
        let own = first.management();
        let management = Management::new(management_url.unwrap_or(&own), vhost, uri_file, ca_file)?;
        let shown: Vec<String> = addresses.iter().map(Address::shown).collect();
        let (state_tx, state) = watch::channel(State::Down);
        let (connected_tx, connected) = watch::channel(false);
        let last_error = Arc::new(Mutex::new("not connected yet".to_owned()));
        let version = Arc::new(Mutex::new(None));
        let keeper = Keeper {
            uri_file: uri_file.to_owned(),
            vhost: vhost.to_owned(),
            ca_file: ca_file.map(str::to_owned),
            management: management.clone(),
            state: state_tx,
            connected: connected_tx,
            last_error: Arc::clone(&last_error),
            version: Arc::clone(&version),
        };
        Ok(Self {
            state,
            connected,
            management,
            shown: shown.join(",").into(),
            last_error,
            version,
            _task: Arc::new(task::start(keeper.run())),
        })
    }

    pub(crate) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// The connections, if there are any.
    pub(crate) fn live(&self) -> Result<Arc<Live>, BrokerError> {
        match &*self.state.borrow() {
            State::Up(live) if !live.lost.is_cancelled() => Ok(Arc::clone(live)),
            State::Refused(error) => Err(error.clone()),
            State::Up(_) | State::Down => Err(self.unreachable()),
        }
    }

    /// Waits for connections.
    pub(crate) async fn when_live(&self) -> Arc<Live> {
        let mut state = self.state.clone();
        loop {
            if let State::Up(live) = &*state.borrow_and_update()
                && !live.lost.is_cancelled()
            {
                return Arc::clone(live);
            }
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(crate) fn unreachable(&self) -> BrokerError {
        let why = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        BrokerError::Unreachable {
            servers: self.shown.to_string(),
            why,
        }
    }

    /// The version of the server. Refuses one that is too old.
    pub(crate) async fn version(&self) -> Result<String, BrokerError> {
        self.live()?;
        let known = self
            .version
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let version = match known {
            Some(version) => version,
            None => self.management.version().await?,
        };
        version::check(&version)?;
        Ok(version)
    }
}

/// The task that keeps the connections.
struct Keeper {
    uri_file: String,
    vhost: String,
    ca_file: Option<String>,
    management: Management,
    state: watch::Sender<State>,
    connected: watch::Sender<bool>,
    last_error: Arc<Mutex<String>>,
    version: Arc<Mutex<Option<String>>>,
}

impl Keeper {
    async fn run(self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.connect().await {
                Ok(live) => {
                    pause = SHORTEST_PAUSE;
                    self.note_version(&live).await;
                    if matches!(*self.state.borrow(), State::Refused(_)) {
                        pause = LONGEST_PAUSE;
                    } else {
                        tracing::info!(server = %live.shown, "connected to RabbitMQ");
                        self.state.send_replace(State::Up(Arc::clone(&live)));
                        self.connected.send_replace(true);
                        live.lost.cancelled().await;
                        let why = live.why_lost();
                        self.state.send_replace(State::Down);
                        self.connected.send_replace(false);
                        tracing::warn!(server = %live.shown, why, "not connected to RabbitMQ");
                        self.note(why);
                    }
                }
                Err(why) => self.note(why),
            }
            let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            tokio::time::sleep(jittered).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn note(&self, why: String) {
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *last != why {
            tracing::debug!(why, "no connection to RabbitMQ");
        }
        *last = why;
    }

    /// Reads the version where the management API can be reached; who makes topology asks again.
    async fn note_version(&self, live: &Live) {
        let found = tokio::select! {
            found = self.management.version() => found.ok(),
            () = live.lost.cancelled() => None,
        };
        let refusal = found
            .as_deref()
            .and_then(|found| version::check(found).err());
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = found;
        match refusal {
            Some(error) => self.state.send_replace(State::Refused(error)),
            None => self.state.send_replace(State::Down),
        };
    }

    async fn connect(&self) -> Result<Arc<Live>, String> {
        let addresses = Address::read(&self.uri_file)
            .await
            .map_err(|error| error.to_string())?;
        let cert_chain = match &self.ca_file {
            Some(path) => Some(
                tokio::fs::read_to_string(path)
                    .await
                    .map_err(|error| format!("CA file {path}: {error}"))?,
            ),
            None => None,
        };
        let tls = OwnedTLSConfig {
            identity: None,
            cert_chain,
        };
        let address = &addresses[fastrand::usize(..addresses.len())];
        let connect = Connect {
            address: address.clone(),
            vhost: self.vhost.clone(),
            tls,
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, Live::open(connect)).await;
        match opened {
            Ok(Ok(live)) => Ok(Arc::new(live)),
            Ok(Err(error)) => Err(format!("{}: {error}", address.shown())),
            Err(_) => Err(format!("{}: no answer", address.shown())),
        }
    }
}
