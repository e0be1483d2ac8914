//! One reconcile for all kinds: observe, resolve, plan, apply, status, write.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use tokio::time::{Instant, timeout};
use weir_crds::conditions::{ConditionType, Reason};

use crate::apply::apply;
use crate::brokers::Broker;
use crate::context::Context;
use crate::done::{Done, Topology};
use crate::error::{Error, chain};
use crate::finalize;
use crate::kinds::{Summary, decide};
use crate::memory::Key;
use crate::observe::observe;
use crate::plan::{Plan, Rejected};
use crate::rollout::Progress;
use crate::runtime;
use crate::runtime_shell::touch_pods;
use crate::settings::Settings;
use crate::status::{Verdict, former_bus, may_appear};
use crate::status_shell::{self, Current};
use crate::stores::{Read, Stored};
use crate::tell::{self, News};
use crate::world::Name;

/// How long kubelets are made to look for missing keys.
const LOOK_FOR_KEYS: Duration = Duration::from_mins(10);

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
    let world = observe(object, &context.cluster, &context.stores, &context.client).await?;
    let current = Current::of(object, key, context);
    let (resolved, plan) = match decide(object, &world) {
        Ok(decided) => decided,
        Err(rejected) => return reject(object, &rejected, current, context).await,
    };
    finalize::ensure_finalizer(object, context).await?;
    let existed = former_bus(&current.conditions) == Some(plan.bus.name.to_string());
    let (mut done, broker) = apply(&plan, existed, context).await;
    let summary = K::summary(&resolved);
    let news = remember(&current, summary, &plan, &done, broker, context);
    tell::outcome(object, &plan, &done, &current, context).await;
    tell::news(object, &news, &done, context).await;
    look_for_keys(&plan, &news, context).await;
    let error = done.error.take();
    let verdict = Verdict::Done {
        done: &done,
        summary,
    };
    let fields = object.fields(Some((&resolved, &done)));
    status_shell::write(object, current, verdict, news.lost_for, fields, context).await?;
    match error {
        Some(error) => Err(error),
        None => Ok(requeue_after(&done, news.loading, &context.settings)),
    }
}

/// Kubelets look for a Secret that was missing every minute or so; sooner when they are touched. For
/// a while that is worth it: a Secret is usually made beside the object that names it.
async fn look_for_keys(plan: &Plan, news: &News, context: &Context) {
    let (Some(missing_for), Some(identity)) = (news.keys_missing_for, &plan.identity) else {
        return;
    };
    if missing_for < LOOK_FOR_KEYS {
        let change = format!("keys of {} after {} s", identity.key, missing_for.as_secs());
        let namespace = &identity.key.namespace;
        touch_pods(namespace, &runtime::selector(), &change, &context.client).await;
    }
}

/// Remembers what the next reconcile and the reader of numbers need. Says what is new.
fn remember(
    current: &Current,
    summary: Summary<'_>,
    plan: &Plan,
    done: &Done,
    broker: Option<Broker>,
    context: &Context,
) -> News {
    let was_paused = current.is_true(ConditionType::Paused);
    let mut news = News::default();
    context.memory.update(&current.key, &current.uid, |entry| {
        if done.topology.is_lost() {
            news.broker_lost = entry.broker_lost.is_none();
            let since = *entry.broker_lost.get_or_insert_with(Instant::now);
            news.lost_for = Some(since.elapsed());
        } else if matches!(done.topology, Topology::Applied(_)) {
            news.broker_found = entry.broker_lost.take().is_some();
        }
        if let Some(broker) = broker {
            if matches!(done.topology, Topology::Applied(_)) {
                entry.queue = plan.topology.first().map(|queue| broker.queue(queue));
            }
            entry.broker = Some(broker);
        }
        let missing = done
            .unresolved
            .as_ref()
            .is_some_and(|r| r.reason == Reason::SecretNotFound);
        entry.keys_missing = missing.then(|| entry.keys_missing.unwrap_or_else(Instant::now));
        news.keys_missing_for = entry.keys_missing.map(|since| since.elapsed());
        let before = entry.paused.replace(summary.paused).unwrap_or(was_paused);
        news.paused = (before != summary.paused).then_some(summary.paused);
        entry.loading = if done.loading {
            entry.loading.saturating_add(1)
        } else {
            0
        };
        news.loading = entry.loading;
        entry.reconciled = Some(Instant::now());
        entry.limit = summary.limit;
        entry.replicas = done
            .worker
            .as_ref()
            .map(|worker| (worker.replicas, worker.ready));
    });
    news
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

/// When to look again if nothing happens.
fn requeue_after(done: &Done, loading: u32, settings: &Settings) -> Duration {
    let soon = settings.progress_interval;
    let worst = [&done.worker, &done.runtime]
        .into_iter()
        .flatten()
        .map(|r| r.progress)
        .max();
    let pause = match worst {
        // Usually a matter of a second; never a busy loop.
        _ if done.loading => (soon / 16).saturating_mul(1 << loading.min(4)),
        Some(Progress::Starting | Progress::Updating) => soon,
        Some(Progress::Unavailable | Progress::Failed) => soon * 3,
        _ if done.unresolved.is_some()
            || done.unserved.is_some()
            || done.letters_blocked.is_some() =>
        {
            soon * 2
        }
        _ if done.refused.is_some() => soon * 12,
        // Not all at the same time.
        _ => settings.resync.mul_f64(0.9 + 0.2 * fastrand::f64()),
    };
    pause.min(settings.resync.mul_f64(1.1))
}
