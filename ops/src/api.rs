//! One request: who may, what of, then the answer.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;
use tokio::time::{Duration, timeout};
use weir_broker::{Clock, WorkQueue};
use weir_core::object::{Kind, ObjectKey};
use weir_core::ops::{LARGEST_REQUEST, Numbers, ObjectList};

use crate::directory::{Directory, Entry};
use crate::guard::{Access, Caller, Guard, Verb};
use crate::redrives::Orders;
use crate::refusal::{Body, Refusal, json};
use crate::route::{Route, What, parse};
use crate::{groups, letters, moves, transfer};

/// How long the document of a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The ops API of one process.
pub struct Api<D, G> {
    /// What is served.
    pub directory: Arc<D>,
    /// Who may do what.
    pub guard: G,
    /// Where redrives are carried out; absent where nothing is changed.
    pub redrives: Option<Orders>,
    /// Time of day.
    pub clock: Arc<dyn Clock>,
}

impl<D: Directory, G: Guard> Api<D, G> {
    /// Answers a request. Nothing of the body is read before the caller was admitted.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        match self.serve(&head, body).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        }
    }

    async fn serve<B>(&self, head: &Parts, body: B) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let query = head.uri.query().unwrap_or_default();
        match parse(&head.method, head.uri.path(), query) {
            Ok(Route::Objects { namespace }) => self.objects(head, namespace).await,
            Ok(Route::Object {
                kind,
                namespace,
                name,
                what,
            }) => {
                let access = what.access(kind, namespace.as_deref(), &name);
                let caller = self.guard.admit(head, Some(&access)).await?;
                if !access.verb.only_looks() {
                    self.check_that_it_may_change()?;
                }
                let entry = self.find(kind, namespace.as_deref(), &name)?;
                self.of_object(head, &entry, *what, caller, body).await
            }
            // Who may not even look is told nothing else.
            Err(refusal) => {
                self.guard.admit(head, None).await?;
                Err(refusal)
            }
        }
    }

    fn check_that_it_may_change(&self) -> Result<(), Refusal> {
        if self.directory.may_change() {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "NotLeading",
            "this process may not change anything now: another one holds the lease; try again",
        ))
    }

    /// An object, after its caller was admitted.
    pub(crate) fn find(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Entry, Refusal> {
        let found = self.directory.find(kind, namespace, name);
        found.ok_or_else(|| {
            let place = namespace.map_or_else(String::new, |n| format!(" in namespace {n}"));
            Refusal::not_found(format!("this process serves no {kind} {name}{place}"))
        })
    }

    async fn objects(
        &self,
        head: &Parts,
        namespace: Option<String>,
    ) -> Result<Response<Body>, Refusal> {
        let mut admitted = Vec::new();
        let mut refused = None;
        for kind in Kind::ALL {
            let access = Access {
                verb: Verb::Get,
                kind,
                subresource: None,
                namespace: namespace.clone(),
                name: None,
            };
            match self.guard.admit(head, Some(&access)).await {
                Ok(_) => admitted.push(kind),
                Err(refusal) => refused = Some(refusal),
            }
        }
        if let (true, Some(refusal)) = (admitted.is_empty(), refused) {
            return Err(refusal);
        }
        let objects = self.directory.all(namespace.as_deref());
        let objects = objects
            .into_iter()
            .filter(|entry| admitted.contains(&entry.key.kind))
            .map(|entry| described(&entry).into_iter().collect());
        let list = ObjectList {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: self.directory.listen(),
            objects: objects.collect(),
        };
        Ok(json(StatusCode::OK, &list))
    }

    async fn of_object<B>(
        &self,
        head: &Parts,
        entry: &Entry,
        what: What,
        caller: Caller,
        body: B,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let ok = StatusCode::OK;
        if what == What::Description {
            return Ok(json(ok, &described(entry)));
        }
        let queue = queue_of(entry)?;
        match what {
            What::Description => Ok(json(ok, &described(entry))),
            What::Depth => {
                let depth = queue.depth().await?;
                let numbers = Numbers {
                    ready: depth.ready,
                    in_flight: depth.in_flight,
                    delayed: depth.delayed,
                    dead: depth.dead,
                    oldest: depth.oldest,
                };
                Ok(json(ok, &numbers))
            }
            What::Messages { after, limit } => {
                Ok(json(ok, &letters::messages(&*queue, after, limit).await?))
            }
            What::Letters {
                after,
                limit,
                filter,
            } => {
                let page = letters::list(&*queue, after, limit, &filter).await?;
                Ok(json(ok, &page))
            }
            What::Letter { id } => Ok(json(ok, &letters::one(&*queue, &id).await?)),
            What::Summary { by, after, filter } => {
                let summary = letters::summary(&*queue, by, after, &filter).await?;
                Ok(json(ok, &summary))
            }
            What::Export { after, filter } => transfer::export(queue, after, filter).await,
            What::Groups { after, limit } => {
                let listed = groups::list(entry, &*queue, after.as_deref(), limit).await?;
                Ok(json(ok, &listed))
            }
            What::ReleaseGroup { group } => {
                let released = groups::release(entry, &*queue, &group, &caller).await?;
                Ok(json(ok, &released))
            }
            What::RedriveGroup { group } => {
                let released = groups::redrive(entry, &*queue, &group, &caller).await?;
                Ok(json(ok, &released))
            }
            What::Redrives => Ok(json(ok, &moves::list(&*queue).await?)),
            What::Redrive { id } => Ok(json(ok, &moves::status(&*queue, &id).await?)),
            What::CancelRedrive { id } => {
                let status = moves::cancel(self, entry, &*queue, &id, &caller).await?;
                Ok(json(StatusCode::ACCEPTED, &status))
            }
            What::StartRedrive => {
                let wanted = document(body).await?;
                moves::start(self, head, entry, queue, wanted, caller).await
            }
            What::Purge => {
                let purge = document(body).await?;
                Ok(json(
                    ok,
                    &moves::purge(self, entry, &*queue, purge, &caller).await?,
                ))
            }
            What::Import => {
                let imported = transfer::import(&*queue, body).await?;
                tracing::info!(
                    object = %entry.key, by = caller.name, stored = imported.stored,
                    "dead letters were imported"
                );
                Ok(json(ok, &imported))
            }
        }
    }

    /// Whether the caller may put messages into another object.
    pub(crate) async fn admit_to(
        &self,
        head: &Parts,
        target: &ObjectKey,
    ) -> Result<Caller, Refusal> {
        let access = Access {
            verb: Verb::Redrive,
            kind: target.kind,
            subresource: Some("deadletters"),
            namespace: Some(target.namespace.clone()),
            name: Some(target.name.clone()),
        };
        self.guard.admit(head, Some(&access)).await
    }
}

/// The queue of an object, where there is one yet.
pub(crate) fn queue_of(entry: &Entry) -> Result<Arc<dyn WorkQueue>, Refusal> {
    entry.queue.clone().ok_or_else(|| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "BrokerUnreachable",
            format!("there was no connection to the broker of {} yet", entry.key),
        )
    })
}

fn described(entry: &Entry) -> serde_json::Map<String, serde_json::Value> {
    let mut about = entry.about.clone();
    let key = serde_json::to_value(&entry.key).unwrap_or_default();
    if let serde_json::Value::Object(key) = key {
        about.extend(key);
    }
    about
}

/// The JSON document of a request.
async fn document<T, B>(body: B) -> Result<T, Refusal>
where
    T: DeserializeOwned,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let read = timeout(PATIENCE, Limited::new(body, LARGEST_REQUEST).collect());
    let late = || {
        Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "BodyTooSlow",
            "the body took too long to arrive",
        )
    };
    let read = read.await.map_err(|_| late())?;
    let body = read.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            let message = format!("the document may have at most {LARGEST_REQUEST} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", message)
        } else {
            Refusal::bad_request(format!("the body ended early: {error}"))
        }
    })?;
    let bytes = body.to_bytes();
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| Refusal::bad_request(error.to_string()))
}
