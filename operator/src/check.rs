//! `weir-operator check`: whether what was installed works. The chart runs it after an installation,
//! so that the installation fails when it does not.
//!
//! It reads and writes nothing. What counts is that an operator renews the Lease while this looks on,
//! and that the default bus, if there is one, is Ready.
#![allow(
    clippy::doc_markdown,
    reason = "the comments of fields are the text of --help"
)]

use std::time::Duration;

use clap::Parser;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{Api, Client};
use tokio::time::{Instant, sleep};
use weir_crds::MessageBus;
use weir_crds::conditions::{ConditionStatus, ConditionType, find};

use crate::options::name;
use crate::world::Name;

/// How often everything is looked at.
const PAUSE: Duration = Duration::from_secs(1);

/// Says whether an operator works and the default bus is ready; exit code 1 with the reasons if not.
#[derive(Clone, Debug, Parser)]
#[command(name = "weir-operator check", version)]
pub struct CheckOptions {
    /// How long to wait for everything to be well.
    #[arg(long, default_value_t = 60, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub wait_seconds: u64,

    /// MessageBus that has to be ready.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = name)]
    pub default_bus: Option<Name>,

    /// Namespace of the Lease.
    #[arg(long, default_value = "weir-system", value_name = "NAMESPACE")]
    pub lease_namespace: String,
}

/// Looks until all is well: `Ok`, or until the time is over: what is not.
pub async fn check(client: Client, options: &CheckOptions) -> Result<(), Vec<String>> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &options.lease_namespace);
    let deadline = Instant::now() + Duration::from_secs(options.wait_seconds);
    let mut first = None;
    loop {
        let mut problems = Vec::new();
        let lease = leases
            .get_opt(crate::lease::NAME)
            .await
            .map(|lease| lease.and_then(|lease| lease.spec));
        match lease {
            Ok(seen) => problems.extend(lease_problem(&mut first, seen)),
            Err(error) => problems.push(format!("the Lease cannot be read: {error}")),
        }
        if let Some(bus) = &options.default_bus {
            let buses: Api<MessageBus> = Api::namespaced(client.clone(), &bus.namespace);
            match buses.get_opt(&bus.name).await {
                Ok(found) => problems.extend(bus_problem(bus, found.as_ref())),
                Err(error) => problems.push(format!("MessageBus {bus} cannot be read: {error}")),
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(problems);
        }
        sleep(PAUSE).await;
    }
}

/// Nothing once the record has changed hands or been renewed while we looked on. Its times are those
/// of another clock, and are not compared with ours.
fn lease_problem(first: &mut Option<LeaseSpec>, seen: Option<LeaseSpec>) -> Option<String> {
    let held = seen.filter(|spec| spec.holder_identity.as_ref().is_some_and(|h| !h.is_empty()));
    let Some(seen) = held else {
        return Some("no operator holds the Lease; see the operator's log".to_owned());
    };
    let before = first.get_or_insert_with(|| seen.clone());
    if *before != seen {
        return None;
    }
    let holder = seen.holder_identity.unwrap_or_default();
    Some(format!(
        "{holder} holds the Lease and does not renew it; see the operator's log"
    ))
}

fn bus_problem(name: &Name, bus: Option<&MessageBus>) -> Option<String> {
    let Some(bus) = bus else {
        return Some(format!("MessageBus {name} does not exist"));
    };
    let conditions = bus
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    match find(conditions, ConditionType::Ready) {
        Some(ready) if ready.observed_generation == bus.metadata.generation => {
            (ready.status != ConditionStatus::True).then(|| {
                format!(
                    "MessageBus {name} is not ready: {}: {}",
                    ready.reason, ready.message
                )
            })
        }
        _ => Some(format!(
            "the operator has not looked at MessageBus {name} yet"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bus(generation: i64, status: &Value) -> MessageBus {
        serde_json::from_value(json!({
            "apiVersion": "weir.dev/v1alpha1",
            "kind": "MessageBus",
            "metadata": {"name": "default", "generation": generation},
            "spec": {"nats": {"servers": ["nats://nats:4222"]}},
            "status": {"conditions": [{
                "type": "Ready", "status": status, "reason": "BrokerUnreachable",
                "message": "no answer from nats://nats:4222", "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        }))
        .unwrap()
    }

    #[test]
    fn a_bus_is_well_only_when_its_present_spec_is() {
        let name = Name::new("weir-system", "default");
        assert_eq!(bus_problem(&name, Some(&bus(1, &json!("True")))), None);
        let problem = bus_problem(&name, Some(&bus(1, &json!("False")))).unwrap();
        assert!(problem.contains("BrokerUnreachable: no answer from nats://nats:4222"));
        let problem = bus_problem(&name, Some(&bus(2, &json!("True")))).unwrap();
        assert!(problem.contains("has not looked"), "{problem}");
        assert!(bus_problem(&name, None).unwrap().contains("does not exist"));
    }

    #[test]
    fn a_lease_is_well_once_it_is_seen_to_be_renewed() {
        let held = |renewals| LeaseSpec {
            holder_identity: Some("weir-1".to_owned()),
            lease_transitions: Some(renewals),
            ..LeaseSpec::default()
        };
        let mut first = None;
        assert!(lease_problem(&mut first, None).is_some());
        assert!(lease_problem(&mut first, Some(LeaseSpec::default())).is_some());
        let problem = lease_problem(&mut first, Some(held(1))).unwrap();
        assert!(problem.contains("weir-1 holds the Lease and does not renew it"));
        assert!(lease_problem(&mut first, Some(held(1))).is_some());
        assert_eq!(lease_problem(&mut first, Some(held(2))), None);
    }
}
