//! One runtime, one broker, one handler; requests by a small client. Waits are on a state, with a
//! deadline.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir_broker::{BrokerError, Depth, MemoryBroker, QueueSpec, SystemClock, Transport, WorkQueue};
use weir_core::config::{
    BusConfig, ConsumerConfig, IntakeConfig, ObjectConfig, Protocol, QueueConfig, RetryConfig,
    TargetConfig, VERSION,
};
use weir_core::object::{Kind, ObjectKey};
use weir_sidecar::{Config, ConfigSource, Connect, Listeners, RunError, Settings, run};

/// Longest wait for anything in these tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A runtime that runs.
pub struct Weir {
    pub broker: Arc<MemoryBroker>,
    pub config: watch::Sender<Arc<Config>>,
    pub intake: SocketAddr,
    pub admin: SocketAddr,
    pub ops: SocketAddr,
    pub shutdown: CancellationToken,
    running: JoinSet<Result<(), RunError>>,
}

struct OnlyMemory(Arc<MemoryBroker>);

#[async_trait]
impl Connect for OnlyMemory {
    async fn connect(&self, bus: &BusConfig) -> Result<Arc<dyn Transport>, BrokerError> {
        assert_eq!(*bus, BusConfig::Memory {});
        Ok(self.0.clone())
    }
}

/// Short times, so that tests need not wait.
pub fn settings() -> Settings {
    Settings {
        readiness_interval: Duration::from_millis(10),
        housekeeping_interval: Duration::from_millis(20),
        config_interval: Duration::from_millis(20),
        allow_loopback_targets: true,
        ..Settings::default()
    }
}

pub async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl Weir {
    /// Runs these objects on a broker of their own.
    pub async fn start(objects: Vec<ObjectConfig>) -> Self {
        Self::start_with(objects, settings()).await
    }

    pub async fn start_with(objects: Vec<ObjectConfig>, settings: Settings) -> Self {
        let broker = MemoryBroker::new(Arc::new(SystemClock));
        for object in &objects {
            apply(&broker, object).await;
        }
        Self::start_on(broker, objects, settings).await
    }

    /// Runs these objects on a broker that others may share.
    pub async fn start_on(
        broker: Arc<MemoryBroker>,
        objects: Vec<ObjectConfig>,
        settings: Settings,
    ) -> Self {
        let (config, updates) = watch::channel(Config::of(objects));
        let weir = Self::start_from(broker, ConfigSource::Updates(updates), config, settings).await;
        let objects = weir.config.borrow().objects.len();
        weir.served(objects).await;
        weir
    }

    pub async fn start_from(
        broker: Arc<MemoryBroker>,
        source: ConfigSource,
        config: watch::Sender<Arc<Config>>,
        settings: Settings,
    ) -> Self {
        let (intake, admin, ops) = (listener().await, listener().await, listener().await);
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        let (addresses, broker_of) = (
            [address(&intake), address(&admin), address(&ops)],
            broker.clone(),
        );
        let connect = Arc::new(OnlyMemory(broker_of));
        let listeners = Listeners {
            intake,
            admin: Some(admin),
            ops: Some(ops),
        };
        let stop = shutdown.clone();
        running.spawn(async move {
            run(
                source,
                connect,
                Arc::new(SystemClock),
                listeners,
                settings,
                stop,
            )
            .await
        });
        let [intake, admin, ops] = addresses;
        Self {
            broker,
            config,
            intake,
            admin,
            ops,
            shutdown,
            running,
        }
    }

    /// Waits until so many objects are served and connected.
    pub async fn served(&self, objects: usize) {
        until("the objects are served", || async {
            let body = get(self.admin, "/objects").await.json();
            let served = body["objects"].as_array().unwrap();
            let connected = !*self.broker.connected().borrow()
                || served.iter().all(|object| object["connected"] == true);
            served.len() == objects && connected
        })
        .await;
    }

    /// Serves these objects instead.
    pub async fn reconfigure(&self, objects: Vec<ObjectConfig>) {
        for object in &objects {
            apply(&self.broker, object).await;
        }
        self.config.send_replace(Config::of(objects));
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        send(self.intake, Request::post(path), body).await
    }

    pub fn queue(&self, object: &ObjectConfig) -> Arc<dyn WorkQueue> {
        self.broker.queue(&spec(object))
    }

    pub async fn depth(&self, object: &ObjectConfig) -> Depth {
        self.queue(object).depth().await.unwrap()
    }

    /// Waits until nothing waits, runs or is delayed.
    pub async fn settled(&self, object: &ObjectConfig) -> Depth {
        until("every message is settled", || async {
            let depth = self.depth(object).await;
            depth.ready + depth.in_flight + depth.delayed == 0
        })
        .await;
        self.depth(object).await
    }

    /// What `/objects` says about an object.
    pub async fn object(&self, name: &str) -> Value {
        let body = get(self.admin, "/objects").await.json();
        let objects = body["objects"].as_array().unwrap();
        objects
            .iter()
            .find(|object| object["name"] == name)
            .cloned()
            .unwrap_or_default()
    }

    /// The value of one series, 0 when there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = get(self.admin, "/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits for the runtime to end by itself or because it was told to.
    pub async fn end(mut self) -> Result<(), RunError> {
        timeout(PATIENCE, self.running.join_next())
            .await
            .expect("it ends")
            .unwrap()
            .unwrap()
    }

    pub async fn stop(self) -> Result<(), RunError> {
        self.shutdown.cancel();
        self.end().await
    }

    /// Ends it at once, as SIGKILL would.
    pub async fn kill(mut self) {
        self.running.shutdown().await;
    }
}

/// Waits for a state.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let check = async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, check)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

pub fn spec(object: &ObjectConfig) -> QueueSpec {
    QueueSpec {
        object: object.object.clone(),
        uid: object.uid.clone(),
        config: object.queue.clone(),
    }
}

pub async fn apply(broker: &MemoryBroker, object: &ObjectConfig) {
    broker.apply_queue(&spec(object)).await.unwrap();
}

/// A webhook that takes everything.
pub fn webhook(name: &str) -> ObjectConfig {
    object(Kind::Webhook, name, false)
}

/// A queue with the publish API.
pub fn queue(name: &str) -> ObjectConfig {
    object(Kind::QueueConsumer, name, true)
}

fn object(kind: Kind, name: &str, publish_api: bool) -> ObjectConfig {
    ObjectConfig {
        version: VERSION,
        object: ObjectKey::new(kind, "shop", name),
        uid: format!("uid-{name}"),
        generation: 1,
        bus: BusConfig::Memory {},
        queue: QueueConfig {
            limit: 100,
            batch_max: 1,
            lease_seconds: 30,
            replicas: 1,
            capacity: 100_000,
            dead_letter_retention_seconds: 3600,
        },
        intake: Some(IntakeConfig {
            methods: vec!["POST".to_owned()],
            max_body_bytes: 512 * 1024,
            status: 202,
            verify: None,
            deduplicate: None,
            delay_seconds: 0,
            publish_api,
        }),
        consumer: None,
    }
}

/// Lets a handler consume the object.
pub fn consumed_by(mut object: ObjectConfig, handler: SocketAddr) -> ObjectConfig {
    object.consumer = Some(ConsumerConfig {
        target: TargetConfig::Handler {
            url: format!("http://{handler}/in"),
            readiness_path: None,
        },
        protocol: Protocol::CloudEvents,
        timeout_seconds: 10,
        per_replica: 10,
        batch_window_seconds: 0,
        retry: RetryConfig {
            max_attempts: 3,
            initial_seconds: 0,
            multiplier: 1,
            max_seconds: 0,
            max_age_seconds: 3600,
            permanent_statuses: vec![400, 410],
        },
        paused: false,
    });
    object
}

pub fn consumer(object: &mut ObjectConfig) -> &mut ConsumerConfig {
    object.consumer.as_mut().unwrap()
}

/// What a handler was sent.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A handler's answer to the call of this number (from 0), after whatever time it likes.
pub type Reply = Response<Full<Bytes>>;

/// A little handler that counts.
pub struct Handler {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    calls: Mutex<Vec<Call>>,
    running: AtomicUsize,
    most: AtomicUsize,
    cut: AtomicUsize,
}

struct InCall<'a>(&'a Seen, bool);

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.cut.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Handler {
    /// Answers each call by `reply`.
    pub async fn start<R, F>(reply: R) -> Self
    where
        R: Fn(usize, Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        Self::start_on(listener().await, reply)
    }

    pub fn start_on<R, F>(listener: TcpListener, reply: R) -> Self
    where
        R: Fn(usize, Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, seen.clone(), reply));
        Self {
            address,
            seen,
            tasks,
        }
    }

    /// Answers each call with a status.
    pub async fn answering(status: u16) -> Self {
        Self::start(move |_, _| async move { status_of(status) }).await
    }

    pub fn calls(&self) -> Vec<Call> {
        self.seen.calls.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.calls.lock().unwrap().len()
    }

    /// Most calls that ran at once.
    pub fn most(&self) -> usize {
        self.seen.most.load(Ordering::SeqCst)
    }

    pub fn running(&self) -> usize {
        self.seen.running.load(Ordering::SeqCst)
    }

    /// Calls whose caller went away.
    pub fn cut(&self) -> usize {
        self.seen.cut.load(Ordering::SeqCst)
    }

    pub async fn called(&self, times: usize) {
        until(&format!("{times} calls"), || async {
            self.count() >= times
        })
        .await;
    }

    /// Closes its port and every connection.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept<R, F>(listener: TcpListener, seen: Arc<Seen>, reply: R)
where
    R: Fn(usize, Call) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (seen, reply) = (seen.clone(), reply.clone());
        connections.spawn(async move {
            let service = service_fn(|request| handle(&seen, &reply, request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn handle<R, F>(
    seen: &Seen,
    reply: &R,
    request: Request<Incoming>,
) -> Result<Reply, Infallible>
where
    R: Fn(usize, Call) -> F,
    F: Future<Output = Reply>,
{
    let (parts, body) = request.into_parts();
    let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most.fetch_max(running, Ordering::SeqCst);
    let mut guard = InCall(seen, false);
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let call = Call {
        method: parts.method,
        path: parts.uri.to_string(),
        headers: parts.headers,
        body,
    };
    let number = {
        let mut calls = seen.calls.lock().unwrap();
        calls.push(call.clone());
        calls.len() - 1
    };
    let answer = reply(number, call).await;
    guard.1 = true;
    drop(guard);
    Ok(answer)
}

pub fn status_of(status: u16) -> Reply {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// What was answered to a test.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The `error` of an answer that is not 2xx.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, Request::get(path), "").await
}

/// Sends one request on a connection of its own.
pub async fn send(
    address: SocketAddr,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> Answer {
    let request = request
        .header("host", "weir")
        .body(Full::new(body.into()))
        .unwrap();
    timeout(PATIENCE, exchange(address, request))
        .await
        .expect("an answer in time")
}

async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    }
}

/// How often each body was handled.
pub fn by_body(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(call.text().to_owned()).or_default() += 1;
    }
    counts
}
