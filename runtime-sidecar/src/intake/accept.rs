//! From a request to what is stored: headers, event, identity, delay.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use weir_broker::Publication;
use weir_core::cloudevents::{self, InvalidEvent, Parsed, Parts};
use weir_core::config::IntakeConfig;
use weir_core::dedup::identity;
use weir_core::headers::{all_from_http, from_http};
use weir_core::ids::new_id;
use weir_core::message::{Headers, Message};
use weir_core::publish::{DELAY_SECONDS, GROUP, Options};
use weir_core::trace;
use weir_core::wire::{METHOD, PATH};

use super::reject::{BAD_HEADER, IDENTITY_MISSING, MALFORMED_EVENT, Rejection};

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
pub fn read(config: &IntakeConfig, arrived: Arrived<'_>) -> Result<Accepted, Rejection> {
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
        return publication(config, None, parts, arrived.now).map(Accepted::One);
    }
    let delay = asked_for(arrived.headers)?.delay;
    match cloudevents::parse(headers, arrived.body, limits).map_err(|it| malformed(&it))? {
        Parsed::Plain(mut parts) | Parsed::Event(mut parts) => {
            keep_address(
                &mut parts.headers,
                arrived.method,
                arrived.suffix,
                arrived.query,
            );
            publication(config, delay, parts, arrived.now).map(Accepted::One)
        }
        Parsed::Batch(items) => {
            let items = items.into_iter().map(|parts| {
                let parts = parts.map_err(|error| malformed(&error))?;
                publication(config, delay, parts, arrived.now)
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
    config: &IntakeConfig,
    delay: Option<Duration>,
    parts: Parts,
    now: Timestamp,
) -> Result<Publication, Rejection> {
    let Parts { mut headers, body } = parts;
    let mut trace_random = [0; 24];
    fastrand::fill(&mut trace_random);
    trace::ensure(&mut headers, trace_random);
    let mut id_random = [0; 10];
    fastrand::fill(&mut id_random);
    let message = Message {
        id: new_id(now, id_random),
        accepted_at: now,
        headers,
        body,
        group: None,
    };
    let identity = identity(config.deduplicate.as_ref(), &message.headers, &message.body).map_err(
        |error| {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            Rejection::new(status, IDENTITY_MISSING, error.to_string())
        },
    )?;
    let window = config
        .deduplicate
        .as_ref()
        .map_or(0, |config| config.window_seconds);
    let dedup = identity.map(|identity| (identity, Duration::from_secs(window.into())));
    let delay = delay.unwrap_or(Duration::from_secs(config.delay_seconds.into()));
    Ok(Publication {
        message,
        dedup,
        delay,
    })
}

fn malformed(error: &InvalidEvent) -> Rejection {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    Rejection::new(status, MALFORMED_EVENT, error.to_string())
}
