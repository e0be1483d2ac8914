//! Manifests as objects.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_operator::kinds::Object;
use weir_operator::world::Name;

/// The documents of a manifest.
pub fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// The documents of one kind, typed.
pub fn of_kind<K: DeserializeOwned>(text: &str, kind: &str) -> Vec<K> {
    documents(text)
        .into_iter()
        .filter(|document| document["kind"] == kind)
        .map(|document| serde_json::from_value(document).unwrap())
        .collect()
}

/// Our objects in a manifest.
pub fn objects(text: &str) -> Vec<Object> {
    let buses = of_kind(text, "MessageBus")
        .into_iter()
        .map(Object::MessageBus);
    let queues = of_kind(text, "QueueConsumer")
        .into_iter()
        .map(Object::QueueConsumer);
    let fifos = of_kind(text, "FifoConsumer")
        .into_iter()
        .map(Object::FifoConsumer);
    let webhooks = of_kind(text, "Webhook").into_iter().map(Object::Webhook);
    buses.chain(queues).chain(fifos).chain(webhooks).collect()
}

/// The service accounts in a manifest, and whether handlers may use them.
pub fn service_accounts(text: &str) -> BTreeMap<Name, bool> {
    documents(text)
        .into_iter()
        .filter(|document| document["kind"] == "ServiceAccount")
        .map(|document| {
            let metadata = &document["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap().to_owned();
            let allowed = metadata["annotations"]["weir.dev/allow-handler"] == "true";
            (Name::new(text("namespace"), text("name")), allowed)
        })
        .collect()
}

/// `webhook-stripe`.
pub fn file_name(object: &Object) -> String {
    match object {
        Object::MessageBus(object) => format!("messagebus-{}", object.name_any()),
        Object::QueueConsumer(object) => format!("queueconsumer-{}", object.name_any()),
        Object::FifoConsumer(object) => format!("fifoconsumer-{}", object.name_any()),
        Object::Webhook(object) => format!("webhook-{}", object.name_any()),
    }
}
