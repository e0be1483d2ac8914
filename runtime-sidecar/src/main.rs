//! `weir-sidecar`: the data plane as a process of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::{Parser, ValueEnum};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};
use weir_broker::{BrokerError, Clock, SystemClock, Transport};
use weir_core::config::BusConfig;
use weir_sidecar::{ConfigSource, Connect, Listeners, SetLogFilter, Settings, run};

const ABOUT: &str = "Takes messages in over HTTP, keeps them in a broker, hands them to handlers under \
limits. Runs beside a handler, or alone for a whole namespace; what it does is in its configuration, \
which the operator writes and which is read again when it changes.";

const MORE: &str = "\
Try it without a cluster: `weir run -f examples/webhook` runs the same code in one process.

Look at a running one (kubectl port-forward or exec):
  curl :9901/ready            what it waits for
  curl :9901/objects          each object, and what is wrong with it
  curl :9901/config           what is loaded, and documents that cannot be used
  curl -X PUT :9901/log-level -d weir_sidecar=debug
  curl 127.0.0.1:9902/v1/objects/webhook/<name>/dead-letters

Beside a handler, let its preStop hook GET :9901/drain with the header weir-drain-token (the value of
WEIR_DRAIN_TOKEN): the handler then gets no new message, and ends when its calls have ended.

SIGTERM ends it in order: no new connections, no new messages, running calls finish.
SIGHUP reads the configuration now.

Exit codes: 0 ended as told, 1 a part failed (restart it), 2 wrong arguments, 3 calls were cut off at
the end (their messages come again).";

#[derive(Parser)]
#[command(name = "weir-sidecar", version, about = ABOUT, after_help = MORE)]
struct Arguments {
    /// Folder of the configuration: `*.json` in it and in its subfolders.
    #[arg(long, env = "WEIR_CONFIG")]
    config: PathBuf,

    /// Address of the intake.
    #[arg(long, env = "WEIR_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Address of /live /ready /metrics /config /objects.
    #[arg(long, env = "WEIR_ADMIN", default_value = "0.0.0.0:9901")]
    admin: SocketAddr,

    /// Address of the read-only server for `weir dlq` and the like. Loopback only.
    #[arg(long, env = "WEIR_OPS", default_value = "127.0.0.1:9902")]
    ops: SocketAddr,

    /// How log lines look.
    #[arg(long, env = "WEIR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,

    /// What is logged: a level, or a filter such as `info,weir_sidecar=debug`.
    #[arg(long, env = "WEIR_LOG", default_value = "info")]
    log: String,

    /// Seconds between the end of readiness and the end of listening, so that load balancers notice.
    #[arg(long, env = "WEIR_DRAIN_DELAY_SECONDS", default_value_t = 0)]
    drain_delay_seconds: u64,

    /// Seconds that running calls get at the end [default: the longest timeoutSeconds and 5 s].
    #[arg(long, env = "WEIR_DRAIN_SECONDS")]
    drain_seconds: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Real brokers only.
struct Brokers(Arc<dyn Clock>);

#[async_trait]
impl Connect for Brokers {
    async fn connect(&self, bus: &BusConfig) -> Result<Arc<dyn Transport>, BrokerError> {
        if matches!(bus, BusConfig::Memory {}) {
            return Err(BrokerError::Unsupported {
                server: "memory".to_owned(),
                why: "a bus in memory ends with its process; it is for `weir run` only".to_owned(),
            });
        }
        weir_broker::transport::connect(bus, self.0.clone()).await
    }
}

fn main() -> ExitCode {
    // One TLS provider for everything, before anything uses TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse();
    if !arguments.ops.ip().is_loopback() {
        eprintln!(
            "--ops {}: this server shows messages and asks for no password; give it a loopback \
             address such as 127.0.0.1:9902",
            arguments.ops
        );
        return ExitCode::from(2);
    }
    let set_log_filter = match start_log(arguments.log_format, &arguments.log) {
        Ok(set) => set,
        Err(why) => {
            eprintln!("--log {}: {why}", arguments.log);
            return ExitCode::from(2);
        }
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start threads");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(serve(arguments, set_log_filter));
    // What still runs was cut off on purpose; do not wait for it.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

async fn serve(arguments: Arguments, set_log_filter: SetLogFilter) -> ExitCode {
    let (Some(intake), Some(admin), Some(ops)) = (
        bind(arguments.listen).await,
        bind(arguments.admin).await,
        bind(arguments.ops).await,
    ) else {
        return ExitCode::FAILURE;
    };
    let settings = Settings {
        drain_delay: Duration::from_secs(arguments.drain_delay_seconds),
        drain_deadline: arguments.drain_seconds.map(Duration::from_secs),
        drain_token: std::env::var("WEIR_DRAIN_TOKEN")
            .ok()
            .filter(|token| !token.is_empty()),
        refused_addresses: kubernetes_api().into_iter().collect(),
        set_log_filter: Some(set_log_filter),
        ..Settings::default()
    };
    let (shutdown, reload) = (CancellationToken::new(), Arc::new(Notify::new()));
    let mut signals = JoinSet::new();
    signals.spawn(watch_signals(shutdown.clone(), reload.clone()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let source = ConfigSource::Directory {
        path: arguments.config,
        reload,
    };
    let listeners = Listeners {
        intake,
        admin: Some(admin),
        ops: Some(ops),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        intake = %arguments.listen,
        admin = %arguments.admin,
        "started"
    );
    let connect = Arc::new(Brokers(clock.clone()));
    match run(source, connect, clock, listeners, settings, shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ weir_sidecar::RunError::DrainCutShort { .. }) => {
            tracing::warn!(%error, "ended before everything was done; the messages come again");
            ExitCode::from(3)
        }
        Err(error) => {
            tracing::error!(%error, "a part has failed; the process ends so that it is restarted");
            ExitCode::FAILURE
        }
    }
}

async fn bind(address: SocketAddr) -> Option<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener
        .inspect_err(|error| tracing::error!(%address, %error, "cannot listen"))
        .ok()
}

async fn watch_signals(shutdown: CancellationToken, reload: Arc<Notify>) {
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        tracing::error!("cannot watch signals");
        return;
    };
    loop {
        tokio::select! {
            _ = term.recv() => shutdown.cancel(),
            _ = int.recv() => shutdown.cancel(),
            _ = hup.recv() => reload.notify_one(),
        }
    }
}

/// The API server must not be a target: it may trust where a request comes from.
fn kubernetes_api() -> Option<IpAddr> {
    std::env::var("KUBERNETES_SERVICE_HOST").ok()?.parse().ok()
}

fn start_log(format: LogFormat, filter: &str) -> Result<SetLogFilter, String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::layer().json().flatten_event(true);
            registry.with(lines.with_writer(std::io::stderr)).init();
        }
        LogFormat::Text => {
            let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
            registry.with(lines).init();
        }
    }
    Ok(Arc::new(move |filter| {
        let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}
