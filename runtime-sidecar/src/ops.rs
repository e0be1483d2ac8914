//! The ops server: the ops API (`weir_ops`) over what this process serves. On loopback only; in a
//! pod it only shows things, in `weir run` whoever has the token may change them.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use weir_broker::{Clock, Depth};
use weir_core::object::Kind;
use weir_ops::{Api, Directory, Entry, LocalGuard, Orders};

use crate::admin::describe;
use crate::objects::{Object, Objects};
use crate::server::Answer;

/// What this process serves, as the ops API sees it.
pub struct Served {
    /// The objects.
    pub objects: Objects,
    /// Where this process takes messages in.
    pub listen: Option<SocketAddr>,
}

#[async_trait::async_trait]
impl Directory for Served {
    fn all(&self, namespace: Option<&str>) -> Vec<Entry> {
        let snapshot = self.objects.snapshot();
        let all = snapshot.all.values();
        all.filter(|object| namespace.is_none_or(|it| it == object.shared.key.namespace))
            .map(|object| entry(object))
            .collect()
    }

    fn find(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Option<Entry> {
        let snapshot = self.objects.snapshot();
        let found = snapshot.all.values().find(|object| {
            let key = &object.shared.key;
            key.kind == kind
                && key.name == name
                && namespace.is_none_or(|namespace| namespace == key.namespace)
        });
        found.map(|object| entry(object))
    }

    fn listen(&self) -> Option<SocketAddr> {
        self.listen
    }
}

fn entry(object: &Object) -> Entry {
    let about = match describe(object) {
        Value::Object(about) => about,
        _ => Map::new(),
    };
    Entry {
        key: object.shared.key.clone(),
        uid: object.config.uid.clone(),
        queue: object.queue.as_ref().map(|queue| queue.handle.clone()),
        about,
    }
}

/// The ops server of one process.
pub struct Ops(Api<Served, LocalGuard>);

impl Ops {
    /// Serves `served`. With a token, whoever knows it may change things, and `redrives` carries
    /// them out.
    pub fn new(
        served: Arc<Served>,
        token: Option<String>,
        redrives: Option<Orders>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let guard = token.map_or_else(LocalGuard::read_only, LocalGuard::with_token);
        Self(Api {
            directory: served,
            guard,
            redrives,
            clock,
        })
    }
}

impl Answer for Ops {
    type Body = weir_ops::Body;

    async fn answer(&self, request: Request<Incoming>) -> Response<weir_ops::Body> {
        self.0.answer(request).await
    }
}

/// A queue's numbers.
pub fn depth(depth: &Depth) -> Value {
    json!({
        "ready": depth.ready,
        "inFlight": depth.in_flight,
        "delayed": depth.delayed,
        "dead": depth.dead,
        "oldest": depth.oldest,
    })
}
