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
use crate::nemesis::{Blow, Target, schedule, usual};
use crate::processes::{Process, free_port, nats_server, workspace_binary};
use crate::producer::Producer;

/// The broker that is under fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// One NATS server.
    Nats,
    /// Three NATS servers, three copies of everything.
    NatsR3,
}

impl Broker {
    /// Every one, by the name that `make chaos BROKER=..` takes.
    pub const ALL: [(&str, Self); 2] = [("nats", Self::Nats), ("nats-r3", Self::NatsR3)];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name)?;
        Some(found.1)
    }

    fn servers(self) -> usize {
        match self {
            Self::Nats => 1,
            Self::NatsR3 => 3,
        }
    }
}

/// How large a run is. Everything else is fixed, so that runs compare.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What holds the messages.
    pub broker: Broker,
    /// Messages that are posted.
    pub messages: u64,
    /// Kills, spread over servers, sidecars and handlers; some pauses come on top.
    pub kills: usize,
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

/// From one kill to the next, about.
const MEAN_PAUSE: Duration = Duration::from_millis(700);
/// Short, so that what a killed sidecar held comes again soon.
const LEASE_SECONDS: u32 = 3;

struct Site {
    folder: PathBuf,
    ledger: Ledger,
    servers: Vec<Process>,
    /// The intake is the last one.
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
    let deadline = Instant::now() + Duration::from_mins(10) + per_message(settings) * 4;

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
    let kills = u32::try_from(settings.kills).unwrap_or(u32::MAX);
    let span = (MEAN_PAUSE * kills + Duration::from_secs(1)).max(per_message(settings));
    let sending = futures::stream::iter(0..settings.messages).for_each_concurrent(64, |n| {
        let (producer, ledger) = (producer.clone(), Arc::clone(&ledger));
        let due = began + span.mul_f64(n as f64 / settings.messages as f64);
        async move {
            tokio::time::sleep_until(due).await;
            producer
                .send(&ledger, n, None, body(n, kinds), deadline)
                .await;
        }
    });
    let striking = strike(&mut site, settings);
    futures::join!(sending, striking);

    drained(&site.queue, deadline).await;
    let dead = dead_letters(&site.queue).await;
    for sidecar in &site.sidecars {
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
    let (servers, bus) = broker(folder, settings.broker);
    let object = ObjectKey::new(Kind::Webhook, "chaos", "flow");
    let queue = QueueConfig {
        limit: settings.limit,
        batch_max: 1,
        lease_seconds: LEASE_SECONDS,
        replicas: u32::try_from(settings.broker.servers()).expect("a few"),
        capacity: 1_000_000,
        dead_letter_retention_seconds: 86_400,
        fifo: None,
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
    sidecars.push(start("intake", &config, intake_port));
    Site {
        folder: folder.to_owned(),
        ledger: Ledger::open(&folder.join("nemesis.ndjson")).expect("writable"),
        servers,
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

/// The servers of a broker, and how to reach them.
fn broker(folder: &Path, broker: Broker) -> (Vec<Process>, BusConfig) {
    let ports: Vec<u16> = (0..broker.servers()).map(|_| free_port()).collect();
    let routes: Vec<u16> = ports.iter().map(|_| free_port()).collect();
    let others: Vec<String> = routes
        .iter()
        .map(|port| format!("nats://127.0.0.1:{port}"))
        .collect();
    let servers = ports
        .iter()
        .zip(&routes)
        .enumerate()
        .map(|(at, (port, route))| {
            let name = format!("nats-{at}");
            let (port, store) = (port.to_string(), folder.join(&name));
            let store = store.to_string_lossy();
            let route = format!("nats://127.0.0.1:{route}");
            let others = others.join(",");
            let mut arguments = vec!["-a", "127.0.0.1", "-p", &port, "-js", "-sd", &store];
            if broker == Broker::NatsR3 {
                arguments.extend(["-n", &name, "--cluster_name", "chaos"]);
                arguments.extend(["--cluster", &route, "--routes", &others]);
            }
            Process::start(folder, &name, &nats_server("2.15.1"), &arguments)
        })
        .collect();
    let bus = BusConfig::Nats {
        servers: ports
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect(),
        credentials_file: None,
        ca_file: None,
    };
    (servers, bus)
}

/// Time that the messages take at a rate which a small machine keeps up with.
fn per_message(settings: Settings) -> Duration {
    Duration::from_micros(settings.messages * 1000)
}

async fn strike(site: &mut Site, settings: Settings) {
    let (shortest, longest) = (Duration::from_millis(200), Duration::from_millis(800));
    for fault in schedule(settings.seed, &usual(settings.kills), shortest, longest) {
        sleep(fault.after).await;
        let share = u64::from(per_replica(settings).min(settings.limit));
        let (group, in_flight) = match fault.target {
            Target::Broker => (&mut site.servers, u64::from(settings.limit)),
            Target::Sidecar => (&mut site.sidecars, share),
            Target::Handler => (&mut site.handlers, share),
        };
        let which = fault.which % group.len();
        let process = &mut group[which];
        match fault.blow {
            Blow::Kill => process.kill(),
            Blow::Pause => process.pause(),
        }
        let what = format!("{:?} {}", fault.blow, process.name()).to_lowercase();
        site.ledger.write(&Event::Fault {
            what,
            in_flight,
            at: now(),
        });
        sleep(fault.lasts).await;
        match fault.blow {
            Blow::Kill => process.start_again(),
            Blow::Pause => process.go_on(),
        }
    }
    eprintln!("chaos: faults done; logs in {}", site.folder.display());
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
