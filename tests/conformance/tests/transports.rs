//! Runs every guarantee on every transport, side by side, and prints what held.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use weir_broker::{NatsTransport, SystemClock, Transport as _};
use weir_conformance::server::rabbitmq::{SERIES, tested};
use weir_conformance::server::{Server, binary};
use weir_conformance::subject::rabbitmq::RabbitMq;
use weir_conformance::subject::{Memory, Nats};
use weir_conformance::suite::{ALL, Guarantee};
use weir_conformance::{Ground, Subject};
use weir_core::config::BusConfig;

/// Every guarantee is decided within this.
const LONGEST: Duration = Duration::from_mins(3);
/// Guarantees tried at once on memory and NATS. They mostly wait.
const AT_ONCE: usize = 20;
/// The same for each RabbitMQ server, which works for what NATS has for nothing.
const AT_ONCE_ON_RABBITMQ: usize = 6;
const VERSIONS: [&str; 2] = ["2.12.8", "2.15.1"];
const TOO_OLD: &str = "2.10.26";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    Nats(&'static str),
    Cluster(&'static str),
    RabbitMq(&'static str, &'static str),
}

impl Kind {
    fn name(self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::Nats(version) => format!("nats {version}"),
            Self::Cluster(version) => format!("nats {version} R3"),
            Self::RabbitMq(_, series) => format!("rabbitmq {series}"),
        }
    }

    fn start(self) -> Arc<dyn Subject> {
        match self {
            Self::Memory => Arc::new(Memory::start()),
            Self::Nats(version) => Arc::new(Nats::start(version)),
            Self::Cluster(version) => Arc::new(Nats::start_cluster(version)),
            Self::RabbitMq(suite, _) => Arc::new(RabbitMq::start(suite, VERSIONS[1])),
        }
    }

    /// Its servers start too slowly for each guarantee that disturbs them to have its own: those are
    /// tried one after the other on one.
    fn in_turn(self) -> bool {
        matches!(self, Self::RabbitMq(..))
    }
}

enum Verdict {
    Held(Duration),
    Lacks(&'static str),
    Failed(String),
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    if std::env::args().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    if let Ok(filter) = std::env::var("WEIR_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
    let mut kinds = vec![Kind::Memory];
    if std::env::var_os("WEIR_SKIP_NATS").is_some() {
        eprintln!("WEIR_SKIP_NATS is set: NATS is not tested");
    } else {
        for version in VERSIONS.into_iter().chain([TOO_OLD]) {
            if let Err(why) = binary(version) {
                eprintln!("{why}");
                return ExitCode::FAILURE;
            }
        }
        kinds.extend(VERSIONS.map(Kind::Nats));
        kinds.push(Kind::Cluster(VERSIONS[1]));
        match tested() {
            Ok(Ok(())) => kinds.extend(SERIES.map(|(suite, series)| Kind::RabbitMq(suite, series))),
            Ok(Err(why)) => println!("skipped: RabbitMQ: {why}"),
            Err(why) => {
                eprintln!("{why}");
                return ExitCode::FAILURE;
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(8)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(run_all(&kinds, &words))
}

/// RabbitMQ comes after the others: servers that are all busy at once make everything late on a small machine.
async fn run_all(kinds: &[Kind], words: &[String]) -> ExitCode {
    let (slow, light): (Vec<Kind>, Vec<Kind>) = kinds.iter().partition(|kind| kind.in_turn());
    let mut results = try_all(&light, words).await;
    results.extend(try_all(&slow, words).await);
    report(kinds, &results)
}

type Results = BTreeMap<(String, String), Verdict>;

/// Tries what is selected on each kind.
async fn try_all(kinds: &[Kind], words: &[String]) -> Results {
    let selected = |name: &str, kind: &str| {
        let text = format!("{name} {kind}");
        words.iter().all(|word| text.contains(word.as_str()))
    };
    let mut results = Results::new();
    let mut waiting: Vec<(String, String, Work, Arc<Semaphore>)> = Vec::new();
    let mut shared: Vec<Arc<dyn Subject>> = Vec::new();
    let mut in_turn: Vec<(Kind, Vec<Guarantee>)> = Vec::new();
    let light = Arc::new(Semaphore::new(AT_ONCE));
    for kind in kinds {
        let room = if kind.in_turn() {
            Arc::new(Semaphore::new(AT_ONCE_ON_RABBITMQ))
        } else {
            Arc::clone(&light)
        };
        let mut common: Option<Arc<dyn Subject>> = None;
        let mut alone = Vec::new();
        for guarantee in ALL {
            if !selected(guarantee.name, &kind.name()) {
                continue;
            }
            let common = common.get_or_insert_with(|| kind.start());
            let key = (guarantee.name.to_owned(), kind.name());
            let lacking = guarantee.needs.iter().find_map(|need| common.lacks(*need));
            if let Some(why) = lacking {
                results.insert(key, Verdict::Lacks(why));
                continue;
            }
            if guarantee.alone && kind.in_turn() {
                alone.push(*guarantee);
                continue;
            }
            let work = Work::Guarantee {
                kind: *kind,
                guarantee: *guarantee,
                on: Arc::clone(common),
            };
            waiting.push((key.0, key.1, work, Arc::clone(&room)));
        }
        if let Kind::Nats(version) = kind
            && *version == VERSIONS[0]
            && selected("old_server_is_refused", TOO_OLD)
        {
            let key = ("old_server_is_refused".to_owned(), kind.name());
            waiting.push((key.0, key.1, Work::OldServer, room));
        }
        if !alone.is_empty() {
            in_turn.push((*kind, alone));
        }
        shared.extend(common);
    }
    let mut running = JoinSet::new();
    // Those that are tried in turn take the longest.
    let (done, mut ended) = mpsc::unbounded_channel();
    let turns: JoinSet<()> = in_turn
        .into_iter()
        .map(|(kind, alone)| one_after_the_other(kind, alone, done.clone()))
        .collect();
    drop(done);
    for (name, kind, work, room) in waiting {
        running.spawn(async move {
            let _place = room.acquire().await;
            (name, kind, work.run().await)
        });
    }
    loop {
        let done = tokio::select! {
            Some(done) = running.join_next() => done.expect("panics are caught"),
            Some(done) = ended.recv() => done,
            else => break,
        };
        let (name, kind, verdict) = done;
        match &verdict {
            Verdict::Held(took) => {
                println!("ok      {kind:14} {name} ({:.1} s)", took.as_secs_f64());
            }
            Verdict::Lacks(_) => {}
            Verdict::Failed(why) => println!("FAILED  {kind:14} {name}: {why}"),
        }
        results.insert((name, kind), verdict);
    }
    turns.join_all().await;
    drop(shared);
    results
}

/// Tries guarantees that disturb the server, one after the other on the same one.
async fn one_after_the_other(
    kind: Kind,
    alone: Vec<Guarantee>,
    done: mpsc::UnboundedSender<(String, String, Verdict)>,
) {
    let on = tokio::task::spawn_blocking(move || kind.start())
        .await
        .expect("a server");
    for guarantee in alone {
        let work = Work::Guarantee {
            kind,
            guarantee,
            on: Arc::clone(&on),
        };
        let verdict = work.run().await;
        // It may have ended with the server down.
        let server = Arc::clone(&on);
        drop(tokio::task::spawn_blocking(move || server.bring_up_if_down()).await);
        drop(done.send((guarantee.name.to_owned(), kind.name(), verdict)));
    }
}

enum Work {
    Guarantee {
        kind: Kind,
        guarantee: Guarantee,
        on: Arc<dyn Subject>,
    },
    OldServer,
}

impl Work {
    async fn run(self) -> Verdict {
        let started = tokio::time::Instant::now();
        let work = async {
            match self {
                Self::Guarantee {
                    kind,
                    guarantee,
                    on,
                } => {
                    let own = guarantee.alone && !kind.in_turn();
                    let subject = if own { kind.start() } else { on };
                    (guarantee.run)(Ground::new(subject, guarantee.name)).await;
                }
                Self::OldServer => old_server_is_refused().await,
            }
        };
        match tokio::time::timeout(LONGEST, AssertUnwindSafe(work).catch_unwind()).await {
            Ok(Ok(())) => Verdict::Held(started.elapsed()),
            Ok(Err(panic)) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into()));
                Verdict::Failed(text.unwrap_or_else(|| "it panicked".to_owned()))
            }
            Err(_) => Verdict::Failed(format!("not decided after {LONGEST:?}")),
        }
    }
}

/// A server that would ignore what it is asked for is refused, with what to do.
async fn old_server_is_refused() {
    let server = Server::start(TOO_OLD, Vec::new());
    let bus = BusConfig::Nats {
        servers: vec![server.url()],
        credentials_file: None,
        ca_file: None,
    };
    let transport = NatsTransport::connect(&bus, Arc::new(SystemClock))
        .await
        .unwrap();
    transport.connected().wait_for(|up| *up).await.unwrap();
    let ground = Ground::new(Arc::new(Memory::start()), "old");
    for error in [
        transport.server().await.unwrap_err(),
        transport.apply_queue(&ground.spec).await.unwrap_err(),
    ] {
        assert_eq!(error.reason(), "BrokerUnsupported");
        assert!(error.to_string().contains(TOO_OLD), "{error}");
    }
}

/// Prints guarantees against transports.
fn report(kinds: &[Kind], results: &Results) -> ExitCode {
    let names: Vec<String> = kinds.iter().map(|kind| kind.name()).collect();
    let mut order: Vec<&str> = ALL.iter().map(|guarantee| guarantee.name).collect();
    order.push("old_server_is_refused");
    let width = order.iter().map(|name| name.len()).max().unwrap_or(0);
    println!("\n{:width$}  {}", "", names.join("  "));
    let mut failed = 0;
    let mut reasons: Vec<String> = Vec::new();
    for name in order {
        let cells: Vec<Option<&Verdict>> = names
            .iter()
            .map(|kind| results.get(&(name.to_owned(), kind.clone())))
            .collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let line: Vec<String> = cells
            .iter()
            .zip(&names)
            .map(|(verdict, kind)| {
                let word = match verdict {
                    Some(Verdict::Held(_)) => "holds",
                    Some(Verdict::Lacks(why)) => {
                        let reason = format!("- {kind}: {why}");
                        if !reasons.contains(&reason) {
                            reasons.push(reason);
                        }
                        "-"
                    }
                    Some(Verdict::Failed(_)) => {
                        failed += 1;
                        "FAILS"
                    }
                    None => "",
                };
                format!("{word:width$}", width = kind.len())
            })
            .collect();
        println!("{name:width$}  {}", line.join("  "));
    }
    for reason in reasons {
        println!("{reason}");
    }
    println!("\n{} tried, {failed} failed", results.len());
    if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
