//! The data plane of Weir: takes messages in over HTTP, keeps them in a broker, hands them to
//! handlers under limits.
//!
//! Everything is passed in: [`run`] takes its configuration, its connections, its clock and its
//! sockets, so that the whole runtime runs inside a test and inside `weir run`. What the patterns mean
//! is in `weir_core`; what a broker guarantees is in `weir_broker`; this crate is HTTP, waiting and
//! supervision.
//!
//! Tests: `tests/runtime` runs all of it on the memory broker with real HTTP.

mod admin;
mod bus;
mod call;
mod config_source;
mod consumer;
mod egress;
mod intake;
mod manager;
mod metrics;
mod objects;
mod ops;
mod server;
mod settings;
mod supervise;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir_broker::Clock;
use weir_ops::Redrives;

pub use bus::Connect;
pub use config_source::{Config, ConfigSource, DocumentError};
pub use settings::{HttpLimits, SetLogFilter, Settings};
pub use supervise::RunError;

use admin::Admin;
use bus::Buses;
use egress::Egress;
use intake::Intake;
use manager::{Manager, Parts};
use metrics::Metrics;
use objects::Objects;
use ops::{Ops, Served};
use supervise::{Hearts, Supervisor};

/// What a drain gets beside the longest call: to settle, and for requests.
const SPARE: Duration = Duration::from_secs(5);

/// Sockets that listen already.
pub struct Listeners {
    /// Takes messages in.
    pub intake: TcpListener,
    /// Liveness, readiness, metrics.
    pub admin: Option<TcpListener>,
    /// Looks into queues; must be on loopback.
    pub ops: Option<TcpListener>,
}

/// Runs until `shutdown` is cancelled and everything that runs has ended, at most
/// [`Settings::drain_deadline`] later.
///
/// An error means that a part has failed, and the caller must end, too; or that calls had to be cut
/// off at the end ([`RunError::DrainCutShort`]), which loses nothing.
pub async fn run(
    source: ConfigSource,
    connect: Arc<dyn Connect>,
    clock: Arc<dyn Clock>,
    listeners: Listeners,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let runtime = Runtime::new(source, connect, clock, listeners, settings);
    runtime.run(shutdown).await
}

/// Longest wait of the intake for what it serves, so that the first senders are not refused. When a broker or
/// a Secret is missing for longer, they are told so.
const INTAKE_PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks.
const INTAKE_LOOK: Duration = Duration::from_millis(5);

/// Waits until every object that takes messages in can do so.
async fn until_loaded(objects: Objects, config: watch::Receiver<Arc<Config>>) {
    let mut looks = interval(INTAKE_LOOK);
    loop {
        looks.tick().await;
        let wanted = config.borrow().clone();
        let snapshot = objects.snapshot();
        let known = wanted.loaded && wanted.objects.keys().eq(snapshot.all.keys());
        if known && snapshot.all.values().all(|object| object.takes_in()) {
            return;
        }
    }
}

struct Runtime {
    tasks: Supervisor,
    objects: Objects,
    settings: Settings,
    /// Consumers stop pulling; `/ready` says no.
    stop_pulling: CancellationToken,
    /// The intake takes no new connections.
    stop_listening: CancellationToken,
    /// Requests that still run are cut off.
    abort: CancellationToken,
    /// Admin and ops end.
    stop_admin: CancellationToken,
    /// Redrives are carried out here, and let go at the end.
    runs_redrives: bool,
}

impl Runtime {
    fn new(
        source: ConfigSource,
        connect: Arc<dyn Connect>,
        clock: Arc<dyn Clock>,
        listeners: Listeners,
        settings: Settings,
    ) -> Self {
        let mut tasks = Supervisor::default();
        let (stop_pulling, stop_listening) = (CancellationToken::new(), CancellationToken::new());
        let (abort, stop_admin) = (CancellationToken::new(), CancellationToken::new());
        let objects = Objects::default();
        let metrics = Arc::new(Metrics::default());
        let hearts = Hearts::default();

        let config = match source {
            ConfigSource::Updates(updates) => updates,
            ConfigSource::Directory { path, reload } => {
                let (publish, config) = watch::channel(Arc::new(Config::default()));
                let interval = settings.config_interval;
                let (metrics, heart) = (metrics.clone(), hearts.add("configuration"));
                let stop = stop_pulling.clone();
                tasks.spawn(
                    "configuration",
                    config_source::watch_directory(
                        path, reload, interval, publish, metrics, heart, stop,
                    ),
                );
                config
            }
        };

        let own = [&listeners.admin, &listeners.ops];
        let own_ports = own
            .into_iter()
            .flatten()
            .filter_map(|it| it.local_addr().ok());
        let mut egress = Egress::default();
        egress.allow_loopback = settings.allow_loopback_targets;
        egress.own_ports = own_ports.map(|address| address.port()).collect();
        egress.refused.clone_from(&settings.refused_addresses);
        let parts = Parts {
            objects: objects.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            egress: Arc::new(egress),
            settings: settings.clone(),
            hearts: hearts.clone(),
            stop: stop_pulling.clone(),
        };
        let manager = Manager::new(parts, config.clone(), Buses::new(connect));
        tasks.spawn("manager", manager.run(hearts.add("manager")));

        let listen = listeners.intake.local_addr().ok();
        let ops_clock = clock.clone();
        let intake = Intake::new(objects.clone(), metrics.clone(), clock, settings.clone());
        let (limits, heart) = (settings.http.clone(), hearts.add("intake"));
        let (stop, cut) = (stop_listening.clone(), abort.clone());
        let loaded = until_loaded(objects.clone(), config.clone());
        tasks.spawn("intake", async move {
            let _ = timeout(INTAKE_PATIENCE, loaded).await;
            server::serve(
                listeners.intake,
                Arc::new(intake),
                &limits,
                heart,
                stop,
                cut,
            )
            .await
        });
        if let Some(listener) = listeners.admin {
            let admin = Admin {
                objects: objects.clone(),
                config,
                metrics,
                hearts: hearts.clone(),
                draining: stop_pulling.clone(),
                drain_token: settings.drain_token.clone(),
                set_log_filter: settings.set_log_filter.clone(),
            };
            let (limits, heart) = (settings.http.clone(), hearts.add("admin"));
            let (stop, cut) = (stop_admin.clone(), stop_admin.clone());
            tasks.spawn("admin", async move {
                server::serve(listener, Arc::new(admin), &limits, heart, stop, cut).await
            });
        }
        let runs_redrives = listeners.ops.is_some() && settings.ops_token.is_some();
        if let Some(listener) = listeners.ops {
            let served = Arc::new(Served {
                objects: objects.clone(),
                listen,
            });
            let token = settings.ops_token.clone();
            let redrives = token.is_some().then(|| {
                let (redrives, orders) = Redrives::new(served.clone(), ops_clock.clone());
                let (heart, stop) = (hearts.add("redrives"), stop_pulling.clone());
                tasks.spawn("redrives", async move {
                    redrives.run(stop, || heart.beat()).await;
                    Ok(())
                });
                orders
            });
            let ops = Ops::new(served, token, redrives, ops_clock);
            let (limits, heart) = (settings.http.clone(), hearts.add("ops"));
            let (stop, cut) = (stop_admin.clone(), stop_admin.clone());
            tasks.spawn("ops", async move {
                server::serve(listener, Arc::new(ops), &limits, heart, stop, cut).await
            });
        }
        Self {
            tasks,
            objects,
            settings,
            stop_pulling,
            stop_listening,
            abort,
            stop_admin,
            runs_redrives,
        }
    }

    async fn run(mut self, shutdown: CancellationToken) -> Result<(), RunError> {
        tokio::select! {
            end = self.tasks.next_end() => {
                let task = match end {
                    Some(Err(error)) => return Err(error),
                    Some(Ok(task)) => task,
                    None => "all",
                };
                let why = "nobody asked it to".to_owned();
                return Err(RunError::TaskEnded { task: task.to_owned(), why });
            }
            () = shutdown.cancelled() => {}
        }
        tracing::info!("draining: no new messages; what runs may finish");
        self.stop_pulling.cancel();
        let deadline = self
            .settings
            .drain_deadline
            .unwrap_or_else(|| self.longest_call() + SPARE);
        let cut = sleep(self.settings.drain_delay + deadline);
        let (mut cut, mut delay) = (
            std::pin::pin!(cut),
            std::pin::pin!(sleep(self.settings.drain_delay)),
        );
        let mut waiting_for = vec!["manager", "intake"];
        if self.runs_redrives {
            waiting_for.push("redrives");
        }
        loop {
            tokio::select! {
                end = self.tasks.next_end() => match end {
                    Some(Ok(task)) => waiting_for.retain(|waited| *waited != task),
                    Some(Err(error)) => return Err(error),
                    None => break,
                },
                () = delay.as_mut(), if !self.stop_listening.is_cancelled() => {
                    self.stop_listening.cancel();
                }
                () = cut.as_mut() => {
                    self.abort.cancel();
                    return self.cut_short();
                }
            }
            if waiting_for.is_empty() {
                self.stop_admin.cancel();
            }
        }
        tracing::info!("drained");
        Ok(())
    }

    fn cut_short(&self) -> Result<(), RunError> {
        let calls = self
            .objects
            .snapshot()
            .all
            .values()
            .map(|it| {
                it.shared
                    .consumer
                    .in_flight
                    .load(std::sync::atomic::Ordering::Relaxed)
            })
            .sum();
        if calls == 0 {
            tracing::warn!("connections were still open when the time to drain was over");
            return Ok(());
        }
        Err(RunError::DrainCutShort { calls })
    }

    /// The longest call that may be running.
    fn longest_call(&self) -> Duration {
        let objects = self.objects.snapshot();
        let consumers = objects
            .all
            .values()
            .filter_map(|it| it.config.consumer.as_ref());
        let longest = consumers
            .map(|consumer| consumer.timeout_seconds)
            .max()
            .unwrap_or_default();
        Duration::from_secs(longest.into())
    }
}
