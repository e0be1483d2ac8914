//! Carries out a plan: broker topology first, then configuration, then workloads, then the shared
//! runtime.
//!
//! It always comes back with what it found, failures too, so that the status can always be written.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;
use weir_core::config::ObjectConfig;
use weir_crds::conditions::Reason;

use crate::applier::{NotApplied, Owner};
use crate::brokers::{Broker, NoConnection};
use crate::context::Context;
use crate::done::{Done, Topology};
use crate::error::Error;
use crate::identity::Identity;
use crate::plan::{ChildKind, MANAGER, Plan, Rejected, selector};
use crate::pod::short_hash;
use crate::probe::{ObjectProblem, ObjectReport};
use crate::rollout::{Progress, Rollout, rollout};
use crate::runtime;
use crate::runtime_shell::{Asking, Found, addresses, pods, set_config, touch_pods};

/// Kinds of children that an object can have for itself.
const KINDS: [ChildKind; 3] = [
    ChildKind::ConfigMap,
    ChildKind::Deployment,
    ChildKind::PodDisruptionBudget,
];
/// Most pods that are asked about one object.
const ASKED: usize = 5;

/// Carries out a plan. `existed` says that the topology was there before: then an outage of the
/// broker does not keep the rest from being looked after.
pub async fn apply(plan: &Plan, existed: bool, context: &Context) -> (Done, Option<Broker>) {
    let mut done = Done::default();
    let broker = match context.brokers.of(&plan.bus).await {
        Ok(broker) => Some(broker),
        Err(NoConnection::Refused(refused)) => {
            done.topology = Topology::BusRefused(about_bus(plan, refused));
            None
        }
        Err(NoConnection::Broker(error)) => {
            done.topology = Topology::Failed(error);
            None
        }
        Err(NoConnection::Failed(error)) => {
            done.error = Some(error);
            return (done, None);
        }
    };
    if let Some(broker) = &broker {
        topology(plan, broker, &mut done).await;
    }
    if let Topology::Failed(error) = &done.topology {
        let what = plan
            .identity
            .as_ref()
            .map_or(plan.bus.name.to_string(), |i| i.key.to_string());
        done.error = Some(Error::Broker {
            action: "apply",
            what,
            source: error.clone(),
        });
    }
    let may_go_on = matches!(done.topology, Topology::Applied(_))
        || (existed && (done.topology.is_lost() || broker.is_none()));
    if let Some(identity) = plan.identity.as_ref().filter(|_| may_go_on) {
        match children(identity, plan, &mut done, context).await {
            Ok(()) => {}
            Err(NotApplied::Refused(refused)) => done.refused = Some(refused),
            Err(NotApplied::Failed(error)) => {
                done.incomplete = true;
                done.error = Some(error);
            }
        }
    }
    (done, broker)
}

/// A problem with the credentials of a bus is for its owner; users of the bus learn where to look.
fn about_bus(plan: &Plan, refused: Rejected) -> Rejected {
    if plan.identity.is_none() {
        return refused;
    }
    let bus = &plan.bus.name;
    let words = format!("MessageBus {bus} cannot be used: {}", refused.message);
    Rejected::new(Reason::BusNotReady, words)
}

async fn topology(plan: &Plan, broker: &Broker, done: &mut Done) {
    if plan.topology.is_empty() {
        match broker.server().await {
            Ok(server) => {
                done.server = Some(server);
                done.topology = Topology::Applied(weir_broker::Applied::default());
            }
            Err(error) => done.topology = Topology::Failed(error),
        }
        return;
    }
    let mut all = weir_broker::Applied::default();
    for queue in &plan.topology {
        match broker.apply(queue).await {
            Ok(applied) => {
                all.created.extend(applied.created);
                all.repaired.extend(applied.repaired);
            }
            Err(error) => {
                done.topology = Topology::Failed(error);
                return;
            }
        }
    }
    done.topology = Topology::Applied(all);
}

async fn children(
    identity: &Identity,
    plan: &Plan,
    done: &mut Done,
    context: &Context,
) -> Result<(), NotApplied> {
    worker(identity, plan, done, context).await?;
    let namespace = &identity.key.namespace;
    let config = plan.config.runtime.as_ref();
    let changed = set_config(identity, config, &context.applier, &context.seen_configs).await?;
    let found = context
        .runtimes
        .ensure(
            Asking::Member(identity, &plan.bus),
            &context.cluster,
            &context.stores,
            &context.applier,
            &context.client,
        )
        .await?;
    if changed {
        let change = change_of(identity, plan.config.runtime.as_ref());
        touch_pods(namespace, &runtime::selector(), &change, &context.client).await;
    }
    ask_runtime(identity, &found, done, context).await;
    done.runtime = found.rollout;
    Ok(())
}

/// What an annotation says about a changed configuration.
fn change_of(identity: &Identity, config: Option<&ObjectConfig>) -> String {
    let hash = config.map(|config| short_hash(&config.to_json()));
    format!(
        "{} {}",
        identity.key,
        hash.unwrap_or_else(|| "removed".to_owned())
    )
}

/// The object's own children. Configuration comes first in the plan.
async fn worker(
    identity: &Identity,
    plan: &Plan,
    done: &mut Done,
    context: &Context,
) -> Result<(), NotApplied> {
    let key = &identity.key;
    let owner = Owner::Object(identity.uid.clone());
    let labels = selector(key);
    let live = context
        .applier
        .live(&KINDS, &key.namespace, &labels)
        .await?;
    let manager = format!("{MANAGER}/{}", key.kind.lower());
    let mut config_changed = false;
    for child in &plan.workloads {
        let before = live.get(&(child.kind, child.name.clone()));
        let after = context
            .applier
            .ensure(child, &manager, &owner, &live)
            .await?;
        if child.kind == ChildKind::ConfigMap {
            config_changed = before.is_some_and(|before| before["data"] != after["data"]);
        }
        if child.kind == ChildKind::Deployment {
            done.worker = Some(worker_rollout(identity, after, done, context).await?);
        }
    }
    context
        .applier
        .prune(&key.namespace, &plan.workloads, &live, &owner)
        .await?;
    if config_changed {
        let change = change_of(identity, plan.config.worker.as_ref());
        touch_pods(&key.namespace, &labels, &change, &context.client).await;
    }
    Ok(())
}

async fn worker_rollout(
    identity: &Identity,
    deployment: Value,
    done: &mut Done,
    context: &Context,
) -> Result<Rollout, Error> {
    let deployment: Deployment = serde_json::from_value(deployment).unwrap_or_default();
    let key = &identity.key;
    let pods = pods(&key.namespace, &selector(key), &context.client).await?;
    for address in addresses(&pods).iter().take(ASKED) {
        let Some(reports) = context.probe.objects(address).await else {
            continue;
        };
        for report in about(identity, &reports) {
            note(identity, report, false, done);
        }
    }
    Ok(rollout(&deployment, &pods))
}

/// Asks the runtime whether it has loaded the object and what is wrong with it.
async fn ask_runtime(identity: &Identity, found: &Found, done: &mut Done, context: &Context) {
    let is_current = found
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.progress == Progress::Complete);
    let (mut answered, mut loaded) = (false, false);
    for address in found.addresses.iter().take(ASKED) {
        let Some(reports) = context.probe.objects(address).await else {
            continue;
        };
        answered = true;
        for report in about(identity, &reports) {
            // A report that says nothing of a generation counts as the newest.
            loaded |= report
                .generation
                .is_none_or(|loaded| loaded >= identity.generation);
            note(identity, report, is_current, done);
        }
    }
    done.loading |= answered && !loaded;
}

fn about<'a>(
    identity: &'a Identity,
    reports: &'a [ObjectReport],
) -> impl Iterator<Item = &'a ObjectReport> {
    reports
        .iter()
        .filter(|report| report.object == identity.key)
}

/// Remembers what a report says is wrong: the first in a fixed order, whichever pod says it.
fn note(identity: &Identity, report: &ObjectReport, is_current: bool, done: &mut Done) {
    let mut problems: Vec<&ObjectProblem> = report.problems.iter().collect();
    problems.sort();
    for problem in problems {
        let quoted = &problem.message;
        let (place, found) = match problem.reason.as_str() {
            // Pods without a Secret that was named just now are about to be replaced.
            "SecretMissing" if !is_current => {
                done.loading = true;
                continue;
            }
            "SecretMissing" => {
                let words = missing_keys(identity);
                (
                    &mut done.unresolved,
                    Rejected::new(Reason::SecretNotFound, words),
                )
            }
            "SecretMalformed" => (
                &mut done.unresolved,
                Rejected::new(Reason::SecretInvalid, quoted),
            ),
            "DeadLettersBlocked" => {
                done.letters_blocked.get_or_insert_with(|| quoted.clone());
                continue;
            }
            // Weather, or seen by the operator itself.
            "BrokerUnreachable" | "BrokerTimeout" | "TopologyMissing" | "QueueFull" => continue,
            "ConfigRejected" => (
                &mut done.unserved,
                Rejected::new(Reason::ConfigRejected, quoted),
            ),
            _ => (
                &mut done.unserved,
                Rejected::new(Reason::RuntimeNotReady, quoted),
            ),
        };
        place.get_or_insert(found);
    }
}

fn missing_keys(identity: &Identity) -> String {
    let secret = identity
        .keys_secret
        .as_deref()
        .unwrap_or("with signing keys");
    format!(
        "secret {}/{secret} not found or empty; create it or change spec.verify.secretRef",
        identity.key.namespace
    )
}
