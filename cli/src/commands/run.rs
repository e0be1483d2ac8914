//! `weir run`: the manifests on this machine, with the operator's plans and the cluster's runtime.

use std::io::IsTerminal as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use weir_broker::{BrokerError, SystemClock, Transport};
use weir_core::config::{BusConfig, ObjectConfig, TargetConfig};
use weir_crds::lint::Severity;

use crate::args::Run;
use crate::failure::Failure;
use crate::files;
use crate::local::handlers::{Handler, Source, free_port, parse_named};
use crate::local::runtime;
use crate::local::world::{Manifests, Options, Unit, place};
use crate::place::TokenFile;

/// How long a NATS server may take to answer at the start.
const BROKER_PATIENCE: Duration = Duration::from_secs(5);

/// Runs until Ctrl-C or SIGTERM.
pub async fn run(arguments: Run) -> Result<(), Failure> {
    log(arguments.verbose);
    let began = Instant::now();
    let manifests = Manifests::read(&files::read(&arguments.filenames)?);
    for problem in &manifests.problems {
        let line = problem
            .line
            .map_or_else(String::new, |line| format!(":{line}"));
        eprintln!("{}{line}: {}: {problem}", problem.file, problem.object);
    }
    let refused = manifests
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .count();
    if refused > 0 {
        return Err(Failure::new(format!("{refused} errors in the manifests"))
            .next("the API server would refuse them too; see them again with: weir lint -f ..."));
    }

    let data = listen(arguments.listen, "--listen").await?;
    let ops = listen(arguments.ops, "--ops").await?;
    let address = data.local_addr().map_err(Failure::other)?;
    let options = Options {
        named: parse_named(&arguments.handlers)?,
        command: arguments.command.clone(),
        base_url: format!("http://{address}"),
    };
    let folder = tempfile::Builder::new()
        .prefix("weir-run-")
        .tempdir()
        .map_err(Failure::other)?;
    let bus = bus(&arguments);
    let mut units = manifests.plan(
        &place(bus.clone(), &options.base_url, folder.path()),
        &options,
    )?;

    let changes = ops.local_addr().map_err(Failure::other)?;
    let token = if changes.ip().is_loopback() {
        Some(TokenFile::create(changes)?)
    } else {
        eprintln!(
            "weir: --ops {changes} is no address of this machine alone: it only shows things"
        );
        None
    };

    let transport = weir_broker::connect(&bus, Arc::new(SystemClock))
        .await
        .map_err(Failure::other)?;
    for unit in &units {
        write_keys(folder.path(), unit)?;
        topology(&*transport, unit).await?;
    }

    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for unit in &mut units {
        if let Some(handler) = handler(unit)? {
            tasks.spawn(handler.keep_running(stop.child_token()));
        }
    }
    announce(&units, &arguments, began);

    let shutdown = CancellationToken::new();
    let configs: Vec<ObjectConfig> = units.into_iter().map(|unit| unit.config).collect();
    let secret = token.as_ref().map(|file| file.token.clone());
    let serving = runtime::serve(configs, transport, data, ops, secret, shutdown.clone());
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        ended = &mut serving => ended,
        () = asked_to_stop() => {
            eprintln!("weir: finishing what runs; again to end at once");
            shutdown.cancel();
            tokio::select! {
                ended = &mut serving => ended,
                () = asked_to_stop() => Ok(()),
            }
        }
    };
    // Handlers end last, so that calls that ran could finish.
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    drop(token);
    served
}

fn log(verbose: bool) {
    let fallback = if verbose { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new(fallback));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn bus(arguments: &Run) -> BusConfig {
    let nats = arguments.nats.clone().map(|url| BusConfig::Nats {
        servers: vec![url],
        credentials_file: None,
        ca_file: None,
    });
    match &arguments.rabbitmq {
        Some(file) => BusConfig::RabbitMq {
            uri_file: file.to_string_lossy().into_owned(),
            management_url: arguments.rabbitmq_management.clone(),
            vhost: None,
            ca_file: None,
            state: nats.map(Box::new),
        },
        None => nats.unwrap_or(BusConfig::Memory {}),
    }
}

async fn listen(address: std::net::SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|why| {
        Failure::new(format!("cannot listen at {address}: {why}")).next(format!(
            "another `weir run`? choose another address with {flag} 127.0.0.1:PORT"
        ))
    })
}

/// Keys are files, because that is what they are in a pod. Only this user can read them, and they go
/// when the folder goes.
fn write_keys(folder: &Path, unit: &Unit) -> Result<(), Failure> {
    let verify = unit
        .config
        .intake
        .as_ref()
        .and_then(|intake| intake.verify.as_ref());
    let Some(verify) = verify else { return Ok(()) };
    let keys = Path::new(&verify.keys_dir);
    debug_assert!(
        keys.starts_with(folder),
        "keys stay in the folder of this run"
    );
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(keys)
        .map_err(Failure::other)?;
    for (name, content) in &unit.keys {
        let plain = Path::new(name)
            .file_name()
            .is_some_and(|file| file == name.as_str());
        if !plain {
            return Err(Failure::new(format!("`{name}` is no key of a Secret")));
        }
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(keys.join(name));
        let mut file = file.map_err(Failure::other)?;
        std::io::Write::write_all(&mut file, content).map_err(Failure::other)?;
    }
    Ok(())
}

async fn topology(transport: &dyn Transport, unit: &Unit) -> Result<(), Failure> {
    let deadline = Instant::now() + BROKER_PATIENCE;
    loop {
        match transport.apply_queue(&unit.queue).await {
            Ok(_) => return Ok(()),
            Err(why @ (BrokerError::Unreachable { .. } | BrokerError::TimedOut { .. }))
                if Instant::now() > deadline =>
            {
                return Err(
                    Failure::other(why)
                        .next("is the server running: NATS with JetStream (-js), or RabbitMQ with its management plugin? see --rabbitmq-management")
                );
            }
            Err(why) if why.is_transient() => sleep(Duration::from_millis(50)).await,
            Err(why) => return Err(Failure::other(why)),
        }
    }
}

/// The process to start for a unit, with a port that the configuration then names.
fn handler(unit: &mut Unit) -> Result<Option<Handler>, Failure> {
    let Some(Source::Command { line, folder }) = unit.handler.clone() else {
        return Ok(None);
    };
    let port = free_port()?;
    if let Some(consumer) = &mut unit.config.consumer {
        let readiness_path = match &consumer.target {
            TargetConfig::Handler { readiness_path, .. } => readiness_path.clone(),
            TargetConfig::Url { .. } => None,
        };
        let url = format!("http://127.0.0.1:{port}{}", unit.path);
        consumer.target = TargetConfig::Handler {
            url,
            readiness_path,
        };
    }
    Ok(Some(Handler {
        name: unit.config.object.name.clone(),
        line,
        folder,
        environment: unit.environment.clone(),
        port,
    }))
}

fn announce(units: &[Unit], arguments: &Run, began: Instant) {
    let kept = match (&arguments.rabbitmq, &arguments.nats) {
        (Some(_), _) => "messages live in RabbitMQ".to_owned(),
        (None, Some(url)) => format!("messages live in {url}"),
        (None, None) => "messages live in memory until this ends; --nats URL keeps them".to_owned(),
    };
    let ms = began.elapsed().as_millis();
    eprintln!(
        "weir {}: ready after {ms} ms; {kept}",
        env!("CARGO_PKG_VERSION")
    );
    for unit in units {
        let object = &unit.config.object;
        let to = match (&unit.handler, &unit.config.consumer) {
            (Some(Source::Url(url)), _) => url.clone(),
            (Some(Source::Command { line, .. }), _) => format!("`{}`", line.join(" ")),
            (None, Some(consumer)) => match &consumer.target {
                TargetConfig::Handler { url, .. } | TargetConfig::Url { url } => url.clone(),
            },
            (None, None) => "nothing".to_owned(),
        };
        eprintln!(
            "  {}/{}  {}  ->  {to}",
            object.kind.lower(),
            object.name,
            unit.url
        );
        if let Some(secret) = &unit.missing_secret {
            eprintln!(
                "    Secret {secret} is not in the files: requests are answered 503; add it to -f"
            );
        }
    }
    if let Some(unit) = units.first() {
        let object = &unit.config.object;
        let (kind, name) = (object.kind.lower(), &object.name);
        let signed = unit
            .config
            .intake
            .as_ref()
            .is_some_and(|intake| intake.verify.is_some());
        let sign = if signed { " --sign-with file:KEY" } else { "" };
        let ops = if arguments.ops.to_string() == "127.0.0.1:9401" {
            String::new()
        } else {
            format!(" --ops http://{}", arguments.ops)
        };
        eprintln!("try: weir send {kind}/{name} -d '{{\"hello\": 1}}'{sign}{ops}");
    }
}

async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
