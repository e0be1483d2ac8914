//! A whole run: processes up, messages flowing, kills drawn from the seed, everything drained, judged.

mod site;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};
use weir_broker::WorkQueue;

use crate::check::{Dead, Report, check};
use crate::ledger::{Event, Ledger, now, read, sha};
use crate::nemesis::{Blow, Target, schedule, usual};
use crate::producer::Producer;
use site::{Site, per_replica, set_up, until_it_serves};

/// Messages that are being sent at once.
const SENDERS: u64 = 64;

/// The broker that is under fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// One NATS server.
    Nats,
    /// Three NATS servers, three copies of everything.
    NatsR3,
    /// One RabbitMQ server of the newest series, and a NATS server for its state, which is left alone.
    RabbitMq,
    /// The same with the oldest series that is supported.
    RabbitMq40,
}

impl Broker {
    /// Every one, by the name that `make chaos BROKER=..` takes.
    pub const ALL: [(&str, Self); 4] = [
        ("nats", Self::Nats),
        ("nats-r3", Self::NatsR3),
        ("rabbitmq", Self::RabbitMq),
        ("rabbitmq-4.0", Self::RabbitMq40),
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name)?;
        Some(found.1)
    }

    fn servers(self) -> usize {
        match self {
            Self::NatsR3 => 3,
            Self::Nats | Self::RabbitMq | Self::RabbitMq40 => 1,
        }
    }

    /// How long it takes to serve again after a kill, about.
    fn restart(self) -> Duration {
        match self {
            Self::Nats | Self::NatsR3 => Duration::ZERO,
            Self::RabbitMq | Self::RabbitMq40 => Duration::from_secs(8),
        }
    }

    /// How long its numbers may be behind.
    fn lag(self) -> Duration {
        match self {
            Self::Nats | Self::NatsR3 => Duration::ZERO,
            Self::RabbitMq | Self::RabbitMq40 => Duration::from_secs(4),
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
    /// Groups among which messages are spread in turn, in a queue that keeps order; 0 is a standard queue.
    pub groups: u64,
}

impl Settings {
    /// The group of a message.
    fn group(&self, n: u64) -> Option<u64> {
        (self.groups > 0).then(|| n % self.groups)
    }
}

/// From one kill to the next, about.
const MEAN_PAUSE: Duration = Duration::from_millis(700);

/// Runs a campaign in `folder` and judges it.
pub async fn run(folder: &Path, settings: Settings) -> Report {
    eprintln!("chaos: {settings:?}");
    let mut site = set_up(folder, settings).await;
    let busy = Duration::from_millis(settings.busy_ms);
    let deadline = Instant::now() + Duration::from_mins(10) + busy + per_message(settings) * 4;

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
    // Messages flow as long as the kills go on, and a little longer. Where the messages take longer, so do the kills.
    let began = Instant::now();
    let kills = u32::try_from(settings.kills).unwrap_or(u32::MAX);
    let restarts = settings.broker.restart() * (kills / 4);
    let shortest = MEAN_PAUSE * kills + restarts + Duration::from_secs(1);
    let span = shortest.max(per_message(settings));
    let between = MEAN_PAUSE + span.saturating_sub(shortest) / kills.max(1);
    let due = |n: u64| began + span.mul_f64(n as f64 / settings.messages as f64);
    // Each sender has groups of its own and sends one message after the other, so that the numbers of
    // a group say in which order its messages were accepted.
    let senders = (0..SENDERS).map(|sender| {
        let (producer, ledger) = (producer.clone(), Arc::clone(&ledger));
        let lane = move |n: &u64| settings.group(*n).unwrap_or(*n) % SENDERS == sender;
        async move {
            for n in (0..settings.messages).filter(lane) {
                sleep_until(due(n)).await;
                let body = body(n, kinds);
                producer
                    .send(&ledger, n, settings.group(n), body, deadline)
                    .await;
            }
        }
    });
    let sending = join_all(senders);
    let striking = strike(&mut site, settings, between);
    futures::join!(sending, striking);

    drained(&site.queue, deadline, settings.broker.lag()).await;
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

/// Time that the messages take at a rate which a small machine keeps up with.
fn per_message(settings: Settings) -> Duration {
    Duration::from_micros(settings.messages * 1000)
}

async fn strike(site: &mut Site, settings: Settings, between: Duration) {
    let (shortest, longest) = (between.mul_f64(0.3), between.mul_f64(1.1));
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
        // Of a broker that is not up yet nothing is learnt by hitting it again.
        if let (Target::Broker, Some(place)) = (fault.target, &site.place) {
            until_it_serves(place).await;
        }
    }
    eprintln!("chaos: faults done; logs in {}", site.folder.display());
}

/// Waits until nothing is ready, delayed or in flight, and was so for `lag`.
async fn drained(queue: &Arc<dyn WorkQueue>, deadline: Instant, lag: Duration) {
    let mut empty_since = None;
    loop {
        let depth = queue.depth().await;
        if let Ok(depth) = &depth
            && depth.ready + depth.in_flight + depth.delayed == 0
        {
            let since = *empty_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= lag {
                return;
            }
        } else {
            empty_since = None;
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
