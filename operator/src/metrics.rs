//! What is counted. Names are part of the API; labels are closed enums, kinds and buses.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;

/// Upper bounds of `weir_reconcile_duration_seconds`.
const SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

/// The operator's own metrics.
pub struct Metrics {
    registry: Registry,
    reconcile_duration: Family<Labels, Histogram>,
    reconcile_errors: Family<Labels, Counter>,
    rejected: Family<Labels, Counter>,
    writes: Family<Labels, Counter>,
    broker_connected: Family<Labels, Gauge>,
    orphaned: Family<Labels, Counter>,
    invalid: Family<Labels, Counter>,
    leader: Gauge,
    last_reconcile: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("weir");
        let reconcile_duration: Family<Labels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(SECONDS));
        let reconcile_errors: Family<Labels, Counter> = Family::default();
        let rejected: Family<Labels, Counter> = Family::default();
        let writes: Family<Labels, Counter> = Family::default();
        let orphaned: Family<Labels, Counter> = Family::default();
        let invalid: Family<Labels, Counter> = Family::default();
        let broker_connected: Family<Labels, Gauge> = Family::default();
        let (leader, last_reconcile): (Gauge, Gauge<f64, AtomicU64>) = Default::default();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", build);
        registry.register(
            "reconcile_duration_seconds",
            "Time one reconcile takes",
            reconcile_duration.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that failed and are tried again",
            reconcile_errors.clone(),
        );
        registry.register(
            "reconcile_rejected",
            "Reconciles of objects that are not accepted",
            rejected.clone(),
        );
        registry.register(
            "operator_writes",
            "Objects written to the API server",
            writes.clone(),
        );
        registry.register(
            "broker_connected",
            "Whether the operator is connected to a bus",
            broker_connected.clone(),
        );
        registry.register(
            "orphaned_topology",
            "Deleted objects whose topology was left in the broker",
            orphaned.clone(),
        );
        registry.register(
            "invalid_objects",
            "Objects that were read and could not be understood",
            invalid.clone(),
        );
        registry.register(
            "operator_leader",
            "Whether this process holds the lease",
            leader.clone(),
        );
        registry.register(
            "operator_last_reconcile_timestamp_seconds",
            "When a reconcile last succeeded",
            last_reconcile.clone(),
        );
        Self {
            registry,
            reconcile_duration,
            reconcile_errors,
            rejected,
            writes,
            broker_connected,
            orphaned,
            invalid,
            leader,
            last_reconcile,
        }
    }

    /// A reconcile came to its end.
    pub fn reconciled(&self, kind: &'static str, took: Duration) {
        self.reconcile_duration
            .get_or_create(&vec![("kind", kind.to_owned())])
            .observe(took.as_secs_f64());
    }

    /// A reconcile succeeded at this time.
    pub fn succeeded(&self, now: jiff::Timestamp) {
        self.last_reconcile.set(now.as_second() as f64);
    }

    /// A reconcile failed.
    pub fn failed(&self, kind: &'static str, reason: &'static str) {
        let labels = vec![("kind", kind.to_owned()), ("reason", reason.to_owned())];
        self.reconcile_errors.get_or_create(&labels).inc();
    }

    /// An object was not accepted.
    pub fn rejected(&self, kind: &'static str, reason: &'static str) {
        let labels = vec![("kind", kind.to_owned()), ("reason", reason.to_owned())];
        self.rejected.get_or_create(&labels).inc();
    }

    /// An object of this kind was written.
    pub fn wrote(&self, what: &'static str) {
        self.writes
            .get_or_create(&vec![("object", what.to_owned())])
            .inc();
    }

    /// Whether a bus answers.
    pub fn broker(&self, bus: &crate::world::Name, connected: bool) {
        self.broker_connected
            .get_or_create(&bus_labels(bus))
            .set(i64::from(connected));
    }

    /// A bus is no longer used.
    pub fn forget_broker(&self, bus: &crate::world::Name) {
        self.broker_connected.remove(&bus_labels(bus));
    }

    /// Topology was left behind.
    pub fn orphaned(&self, kind: &'static str) {
        self.orphaned
            .get_or_create(&vec![("kind", kind.to_owned())])
            .inc();
    }

    /// An object could not be understood.
    pub fn invalid(&self, kind: &'static str) {
        self.invalid
            .get_or_create(&vec![("kind", kind.to_owned())])
            .inc();
    }

    /// Whether this process holds the lease.
    pub fn leader(&self, is: bool) {
        self.leader.set(i64::from(is));
    }

    /// All of them in the text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes everything");
        text
    }
}

fn bus_labels(bus: &crate::world::Name) -> Labels {
    vec![
        ("namespace", bus.namespace.clone()),
        ("name", bus.name.clone()),
    ]
}
