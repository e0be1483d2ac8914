//! From a request to what is stored: headers, event, group, identity, delay.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use weir_broker::Publication;
use weir_core::cloudevents::{self, InvalidEvent, Parsed, Parts};
use weir_core::config::IntakeConfig;
use weir_core::dedup::{identity, scoped};
use weir_core::headers::{all_from_http, from_http};
use weir_core::ids::new_id;
use weir_core::message::{Headers, Message};
use weir_core::publish::{DELAY_SECONDS, GROUP, Options};
use weir_core::trace;
use weir_core::wire::{METHOD, PATH};

use super::reject::{BAD_HEADER, GROUP_INVALID, IDENTITY_MISSING, MALFORMED_EVENT, Rejection};
use crate::objects::Object;

/// A request that was read and whose signature is right.
pub struct Arrived<'a> {
    pub method: &'a http::Method,
    /// What follows the object in the path.
    pub suffix: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub body: Bytes,
    pub now: Timestamp,
}

/// What a request holds: one message, or a batch with an answer per item.
pub enum Accepted {
    One(Publication),
    Batch(Vec<Result<Publication, Rejection>>),
}

/// Reads a request.
pub fn read(
    object: &Object,
    config: &IntakeConfig,
    arrived: Arrived<'_>,
) -> Result<Accepted, Rejection> {
    let limits = cloudevents::Limits::default();
    let headers = from_http(arrived.headers, limits.headers).map_err(|error| {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Rejection::new(status, BAD_HEADER, error.to_string())
    })?;
    if !config.publish_api {
        let mut parts = Parts {
            headers,
            body: arrived.body,
        };
        keep_address(
            &mut parts.headers,
            arrived.method,
            arrived.suffix,
            arrived.query,
        );
        let nothing = Options::default();
        return publication(object, config, &nothing, parts, arrived.now).map(Accepted::One);
    }
    let options = asked_for(arrived.headers)?;
    if object.config.queue.fifo.is_some() && options.delay.is_some_and(|it| !it.is_zero()) {
        return Err(ordered_delay());
    }
    match cloudevents::parse(headers, arrived.body, limits).map_err(|it| malformed(&it))? {
        Parsed::Plain(mut parts) | Parsed::Event(mut parts) => {
            keep_address(
                &mut parts.headers,
                arrived.method,
                arrived.suffix,
                arrived.query,
            );
            publication(object, config, &options, parts, arrived.now).map(Accepted::One)
        }
        Parsed::Batch(items) => {
            let items = items.into_iter().map(|parts| {
                let parts = parts.map_err(|error| malformed(&error))?;
                publication(object, config, &options, parts, arrived.now)
            });
            Ok(Accepted::Batch(items.collect()))
        }
    }
}

/// What the sender asks for in `weir-` headers. Most ask for nothing.
fn asked_for(headers: &HeaderMap) -> Result<Options, Rejection> {
    if !headers.contains_key(DELAY_SECONDS) && !headers.contains_key(GROUP) {
        return Ok(Options::default());
    }
    Options::parse(&all_from_http(headers))
        .map_err(|error| Rejection::new(StatusCode::BAD_REQUEST, BAD_HEADER, error.to_string()))
}

/// Keeps what a handler of the protocol HTTP needs to see the request as it came.
fn keep_address(headers: &mut Headers, method: &http::Method, suffix: &str, query: Option<&str>) {
    if method != http::Method::POST {
        headers.append(METHOD, method.as_str());
    }
    match query {
        Some(query) => headers.append(PATH, format!("{suffix}?{query}")),
        None if !suffix.is_empty() => headers.append(PATH, suffix),
        None => {}
    }
}

fn publication(
    object: &Object,
    config: &IntakeConfig,
    options: &Options,
    parts: Parts,
    now: Timestamp,
) -> Result<Publication, Rejection> {
    let Parts { mut headers, body } = parts;
    let mut trace_random = [0; 24];
    fastrand::fill(&mut trace_random);
    trace::ensure(&mut headers, trace_random);
    let mut id_random = [0; 10];
    fastrand::fill(&mut id_random);
    let mut message = Message {
        id: new_id(now, id_random),
        accepted_at: now,
        headers,
        body,
        group: options.group.clone(),
    };
    if let (None, Some(grouping)) = (&message.group, &object.grouping) {
        let group = grouping.of(&object.config.object, &message, now);
        message.group = Some(group.map_err(|error| {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let rejection = Rejection::new(status, GROUP_INVALID, error.to_string());
            if status.is_server_error() {
                rejection.retry_after(5)
            } else {
                rejection
            }
        })?);
    }
    let identity = identity(config.deduplicate.as_ref(), &message.headers, &message.body).map_err(
        |error| {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            Rejection::new(status, IDENTITY_MISSING, error.to_string())
        },
    )?;
    let dedup = identity
        .zip(config.deduplicate.as_ref())
        .map(|(identity, config)| {
            let group = message.group.as_deref();
            let window = Duration::from_secs(config.window_seconds.into());
            (scoped(identity, config.scope, group), window)
        });
    let delay = options
        .delay
        .unwrap_or(Duration::from_secs(config.delay_seconds.into()));
    Ok(Publication {
        message,
        dedup,
        delay,
    })
}

/// A delay of one message would hold its whole group, as AWS does not either (aws-semantics 5.3.10).
fn ordered_delay() -> Rejection {
    let message = format!(
        "header {DELAY_SECONDS} cannot be used here: messages are handled in order, and this one would hold up all behind it; leave it out"
    );
    Rejection::new(StatusCode::BAD_REQUEST, BAD_HEADER, message)
}

fn malformed(error: &InvalidEvent) -> Rejection {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    Rejection::new(status, MALFORMED_EVENT, error.to_string())
}
