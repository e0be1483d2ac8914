//! The operator's process: reads flags, connects, and runs [`weir_operator::run`].

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Parser as _;
use hyper::header::{HeaderValue, USER_AGENT};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use weir_broker::{BrokerError, Clock, SystemClock, Transport};
use weir_core::config::BusConfig;
use weir_operator::brokers::Connect;
use weir_operator::check::CheckOptions;
use weir_operator::error::chain;
use weir_operator::fence::{Fence, FenceLayer};
use weir_operator::health::{self, Health};
use weir_operator::lease::Times;
use weir_operator::metrics::Metrics;
use weir_operator::ops::{OpsListener, self_signed};
use weir_operator::options::Options;
use weir_operator::probe::HttpProbe;
use weir_operator::run::{Parts, run, watch_readiness};
use weir_operator::world::Name;

#[tokio::main]
async fn main() -> ExitCode {
    // Before the first TLS connection of whichever client.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let mut arguments = std::env::args_os();
    if arguments
        .by_ref()
        .nth(1)
        .is_some_and(|first| first == "check")
    {
        let program = std::ffi::OsString::from("weir-operator check");
        return check(&CheckOptions::parse_from(
            std::iter::once(program).chain(arguments),
        ))
        .await;
    }
    let options = Options::parse();
    let filter = match EnvFilter::try_new(&options.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("--log {}: {error}", options.log);
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .init();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "weir-operator starts");
    match serve(options).await {
        Ok(()) => {
            tracing::info!("weir-operator ends");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(error = chain(error.as_ref()), "weir-operator cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// For people and for `helm`, who read the last lines.
async fn check(options: &CheckOptions) -> ExitCode {
    let problems = match Client::try_default().await {
        Ok(client) => weir_operator::check::check(client, options).await.err(),
        Err(error) => Some(vec![format!("no connection to the API server: {error}")]),
    };
    let Some(problems) = problems else {
        println!("Weir works");
        return ExitCode::SUCCESS;
    };
    for problem in problems {
        eprintln!("{problem}");
    }
    ExitCode::FAILURE
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn serve(options: Options) -> Result<(), AnyError> {
    let mut config = Config::infer().await?;
    let agent = HeaderValue::from_static(concat!("weir-operator/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    let fence = Fence::default();
    let lease_client = Client::try_from(config.clone())?;
    let client = ClientBuilder::try_from(config)?
        .with_layer(&FenceLayer(fence.clone()))
        .build();

    let settings = options.settings();
    let health = Health::new(settings.relist * 3);
    let metrics = Arc::new(Metrics::new());
    let scopes = options.scopes();
    let mut side: JoinSet<&'static str> = JoinSet::new();
    let listener = TcpListener::bind(options.admin_address).await?;
    let (served, counted) = (Arc::clone(&health), Arc::clone(&metrics));
    side.spawn(async move {
        health::serve(listener, served, counted).await;
        "the admin server"
    });
    let readiness = watch_readiness(lease_client.clone(), scopes.clone(), Arc::clone(&health));
    side.spawn(async move {
        readiness.await;
        "the readiness check"
    });

    let ops = match options.ops_address {
        None => None,
        Some(address) => Some(OpsListener {
            listener: TcpListener::bind(address).await?,
            tls: Some(self_signed()?),
        }),
    };

    let shutdown = CancellationToken::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let operator = run(
        Parts {
            client,
            lease_client,
            fence,
            lease_times: Times::default(),
            identity: identity(options.identity.as_deref()),
            account: Name::new(&options.lease_namespace, &options.service_account),
            cluster: options.cluster(),
            connect: Arc::new(RealBrokers(Arc::clone(&clock))),
            credentials: options.credentials_dir,
            probe: Arc::new(HttpProbe::default()),
            ops,
            lease_namespace: options.lease_namespace,
            scopes,
            settings,
            clock,
            metrics,
            health,
        },
        shutdown.clone(),
    );
    let mut operator = std::pin::pin!(operator);
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        ended = &mut operator => return Ok(ended?),
        Some(ended) = side.join_next() => {
            return Err(format!("{} ended", ended.unwrap_or("a task that panicked")).into());
        }
        _ = terminate.recv() => tracing::info!("told to end"),
        _ = interrupt.recv() => tracing::info!("told to end"),
    }
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(25), operator)
        .await
        .unwrap_or(Ok(()))?;
    Ok(())
}

/// Unique to this process, also after a crash in the same pod.
fn identity(given: Option<&str>) -> String {
    let host = given
        .map(str::to_owned)
        .or_else(|| {
            std::env::var("HOSTNAME")
                .ok()
                .filter(|name| !name.is_empty())
        })
        .unwrap_or_else(|| "weir-operator".to_owned());
    format!("{host}_{:08x}", fastrand::u32(..))
}

/// Connections as `weir-broker` makes them.
struct RealBrokers(Arc<dyn Clock>);

#[async_trait]
impl Connect for RealBrokers {
    async fn connect(&self, bus: &BusConfig) -> Result<Arc<dyn Transport>, BrokerError> {
        weir_broker::connect(bus, Arc::clone(&self.0)).await
    }
}
