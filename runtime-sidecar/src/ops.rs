//! The ops server: looks into queues, for the command line. On loopback only, and it changes nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use weir_broker::{BrokerError, Depth, Page, StoredDeadLetter, StoredMessage};
use weir_core::message::Message;
use weir_core::object::Kind;

use crate::admin::describe;
use crate::intake::reject;
use crate::objects::{Object, Objects};
use crate::server::Answer;

/// Items of one page.
const MOST: usize = 200;

/// Items of one page when nobody asks for a number.
const USUAL: usize = 50;

/// The ops server of one process.
pub struct Ops {
    /// What is served.
    pub objects: Objects,
    /// Where this process takes messages in.
    pub listen: Option<std::net::SocketAddr>,
}

/// Why there is no answer: a status, a word, a sentence.
type Refusal = (StatusCode, &'static str, String);

impl Answer for Ops {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            let message = "this server only shows things; use GET";
            return refuse(&(
                StatusCode::METHOD_NOT_ALLOWED,
                reject::METHOD,
                message.to_owned(),
            ));
        }
        match self
            .get(
                request.uri().path(),
                request.uri().query().unwrap_or_default(),
            )
            .await
        {
            Ok(body) => reject::json(StatusCode::OK, &body),
            Err(refusal) => refuse(&refusal),
        }
    }
}

impl Ops {
    async fn get(&self, path: &str, query: &str) -> Result<Value, Refusal> {
        let snapshot = self.objects.snapshot();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let ["v1", "objects", ref rest @ ..] = parts[..] else {
            return Err(not_found(
                "write /v1/objects/<kind>/<name>/<what>".to_owned(),
            ));
        };
        let (kind, name, rest) = match rest {
            [] => {
                let objects: Vec<Value> = snapshot.all.values().map(|it| describe(it)).collect();
                return Ok(json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "listen": self.listen,
                    "objects": objects,
                }));
            }
            [kind, name, rest @ ..] => (*kind, *name, rest),
            [_] => {
                return Err(not_found(
                    "name an object: /v1/objects/<kind>/<name>".to_owned(),
                ));
            }
        };
        let namespace = parameter(query, "namespace");
        let kind =
            Kind::parse(kind).ok_or_else(|| not_found(format!("there is no kind {kind}")))?;
        let object = snapshot
            .all
            .values()
            .find(|object| {
                let key = &object.shared.key;
                key.kind == kind
                    && key.name == name
                    && namespace.is_none_or(|namespace| namespace == key.namespace)
            })
            .ok_or_else(|| not_found(format!("this process serves no {kind} {name}")))?;
        if rest.is_empty() {
            return Ok(describe(object));
        }
        look(object, rest, query).await
    }
}

async fn look(object: &Object, what: &[&str], query: &str) -> Result<Value, Refusal> {
    let queue = object.queue.as_ref().ok_or_else(|| {
        let message = "there was no connection to the broker yet".to_owned();
        (
            StatusCode::SERVICE_UNAVAILABLE,
            reject::UNREACHABLE,
            message,
        )
    })?;
    let after = number(query, "after")?;
    let limit = number(query, "limit")?
        .map_or(USUAL, |limit| limit as usize)
        .clamp(1, MOST);
    match what {
        ["depth"] => Ok(depth(
            &queue.handle.depth().await.map_err(|error| broker(&error))?,
        )),
        ["messages"] => Ok(page(
            &queue
                .handle
                .peek(after, limit)
                .await
                .map_err(|error| broker(&error))?,
            stored_message,
        )),
        ["dead-letters"] => Ok(page(
            &queue
                .handle
                .dead_letters(after, limit)
                .await
                .map_err(|error| broker(&error))?,
            dead_letter,
        )),
        ["dead-letters", id] => {
            let id = &percent_decoded(id);
            let letter = queue
                .handle
                .dead_letter(id)
                .await
                .map_err(|error| broker(&error))?;
            let letter =
                letter.ok_or_else(|| not_found(format!("there is no dead letter {id}")))?;
            Ok(dead_letter(&letter))
        }
        _ => Err(not_found(
            "there is depth, messages, dead-letters and dead-letters/<id>".to_owned(),
        )),
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

fn page<T>(page: &Page<T>, show: fn(&T) -> Value) -> Value {
    let items: Vec<Value> = page.items.iter().map(show).collect();
    json!({"items": items, "next": page.next})
}

fn stored_message(stored: &StoredMessage) -> Value {
    let mut shown = message(&stored.message);
    shown["attempts"] = stored.attempts.into();
    shown["due"] = json!(stored.due);
    shown["position"] = stored.position.into();
    shown
}

fn dead_letter(stored: &StoredDeadLetter) -> Value {
    let mut shown = message(&stored.letter.message);
    shown["failure"] = json!(stored.letter.failure);
    shown["position"] = stored.position.into();
    shown
}

/// Headers as pairs, because a name may repeat; the body as text, or as base64 where it is not text.
fn message(message: &Message) -> Value {
    let headers: Vec<(&str, &str)> = message.headers.iter().collect();
    let mut shown = json!({
        "id": message.id,
        "acceptedAt": message.accepted_at,
        "headers": headers,
    });
    match std::str::from_utf8(&message.body) {
        Ok(text) => shown["body"] = text.into(),
        Err(_) => shown["bodyBase64"] = STANDARD.encode(&message.body).into(),
    }
    shown
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(known, value)| (known == name).then_some(value))
}

fn number(query: &str, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(text) = parameter(query, name) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        (
            StatusCode::BAD_REQUEST,
            "BadParameter",
            format!("{name} must be a number"),
        )
    })
}

/// A segment of a path as its sender meant it; what is no UTF-8 finds nothing.
fn percent_decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let decoded = (first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn not_found(message: String) -> Refusal {
    (StatusCode::NOT_FOUND, reject::NOT_FOUND, message)
}

fn broker(error: &BrokerError) -> Refusal {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        error.reason(),
        error.to_string(),
    )
}

fn refuse((status, reason, message): &Refusal) -> Response<Full<Bytes>> {
    reject::json(*status, &json!({"error": reason, "message": message}))
}
