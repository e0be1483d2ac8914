//! Where messages live. It makes nothing of its own: it says whether the broker answers.

use kube::ResourceExt as _;
use serde_json::{Map, Value};
use weir_crds::conditions::Condition;
use weir_crds::messagebus::BusServer;
use weir_crds::{MessageBus, MessageBusStatus};

use super::{Ending, Kind, Needs, Summary, to_map};
use crate::bus::{self, Bus};
use crate::done::Done;
use crate::plan::{Config, Plan, Rejected};
use crate::runtime::Member;
use crate::world::{Name, Place, World};

/// A bus that can be connected to.
#[derive(Clone, Debug)]
pub struct ResolvedBus {
    /// How.
    pub bus: Bus,
}

/// What this version uses of a server that it accepts.
fn capabilities(bus: &Bus) -> Vec<String> {
    let always = ["WorkQueues", "Schedules", "DeadLetters"];
    let state = bus.config.remembers().then_some("Deduplication");
    always.into_iter().chain(state).map(str::to_owned).collect()
}

impl Kind for MessageBus {
    type Resolved = ResolvedBus;

    const NAME: &'static str = "MessageBus";

    fn needs(&self, _place: &Place) -> Needs {
        Needs::default()
    }

    fn resolve(&self, world: &World) -> Result<ResolvedBus, Rejected> {
        let name = Name::new(
            self.namespace().unwrap_or_else(|| "default".to_owned()),
            self.name_any(),
        );
        let bus = match &world.place {
            Place::Cluster(_) => bus::of(&name, &self.spec)?,
            Place::Local(_) => bus::choose(Some(&name.name), &name.namespace, world)?,
        };
        Ok(ResolvedBus { bus })
    }

    fn plan(resolved: &ResolvedBus) -> Plan {
        Plan {
            identity: None,
            bus: resolved.bus.clone(),
            topology: Vec::new(),
            config: Config::default(),
            workloads: Vec::new(),
            scaler: None,
            routes: Vec::new(),
        }
    }

    fn member(&self, _world: &World) -> Option<Member> {
        None
    }

    fn summary(resolved: &ResolvedBus) -> Summary<'_> {
        Summary {
            bus: &resolved.bus.name,
            handles: false,
            paused: false,
            limit: 0,
        }
    }

    fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map_or(&[], |status| &status.conditions)
    }

    fn fields(&self, outcome: Option<(&ResolvedBus, &Done)>) -> Map<String, Value> {
        let fields = match outcome {
            Some((
                resolved,
                Done {
                    server: Some(server),
                    ..
                },
            )) => MessageBusStatus {
                server: Some(BusServer {
                    version: Some(server.version.clone()),
                    api_level: (server.product == "nats").then_some(server.api_level),
                }),
                capabilities: capabilities(&resolved.bus),
                durability: Some(durability(resolved.bus.replicas)),
                ..MessageBusStatus::default()
            },
            // The server was not asked, or did not answer: what it said last still stands.
            _ => MessageBusStatus {
                observed_generation: None,
                conditions: Vec::new(),
                ..self.status.clone().unwrap_or_default()
            },
        };
        to_map(&fields)
    }

    fn ending(&self) -> Option<Ending> {
        None
    }
}

/// What a stored message survives. How the servers write to their disks is not known here.
fn durability(replicas: u32) -> String {
    match replicas {
        0 | 1 => "1 copy: lost with the disk of its server".to_owned(),
        copies => format!("{copies} copies: survives the loss of {}", (copies - 1) / 2),
    }
}
