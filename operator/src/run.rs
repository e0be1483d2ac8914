//! The whole operator: takes the lease, then watches, reconciles and looks at numbers until it is
//! told to end or loses the lease.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease as LeaseRecord;
use kube::runtime::Controller;
use kube::runtime::controller::{Config, Error as ControllerError};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir_broker::Clock;
use weir_crds::{FifoConsumer, MessageBus, QueueConsumer, Webhook};

use crate::applier::Applier;
use crate::backoff::Backoff;
use crate::brokers::{Brokers, Connect, Credentials};
use crate::context::{Context, Events, Places};
use crate::fence::Fence;
use crate::health::Health;
use crate::hub::{self, Concerns};
use crate::kinds::Kind as _;
use crate::lease::{Lease, Lost, Times};
use crate::memory::{Key, Memory};
use crate::metrics::Metrics;
use crate::numbers;
use crate::ops::{self, OpsListener};
use crate::probe::Probe;
use crate::reconcile::{on_error, reconcile};
use crate::runtime_shell::RuntimeShell;
use crate::seen_configs::SeenConfigs;
use crate::settings::Settings;
use crate::stores::{Scope, ScopeStores, Stored};
use crate::world::{Cluster, Name};

/// Keys that wait to be scheduled.
const WAITING: usize = 1024;
/// How often connections to brokers are looked at.
const BROKER_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for running reconciles at the end.
const DRAIN: Duration = Duration::from_secs(20);

/// Everything that an operator is made of.
pub struct Parts {
    /// For everything but the lease; fenced by `fence`.
    pub client: Client,
    /// For the lease, and to ask who may use the ops API; not fenced.
    pub lease_client: Client,
    /// Opened by the lease.
    pub fence: Fence,
    /// Where the lease is.
    pub lease_namespace: String,
    /// Times of the lease.
    pub lease_times: Times,
    /// Name of this process.
    pub identity: String,
    /// The service account of this process.
    pub account: Name,
    /// What is watched.
    pub scopes: Vec<Scope>,
    /// What is rendered.
    pub cluster: Cluster,
    /// Times and limits.
    pub settings: Settings,
    /// Makes connections to brokers.
    pub connect: Arc<dyn Connect>,
    /// A folder for credentials, of this process alone.
    pub credentials: std::path::PathBuf,
    /// Asks the data plane.
    pub probe: Arc<dyn Probe>,
    /// Where users of the cluster look at queues; nowhere without it.
    pub ops: Option<OpsListener>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Signs of life.
    pub health: Arc<Health>,
}

/// Why the operator ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The lease is lost; another process may be writing.
    #[error(transparent)]
    Lease(#[from] Lost),
    /// A task that must not end did.
    #[error("{0} ended")]
    Task(&'static str),
}

/// Runs until `shutdown`, or until it cannot go on.
pub async fn run(parts: Parts, shutdown: CancellationToken) -> Result<(), Ended> {
    let leases: Api<LeaseRecord> =
        Api::namespaced(parts.lease_client.clone(), &parts.lease_namespace);
    let clock = Arc::clone(&parts.clock);
    let (fence, metrics) = (parts.fence.clone(), Arc::clone(&parts.metrics));
    let identity = parts.identity.clone();
    let mut lease = Lease::new(leases, identity, parts.lease_times, fence, clock.as_ref());
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = lease.acquire() => {}
    }
    tracing::info!("the lease is held");
    metrics.leader(true);
    let mut tasks = start(parts, &shutdown);
    let ended = tokio::select! {
        lost = lease.hold() => {
            // The fence is closed; what runs is not waited for.
            metrics.leader(false);
            return Err(lost.into());
        }
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            // Tasks end when told to: that is no failure.
            Ok(_) if shutdown.is_cancelled() => Ok(()),
            ended => Err(Ended::Task(ended.unwrap_or("a task that panicked"))),
        },
    };
    shutdown.cancel();
    let drained = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        lost = lease.hold() => return Err(lost.into()),
        done = timeout(DRAIN, drained) => {
            if done.is_err() {
                tracing::warn!("reconciles were still running at the end");
            }
        }
    }
    lease.release().await;
    ended
}

/// Starts all tasks. Each of them ends only when told to; its result is its name.
fn start(parts: Parts, shutdown: &CancellationToken) -> JoinSet<&'static str> {
    let Parts {
        client,
        settings,
        metrics,
        fence,
        health,
        scopes,
        ops,
        lease_client,
        ..
    } = parts;
    let (stores, writers) = hub::stores(&client, &scopes);
    let folder = parts.credentials;
    let credentials = Credentials::new(
        client.clone(),
        folder,
        parts.account,
        settings.credentials_ttl,
    );
    let context = Arc::new(Context {
        applier: Applier::new(client.clone(), Arc::clone(&metrics)),
        brokers: Brokers::new(
            parts.connect,
            credentials,
            fence.clone(),
            Arc::clone(&metrics),
            &settings,
        ),
        events: Events::new(client.clone(), parts.identity),
        backoff: Backoff::new(settings.first_pause, settings.longest_pause),
        runtimes: RuntimeShell::default(),
        seen_configs: SeenConfigs::default(),
        memory: Memory::default(),
        places: Places::default(),
        probe: parts.probe,
        clock: parts.clock,
        cluster: parts.cluster,
        stores: stores.clone(),
        client: client.clone(),
        settings: settings.clone(),
        metrics,
    });
    let concerns = Arc::new(Concerns::new(Arc::clone(&context)));
    let mut tasks = JoinSet::new();
    let mut queues = Vec::new();
    for scope in stores.scopes() {
        let (senders, receivers) = Senders::new(&scope.scope);
        queues.push(senders);
        let Receivers {
            buses,
            queues,
            fifos,
            webhooks,
        } = receivers;
        tasks.spawn(control::<MessageBus>(
            scope.clone(),
            buses,
            context.clone(),
            shutdown.clone(),
        ));
        tasks.spawn(control::<QueueConsumer>(
            scope.clone(),
            queues,
            context.clone(),
            shutdown.clone(),
        ));
        tasks.spawn(control::<FifoConsumer>(
            scope.clone(),
            fifos,
            context.clone(),
            shutdown.clone(),
        ));
        tasks.spawn(control::<Webhook>(
            scope.clone(),
            webhooks,
            context.clone(),
            shutdown.clone(),
        ));
    }
    let changes = hub::changes(&client, writers, &concerns, &health, &settings);
    let lost = broker_changes(Arc::clone(&context), concerns);
    let (busy, to_busy) = mpsc::channel(WAITING);
    let busy_keys = stream::unfold(to_busy, async |mut keys| Some((keys.recv().await?, keys)));
    let all = stream::select_all([changes.boxed(), lost.boxed(), busy_keys.boxed()]);
    tasks.spawn(dispatch(all, queues, shutdown.clone()));
    if let Some(ops) = ops {
        let serving = ops::serve(
            ops,
            Arc::clone(&context),
            fence,
            lease_client,
            shutdown.clone(),
        );
        tasks.spawn(async move {
            serving.await;
            "the ops server"
        });
    }
    let (ending, context) = (shutdown.clone(), context);
    tasks.spawn(async move {
        tokio::select! {
            () = numbers::run(context, busy) => {}
            () = ending.cancelled() => {}
        }
        "the reader of numbers"
    });
    tasks
}

/// Objects whose broker was lost or came back.
fn broker_changes(
    context: Arc<Context>,
    concerns: Arc<Concerns>,
) -> impl stream::Stream<Item = Key> {
    let mut ticks = interval(BROKER_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold(
        (ticks, context, concerns),
        |(mut ticks, context, concerns)| async move {
            ticks.tick().await;
            let keys: Vec<Key> = context
                .brokers
                .changes()
                .into_iter()
                .flat_map(|bus| {
                    let itself = Key {
                        kind: MessageBus::NAME,
                        name: bus.clone(),
                    };
                    concerns.users(&bus).into_iter().chain([itself])
                })
                .collect();
            Some((keys, (ticks, context, concerns)))
        },
    )
    .flat_map(stream::iter)
}

/// Where the keys of one scope go.
struct Senders {
    scope: Scope,
    buses: mpsc::Sender<Name>,
    queues: mpsc::Sender<Name>,
    fifos: mpsc::Sender<Name>,
    webhooks: mpsc::Sender<Name>,
}

struct Receivers {
    buses: mpsc::Receiver<Name>,
    queues: mpsc::Receiver<Name>,
    fifos: mpsc::Receiver<Name>,
    webhooks: mpsc::Receiver<Name>,
}

impl Senders {
    fn new(scope: &Scope) -> (Self, Receivers) {
        let (buses, from_buses) = mpsc::channel(WAITING);
        let (queues, from_queues) = mpsc::channel(WAITING);
        let (fifos, from_fifos) = mpsc::channel(WAITING);
        let (webhooks, from_webhooks) = mpsc::channel(WAITING);
        let receivers = Receivers {
            buses: from_buses,
            queues: from_queues,
            fifos: from_fifos,
            webhooks: from_webhooks,
        };
        (
            Self {
                scope: scope.clone(),
                buses,
                queues,
                fifos,
                webhooks,
            },
            receivers,
        )
    }

    fn of(&self, kind: &str) -> &mpsc::Sender<Name> {
        match kind {
            QueueConsumer::NAME => &self.queues,
            FifoConsumer::NAME => &self.fifos,
            Webhook::NAME => &self.webhooks,
            _ => &self.buses,
        }
    }
}

/// Sends each key to the controller of its kind and scope.
async fn dispatch(
    keys: impl stream::Stream<Item = Key>,
    queues: Vec<Senders>,
    shutdown: CancellationToken,
) -> &'static str {
    let sending = async {
        let mut keys = std::pin::pin!(keys);
        while let Some(key) = keys.next().await {
            let senders = queues
                .iter()
                .find(|senders| senders.scope.covers(&key.name.namespace));
            if let Some(senders) = senders
                && senders.of(key.kind).send(key.name).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = shutdown.cancelled() => {}
    }
    "the watches"
}

/// Schedules the reconciles of one kind in one scope.
async fn control<K: Stored>(
    scope: ScopeStores,
    names: mpsc::Receiver<Name>,
    context: Arc<Context>,
    shutdown: CancellationToken,
) -> &'static str {
    let references = stream::unfold(names, |mut names| async move {
        let name = names.recv().await?;
        Some((ObjectRef::new(&name.name).within(&name.namespace), names))
    });
    // Places are given out by `reconcile`, where deletions have their own.
    let config = Config::default()
        .debounce(context.settings.debounce)
        .concurrency(0);
    Controller::for_stream(stream::pending(), K::store(&scope).clone())
        .with_config(config)
        .reconcile_on(references)
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile::<K>, on_error::<K>, context)
        .for_each(|result| async move {
            match result {
                // Gone meanwhile, or told by `on_error`.
                Ok(_)
                | Err(ControllerError::ObjectNotFound(_) | ControllerError::ReconcilerFailed(..)) =>
                    {}
                Err(error) => tracing::warn!(kind = K::NAME, %error, "controller failed"),
            }
        })
        .await;
    K::NAME
}

/// Waits until the API server answers and knows our kinds, then says so again and again.
pub async fn watch_readiness(client: Client, scopes: Vec<Scope>, health: Arc<Health>) {
    loop {
        let ready = timeout(Duration::from_secs(10), knows_kinds(&client, &scopes)).await;
        let ready = ready.unwrap_or_else(|_| Err("no answer".to_owned()));
        if let Err(why) = &ready {
            tracing::warn!(why, "not ready");
        }
        health.set_ready(ready.is_ok());
        sleep(Duration::from_secs(if ready.is_ok() { 30 } else { 2 })).await;
    }
}

async fn knows_kinds(client: &Client, scopes: &[Scope]) -> Result<(), String> {
    async fn knows<K: Stored>(client: &Client, scope: &Scope) -> Result<(), String> {
        let api: Api<K> = scope.api(client.clone());
        let one = kube::api::ListParams::default().limit(1);
        // Only the metadata: an object that cannot be read is another matter.
        api.list_metadata(&one)
            .await
            .map(|_| ())
            .map_err(|error| format!("{}: {error}", K::NAME))
    }
    for scope in scopes {
        knows::<MessageBus>(client, scope).await?;
        knows::<QueueConsumer>(client, scope).await?;
        knows::<FifoConsumer>(client, scope).await?;
        knows::<Webhook>(client, scope).await?;
    }
    Ok(())
}
