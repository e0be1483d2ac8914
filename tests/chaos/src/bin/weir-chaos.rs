//! A campaign of any length: `make chaos MESSAGES=100000 KILLS=60 SEED=7 BROKER=nats-r3`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use weir_chaos::campaign::{Broker, Settings, run};

/// Lets messages flow through real processes, kills and pauses those at random, and counts what came of each
/// message from files that producers and handlers wrote. Ends with 1 if a promise was broken.
#[derive(Parser)]
struct Arguments {
    /// Messages to send.
    #[arg(long, default_value_t = 5_000)]
    messages: u64,
    /// Kills of servers, sidecars and handlers; one pause comes with every ten.
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// Seed of the faults and of the messages, to repeat a run. A new one when 0.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Broker: nats (one server), nats-r3 (three), rabbitmq (4.3), rabbitmq-4.0.
    #[arg(long, default_value = "nats", value_parser = broker)]
    broker: Broker,
    /// Calls at once over all pods.
    #[arg(long, default_value_t = 12)]
    limit: u32,
    /// Pods: a sidecar beside a handler.
    #[arg(long, default_value_t = 3)]
    pods: u32,
    /// Groups in a queue that keeps order; 0 is a standard queue.
    #[arg(long, default_value_t = 0)]
    groups: u64,
    /// Handlers answer 429 for so many seconds at the beginning.
    #[arg(long, default_value_t = 0)]
    busy: u64,
    /// Messages in a hundred that fail once.
    #[arg(long, default_value_t = 5)]
    flaky: u64,
    /// Messages in a hundred that always fail.
    #[arg(long, default_value_t = 1)]
    poison: u64,
    /// Where ledgers, logs and stores go; a new folder below /tmp when not set. It is kept.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn broker(name: &str) -> Result<Broker, String> {
    let known: Vec<_> = Broker::ALL.into_iter().map(|(name, _)| name).collect();
    Broker::named(name).ok_or_else(|| format!("brokers are {}", known.join(", ")))
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = match arguments.seed {
        0 => fastrand::u64(1..1_000_000),
        seed => seed,
    };
    let settings = Settings {
        broker: arguments.broker,
        messages: arguments.messages,
        kills: arguments.kills,
        seed,
        pods: arguments.pods,
        limit: arguments.limit,
        work_ms: 5,
        busy_ms: arguments.busy * 1000,
        max_attempts: 8,
        flaky_percent: arguments.flaky,
        poison_percent: arguments.poison,
        groups: arguments.groups,
    };
    let folder = arguments.folder.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("weir-chaos-{seed}-{}", std::process::id()))
    });
    if let Err(why) = std::fs::create_dir_all(&folder) {
        eprintln!("chaos: {}: {why}", folder.display());
        return ExitCode::FAILURE;
    }
    let report = run(&folder, settings).await;
    let wrong = report.violations(u64::from(settings.limit));
    eprintln!("chaos: seed {seed} {report}");
    println!(
        "{}",
        serde_json::json!({ "seed": seed, "settings": format!("{settings:?}"), "report": report, "violations": wrong })
    );
    if wrong.is_empty() && report.accepted == settings.messages {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "chaos: {wrong:?}; ledgers, logs and stores in {}",
        folder.display()
    );
    ExitCode::FAILURE
}
