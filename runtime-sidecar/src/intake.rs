//! Intake: HTTP in, stored messages out.
//!
//! The steps are in this order, and nothing is stored before the last one: address, method, body within
//! its bounds, signature over the raw bytes, identity, event, room in the queue, publish. The answer is
//! 2xx only after the broker has stored the message.

mod accept;
pub mod body;
pub mod group;
pub mod keys;
pub mod reject;
mod route;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use weir_broker::{Clock, Publication, Published};
use weir_core::config::{IntakeConfig, VerifyConfig};
use weir_core::headers::all_from_http;
use weir_core::publish::Accepted as Stored;
use weir_core::verify::verify;

use crate::metrics::Metrics;
use crate::objects::{Object, Objects, Queue};
use crate::server::Answer;
use crate::settings::Settings;
use accept::{Accepted, Arrived};
use body::Budget;
use reject::{Rejection, json};

/// The intake of one process.
pub struct Intake {
    objects: Objects,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    budget: Budget,
}

impl Answer for Intake {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let snapshot = self.objects.snapshot();
        let path = request.uri().path();
        let found = route::parse(path).and_then(|address| {
            let suffix = path.len() - address.suffix.len();
            snapshot
                .find(address.kind, address.name)
                .map(|object| (object.clone(), suffix))
        });
        drop(snapshot);
        let Some((object, suffix)) = found else {
            self.metrics.rejected_unknown(reject::NOT_FOUND);
            return Rejection::not_found().response();
        };
        match self.take(&object, request, suffix).await {
            Ok(response) => response,
            Err(rejection) => {
                object.shared.metrics.rejected(rejection.reason);
                rejection.response()
            }
        }
    }
}

impl Intake {
    /// An intake for `objects`.
    pub fn new(
        objects: Objects,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let budget = Budget::new(settings.intake_memory);
        Self {
            objects,
            metrics,
            clock,
            settings,
            budget,
        }
    }

    async fn take(
        &self,
        object: &Object,
        request: Request<Incoming>,
        suffix: usize,
    ) -> Result<Response<Full<Bytes>>, Rejection> {
        let config = object
            .config
            .intake
            .as_ref()
            .ok_or_else(Rejection::not_found)?;
        if !config
            .methods
            .iter()
            .any(|method| method == request.method().as_str())
        {
            return Err(Rejection::method(&config.methods));
        }
        object.shared.traffic.store(true, Ordering::Relaxed);
        let (parts, body) = request.into_parts();
        let mut reserved = self.budget.reserve();
        let deadline = self.settings.http.body_deadline;
        let body = body::read(body, config.max_body_bytes, deadline, &mut reserved).await?;
        let now = self.clock.now();
        if let Some(verify) = &config.verify {
            check(verify, object, &parts.headers, &body, now)?;
        }
        let path = parts.uri.path();
        let suffix = if path.len() - suffix > 1 {
            &path[suffix..]
        } else {
            ""
        };
        let arrived = Arrived {
            method: &parts.method,
            suffix,
            query: parts.uri.query(),
            headers: &parts.headers,
            body,
            now,
        };
        let accepted = accept::read(object, config, arrived)?;
        let queue = object.queue.as_ref().ok_or_else(Rejection::unreachable)?;
        if object.shared.full.load(Ordering::Relaxed) {
            return Err(Rejection::full());
        }
        match accepted {
            Accepted::One(publication) => {
                let published = self.publish(object, queue, publication).await?;
                Ok(accepted_one(config, &published))
            }
            Accepted::Batch(items) => {
                let results = self.publish_all(object, queue, items).await;
                Ok(accepted_batch(config, object, &results))
            }
        }
    }

    /// Stores the messages of a batch: those of one group one after the other, in their order
    /// (aws-semantics 5.3.12), where order is kept.
    async fn publish_all(
        &self,
        object: &Object,
        queue: &Queue,
        items: Vec<Result<Publication, Rejection>>,
    ) -> Vec<Result<Published, Rejection>> {
        if object.config.queue.fifo.is_none() {
            let stored = items
                .into_iter()
                .map(|item| async { self.publish(object, queue, item?).await });
            return join_all(stored).await;
        }
        let mut groups: BTreeMap<Option<String>, Vec<(usize, Publication)>> = BTreeMap::new();
        let mut results = BTreeMap::new();
        for (place, item) in items.into_iter().enumerate() {
            match item {
                Ok(item) => {
                    let group = item.message.group.clone();
                    groups.entry(group).or_default().push((place, item));
                }
                Err(rejection) => {
                    results.insert(place, Err(rejection));
                }
            }
        }
        let stored = groups.into_values().map(|group| async {
            let mut stored = Vec::with_capacity(group.len());
            let mut failed = false;
            for (place, item) in group {
                let result = if failed {
                    Err(Rejection::behind())
                } else {
                    self.publish(object, queue, item).await
                };
                // What is refused for ever leaves no gap; what may come again has to come first.
                failed |= result.as_ref().is_err_and(Rejection::is_transient);
                stored.push((place, result));
            }
            stored
        });
        results.extend(join_all(stored).await.into_iter().flatten());
        results.into_values().collect()
    }

    async fn publish(
        &self,
        object: &Object,
        queue: &Queue,
        publication: Publication,
    ) -> Result<Published, Rejection> {
        if !queue.is_connected() {
            return Err(Rejection::unreachable());
        }
        // The broker answers in bounded time, or with an error.
        match queue.handle.publish(publication).await {
            Ok(published) => {
                let metrics = &object.shared.metrics;
                let counter = if published.duplicate {
                    &metrics.duplicates
                } else {
                    &metrics.received
                };
                counter.inc();
                Ok(published)
            }
            Err(error) => {
                tracing::debug!(object = %object.shared.key, %error, "not stored");
                Err(Rejection::broker(&error))
            }
        }
    }
}

/// Checks the signature over the raw body.
fn check(
    config: &VerifyConfig,
    object: &Object,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Rejection> {
    let keys = object.shared.keys();
    let checked = verify(config, &keys.values, &all_from_http(headers), body, now);
    checked.map(drop).map_err(|error| {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        if status.is_server_error() {
            // Nothing that the sender can do: the Secret may be on its way.
            Rejection::new(status, reject::SECRET_MISSING, error.to_string()).retry_after(10)
        } else {
            Rejection::new(status, reject::SIGNATURE, error.to_string())
        }
    })
}

fn accepted_one(config: &IntakeConfig, published: &Published) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(config.status).unwrap_or(StatusCode::ACCEPTED);
    if status == StatusCode::NO_CONTENT {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        return response;
    }
    reject::json_text(
        status,
        serde_json::to_string(&stored(published)).unwrap_or_default(),
    )
}

fn accepted_batch(
    config: &IntakeConfig,
    object: &Object,
    results: &[Result<Published, Rejection>],
) -> Response<Full<Bytes>> {
    let items: Vec<serde_json::Value> = results
        .iter()
        .map(|result| match result {
            Ok(published) => serde_json::json!(stored(published)),
            Err(rejection) => {
                object.shared.metrics.rejected(rejection.reason);
                let mut item = rejection.body();
                item["status"] = rejection.status.as_u16().into();
                item
            }
        })
        .collect();
    let status = match results.iter().find_map(|result| result.as_ref().err()) {
        None => StatusCode::from_u16(config.status).unwrap_or(StatusCode::ACCEPTED),
        // The sender must look at each item.
        Some(_) => StatusCode::MULTI_STATUS,
    };
    json(status, &serde_json::json!({"results": items}))
}

fn stored(published: &Published) -> Stored {
    Stored {
        id: published.id.clone(),
        duplicate: published.duplicate,
    }
}
