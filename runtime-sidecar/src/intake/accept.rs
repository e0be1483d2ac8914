//! From a request to what is stored.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use weir_broker::Publication;
use weir_core::config::IntakeConfig;
use weir_core::message::{Headers, Message};

use super::reject::Rejection;
use crate::call::request::{METHOD, SUFFIX};

/// A request that was read and whose signature is right.
pub struct Arrived<'a> {
    pub method: &'a http::Method,
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

pub fn read(config: &IntakeConfig, arrived: Arrived<'_>) -> Result<Accepted, Rejection> {
    let mut headers = Headers::new();
    for (name, value) in arrived.headers {
        let text: String = value.as_bytes().iter().copied().map(char::from).collect();
        headers.append(name.as_str(), text);
    }
    if arrived.method != http::Method::POST {
        headers.set(METHOD, arrived.method.as_str());
    }
    if !arrived.suffix.is_empty() || arrived.query.is_some() {
        let query = arrived
            .query
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        headers.set(SUFFIX, format!("{}{query}", arrived.suffix));
    }
    let message = Message {
        id: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
        accepted_at: arrived.now,
        headers,
        body: arrived.body,
    };
    Ok(Accepted::One(Publication {
        message,
        dedup: None,
        delay: Duration::from_secs(config.delay_seconds.into()),
    }))
}
