//! What the watches have seen, for looking things up without asking.

use std::sync::Arc;

use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt as _};
use weir_crds::{FifoConsumer, MessageBus, QueueConsumer, Webhook};

use crate::error::Error;
use crate::kinds::Kind;
use crate::world::Name;

/// An object as it was read: understood, or not.
pub type Read<K> = DeserializeGuard<K>;

/// The part of the cluster that one set of watches covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace.
    Cluster,
    /// One namespace.
    Namespace(String),
}

impl Scope {
    /// Access to what the scope covers.
    pub fn api<K>(&self, client: Client) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        match self {
            Self::Cluster => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }

    /// Whether a namespace is in it.
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespace(own) => own == namespace,
        }
    }
}

/// The stores of one scope.
#[derive(Clone)]
pub struct ScopeStores {
    /// What they cover.
    pub scope: Scope,
    /// Buses in it.
    pub buses: Store<Read<MessageBus>>,
    /// Queues in it.
    pub queues: Store<Read<QueueConsumer>>,
    /// Ordered queues in it.
    pub fifos: Store<Read<FifoConsumer>>,
    /// Webhooks in it.
    pub webhooks: Store<Read<Webhook>>,
}

/// All stores.
#[derive(Clone)]
pub struct Stores {
    client: Client,
    scopes: Arc<Vec<ScopeStores>>,
}

/// A kind that has a store.
pub trait Stored: Kind {
    /// Its store of one scope.
    fn store(stores: &ScopeStores) -> &Store<Read<Self>>;
}

impl Stored for MessageBus {
    fn store(stores: &ScopeStores) -> &Store<Read<Self>> {
        &stores.buses
    }
}

impl Stored for QueueConsumer {
    fn store(stores: &ScopeStores) -> &Store<Read<Self>> {
        &stores.queues
    }
}

impl Stored for FifoConsumer {
    fn store(stores: &ScopeStores) -> &Store<Read<Self>> {
        &stores.fifos
    }
}

impl Stored for Webhook {
    fn store(stores: &ScopeStores) -> &Store<Read<Self>> {
        &stores.webhooks
    }
}

impl Stores {
    /// The stores of some scopes. What they do not cover is asked for through `client`.
    pub fn new(client: Client, scopes: Vec<ScopeStores>) -> Self {
        Self {
            client,
            scopes: Arc::new(scopes),
        }
    }

    /// The stores of each scope.
    pub fn scopes(&self) -> impl Iterator<Item = &ScopeStores> {
        self.scopes.iter()
    }

    /// Waits until every store has been filled once.
    pub async fn wait_until_ready(&self) {
        for stores in self.scopes.iter() {
            // Only a dropped writer ends a wait early, and then the process ends.
            stores.buses.wait_until_ready().await.ok();
            stores.queues.wait_until_ready().await.ok();
            stores.fifos.wait_until_ready().await.ok();
            stores.webhooks.wait_until_ready().await.ok();
        }
    }

    /// An object that is there, understood and not being deleted. Asks the API server where no watch
    /// covers the namespace; what may not be read counts as absent.
    pub async fn find<K: Stored>(&self, name: &Name) -> Result<Option<Arc<K>>, Error> {
        let scope = self
            .scopes
            .iter()
            .find(|stores| stores.scope.covers(&name.namespace));
        let found = if let Some(stores) = scope {
            let reference = ObjectRef::new(&name.name).within(&name.namespace);
            K::store(stores)
                .get(&reference)
                .and_then(|read| read.0.clone().ok())
        } else {
            let api: Api<K> = Api::namespaced(self.client.clone(), &name.namespace);
            match api.get_opt(&name.name).await {
                Ok(found) => found,
                Err(kube::Error::Api(status)) if status.is_forbidden() => None,
                Err(error) => {
                    return Err(Error::kube("read", format!("{} {name}", K::NAME), error));
                }
            }
        };
        Ok(found
            .filter(|object| object.meta().deletion_timestamp.is_none())
            .map(Arc::new))
    }

    /// An object as the watch saw it last, whatever its state.
    pub fn latest<K: Stored>(&self, name: &Name) -> Option<Arc<Read<K>>> {
        let reference = ObjectRef::new(&name.name).within(&name.namespace);
        self.scopes
            .iter()
            .filter(|stores| stores.scope.covers(&name.namespace))
            .find_map(|stores| K::store(stores).get(&reference))
    }

    /// All objects of a kind that were understood, also those being deleted, in one namespace or all.
    pub fn all<K: Stored>(&self, namespace: Option<&str>) -> Vec<Arc<Read<K>>> {
        self.scopes
            .iter()
            .filter(|stores| namespace.is_none_or(|namespace| stores.scope.covers(namespace)))
            .flat_map(|stores| K::store(stores).state())
            .filter(|read| read.0.is_ok())
            .filter(|read| namespace.is_none() || read.namespace().as_deref() == namespace)
            .collect()
    }
}
