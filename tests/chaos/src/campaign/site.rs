//! What a campaign runs on: real servers, sidecars and handlers, wired to each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_broker::{QueueSpec, SystemClock, Transport, WorkQueue};
use weir_conformance::server::rabbitmq::Place;
use weir_core::config::{
    BusConfig, ConsumerConfig, DeduplicateBy, DeduplicateConfig, DeduplicateScope, FifoConfig,
    GroupBy, IntakeConfig, ObjectConfig, Protocol, QueueConfig, RetryConfig, TargetConfig, VERSION,
    WhenExhausted,
};
use weir_core::object::{Kind, ObjectKey};

use super::{Broker, Settings};
use crate::ledger::Ledger;
use crate::nemesis::LEASE;
use crate::processes::{Process, free_port, nats_server, workspace_binary};

const PARTITIONS: u32 = 8;

pub struct Site {
    pub folder: PathBuf,
    pub ledger: Ledger,
    /// What is hit of the broker.
    pub servers: Vec<Process>,
    /// Where a broker that starts slowly says that it serves.
    pub place: Option<Arc<Place>>,
    /// What the broker needs and is left alone.
    _beside: Vec<Process>,
    /// The intake is the last one.
    pub sidecars: Vec<Process>,
    pub handlers: Vec<Process>,
    pub handler_ports: Vec<u16>,
    pub url: String,
    pub queue: Arc<dyn WorkQueue>,
}

/// Starts everything in `folder`.
pub async fn set_up(folder: &Path, settings: Settings) -> Site {
    let Servers {
        hit: servers,
        place,
        beside,
        bus,
    } = broker(folder, settings.broker);
    if let Some(place) = &place {
        until_it_serves(place).await;
    }
    let kind = if settings.groups > 0 {
        Kind::FifoConsumer
    } else {
        Kind::Webhook
    };
    let object = ObjectKey::new(kind, "chaos", "flow");
    let queue = QueueConfig {
        limit: settings.limit,
        batch_max: 1,
        lease_seconds: LEASE.as_secs() as u32,
        replicas: u32::try_from(settings.broker.servers()).expect("a few"),
        capacity: 1_000_000,
        dead_letter_retention_seconds: 86_400,
        fifo: (settings.groups > 0).then_some(FifoConfig {
            partitions: PARTITIONS,
        }),
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
        assert!(began.elapsed() < Duration::from_mins(1), "topology: {why}");
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
                scope: DeduplicateScope::Queue,
            }),
            delay_seconds: 0,
            publish_api: settings.groups > 0,
            group: (settings.groups > 0).then(|| GroupBy::Header {
                name: "x-group".into(),
            }),
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

    // In a queue that keeps order the groups rest between attempts: half of this at least, which is a second.
    let pause = if settings.groups > 0 { 2 } else { 1 };
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
                    initial_seconds: pause,
                    multiplier: 1,
                    max_seconds: pause,
                    max_age_seconds: 86_400,
                    permanent_statuses: vec![400],
                },
                paused: false,
                when_exhausted: WhenExhausted::DeadLetter,
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
        place,
        _beside: beside,
        sidecars,
        handlers,
        handler_ports,
        url: format!("http://127.0.0.1:{intake_port}/{}/flow", kind.plural()),
        queue: transport.queue(&spec),
    }
}

/// Calls at once in one pod.
pub fn per_replica(settings: Settings) -> u32 {
    settings.limit.div_ceil(settings.pods).max(1) * 2
}

/// The servers of a broker, and how to reach them.
struct Servers {
    hit: Vec<Process>,
    place: Option<Arc<Place>>,
    beside: Vec<Process>,
    bus: BusConfig,
}

/// Waits until a broker serves that was just started.
pub async fn until_it_serves(place: &Arc<Place>) {
    let began = Instant::now();
    loop {
        let asked = Arc::clone(place);
        let serves = tokio::task::spawn_blocking(move || asked.serves()).await;
        if serves.unwrap_or(false) {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_mins(2),
            "{} does not start",
            place.address()
        );
        sleep(Duration::from_millis(100)).await;
    }
}

fn broker(folder: &Path, broker: Broker) -> Servers {
    match broker {
        Broker::Nats => nats(folder, "nats", 1),
        Broker::NatsR3 => nats(folder, "nats", 3),
        Broker::RabbitMq => rabbitmq(folder, "forky"),
        Broker::RabbitMq40 => rabbitmq(folder, "trixie"),
    }
}

/// RabbitMQ of one release of Debian, and a NATS server for its state.
fn rabbitmq(folder: &Path, suite: &str) -> Servers {
    let state = nats(folder, "state", 1);
    let home = folder.join("rabbitmq");
    std::fs::create_dir_all(&home).expect("the run's folder is writable");
    let place = Place::prepare(suite, &home);
    let words = place.command();
    let (program, arguments) = words.split_first().expect("a program");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Process::start(folder, "rabbitmq", Path::new(program), &arguments);
    let uri_file = folder.join("uri");
    let uri = format!("amqp://guest:guest@{}/%2F\n", place.address());
    std::fs::write(&uri_file, uri).expect("the run's folder is writable");
    let bus = BusConfig::RabbitMq {
        uri_file: uri_file.to_string_lossy().into_owned(),
        management_url: Some(format!("http://{}", place.management())),
        vhost: None,
        ca_file: None,
        state: Some(Box::new(state.bus)),
    };
    Servers {
        hit: vec![server],
        place: Some(Arc::new(place)),
        beside: state.hit,
        bus,
    }
}

/// So many NATS servers; several are one cluster.
fn nats(folder: &Path, name: &str, count: usize) -> Servers {
    let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
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
            let name = format!("{name}-{at}");
            let (port, store) = (port.to_string(), folder.join(&name));
            let store = store.to_string_lossy();
            let route = format!("nats://127.0.0.1:{route}");
            let others = others.join(",");
            let mut arguments = vec!["-a", "127.0.0.1", "-p", &port, "-js", "-sd", &store];
            if count > 1 {
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
    Servers {
        hit: servers,
        place: None,
        beside: Vec::new(),
        bus,
    }
}
