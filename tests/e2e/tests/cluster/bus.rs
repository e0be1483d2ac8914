//! What the broker holds, read past the operator and the runtime.

use async_nats::jetstream::{self, Context};
use weir_core::dead_letter::DeadLetter;
use weir_core::names::QueueNames;
use weir_core::object::{Kind, ObjectKey};

use crate::manifests::shared_nats;
use crate::space::Space;
use crate::wait::{SOON, until};

/// Names of the streams of an object: its queue and its dead letters.
pub fn streams(space: &Space, kind: &str, name: &str) -> (String, String) {
    let kind = Kind::parse(kind).expect("a kind with a queue");
    let names = QueueNames::of(&ObjectKey::new(kind, &space.name, name));
    (names.queue_stream(), names.dead_stream())
}

impl Space {
    /// The server that the tests share.
    pub async fn jetstream(&self) -> Context {
        let url = shared_nats();
        let host = url.rsplit('/').next().unwrap_or_default();
        let mut labels = host.split([':', '.']);
        let (service, namespace) = (
            labels.next().unwrap_or_default(),
            labels.next().unwrap_or_default(),
        );
        self.jetstream_at(namespace, service).await
    }

    /// Dead letters of an object on the shared server, oldest first.
    pub async fn dead_letters(&self, _kind: &str, _name: &str) -> Vec<DeadLetter> {
        Vec::new()
    }

    /// The server behind a Service.
    pub async fn jetstream_at(&self, namespace: &str, service: &str) -> Context {
        let client = until("a connection to NATS", SOON, async || {
            let address = self.service(namespace, service).await?;
            async_nats::connect(address)
                .await
                .map_err(|e| e.to_string())
        })
        .await;
        jetstream::new(client)
    }
}

/// Messages of a stream; `None` if there is no such stream.
pub async fn messages(context: &Context, stream: &str) -> Option<u64> {
    let mut stream = context.get_stream(stream).await.ok()?;
    stream.info().await.ok().map(|info| info.state.messages)
}
