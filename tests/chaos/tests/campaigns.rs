//! Short campaigns on real processes. Longer ones: `make chaos MESSAGES=.. KILLS=.. SEED=.. BROKER=..`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use weir_chaos::campaign::{Broker, Settings, run};
use weir_conformance::server::rabbitmq::tested;

const SHORT: Settings = Settings {
    broker: Broker::Nats,
    messages: 5_000,
    kills: 10,
    seed: 0,
    pods: 3,
    limit: 12,
    work_ms: 5,
    busy_ms: 0,
    max_attempts: 8,
    flaky_percent: 5,
    poison_percent: 1,
    groups: 0,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_broker_sidecar_and_handler_lose_nothing() {
    campaign(SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_three_servers_one_after_the_other_lose_nothing() {
    let settings = Settings {
        broker: Broker::NatsR3,
        ..SHORT
    };
    campaign(settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_within_groups_survives_kills_and_pauses() {
    let settings = Settings {
        groups: 1_000,
        ..SHORT
    };
    campaign(settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_rabbitmq_sidecar_and_handler_lose_nothing() {
    let settings = Settings {
        broker: Broker::RabbitMq40,
        ..SHORT
    };
    campaign(settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_within_groups_survives_kills_and_pauses_on_rabbitmq() {
    let settings = Settings {
        broker: Broker::RabbitMq,
        groups: 1_000,
        ..SHORT
    };
    campaign(settings).await;
}

/// False, with the reason said, where a RabbitMQ server is needed and none is installed.
fn can_run(broker: Broker) -> bool {
    if matches!(broker, Broker::RabbitMq | Broker::RabbitMq40)
        && let Err(why) = tested().unwrap()
    {
        eprintln!("skipped: {why}");
        return false;
    }
    true
}

async fn campaign(settings: Settings) {
    if !can_run(settings.broker) {
        return;
    }
    let settings = Settings {
        seed: fastrand::u64(1..1_000_000),
        ..settings
    };
    let folder = tempfile::Builder::new()
        .prefix("weir-chaos-")
        .tempdir()
        .unwrap();
    let report = run(folder.path(), settings).await;
    eprintln!("chaos: seed {} {report}", settings.seed);
    let wrong = report.violations(u64::from(settings.limit));
    if !wrong.is_empty() {
        let kept = folder.keep();
        panic!(
            "seed {}: {wrong:?}; logs and ledgers in {}",
            settings.seed,
            kept.display()
        );
    }
    assert_eq!(report.accepted, settings.messages, "{report}");
    let kills: u64 = report
        .faults
        .iter()
        .filter_map(|(what, count)| what.starts_with("kill").then_some(count))
        .sum();
    assert_eq!(kills as usize, settings.kills, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_over_four_replicas_through_a_throttling_storm() {
    one_at_a_time(Broker::Nats, 4, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_over_eight_replicas_on_rabbitmq() {
    one_at_a_time(Broker::RabbitMq, 8, 500).await;
}

async fn one_at_a_time(broker: Broker, pods: u32, messages: u64) {
    if !can_run(broker) {
        return;
    }
    let settings = Settings {
        broker,
        messages,
        kills: 0,
        seed: 1,
        pods,
        limit: 1,
        work_ms: 0,
        busy_ms: messages * 10,
        max_attempts: 3,
        flaky_percent: 0,
        poison_percent: 5,
        groups: 0,
    };
    let folder = tempfile::Builder::new()
        .prefix("weir-chaos-")
        .tempdir()
        .unwrap();
    let report = run(folder.path(), settings).await;
    eprintln!("chaos: {report}");
    let wrong = report.violations(1);
    if !wrong.is_empty() || report.handled + report.dead != messages {
        let kept = folder.keep();
        panic!("{wrong:?} {report}; logs and ledgers in {}", kept.display());
    }
    assert_eq!(report.most_at_once, 1);
    assert_eq!(
        report.reasons.keys().collect::<Vec<_>>(),
        ["MaxAttempts"],
        "{report}"
    );
    assert_eq!(report.extra, 0, "attempts are counted exactly: {report}");
}
