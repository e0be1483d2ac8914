//! What is counted. Names are part of the API; labels are `kind`, `namespace`, `name` and closed
//! enums, so that the number of series is bounded by the number of objects.
//!
//! Each object looks its series up once ([`Metrics::object`]) and then only adds to atomics.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use weir_broker::Depth;
use weir_broker::fifo::GroupCounts;
use weir_core::object::ObjectKey;

type Labels = Vec<(&'static str, String)>;
type FloatGauge = Gauge<f64, AtomicU64>;

/// Upper bounds of `weir_handler_duration_seconds`.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// How the handling of a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processed {
    /// Handled.
    Acked,
    /// Stored for a later attempt.
    Retried,
    /// Given up.
    DeadLettered,
}

impl Processed {
    const ALL: [Self; 3] = [Self::Acked, Self::Retried, Self::DeadLettered];

    fn as_str(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Retried => "retried",
            Self::DeadLettered => "deadlettered",
        }
    }
}

/// How a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// 3xx: redirects are not followed.
    Redirect,
    /// 4xx.
    Client,
    /// 5xx.
    Server,
    /// No answer in time.
    Timeout,
    /// No connection, or it ended.
    Unreachable,
    /// Named in, or spoiled by, the answer to a batch.
    Batch,
}

impl ErrorClass {
    const ALL: [Self; 6] = [
        Self::Redirect,
        Self::Client,
        Self::Server,
        Self::Timeout,
        Self::Unreachable,
        Self::Batch,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "3xx",
            Self::Client => "4xx",
            Self::Server => "5xx",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Batch => "batch",
        }
    }
}

/// A [`Histogram`] with [`SECONDS`].
#[derive(Clone, Debug)]
struct NewHistogram;

impl MetricConstructor<Histogram> for NewHistogram {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

/// All series of one runtime.
pub struct Metrics {
    registry: Registry,
    received: Family<Labels, Counter>,
    duplicates: Family<Labels, Counter>,
    rejected: Family<Labels, Counter>,
    processed: Family<Labels, Counter>,
    handler_seconds: Family<Labels, Histogram, NewHistogram>,
    handler_errors: Family<Labels, Counter>,
    throttled: Family<Labels, Counter>,
    leases_lost: Family<Labels, Counter>,
    settle_retries: Family<Labels, Counter>,
    in_flight: Family<Labels, Gauge>,
    limit: Family<Labels, Gauge>,
    backlog: Family<Labels, Gauge>,
    delayed: Family<Labels, Gauge>,
    oldest: Family<Labels, FloatGauge>,
    dead: Family<Labels, Gauge>,
    groups: Family<Labels, Gauge>,
    held_groups: Family<Labels, Gauge>,
    broker_connected: Family<Labels, Gauge>,
    config_errors: Family<Labels, Counter>,
    /// Objects that are served.
    pub objects: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("weir");
        let registered = &mut registry;
        Self {
            received: add(
                registered,
                "messages_received",
                "Messages stored by this intake",
            ),
            duplicates: add(
                registered,
                "messages_duplicate",
                "Messages not stored because their identity was known",
            ),
            rejected: add(
                registered,
                "requests_rejected",
                "Requests that stored nothing, by reason",
            ),
            processed: add(
                registered,
                "messages_processed",
                "Deliveries settled, by outcome",
            ),
            handler_seconds: {
                let family = Family::new_with_constructor(NewHistogram);
                registered.register(
                    "handler_duration_seconds",
                    "Time from request to answer of one call",
                    family.clone(),
                );
                family
            },
            handler_errors: add(registered, "handler_errors", "Calls that failed, by class"),
            throttled: add(
                registered,
                "throttled",
                "Deliveries given back because the handler was full; not attempts",
            ),
            leases_lost: add(
                registered,
                "leases_lost",
                "Deliveries abandoned because the broker was not heard for a whole lease",
            ),
            settle_retries: add(
                registered,
                "settle_retries",
                "Settlements that had to be asked for again",
            ),
            in_flight: add(
                registered,
                "inflight_messages",
                "Deliveries held by this process",
            ),
            limit: add(
                registered,
                "concurrency_limit",
                "Calls at once over all replicas, as configured",
            ),
            backlog: add(
                registered,
                "backlog_messages",
                "Messages waiting in the broker; the same in every replica",
            ),
            delayed: add(
                registered,
                "delayed_messages",
                "Messages waiting for a retry or a delay; the same in every replica",
            ),
            oldest: add(
                registered,
                "oldest_message_age_seconds",
                "Age of the oldest message that is ready or in flight",
            ),
            dead: add(
                registered,
                "dead_letters",
                "Dead letters kept; the same in every replica",
            ),
            groups: add(
                registered,
                "groups",
                "Groups with something to handle, where order is kept; the same in every replica",
            ),
            held_groups: add(
                registered,
                "held_groups",
                "Groups that were blocked or given up as a whole; the same in every replica",
            ),
            broker_connected: add(
                registered,
                "broker_connected",
                "1 while connected, by product",
            ),
            config_errors: add(
                registered,
                "config_errors",
                "Configuration documents refused, by reason",
            ),
            objects: {
                let gauge = Gauge::default();
                registered.register("objects", "Objects that this process serves", gauge.clone());
                gauge
            },
            registry: {
                registry.register(
                    "build",
                    "What is running",
                    Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
                );
                registry
            },
        }
    }
}

fn add<M>(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, M>
where
    M: Default + Clone + EncodeMetric + Send + Sync + std::fmt::Debug + 'static,
    Family<Labels, M>: prometheus_client::registry::Metric,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// The series of one object. Cheap to clone.
#[derive(Clone)]
pub struct ObjectMetrics {
    labels: Labels,
    rejected: Family<Labels, Counter>,
    /// Stored by the intake.
    pub received: Counter,
    /// Known already.
    pub duplicates: Counter,
    processed: [Counter; Processed::ALL.len()],
    handler_seconds: Histogram,
    handler_errors: [Counter; ErrorClass::ALL.len()],
    /// Given back.
    pub throttled: Counter,
    /// Abandoned.
    pub leases_lost: Counter,
    /// Asked again.
    pub settle_retries: Counter,
    /// Held now.
    pub in_flight: Gauge,
    /// As configured.
    pub limit: Gauge,
    backlog: Gauge,
    delayed: Gauge,
    oldest: FloatGauge,
    dead: Gauge,
    groups: Family<Labels, Gauge>,
    held_groups: Family<Labels, Gauge>,
}

impl Metrics {
    /// The series of `key`.
    pub fn object(&self, key: &ObjectKey) -> ObjectMetrics {
        let labels = labels(key);
        let with = |name, value: &str| with(&labels, name, value);
        ObjectMetrics {
            rejected: self.rejected.clone(),
            received: self.received.get_or_create_owned(&labels),
            duplicates: self.duplicates.get_or_create_owned(&labels),
            processed: Processed::ALL.map(|outcome| {
                self.processed
                    .get_or_create_owned(&with("outcome", outcome.as_str()))
            }),
            handler_seconds: self.handler_seconds.get_or_create_owned(&labels),
            handler_errors: ErrorClass::ALL.map(|class| {
                self.handler_errors
                    .get_or_create_owned(&with("class", class.as_str()))
            }),
            throttled: self.throttled.get_or_create_owned(&labels),
            leases_lost: self.leases_lost.get_or_create_owned(&labels),
            settle_retries: self.settle_retries.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            limit: self.limit.get_or_create_owned(&labels),
            backlog: self.backlog.get_or_create_owned(&labels),
            delayed: self.delayed.get_or_create_owned(&labels),
            oldest: self.oldest.get_or_create_owned(&labels),
            dead: self.dead.get_or_create_owned(&labels),
            groups: self.groups.clone(),
            held_groups: self.held_groups.clone(),
            labels,
        }
    }

    /// Forgets the series of an object that is gone.
    pub fn remove(&self, key: &ObjectKey, rejections: &[&'static str]) {
        let labels = labels(key);
        for family in [
            &self.received,
            &self.duplicates,
            &self.throttled,
            &self.leases_lost,
            &self.settle_retries,
        ] {
            family.remove(&labels);
        }
        for family in [
            &self.in_flight,
            &self.limit,
            &self.backlog,
            &self.delayed,
            &self.dead,
            &self.groups,
            &self.held_groups,
        ] {
            family.remove(&labels);
        }
        self.oldest.remove(&labels);
        self.handler_seconds.remove(&labels);
        for outcome in Processed::ALL {
            self.processed
                .remove(&with(&labels, "outcome", outcome.as_str()));
        }
        for class in ErrorClass::ALL {
            self.handler_errors
                .remove(&with(&labels, "class", class.as_str()));
        }
        for reason in rejections {
            self.rejected.remove(&with(&labels, "reason", reason));
        }
    }

    /// A request that belongs to no object.
    pub fn rejected_unknown(&self, reason: &'static str) {
        self.rejected
            .get_or_create(&vec![("reason", reason.to_owned())])
            .inc();
    }

    /// A configuration document that was refused.
    pub fn config_error(&self, reason: &'static str) {
        self.config_errors
            .get_or_create(&vec![("reason", reason.to_owned())])
            .inc();
    }

    /// Whether a bus is connected. Buses are told apart by their servers.
    pub fn broker_connected(&self, bus: &str, connected: bool) {
        let labels = vec![("bus", bus.to_owned())];
        self.broker_connected
            .get_or_create(&labels)
            .set(connected.into());
    }

    /// Forgets a bus that nothing uses any more.
    pub fn remove_broker(&self, bus: &str) {
        self.broker_connected.remove(&vec![("bus", bus.to_owned())]);
    }

    /// Everything in the text format of `OpenMetrics`.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a String takes every write");
        text
    }
}

impl ObjectMetrics {
    /// A request that stored nothing.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected
            .get_or_create(&with(&self.labels, "reason", reason))
            .inc();
    }

    /// A delivery was settled.
    pub fn processed(&self, outcome: Processed) {
        self.processed[outcome as usize].inc();
    }

    /// A call failed.
    pub fn handler_error(&self, class: ErrorClass) {
        self.handler_errors[class as usize].inc();
    }

    /// A call ended.
    pub fn handler_took(&self, time: Duration) {
        self.handler_seconds.observe(time.as_secs_f64());
    }

    /// What the broker said about the groups of the queue.
    pub fn groups(&self, counts: GroupCounts) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let groups = self.groups.get_or_create(&self.labels);
        groups.set(signed(counts.runnable));
        let held = self.held_groups.get_or_create(&self.labels);
        held.set(signed(counts.held));
    }

    /// What the broker said about the queue.
    pub fn depth(&self, depth: &Depth, now: Timestamp) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.backlog.set(signed(depth.ready));
        self.delayed.set(signed(depth.delayed));
        self.dead.set(signed(depth.dead));
        let age = depth
            .oldest
            .map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64());
        self.oldest.set(age.max(0.0));
    }
}

fn labels(key: &ObjectKey) -> Labels {
    vec![
        ("kind", key.kind.as_str().to_owned()),
        ("namespace", key.namespace.clone()),
        ("name", key.name.clone()),
    ]
}

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}
