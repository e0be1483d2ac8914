//! What is watched, and whom a change concerns.
//!
//! Each source follows one kind of Kubernetes object and turns what it sees into keys of objects to
//! be reconciled. The stores are filled before the keys go out, so that a reconcile sees at least
//! what triggered it. A source makes a new list now and then: a watch that died without saying so
//! is noticed late, but noticed, and every list that succeeds is a sign of life.

mod concerns;
mod source;

use std::sync::Arc;

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher;
use weir_crds::{FifoConsumer, MessageBus, QueueConsumer, Webhook};

use crate::health::Health;
use crate::memory::Key;
use crate::plan::{KIND_LABEL, MANAGED_BY_LABEL, MANAGER};
use crate::settings::Settings;
use crate::stores::{Read, Scope, ScopeStores, Stores};

pub use concerns::Concerns;
use source::{Parts, Source, follow};

/// Longest watch, seconds; load balancers cut longer ones without a word.
const WATCH_SECONDS: u32 = 240;

/// The writers of one scope's stores.
pub struct Writers {
    scope: Scope,
    buses: Writer<Read<MessageBus>>,
    queues: Writer<Read<QueueConsumer>>,
    fifos: Writer<Read<FifoConsumer>>,
    webhooks: Writer<Read<Webhook>>,
}

/// Empty stores of some scopes, and what fills them.
pub fn stores(client: &Client, scopes: &[Scope]) -> (Stores, Vec<Writers>) {
    let writers: Vec<Writers> = scopes
        .iter()
        .map(|scope| Writers {
            scope: scope.clone(),
            buses: Writer::default(),
            queues: Writer::default(),
            fifos: Writer::default(),
            webhooks: Writer::default(),
        })
        .collect();
    let readers = writers
        .iter()
        .map(|writers| ScopeStores {
            scope: writers.scope.clone(),
            buses: writers.buses.as_reader(),
            queues: writers.queues.as_reader(),
            fifos: writers.fifos.as_reader(),
            webhooks: writers.webhooks.as_reader(),
        })
        .collect();
    (Stores::new(client.clone(), readers), writers)
}

/// Follows everything that is watched. Each item is an object to be reconciled.
pub fn changes(
    client: &Client,
    writers: Vec<Writers>,
    concerns: &Arc<Concerns>,
    health: &Arc<Health>,
    settings: &Settings,
) -> impl Stream<Item = Key> + use<> {
    let mut all: SelectAll<BoxStream<'static, Vec<Key>>> = SelectAll::new();
    for writers in writers {
        let parts = |name: &str| Parts {
            name: match &writers.scope {
                Scope::Cluster => name.to_owned(),
                Scope::Namespace(namespace) => format!("{name} in {namespace}"),
            },
            health: Arc::clone(health),
            relist: settings.relist,
        };
        let (scope, roots) = (
            &writers.scope,
            watcher::Config::default().timeout(WATCH_SECONDS),
        );
        let workers = roots.clone().labels(&format!(
            "{MANAGED_BY_LABEL}={MANAGER},{KIND_LABEL}!=runtime"
        ));
        let runtimes = roots.clone().labels(&format!(
            "{MANAGED_BY_LABEL}={MANAGER},{KIND_LABEL}=runtime"
        ));
        let of = |concerns: &Arc<Concerns>| Arc::clone(concerns);

        let source = Source::of_objects(of(concerns), writers.buses, Concerns::bus);
        all.push(follow(
            scope.api(client.clone()),
            roots.clone(),
            source,
            parts("messagebuses"),
        ));
        let source = Source::of_objects(of(concerns), writers.queues, Concerns::queue);
        all.push(follow(
            scope.api(client.clone()),
            roots.clone(),
            source,
            parts("queueconsumers"),
        ));
        let source = Source::of_objects(of(concerns), writers.fifos, Concerns::fifo);
        all.push(follow(
            scope.api(client.clone()),
            roots.clone(),
            source,
            parts("fifoconsumers"),
        ));
        let source = Source::of_objects(of(concerns), writers.webhooks, Concerns::webhook);
        all.push(follow(
            scope.api(client.clone()),
            roots,
            source,
            parts("webhooks"),
        ));

        let source = Source::<PartialObjectMeta<Deployment>>::of_children(of(concerns));
        all.push(follow(
            scope.api(client.clone()),
            workers.clone(),
            source,
            parts("worker deployments"),
        ));
        let source = Source::<PartialObjectMeta<ConfigMap>>::of_children(of(concerns));
        all.push(follow(
            scope.api(client.clone()),
            workers.clone(),
            source,
            parts("worker configmaps"),
        ));
        let source = Source::<PartialObjectMeta<PodDisruptionBudget>>::of_children(of(concerns));
        all.push(follow(
            scope.api(client.clone()),
            workers,
            source,
            parts("worker budgets"),
        ));

        let source = Source::of_runtime_deployments(of(concerns));
        all.push(follow(
            scope.api(client.clone()),
            runtimes.clone(),
            source,
            parts("runtime deployments"),
        ));
        let source = Source::of_runtime_configs(of(concerns));
        all.push(follow(
            scope.api(client.clone()),
            runtimes.clone(),
            source,
            parts("runtime configmaps"),
        ));
        let source = Source::<PartialObjectMeta<Service>>::of_runtime_parts(of(concerns));
        all.push(follow(
            scope.api(client.clone()),
            runtimes.clone(),
            source,
            parts("runtime services"),
        ));
        let source =
            Source::<PartialObjectMeta<PodDisruptionBudget>>::of_runtime_parts(of(concerns));
        all.push(follow(
            scope.api(client.clone()),
            runtimes,
            source,
            parts("runtime budgets"),
        ));
    }
    all.flat_map(futures::stream::iter)
}
