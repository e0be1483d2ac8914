//! `FIFOer`: a queue whose groups are handled in order, and its handler.

use kube::Resource as _;
use serde_json::{Map, Value};
use weir_asl::jsonata::Expression;
use weir_core::config::{
    DeduplicateConfig, DeduplicateScope, FifoConfig, GroupBy, IntakeConfig, WhenExhausted,
};
use weir_crds::FifoConsumer;
use weir_crds::conditions::{Condition, Reason};
use weir_crds::fifoconsumer::{GroupBy as SpecGroupBy, WhenExhausted as SpecWhenExhausted};
use weir_crds::shared::{self, Consumes as _, OrderedDeduplicate};

use super::{Ending, Kind, Needs, Summary, consumer_status};
use crate::delivery::{self, Resolved};
use crate::done::Done;
use crate::identity::Identity;
use crate::plan::{Plan, Rejected};
use crate::runtime::Member;
use crate::world::{Place, World};

impl Kind for FifoConsumer {
    type Resolved = Resolved;

    const NAME: &'static str = "FifoConsumer";

    fn needs(&self, place: &Place) -> Needs {
        delivery::needs(&identity(self), &self.spec.delivery(), place)
    }

    fn resolve(&self, world: &World) -> Result<Resolved, Rejected> {
        let identity = identity(self);
        let group = self.spec.group_by.as_deref().map(group_by).transpose()?;
        let intake = IntakeConfig {
            deduplicate: self.spec.deduplicate.as_ref().map(deduplicate),
            group,
            ..delivery::publish_api()
        };
        let delivery = self.spec.delivery();
        let age = self.spec.retention_seconds;
        let mut resolved = delivery::resolve(&identity, &delivery, intake, age, world)?;
        resolved.queue.fifo = Some(FifoConfig {
            partitions: self.spec.partitions.max(1),
        });
        resolved.consumer.when_exhausted = match self.spec.when_exhausted {
            SpecWhenExhausted::DeadLetter => WhenExhausted::DeadLetter,
            SpecWhenExhausted::DeadLetterGroup => WhenExhausted::DeadLetterGroup,
            SpecWhenExhausted::BlockGroup => WhenExhausted::BlockGroup,
        };
        Ok(resolved)
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
            .map_or(&[], |status| &status.consumer.conditions)
    }

    fn fields(&self, outcome: Option<(&Resolved, &Done)>) -> Map<String, Value> {
        let old = self.status.as_ref().map(|status| &status.consumer);
        consumer_status::fields(old, outcome.map(|(resolved, _)| resolved))
    }

    fn ending(&self) -> Option<Ending> {
        Some(delivery::ending(&identity(self), &self.spec.delivery()))
    }
}

fn identity(queue: &FifoConsumer) -> Identity {
    Identity::of(weir_core::object::Kind::FifoConsumer, queue)
}

/// What `groupBy` says. An expression that cannot be parsed would refuse every message, so it is
/// refused here, and by who reads manifests.
pub fn group_by(text: &str) -> Result<GroupBy, Rejected> {
    let invalid = |why: &str| Rejected::new(Reason::InvalidSpec, format!("spec.groupBy: {why}"));
    match SpecGroupBy::parse(text) {
        Some(SpecGroupBy::Header(name)) => Ok(GroupBy::Header { name }),
        Some(SpecGroupBy::Expression(text)) => {
            Expression::parse(&format!("{{% {text} %}}")).map_err(|error| {
                invalid(&format!(
                    "{error}; write a JSONata expression such as {{% data.accountId %}}"
                ))
            })?;
            Ok(GroupBy::Expression { text })
        }
        None => Err(invalid(
            "write a JSONata expression such as {% data.accountId %}, or the name of a header as in `header: x-group`",
        )),
    }
}

fn deduplicate(spec: &OrderedDeduplicate) -> DeduplicateConfig {
    DeduplicateConfig {
        scope: match spec.scope {
            shared::DeduplicateScope::Queue => DeduplicateScope::Queue,
            shared::DeduplicateScope::Group => DeduplicateScope::Group,
        },
        ..delivery::deduplicate(spec.by, spec.header.as_deref(), spec.window_seconds)
    }
}
