//! What is said about an object, and what the tools that everybody uses make of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "a test program"
)]

#[path = "status/outages.rs"]
mod outages;
mod support;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use support::operator::condition;
use weir_broker::{Applied, BrokerError};
use weir_crds::conditions::{Condition, Reason};
use weir_operator::done::{Done, Topology};
use weir_operator::kinds::Summary;
use weir_operator::plan::Rejected;
use weir_operator::rollout::{Progress, Rollout};
use weir_operator::settings::Settings;
use weir_operator::status::{Verdict, View, conditions};
use weir_operator::world::Name;

/// What `kstatus` makes of an object, by the rules of cli-utils: `pkg/kstatus/status`.
fn kstatus(object: &Value) -> &'static str {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    let observed = object["status"]["observedGeneration"].as_i64();
    if observed.is_some_and(|observed| Some(observed) != object["metadata"]["generation"].as_i64())
    {
        return "InProgress";
    }
    let all = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for one in &all {
        match (one["type"].as_str(), one["status"].as_str()) {
            (Some("Reconciling"), Some("True")) => return "InProgress",
            (Some("Stalled"), Some("True")) => return "Failed",
            _ => {}
        }
    }
    match condition(object, "Ready")["status"].as_str() {
        Some("True") | None => "Current",
        _ => "InProgress",
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

struct Case {
    old: Vec<Condition>,
    done: Done,
    now: Timestamp,
    lost_for: Option<u64>,
    paused: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            old: Vec::new(),
            done: done(),
            now: at(0),
            lost_for: None,
            paused: false,
        }
    }
}

impl Case {
    fn conditions(&self) -> Vec<Condition> {
        let bus = Name::new("shop", "default");
        let summary = Summary {
            bus: &bus,
            handles: true,
            paused: self.paused,
            limit: 5,
        };
        view(
            &self.old,
            Verdict::Done {
                done: &self.done,
                summary,
            },
            self.now,
            self.lost_for,
        )
    }
}

fn view(
    old: &[Condition],
    verdict: Verdict<'_>,
    now: Timestamp,
    lost_for: Option<u64>,
) -> Vec<Condition> {
    let settings = Settings::default();
    let lost_for = lost_for.map(Duration::from_secs);
    conditions(&View {
        generation: Some(1),
        old,
        verdict,
        lost_for,
        now,
        settings: &settings,
    })
}

fn rollout(progress: Progress, cause: Option<(Reason, &str)>) -> Option<Rollout> {
    let cause = cause.map(|(reason, words)| (reason, words.to_owned()));
    Some(Rollout {
        progress,
        cause,
        replicas: 1,
        ready: 0,
    })
}

/// Everything is as it should be.
fn done() -> Done {
    Done {
        topology: Topology::Applied(Applied::default()),
        worker: rollout(Progress::Complete, None),
        runtime: rollout(Progress::Complete, None),
        ..Done::default()
    }
}

fn unreachable() -> Topology {
    let (servers, why) = ("nats://a".to_owned(), "refused".to_owned());
    Topology::Failed(BrokerError::Unreachable { servers, why })
}

fn object(conditions: &[Condition]) -> Value {
    json!({
        "metadata": { "generation": 1 },
        "status": { "observedGeneration": 1, "conditions": conditions },
    })
}

#[track_caller]
fn check(name: &str, found: &[Condition], expected: &str, ready: &str, reason: Reason) {
    let object = object(found);
    let condition = |type_| condition(&object, type_);
    assert_eq!(kstatus(&object), expected, "{name}: {found:#?}");
    assert_eq!(condition("Ready")["status"], ready, "{name}: {found:#?}");
    assert_eq!(
        condition("Ready")["reason"],
        reason.as_str(),
        "{name}: {found:#?}"
    );
    let (reconciling, stalled) = (condition("Reconciling"), condition("Stalled"));
    assert!(
        reconciling.is_null() || stalled.is_null(),
        "{name}: at most one of the two"
    );
    if ready != "True" {
        assert!(
            !reconciling.is_null() || !stalled.is_null(),
            "{name}: wait, or failed?"
        );
    }
    let mut types: Vec<&str> = found.iter().map(|one| one.type_.as_str()).collect();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), found.len(), "{name}: each type once");
}

fn rejected(reason: Reason) -> Rejected {
    Rejected::new(reason, "words")
}

#[test]
fn kstatus_reads_every_state_right() {
    let ready = Case::default().conditions();
    let case = |change: &dyn Fn(&mut Done)| {
        let mut done = done();
        change(&mut done);
        Case {
            done,
            ..Case::default()
        }
        .conditions()
    };
    check("as expected", &ready, "Current", "True", Reason::AsExpected);
    let paused = Case {
        paused: true,
        ..Case::default()
    }
    .conditions();
    check(
        "paused is weather",
        &paused,
        "Current",
        "True",
        Reason::AsExpected,
    );

    let worker = |progress, cause: Option<(Reason, &'static str)>| {
        case(&|done| done.worker = rollout(progress, cause))
    };
    let pull = Some((Reason::ImagePullFailed, "image"));
    check(
        "first pods",
        &worker(Progress::Starting, None),
        "InProgress",
        "False",
        Reason::RollingOut,
    );
    check(
        "no image yet",
        &worker(Progress::Starting, pull),
        "InProgress",
        "False",
        Reason::ImagePullFailed,
    );
    check(
        "no image for long",
        &worker(Progress::Failed, pull),
        "Failed",
        "False",
        Reason::ImagePullFailed,
    );
    check(
        "late",
        &worker(Progress::Failed, None),
        "Failed",
        "False",
        Reason::ProgressDeadlineExceeded,
    );
    check(
        "a rollout",
        &worker(Progress::Updating, None),
        "InProgress",
        "True",
        Reason::AsExpected,
    );
    check(
        "a bad rollout",
        &worker(Progress::Updating, pull),
        "InProgress",
        "True",
        Reason::AsExpected,
    );
    let crash = Some((Reason::CrashLooping, "crash"));
    check(
        "crashing",
        &worker(Progress::Unavailable, crash),
        "InProgress",
        "False",
        Reason::CrashLooping,
    );
    let runtime = case(&|done| done.runtime = rollout(Progress::Unavailable, None));
    check(
        "no runtime",
        &runtime,
        "InProgress",
        "False",
        Reason::RuntimeNotReady,
    );
    let loading = case(&|done| done.loading = true);
    check(
        "not loaded",
        &loading,
        "InProgress",
        "False",
        Reason::RollingOut,
    );
    let quota = case(&|done| done.refused = Some(rejected(Reason::QuotaExceeded)));
    check(
        "a quota may be raised",
        &quota,
        "InProgress",
        "False",
        Reason::QuotaExceeded,
    );
    let refused = case(&|done| done.refused = Some(rejected(Reason::ApiServerRefused)));
    check(
        "refused",
        &refused,
        "Failed",
        "False",
        Reason::ApiServerRefused,
    );
    let conflict = case(&|done| done.refused = Some(rejected(Reason::NameConflict)));
    check(
        "a foreign name",
        &conflict,
        "Failed",
        "False",
        Reason::NameConflict,
    );
    let incomplete = case(&|done| done.incomplete = true);
    check(
        "not all looked at",
        &incomplete,
        "InProgress",
        "Unknown",
        Reason::Pending,
    );

    let lost = case(&|done| done.topology = unreachable());
    check(
        "never connected",
        &lost,
        "InProgress",
        "Unknown",
        Reason::BrokerUnreachable,
    );
    let owner = || BrokerError::Conflict {
        what: "S".to_owned(),
        owner: "x".to_owned(),
    };
    let foreign = case(&|done| done.topology = Topology::Failed(owner()));
    check(
        "a foreign stream",
        &foreign,
        "Failed",
        "False",
        Reason::NameConflict,
    );
    let old = || BrokerError::Unsupported {
        server: "nats 2.9".into(),
        why: "2.12 is needed".into(),
    };
    let old = case(&|done| done.topology = Topology::Failed(old()));
    check(
        "an old server",
        &old,
        "Failed",
        "False",
        Reason::BrokerTooOld,
    );
    let full =
        case(&|done| done.topology = Topology::Failed(BrokerError::Full { what: "S".into() }));
    check(
        "a full disk",
        &full,
        "InProgress",
        "False",
        Reason::StorageFull,
    );
    let granted = case(&|done| done.topology = Topology::BusRefused(rejected(Reason::BusNotReady)));
    check(
        "no credentials",
        &granted,
        "InProgress",
        "False",
        Reason::BusNotReady,
    );
    let secret = case(&|done| done.unresolved = Some(rejected(Reason::SecretNotFound)));
    check(
        "no keys",
        &secret,
        "InProgress",
        "False",
        Reason::SecretNotFound,
    );

    let reject =
        |reason, old: &[Condition], now| view(old, Verdict::Rejected(&rejected(reason)), now, None);
    let unsupported = reject(Reason::Unsupported, &[], at(0));
    check(
        "a mistake",
        &unsupported,
        "Failed",
        "False",
        Reason::Unsupported,
    );
    let missing = reject(Reason::BusNotFound, &[], at(0));
    check(
        "it may still appear",
        &missing,
        "InProgress",
        "False",
        Reason::BusNotFound,
    );
    let still = reject(Reason::BusNotFound, &missing, at(59));
    check(
        "it may still appear",
        &still,
        "InProgress",
        "False",
        Reason::BusNotFound,
    );
    let never = reject(Reason::BusNotFound, &still, at(60));
    check(
        "it does not appear",
        &never,
        "Failed",
        "False",
        Reason::BusNotFound,
    );
    let blocked = view(&ready, Verdict::Blocked("why"), at(0), None);
    check(
        "a deletion that waits",
        &blocked,
        "Failed",
        "False",
        Reason::DeletionBlocked,
    );

    let behind = json!({ "metadata": { "generation": 2 }, "status": object(&ready)["status"] });
    assert_eq!(kstatus(&behind), "InProgress");
}

#[test]
fn times_change_only_with_the_status() {
    let old = Case::default().conditions();
    let later = Case {
        old: old.clone(),
        now: at(1000),
        ..Case::default()
    }
    .conditions();
    assert_eq!(old, later);
    let crash = Some((Reason::CrashLooping, "crash"));
    let done = Done {
        worker: rollout(Progress::Unavailable, crash),
        ..done()
    };
    let bad = Case {
        old: later,
        done,
        now: at(2000),
        ..Case::default()
    }
    .conditions();
    let bad = object(&bad);
    assert_eq!(
        condition(&bad, "Ready")["lastTransitionTime"],
        at(2000).to_string()
    );
    assert_eq!(
        condition(&bad, "Accepted")["lastTransitionTime"],
        at(0).to_string()
    );
}

#[test]
fn a_rollout_that_goes_on_keeps_a_handler_ready_until_its_deadline() {
    let old = Case::default().conditions();
    let step = |progress| {
        let done = Done {
            worker: rollout(progress, None),
            ..done()
        };
        let all = Case {
            old: old.clone(),
            done,
            now: at(10),
            ..Case::default()
        }
        .conditions();
        condition(&object(&all), "HandlerReady")["status"].clone()
    };
    assert_eq!(step(Progress::Updating), "True");
    assert_eq!(step(Progress::Failed), "False");
}
