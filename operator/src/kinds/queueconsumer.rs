//! Frugal Consumer: a queue that others send to over HTTP, and its handler.

use kube::Resource as _;
use serde_json::{Map, Value};
use weir_core::config::IntakeConfig;
use weir_crds::QueueConsumer;
use weir_crds::conditions::Condition;
use weir_crds::shared::Consumes as _;

use super::{Ending, Kind, Needs, Summary, consumer_status};
use crate::delivery::{self, Resolved};
use crate::done::Done;
use crate::identity::Identity;
use crate::plan::{Plan, Rejected};
use crate::runtime::Member;
use crate::world::{Place, World};

impl Kind for QueueConsumer {
    type Resolved = Resolved;

    const NAME: &'static str = "QueueConsumer";

    fn needs(&self, place: &Place) -> Needs {
        delivery::needs(&identity(self), &self.spec.delivery(), place)
    }

    fn resolve(&self, world: &World) -> Result<Resolved, Rejected> {
        let intake = IntakeConfig {
            deduplicate: self
                .spec
                .deduplicate
                .as_ref()
                .map(delivery::deduplicate_all),
            delay_seconds: self.spec.delay_seconds,
            ..delivery::publish_api()
        };
        let delivery = self.spec.delivery();
        delivery::resolve(
            &identity(self),
            &delivery,
            intake,
            self.spec.retention_seconds,
            world,
        )
    }

    fn plan(resolved: &Resolved) -> Plan {
        delivery::plan(resolved)
    }

    fn member(&self, world: &World) -> Option<Member> {
        Some(delivery::member(
            &identity(self),
            self.meta(),
            self.spec.bus.as_deref(),
            world,
        ))
    }

    fn summary(resolved: &Resolved) -> Summary<'_> {
        consumer_status::summary(resolved)
    }

    fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map_or(&[], |status| &status.conditions)
    }

    fn fields(&self, outcome: Option<(&Resolved, &Done)>) -> Map<String, Value> {
        consumer_status::fields(self.status.as_ref(), outcome.map(|(resolved, _)| resolved))
    }

    fn ending(&self) -> Option<Ending> {
        Some(delivery::ending(&identity(self), &self.spec.delivery()))
    }
}

fn identity(queue: &QueueConsumer) -> Identity {
    Identity::of(weir_core::object::Kind::QueueConsumer, queue)
}
