//! One reconcile for all kinds: observe, resolve, plan, apply, status, write.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use tokio::time::{Instant, timeout};
use weir_crds::conditions::{ConditionStatus, ConditionType, Event, find};

use crate::apply::apply;
use crate::context::{Context, TOPOLOGY_ORPHANED};
use crate::done::{Done, Topology};
use crate::error::{Error, chain};
use crate::finalize;
use crate::kinds::decide;
use crate::memory::Key;
use crate::observe::observe;
use crate::plan::{Plan, Rejected};
use crate::rollout::Progress;
use crate::settings::Settings;
use crate::status::{Verdict, former_bus, lost_streams, may_appear};
use crate::status_shell::{self, Current};
use crate::stores::{Read, Stored};
use crate::world::Name;

/// Reconciles one object: waits for a place, looks at its newest version, and never takes longer
/// than it may.
pub async fn reconcile<K: Stored>(
    read: Arc<Read<K>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let key = key_of(&*read);
    let deleting = read.meta().deletion_timestamp.is_some();
    // What is not listed yet would look as if it were not there.
    context.stores.wait_until_ready().await;
    let place = context
        .places
        .of(K::NAME, deleting, &context.settings)
        .acquire_owned()
        .await;
    let Some(read) = context.stores.latest::<K>(&key.name) else {
        return Ok(Action::await_change());
    };
    let started = Instant::now();
    let longest = context.settings.reconcile_timeout;
    let result = timeout(longest, Box::pin(look_at(&read, &key, &context))).await;
    drop(place);
    context.metrics.reconciled(K::NAME, started.elapsed());
    let pause = result.unwrap_or(Err(Error::TimedOut(longest)))?;
    context.backoff.forget(&key);
    context.metrics.succeeded(context.clock.now());
    Ok(Action::requeue(pause))
}

/// What to do after an error: wait, longer each time.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the controller passes it like this"
)]
pub fn on_error<K: Stored>(read: Arc<Read<K>>, error: &Error, context: Arc<Context>) -> Action {
    let key = key_of(&*read);
    let pause = context.backoff.failed(&key, fastrand::f64());
    context.metrics.failed(K::NAME, error.reason());
    tracing::warn!(
        kind = key.kind,
        namespace = key.name.namespace,
        name = key.name.name,
        error = chain(error),
        retry_in_ms = pause.as_millis(),
        "reconcile failed"
    );
    Action::requeue(pause)
}

/// The key of an object of a kind.
pub fn key_of<K: Stored>(read: &Read<K>) -> Key {
    let namespace = read.namespace().unwrap_or_default();
    Key {
        kind: K::NAME,
        name: Name::new(namespace, read.name_any()),
    }
}

async fn look_at<K: Stored>(
    read: &Read<K>,
    key: &Key,
    context: &Context,
) -> Result<Duration, Error> {
    let deleting = read.meta().deletion_timestamp.is_some();
    match &read.0 {
        Ok(object) if deleting => finalize::finalize(object, key, context).await,
        Ok(object) => carry_out(object, key, context).await,
        Err(_) if deleting => finalize::finalize_unreadable(read, key, context).await,
        Err(invalid) => {
            context.metrics.invalid(K::NAME);
            status_shell::write_unreadable(read, &invalid.error, context).await?;
            Ok(context.settings.resync)
        }
    }
}

async fn carry_out<K: Stored>(object: &K, key: &Key, context: &Context) -> Result<Duration, Error> {
    let uid = object.uid().unwrap_or_default();
    let world = observe(object, &context.cluster, &context.stores, &context.client).await?;
    let current = Current::of(object, key, &uid, context);
    let (resolved, plan) = match decide(object, &world) {
        Ok(decided) => decided,
        Err(rejected) => return reject(object, &rejected, current, context).await,
    };
    finalize::ensure_finalizer(object, context).await?;
    let existed = former_bus(&current.conditions).is_some();
    let (mut done, broker) = apply(&plan, existed, context).await;
    let lost_for = note_broker(object, key, &uid, &done, context).await;
    if let Some(broker) = broker {
        context.memory.update(key, &uid, |entry| {
            if matches!(done.topology, Topology::Applied(_)) {
                entry.queue = plan.topology.first().map(|queue| broker.queue(queue));
            }
            entry.broker = Some(broker);
            entry.limit = K::summary(&resolved).limit;
            entry.replicas = done
                .worker
                .as_ref()
                .map(|worker| (worker.replicas, worker.ready));
        });
    }
    tell(
        object, key, &uid, &plan, &resolved, &done, &current, context,
    )
    .await;
    let error = done.error.take();
    let summary = K::summary(&resolved);
    let verdict = Verdict::Done {
        done: &done,
        bus: summary.bus,
        handles: summary.handles,
        paused: summary.paused,
    };
    let fields = object.fields(Some((&resolved, &done)));
    status_shell::write(object, current, verdict, lost_for, fields, context).await?;
    match error {
        Some(error) => Err(error),
        None => Ok(requeue_after(&done, &context.settings)),
    }
}

async fn reject<K: Stored>(
    object: &K,
    rejected: &Rejected,
    current: Current,
    context: &Context,
) -> Result<Duration, Error> {
    context.metrics.rejected(K::NAME, rejected.reason.as_str());
    let fields = object.fields(None);
    let verdict = Verdict::Rejected(rejected);
    let was_ready = current.is_true(ConditionType::Accepted);
    status_shell::write(object, current, verdict, None, fields, context).await?;
    if was_ready {
        tracing::info!(
            kind = K::NAME,
            namespace = object.namespace(),
            name = object.name_any(),
            reason = rejected.reason.as_str(),
            "no longer accepted; what runs is left as it is"
        );
    }
    let settings = &context.settings;
    let grace = settings.reference_grace + Duration::from_secs(1);
    Ok(if may_appear(rejected.reason) {
        grace.min(settings.resync)
    } else {
        settings.resync
    })
}

/// Remembers whether the broker answers, and tells when that changed.
async fn note_broker<K: Stored>(
    object: &K,
    key: &Key,
    uid: &str,
    done: &Done,
    context: &Context,
) -> Option<Duration> {
    match &done.topology {
        Topology::Failed(error) if done.topology.is_lost() => {
            let (since, is_news) = context.memory.lost(key, uid);
            if is_news {
                context
                    .events
                    .tell(object, Event::BrokerUnreachable, error.to_string())
                    .await;
            }
            Some(since.elapsed())
        }
        Topology::Applied(_) => {
            if context.memory.found(key, uid) {
                context
                    .events
                    .tell(object, Event::BrokerReconnected, "the broker answers again")
                    .await;
            }
            None
        }
        _ => None,
    }
}

/// Tells what was done to the topology and by the user.
#[expect(
    clippy::too_many_arguments,
    reason = "everything that an event can be about"
)]
async fn tell<K: Stored>(
    object: &K,
    key: &Key,
    uid: &str,
    plan: &Plan,
    resolved: &K::Resolved,
    done: &Done,
    current: &Current,
    context: &Context,
) {
    let events = &context.events;
    let bus = &plan.bus.name;
    if let Topology::Applied(applied) = &done.topology {
        let former = former_bus(&current.conditions);
        let lost = lost_streams(&current.conditions, bus, &applied.created);
        if !lost.is_empty() {
            let note = format!(
                "{} had vanished from MessageBus {bus}; made again, messages in it are lost",
                lost.join(", ")
            );
            events
                .tell(object, Event::TopologyDriftRepaired, note)
                .await;
        } else if !applied.created.is_empty() {
            let note = format!("made {} on MessageBus {bus}", applied.created.join(", "));
            events.tell(object, Event::TopologyCreated, note).await;
        }
        if !applied.repaired.is_empty() && former.is_some() {
            events
                .tell(
                    object,
                    Event::TopologyDriftRepaired,
                    applied.repaired.join("; "),
                )
                .await;
        }
        if let Some(former) = former.filter(|former| *former != bus.to_string()) {
            let note = format!(
                "messages accepted before stay on MessageBus {former}, and nobody handles them; change spec.bus back to have them handled"
            );
            events.warn(object, TOPOLOGY_ORPHANED, note).await;
        }
    }
    let paused = K::summary(resolved).paused;
    let was_paused = context.memory.get(key, uid).paused;
    context
        .memory
        .update(key, uid, |entry| entry.paused = Some(paused));
    let was_paused = was_paused.unwrap_or_else(|| current.is_true(ConditionType::Paused));
    match (was_paused, paused) {
        (false, true) => {
            events
                .tell(object, Event::Paused, "deliveries are stopped")
                .await;
        }
        (true, false) => {
            events
                .tell(object, Event::Resumed, "deliveries run again")
                .await;
        }
        _ => {}
    }
}

impl Current {
    /// A condition is true.
    pub fn is_true(&self, type_: ConditionType) -> bool {
        find(&self.conditions, type_).is_some_and(|old| old.status == ConditionStatus::True)
    }
}

/// When to look again if nothing happens.
fn requeue_after(done: &Done, settings: &Settings) -> Duration {
    let soon = settings.progress_interval;
    let worst = [&done.worker, &done.runtime]
        .into_iter()
        .flatten()
        .map(|r| r.progress)
        .max();
    let pause = match worst {
        _ if done.loading => soon.min(Duration::from_secs(1)),
        Some(Progress::Starting | Progress::Updating) => soon,
        Some(Progress::Unavailable | Progress::Failed) => soon * 3,
        _ if done.unresolved.is_some() || done.unserved.is_some() => soon * 3,
        _ if done.refused.is_some() => soon * 12,
        // Not all at the same time.
        _ => settings.resync.mul_f64(0.9 + 0.2 * fastrand::f64()),
    };
    pause.min(settings.resync.mul_f64(1.1))
}
