//! Which events follow from a reconcile.

use std::time::Duration;

use kube::ResourceExt as _;
use weir_crds::conditions::Event;

use crate::context::Context;
use crate::done::{Done, Topology};
use crate::plan::Plan;
use crate::status::{former_bus, lost_streams};
use crate::status_shell::Current;
use crate::stores::Stored;

/// What is new since the last reconcile of an object.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// How long its broker has not answered.
    pub lost_for: Option<Duration>,
    /// It answered the last time.
    pub broker_lost: bool,
    /// It did not answer the last time.
    pub broker_found: bool,
    /// How long its signing keys have been missing.
    pub keys_missing_for: Option<Duration>,
    /// The user stopped deliveries, or let them go on.
    pub paused: Option<bool>,
    /// How often in a row the data plane lacked the newest version.
    pub loading: u32,
}

/// Tells what is new.
pub async fn news<K: Stored>(object: &K, news: &News, done: &Done, context: &Context) {
    let events = &context.events;
    if let (true, Topology::Failed(error)) = (news.broker_lost, &done.topology) {
        events
            .tell(object, Event::BrokerUnreachable, error.to_string())
            .await;
    }
    if news.broker_found {
        events
            .tell(object, Event::BrokerReconnected, "the broker answers again")
            .await;
    }
    match news.paused {
        Some(true) => {
            events
                .tell(object, Event::Paused, "deliveries are stopped")
                .await;
        }
        Some(false) => {
            events
                .tell(object, Event::Resumed, "deliveries run again")
                .await;
        }
        None => {}
    }
}

/// Tells what was done to the topology.
pub async fn outcome<K: Stored>(
    object: &K,
    plan: &Plan,
    done: &Done,
    current: &Current,
    context: &Context,
) {
    let Topology::Applied(applied) = &done.topology else {
        return;
    };
    let (events, bus) = (&context.events, &plan.bus.name);
    let former = former_bus(&current.conditions);
    let lost = lost_streams(&current.conditions, bus, &applied.created);
    if !lost.is_empty() {
        let note = format!(
            "{} had vanished from MessageBus {bus}; made again, messages in it are lost",
            lost.join(", ")
        );
        tracing::error!(
            kind = K::NAME,
            namespace = object.namespace(),
            name = object.name_any(),
            "{note}"
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
        events.tell(object, Event::TopologyOrphaned, note).await;
    }
}
