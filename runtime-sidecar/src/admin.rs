//! The admin server: liveness, readiness, metrics, what is loaded, what is wrong, the log level.
//!
//! It shows names, numbers and reasons; never keys, credentials or messages.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_core::config::TargetConfig;

use crate::bus::Servers;
use crate::config_source::Config;
use crate::intake::reject;
use crate::metrics::Metrics;
use crate::objects::{Object, Objects};
use crate::server::Answer;
use crate::settings::SetLogFilter;
use crate::supervise::Hearts;

/// Header with [`Admin::drain_token`].
const DRAIN_TOKEN: &str = "weir-drain-token";

/// Largest log filter.
const FILTER: usize = 4096;

/// The admin server of one process.
pub struct Admin {
    /// What is served.
    pub objects: Objects,
    /// What is configured.
    pub config: watch::Receiver<Arc<Config>>,
    /// Series.
    pub metrics: Arc<Metrics>,
    /// Liveness.
    pub hearts: Hearts,
    /// The process is about to end.
    pub draining: CancellationToken,
    /// What `/drain` asks for; absent: 404.
    pub drain_token: Option<String>,
    /// `PUT /log-level`.
    pub set_log_filter: Option<SetLogFilter>,
}

impl Answer for Admin {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET | &Method::HEAD, "/live") => self.live(),
            (&Method::GET | &Method::HEAD, "/ready") => self.ready(),
            (&Method::GET, "/metrics") => self.metrics(),
            (&Method::GET, "/config") => self.config(),
            (&Method::GET, "/objects") => self.objects(),
            (&Method::GET, "/drain") => self.drain(&request).await,
            (&Method::PUT, "/log-level") => self.log_level(request).await,
            (_, "/live" | "/ready" | "/metrics" | "/config" | "/objects" | "/log-level") => error(
                StatusCode::METHOD_NOT_ALLOWED,
                reject::METHOD,
                "use GET; PUT for /log-level",
            ),
            _ => error(
                StatusCode::NOT_FOUND,
                reject::NOT_FOUND,
                "there is /live /ready /metrics /config /objects, and PUT /log-level",
            ),
        }
    }
}

impl Admin {
    fn live(&self) -> Response<Full<Bytes>> {
        let stuck: Vec<Value> = self
            .hearts
            .stuck()
            .into_iter()
            .map(|(task, silent)| json!({"task": task, "silentSeconds": silent.as_secs()}))
            .collect();
        let status = if stuck.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        reject::json(status, &json!({"live": stuck.is_empty(), "stuck": stuck}))
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let waiting = self.waiting_for();
        let status = if waiting.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        reject::json(
            status,
            &json!({"ready": waiting.is_empty(), "waitingFor": waiting}),
        )
    }

    /// What keeps this process from being ready. The loss of a broker does not: an intake answers 503
    /// by itself, and a restart would help nobody.
    fn waiting_for(&self) -> Vec<String> {
        let mut waiting = Vec::new();
        if self.draining.is_cancelled() {
            waiting.push("nothing: this process is about to end".to_owned());
        }
        if !self.config.borrow().loaded {
            waiting.push("the configuration".to_owned());
        }
        for (key, object) in &self.objects.snapshot().all {
            let Some(consumer) = &object.config.consumer else {
                continue;
            };
            if !matches!(consumer.target, TargetConfig::Handler { .. }) {
                continue;
            }
            if object.queue.is_none() {
                waiting.push(format!("the broker of {key}"));
            }
            if !object.shared.consumer.handler_ready.load(Ordering::Relaxed) {
                waiting.push(format!("the handler of {key}"));
            }
        }
        waiting
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        // Whoever scrapes wants to see the depth, also without traffic.
        for object in self.objects.snapshot().all.values() {
            object.shared.traffic.store(true, Ordering::Relaxed);
        }
        let mut response = Response::new(Full::new(self.metrics.encode().into()));
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
        );
        response
    }

    fn config(&self) -> Response<Full<Bytes>> {
        let config = self.config.borrow().clone();
        let objects: Vec<Value> = config
            .objects
            .values()
            .map(|object| {
                json!({
                    "kind": object.object.kind,
                    "namespace": object.object.namespace,
                    "name": object.object.name,
                    "uid": object.uid,
                    "generation": object.generation,
                    "bus": Servers(&object.bus).to_string(),
                    "intake": object.intake.is_some(),
                    "consumer": object.consumer.is_some(),
                })
            })
            .collect();
        let body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "configVersion": weir_core::config::VERSION,
            "loaded": config.loaded,
            "objects": objects,
            "errors": config.errors,
        });
        reject::json(StatusCode::OK, &body)
    }

    fn objects(&self) -> Response<Full<Bytes>> {
        let snapshot = self.objects.snapshot();
        let objects: Vec<Value> = snapshot
            .all
            .values()
            .map(|object| describe(object))
            .collect();
        reject::json(StatusCode::OK, &json!({"objects": objects}))
    }

    /// Called before the handler is told to end (`preStop`): it gets no new message, and the answer
    /// comes when what it has is done. A handler that comes back gets messages again.
    async fn drain(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let given = request
            .headers()
            .get(DRAIN_TOKEN)
            .map(HeaderValue::as_bytes);
        match &self.drain_token {
            Some(token) if given == Some(token.as_bytes()) => {}
            Some(_) => {
                let message = "the header weir-drain-token is missing or wrong";
                return error(StatusCode::FORBIDDEN, "Forbidden", message);
            }
            None => {
                let message = "this process was started without a drain token";
                return error(StatusCode::NOT_FOUND, reject::NOT_FOUND, message);
            }
        }
        let objects = self.objects.snapshot();
        for object in objects.all.values() {
            object.shared.consumer.handler_leaves();
        }
        let busy = || {
            objects.all.values().any(|object| {
                let state = &object.shared.consumer;
                state.in_flight.load(Ordering::Relaxed) > 0 || state.pulling.load(Ordering::Relaxed)
            })
        };
        // The caller hangs up when its patience is over.
        while busy() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        reject::json(StatusCode::OK, &json!({"drained": true}))
    }

    async fn log_level(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(set) = &self.set_log_filter else {
            let message = "this process cannot change its log level";
            return error(StatusCode::NOT_FOUND, reject::NOT_FOUND, message);
        };
        let body = Limited::new(request.into_body(), FILTER).collect().await;
        let filter = body
            .ok()
            .and_then(|body| String::from_utf8(body.to_bytes().to_vec()).ok())
            .map(|filter| filter.trim().to_owned());
        let filter = filter.filter(|filter| !filter.is_empty());
        let set = match &filter {
            Some(filter) => set(filter),
            None => Err("there is no filter in the body".to_owned()),
        };
        match set {
            Ok(()) => reject::json(StatusCode::OK, &json!({"logLevel": filter})),
            Err(why) => error(
                StatusCode::BAD_REQUEST,
                "BadFilter",
                &format!("{why}; send a level (debug) or a filter (info,weir_sidecar=debug)"),
            ),
        }
    }
}

/// One object, as the operator reads it.
pub fn describe(object: &Object) -> Value {
    let shared = &object.shared;
    let mut description = json!({
        "kind": shared.key.kind,
        "namespace": shared.key.namespace,
        "name": shared.key.name,
        "uid": object.config.uid,
        "generation": object.config.generation,
        "connected": object.queue.as_ref().is_some_and(crate::objects::Queue::is_connected),
        "problems": shared.problems(),
    });
    if let Some(intake) = &object.config.intake {
        description["intake"] = json!({
            "full": shared.full.load(Ordering::Relaxed),
            "keys": intake.verify.as_ref().map(|_| shared.keys().len()),
        });
    }
    if let Some(config) = &object.config.consumer {
        let state = &shared.consumer;
        let load = |flag: &std::sync::atomic::AtomicBool| flag.load(Ordering::Relaxed);
        description["consumer"] = json!({
            "inFlight": state.in_flight.load(Ordering::Relaxed),
            "pulling": load(&state.pulling),
            "gate": if load(&state.throttled) { "Throttled" } else { "Open" },
            "handlerReady": load(&state.handler_ready),
            "handlerLeaving": state.handler_is_leaving(),
            "paused": config.paused,
        });
    }
    if let Some(depth) = shared.depth() {
        description["depth"] = crate::ops::depth(&depth);
    }
    description
}

fn error(status: StatusCode, reason: &str, message: &str) -> Response<Full<Bytes>> {
    reject::json(status, &json!({"error": reason, "message": message}))
}
