//! Where messages live. It makes nothing of its own: it says whether the broker answers.

use kube::ResourceExt as _;
use weir_crds::MessageBus;

use super::{Kind, Needs};
use crate::bus::{self, Bus};
use crate::plan::{Config, Plan, Rejected};
use crate::runtime::Member;
use crate::world::{Name, Place, World};

/// A bus that can be connected to.
#[derive(Clone, Debug)]
pub struct ResolvedBus {
    /// How.
    pub bus: Bus,
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
}
