//! What the user is told: conditions from what was found and done. Pure.
//!
//! `Ready` means that there is nothing for a human to fix. Exactly one of `Reconciling` and `Stalled`
//! is present while it is not true, which is how `kstatus`, Helm and Argo CD tell "wait" from "failed".

use std::time::Duration;

use jiff::Timestamp;
use weir_crds::conditions::{
    Condition, ConditionStatus, ConditionType, Reason, find, remove_condition, set_condition,
    summarise,
};

use crate::done::{Done, Topology, broker_reason};
use crate::kinds::Summary;
use crate::plan::Rejected;
use crate::rollout::{Progress, Rollout};
use crate::settings::Settings;
use crate::world::Name;

/// How long the loss of a stream is told in a condition.
const LOSS_TOLD_SECONDS: i64 = 3600;

/// Types that are made here; the others belong to [`crate::numbers`].
pub const OURS: [ConditionType; 7] = [
    ConditionType::Ready,
    ConditionType::Accepted,
    ConditionType::TopologyReady,
    ConditionType::HandlerReady,
    ConditionType::Reconciling,
    ConditionType::Stalled,
    ConditionType::Paused,
];

/// Everything that decides the conditions of an object.
pub struct View<'a> {
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// The conditions as they are in the cluster.
    pub old: &'a [Condition],
    /// What was decided, and then found and done.
    pub verdict: Verdict<'a>,
    /// How long the broker has not answered.
    pub lost_for: Option<Duration>,
    /// Now.
    pub now: Timestamp,
    /// Graces.
    pub settings: &'a Settings,
}

/// The outcome of the pure and of the impure half.
pub enum Verdict<'a> {
    /// It was not accepted; nothing was changed.
    Rejected(&'a Rejected),
    /// It is being deleted, and something keeps it.
    Blocked(&'a str),
    /// It was carried out, as far as that was possible.
    Done {
        /// What was found and done.
        done: &'a Done,
        /// What else they depend on.
        summary: Summary<'a>,
    },
}

/// A condition before it has a time and a generation.
type Finding = (ConditionStatus, Reason, String);

/// Something that keeps the object from being ready, and whether a human has to do something.
struct Trouble {
    stalled: bool,
    reason: Reason,
    message: String,
}

/// The conditions of an object, those of others left out.
pub fn conditions(view: &View<'_>) -> Vec<Condition> {
    let mut list: Vec<Condition> = view
        .old
        .iter()
        .filter(|old| OURS.iter().any(|type_| old.is(*type_)))
        .cloned()
        .collect();
    let set = |list: &mut Vec<Condition>, type_, finding: Option<Finding>| {
        if let Some((status, reason, message)) = finding {
            let new = Condition::new(type_, status, reason, message, view.now);
            set_condition(list, new.of_generation(view.generation));
        }
    };
    set(&mut list, ConditionType::Accepted, accepted(view));
    set(
        &mut list,
        ConditionType::TopologyReady,
        topology_ready(view),
    );
    set(&mut list, ConditionType::HandlerReady, handler_ready(view));
    for type_ in [
        ConditionType::Reconciling,
        ConditionType::Stalled,
        ConditionType::Paused,
    ] {
        remove_condition(&mut list, type_);
    }
    if let Some(trouble) = trouble(view, &list) {
        let type_ = if trouble.stalled {
            ConditionType::Stalled
        } else {
            ConditionType::Reconciling
        };
        set(
            &mut list,
            type_,
            Some((ConditionStatus::True, trouble.reason, trouble.message)),
        );
    }
    if let Verdict::Done {
        summary: Summary { paused: true, .. },
        ..
    } = view.verdict
    {
        let words = "deliveries are stopped by spec.paused; messages are still accepted".to_owned();
        set(
            &mut list,
            ConditionType::Paused,
            Some((ConditionStatus::True, Reason::PausedByUser, words)),
        );
    }
    let ready = summarise(&list, view.now).of_generation(view.generation);
    set_condition(&mut list, ready);
    restore_times(&mut list, view.old);
    list
}

/// Conditions that were taken away and set again are as old as they were.
fn restore_times(list: &mut [Condition], old: &[Condition]) {
    for new in list {
        if let Some(old) = old
            .iter()
            .find(|old| old.type_ == new.type_ && old.status == new.status)
        {
            new.last_transition_time = old.last_transition_time;
        }
    }
}

fn yes(message: impl Into<String>) -> Finding {
    (ConditionStatus::True, Reason::AsExpected, message.into())
}

/// None keeps what was there.
fn accepted(view: &View<'_>) -> Option<Finding> {
    let not = |rejected: &Rejected| {
        (
            ConditionStatus::False,
            rejected.reason,
            rejected.message.clone(),
        )
    };
    match &view.verdict {
        Verdict::Rejected(rejected) => Some(not(rejected)),
        Verdict::Blocked(_) => None,
        Verdict::Done { done, .. } => match (&done.topology, &done.unresolved) {
            (Topology::BusRefused(refused), _) => Some(not(refused)),
            (_, Some(problem)) => Some(not(problem)),
            _ => Some(yes("")),
        },
    }
}

/// None keeps what was there: nothing new is known.
fn topology_ready(view: &View<'_>) -> Option<Finding> {
    let old = find(view.old, ConditionType::TopologyReady);
    let pending = || {
        let words = "not looked at yet".to_owned();
        old.is_none()
            .then_some((ConditionStatus::Unknown, Reason::Pending, words))
    };
    let Verdict::Done {
        done,
        summary: Summary { bus, .. },
    } = &view.verdict
    else {
        return pending();
    };
    match &done.topology {
        Topology::NotTried | Topology::BusRefused(_) => pending(),
        Topology::Applied(applied) => {
            let place = place(bus);
            let lost = lost_streams(view.old, bus, &applied.created);
            if !lost.is_empty() {
                let now = Timestamp::from_second(view.now.as_second()).unwrap_or(view.now);
                let words = format!(
                    "{place}; {} had vanished, messages in it are lost; made again at {now}",
                    lost.join(", ")
                );
                return Some((ConditionStatus::True, Reason::TopologyLost, words));
            }
            let told = old.filter(|old| {
                old.reason == Reason::TopologyLost.as_str()
                    && old.message.starts_with(&place)
                    && lost_at(&old.message)
                        .is_some_and(|at| view.now.as_second() - at.as_second() < LOSS_TOLD_SECONDS)
            });
            if let Some(blocked) = &done.letters_blocked {
                let words = format!("{place}; {blocked}");
                Some((ConditionStatus::False, Reason::DeadLettersBlocked, words))
            } else if told.is_some() {
                None
            } else {
                Some(yes(place))
            }
        }
        Topology::Failed(error) if done.topology.is_lost() => {
            let graced = view
                .lost_for
                .is_some_and(|lost| lost < view.settings.broker_grace);
            if graced && old.is_some_and(|old| old.status != ConditionStatus::Unknown) {
                return None;
            }
            Some((
                ConditionStatus::Unknown,
                broker_reason(error),
                since(view.old, error),
            ))
        }
        Topology::Failed(error) => Some((
            ConditionStatus::False,
            broker_reason(error),
            since(view.old, error),
        )),
    }
}

/// When streams were lost, according to a message.
fn lost_at(message: &str) -> Option<Timestamp> {
    message.rsplit_once("made again at ")?.1.parse().ok()
}

fn place(bus: &Name) -> String {
    format!("on MessageBus {bus}")
}

/// The words for an error, which keep where the topology was before it.
fn since(old: &[Condition], error: &weir_broker::BrokerError) -> String {
    match former_bus(old) {
        Some(former) => format!("on MessageBus {former}; {error}"),
        None => error.to_string(),
    }
}

/// Streams that were made although they had been there, on the same bus.
pub fn lost_streams(old: &[Condition], bus: &Name, created: &[String]) -> Vec<String> {
    if former_bus(old) == Some(bus.to_string()) {
        created.to_vec()
    } else {
        Vec::new()
    }
}

/// The bus on which the topology of an object was made, according to its conditions. It stays in
/// the message whatever happens to the broker later.
pub fn former_bus(old: &[Condition]) -> Option<String> {
    let old = find(old, ConditionType::TopologyReady)?;
    let rest = old.message.strip_prefix("on MessageBus ")?;
    Some(rest.split(';').next().unwrap_or(rest).to_owned())
}

/// None keeps what was there: nothing new is known, or there is no handler.
fn handler_ready(view: &View<'_>) -> Option<Finding> {
    let old = find(view.old, ConditionType::HandlerReady);
    let Verdict::Done {
        done,
        summary: Summary { handles, .. },
    } = &view.verdict
    else {
        return None;
    };
    if !handles {
        return None;
    }
    if let Some(refused) = &done.refused {
        return Some((
            ConditionStatus::False,
            refused.reason,
            refused.message.clone(),
        ));
    }
    let Some(rollout) = worst(done).filter(|_| !done.incomplete) else {
        let words = "not looked at yet".to_owned();
        return old
            .is_none()
            .then_some((ConditionStatus::Unknown, Reason::Pending, words));
    };
    let graced = view
        .lost_for
        .is_some_and(|lost| lost < view.settings.broker_grace);
    if graced && old.is_some_and(|old| old.status == ConditionStatus::True) {
        return None;
    }
    if is_serving(rollout.progress) {
        if done.loading && old.is_none_or(|old| old.status != ConditionStatus::True) {
            let words = "the runtime has not loaded it yet".to_owned();
            return Some((ConditionStatus::False, Reason::RollingOut, words));
        }
        if let Some(unserved) = &done.unserved {
            return Some((
                ConditionStatus::False,
                unserved.reason,
                unserved.message.clone(),
            ));
        }
        return Some(yes(""));
    }
    let (reason, message) = rollout_words(rollout, done);
    Some((ConditionStatus::False, reason, message))
}

fn is_serving(progress: Progress) -> bool {
    matches!(progress, Progress::Complete | Progress::Updating)
}

fn worst(done: &Done) -> Option<&Rollout> {
    // The handler is named first where both are equally far.
    [&done.worker, &done.runtime]
        .into_iter()
        .flatten()
        .reduce(|worst, other| {
            if other.progress > worst.progress {
                other
            } else {
                worst
            }
        })
}

fn rollout_words(rollout: &Rollout, done: &Done) -> (Reason, String) {
    if let Some(cause) = &rollout.cause {
        return cause.clone();
    }
    let is_runtime = done.worker.as_ref() != Some(rollout);
    let what = if is_runtime {
        "the shared runtime of the namespace"
    } else {
        "the handler"
    };
    match rollout.progress {
        Progress::Failed => (
            Reason::ProgressDeadlineExceeded,
            format!("pods of {what} did not become ready in time"),
        ),
        Progress::Starting => (Reason::RollingOut, format!("pods of {what} are starting")),
        _ if is_runtime => (
            Reason::RuntimeNotReady,
            format!("pods of {what} are not ready"),
        ),
        _ => (Reason::RollingOut, format!("pods of {what} are not ready")),
    }
}

/// What keeps the object from being ready; none when nothing does and nothing is under way.
fn trouble(view: &View<'_>, list: &[Condition]) -> Option<Trouble> {
    let bad =
        |type_| find(list, type_).filter(|condition| condition.status != ConditionStatus::True);
    let of = |condition: &Condition, stalled: bool| Trouble {
        stalled,
        reason: reason_named(&condition.reason),
        message: condition.message.clone(),
    };
    if let Verdict::Blocked(why) = view.verdict {
        let message = why.to_owned();
        return Some(Trouble {
            stalled: true,
            reason: Reason::DeletionBlocked,
            message,
        });
    }
    if let Some(accepted) = bad(ConditionType::Accepted) {
        let reason = reason_named(&accepted.reason);
        let waited = view.now.duration_since(accepted.last_transition_time);
        let grace = i64::try_from(view.settings.reference_grace.as_secs()).unwrap_or(i64::MAX);
        let stalled = !may_appear(reason) || waited.as_secs() >= grace;
        return Some(of(accepted, stalled));
    }
    let Verdict::Done { done, .. } = &view.verdict else {
        return None;
    };
    if let Some(topology) = bad(ConditionType::TopologyReady) {
        let stalled = matches!(
            reason_named(&topology.reason),
            Reason::NameConflict | Reason::BrokerTooOld | Reason::JetStreamDisabled
        );
        return Some(of(topology, stalled));
    }
    if let Some(handler) = bad(ConditionType::HandlerReady) {
        let refused = done
            .refused
            .as_ref()
            .is_some_and(|r| r.reason != Reason::QuotaExceeded);
        let failed = worst(done).is_some_and(|rollout| rollout.progress == Progress::Failed);
        return Some(of(handler, refused || failed));
    }
    let updating = worst(done).filter(|rollout| rollout.progress == Progress::Updating);
    updating.map(|rollout| {
        let (reason, message) = rollout
            .cause
            .clone()
            .unwrap_or_else(|| (Reason::RollingOut, "new pods are starting".to_owned()));
        Trouble {
            stalled: false,
            reason,
            message,
        }
    })
}

/// Things that are usually created in the same breath, in any order.
pub fn may_appear(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BusNotFound
            | Reason::BusNotReady
            | Reason::SecretNotFound
            | Reason::SecretKeyNotFound
            | Reason::SecretNotGranted
            | Reason::ServiceAccountNotFound
            | Reason::ServiceAccountNotAllowed
            | Reason::TargetNotFound
            | Reason::TargetNotAllowed
    )
}

fn reason_named(name: &str) -> Reason {
    Reason::ALL
        .iter()
        .copied()
        .find(|reason| reason.as_str() == name)
        .unwrap_or(Reason::Pending)
}
