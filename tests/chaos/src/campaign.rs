//! A whole run: processes up, messages flowing, kills drawn from the seed, everything drained, judged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{Instant, sleep};
use weir_broker::{QueueSpec, SystemClock, Transport, WorkQueue};
use weir_core::config::{
    BusConfig, ConsumerConfig, DeduplicateBy, DeduplicateConfig, IntakeConfig, ObjectConfig,
    Protocol, QueueConfig, RetryConfig, TargetConfig, VERSION,
};
use weir_core::object::{Kind, ObjectKey};

use crate::check::{Dead, Report, check};
use crate::ledger::{Event, Ledger, now, read, sha};
use crate::nemesis::schedule;
use crate::processes::{Process, free_port, nats_server, workspace_binary};
use crate::producer::Producer;

/// How large a run is. Everything else is fixed, so that runs compare.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Messages that are posted.
    pub messages: u64,
    /// Kills of each of broker, sidecar and handler.
    pub kills_each: usize,
    /// Seed of the kill schedule and of the messages' moods.
    pub seed: u64,
    /// Pods: a sidecar beside a handler.
    pub pods: u32,
    /// Calls at once over all pods.
    pub limit: u32,
    /// How long one call takes, ms.
    pub work_ms: u32,
    /// Handlers answer 429 for so long at the beginning, ms.
    pub busy_ms: u64,
    /// `retry.maxAttempts`.
    pub max_attempts: u32,
    /// Messages in a hundred that fail once.
    pub flaky_percent: u64,
    /// Messages in a hundred that always fail.
    pub poison_percent: u64,
}

/// What a kill hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Broker,
    Sidecar,
    Handler,
}

/// From one kill to the next, about.
const MEAN_PAUSE: Duration = Duration::from_millis(700);
/// Short, so that what a killed sidecar held comes again soon.
const LEASE_SECONDS: u32 = 3;

struct Site {
    folder: PathBuf,
    ledger: Ledger,
    broker: Process,
    intake: Process,
    sidecars: Vec<Process>,
    handlers: Vec<Process>,
    handler_ports: Vec<u16>,
    url: String,
    queue: Arc<dyn WorkQueue>,
}

/// Runs a campaign in `folder` and judges it.
pub async fn run(folder: &Path, settings: Settings) -> Report {
    eprintln!("chaos: {settings:?}");
    let mut site = set_up(folder, settings).await;
    let deadline = Instant::now() + Duration::from_mins(10);

    if settings.busy_ms > 0 {
        for port in &site.handler_ports {
            let url = format!("http://127.0.0.1:{port}/busy?ms={}", settings.busy_ms);
            post_until_answered(&url).await;
        }
    }
    let producer = Producer::new(site.url.clone());
    let ledger = Arc::new(Ledger::open(&folder.join("producer.ndjson")).expect("writable"));
    let kinds = (
        settings.flaky_percent,
        settings.poison_percent,
        settings.seed,
    );
    // Messages flow as long as the kills go on, and a little longer.
    let began = Instant::now();
    let span = MEAN_PAUSE * (settings.kills_each * 3) as u32 + Duration::from_secs(1);
    let sending = futures::stream::iter(0..settings.messages).for_each_concurrent(64, |n| {
        let (producer, ledger) = (producer.clone(), Arc::clone(&ledger));
        let due = began + span.mul_f64(n as f64 / settings.messages as f64);
        async move {
            tokio::time::sleep_until(due).await;
            producer.send(&ledger, n, body(n, kinds), deadline).await;
        }
    });
    let killing = kill(&mut site, settings);
    futures::join!(sending, killing);

    drained(&site.queue, deadline).await;
    let dead = dead_letters(&site.queue).await;
    for sidecar in site.sidecars.iter().chain([&site.intake]) {
        eprintln!(
            "chaos: {} resident {:?} KiB",
            sidecar.name(),
            sidecar.resident_kib()
        );
    }
    let mut events = Vec::new();
    for entry in std::fs::read_dir(folder)
        .expect("the run's folder")
        .flatten()
    {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "ndjson")
        {
            events.extend(read(&entry.path()));
        }
    }
    check(&events, &dead)
}

fn body(n: u64, (flaky, poison, seed): (u64, u64, u64)) -> String {
    let mut random = fastrand::Rng::with_seed(seed ^ (n.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let mood = match random.u64(0..100) {
        dice if dice < poison => "poison",
        dice if dice < poison + flaky => "flaky",
        _ => "fine",
    };
    format!(r#"{{"n":{n},"mood":"{mood}"}}"#)
}

async fn set_up(folder: &Path, settings: Settings) -> Site {
    let nats_port = free_port().to_string();
    let store = folder.join("nats");
    let broker = Process::start(
        folder,
        "nats",
        &nats_server("2.15.1"),
        &[
            "-a",
            "127.0.0.1",
            "-p",
            &nats_port,
            "-js",
            "-sd",
            &store.to_string_lossy(),
        ],
    );
    let servers = vec![format!("nats://127.0.0.1:{nats_port}")];
    let bus = BusConfig::Nats {
        servers,
        credentials_file: None,
        ca_file: None,
    };
    let object = ObjectKey::new(Kind::Webhook, "chaos", "flow");
    let queue = QueueConfig {
        limit: settings.limit,
        batch_max: 1,
        lease_seconds: LEASE_SECONDS,
        replicas: 1,
        capacity: 1_000_000,
        dead_letter_retention_seconds: 86_400,
    };
    let spec = QueueSpec {
        object: object.clone(),
        uid: "chaos".into(),
        config: queue.clone(),
    };
    let transport: Arc<dyn Transport> = weir_broker::connect(&bus, Arc::new(SystemClock))
        .await
        .expect("the bus is well formed");
    let began = Instant::now();
    while let Err(why) = transport.apply_queue(&spec).await {
        assert!(began.elapsed() < Duration::from_secs(20), "topology: {why}");
        sleep(Duration::from_millis(50)).await;
    }

    let config = ObjectConfig {
        version: VERSION,
        object,
        uid: "chaos".into(),
        generation: 1,
        bus,
        queue,
        intake: Some(IntakeConfig {
            methods: vec!["POST".into()],
            max_body_bytes: 65_536,
            status: 202,
            verify: None,
            deduplicate: Some(DeduplicateConfig {
                by: DeduplicateBy::Header,
                header: Some("webhook-id".into()),
                window_seconds: 600,
            }),
            delay_seconds: 0,
            publish_api: false,
        }),
        consumer: None,
    };
    let sidecar = workspace_binary("weir-sidecar");
    let start = |name: &str, config: &ObjectConfig, data: u16| {
        let configs = folder.join(name);
        std::fs::create_dir_all(&configs).expect("the run's folder is writable");
        std::fs::write(
            configs.join(ObjectConfig::file_name(&config.object)),
            config.to_json(),
        )
        .expect("the run's folder is writable");
        let listen = format!("127.0.0.1:{data}");
        let admin = format!("127.0.0.1:{}", free_port());
        let ops = format!("127.0.0.1:{}", free_port());
        let configs = configs.to_string_lossy();
        Process::start(
            folder,
            name,
            &sidecar,
            &[
                "--config", &configs, "--listen", &listen, "--admin", &admin, "--ops", &ops,
            ],
        )
    };

    let intake_port = free_port();
    let intake = start("intake", &config, intake_port);
    let handler = workspace_binary("chaos-handler");
    let (mut sidecars, mut handlers, mut handler_ports) = (Vec::new(), Vec::new(), Vec::new());
    for pod in 0..settings.pods {
        let port = free_port();
        let name = format!("handler-{pod}");
        let ledger = folder.join(format!("{name}.ndjson"));
        let (ledger, work) = (ledger.to_string_lossy(), settings.work_ms.to_string());
        handlers.push(Process::start(
            folder,
            &name,
            &handler,
            &[&port.to_string(), &ledger, &work],
        ));
        handler_ports.push(port);
        let worker = ObjectConfig {
            intake: None,
            consumer: Some(ConsumerConfig {
                target: TargetConfig::Handler {
                    url: format!("http://127.0.0.1:{port}/"),
                    readiness_path: None,
                },
                protocol: Protocol::CloudEvents,
                timeout_seconds: 10,
                per_replica: per_replica(settings),
                batch_window_seconds: 0,
                retry: RetryConfig {
                    max_attempts: settings.max_attempts,
                    initial_seconds: 1,
                    multiplier: 1,
                    max_seconds: 1,
                    max_age_seconds: 86_400,
                    permanent_statuses: vec![400],
                },
                paused: false,
            }),
            ..config.clone()
        };
        sidecars.push(start(&format!("sidecar-{pod}"), &worker, free_port()));
    }
    Site {
        folder: folder.to_owned(),
        ledger: Ledger::open(&folder.join("nemesis.ndjson")).expect("writable"),
        broker,
        intake,
        sidecars,
        handlers,
        handler_ports,
        url: format!("http://127.0.0.1:{intake_port}/webhooks/flow"),
        queue: transport.queue(&spec),
    }
}

fn per_replica(settings: Settings) -> u32 {
    settings.limit.div_ceil(settings.pods).max(1) * 2
}

async fn kill(site: &mut Site, settings: Settings) {
    let targets = [Target::Broker, Target::Sidecar, Target::Handler];
    let (shortest, longest) = (Duration::from_millis(200), Duration::from_millis(800));
    let mut random = fastrand::Rng::with_seed(settings.seed);
    for kill in schedule(
        settings.seed,
        &targets,
        settings.kills_each,
        shortest,
        longest,
    ) {
        sleep(kill.after).await;
        let one = random.usize(0..site.sidecars.len());
        let share = u64::from(per_replica(settings).min(settings.limit));
        let (process, in_flight) = match kill.what {
            Target::Broker => (&mut site.broker, u64::from(settings.limit)),
            Target::Sidecar => (&mut site.sidecars[one], share),
            Target::Handler => (&mut site.handlers[one], share),
        };
        process.kill();
        let what = process.name().to_owned();
        site.ledger.write(&Event::Killed {
            what,
            in_flight,
            at: now(),
        });
        sleep(Duration::from_millis(random.u64(50..300))).await;
        process.start_again();
    }
    eprintln!("chaos: kills done; logs in {}", site.folder.display());
}

/// Waits until nothing is ready, delayed or in flight.
async fn drained(queue: &Arc<dyn WorkQueue>, deadline: Instant) {
    loop {
        let depth = queue.depth().await;
        if let Ok(depth) = &depth
            && depth.ready + depth.in_flight + depth.delayed == 0
        {
            return;
        }
        assert!(Instant::now() < deadline, "not drained in time: {depth:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn dead_letters(queue: &Arc<dyn WorkQueue>) -> Vec<Dead> {
    let (mut dead, mut after) = (Vec::new(), None);
    loop {
        let page = queue
            .dead_letters(after, 500)
            .await
            .expect("the broker is up again");
        for stored in page.items {
            let body = &stored.letter.message.body;
            let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            dead.push(Dead {
                n: document["n"].as_u64().unwrap_or(u64::MAX),
                sha: sha(body),
                reason: stored.letter.failure.reason.as_str().to_owned(),
                attempts: stored.letter.failure.attempts,
            });
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return dead,
        }
    }
}

async fn post_until_answered(url: &str) {
    let client = Producer::new(url.to_owned());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !client.post_once().await {
        assert!(Instant::now() < deadline, "{url} does not answer");
        sleep(Duration::from_millis(20)).await;
    }
}
