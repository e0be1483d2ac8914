//! How a message becomes a request (`kinds.md`, "Handler contract").

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Version};
use http_body_util::Full;
use jiff::Timestamp;
use weir_core::config::Protocol;
use weir_core::message::{Headers, Message};
use weir_core::object::ObjectKey;

use super::Target;

/// The HTTP method that a message came with, where it was not `POST`.
pub const METHOD: &str = "http-method";

/// Path and query behind the object's own path, where there is any: `/a?b=c`.
pub const SUFFIX: &str = "http-path";

/// What the contract says about one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Contract {
    /// Attempts that counted, and this one.
    pub attempt: u32,
    /// `retry.maxAttempts`.
    pub max_attempts: u32,
    /// When the call is given up, for `weir-deadline-ms`.
    pub deadline: Timestamp,
}

/// The request for one message.
pub fn single(
    target: &Target,
    protocol: Protocol,
    object: &ObjectKey,
    message: &Message,
    contract: Contract,
) -> Request<Full<Bytes>> {
    let mut headers = HeaderMap::with_capacity(message.headers.len() + 10);
    headers.insert(HOST, target.host().clone());
    for (name, value) in message.headers.iter() {
        if name.starts_with("weir-") || name == "host" || name == "content-length" {
            continue;
        }
        if let (Ok(name), Some(value)) = (HeaderName::from_bytes(name.as_bytes()), value_of(value))
        {
            headers.append(name, value);
        }
    }
    let (method, path) = match protocol {
        Protocol::CloudEvents => {
            wrap(&mut headers, object, message);
            (Method::POST, target.path().to_owned())
        }
        Protocol::Http => original(target, &message.headers),
    };
    contract_headers(&mut headers, Some(&message.id), contract);
    build(method, &path, headers, message.body.clone())
}

/// The request for a batch, whose body is the JSON of all events.
pub fn batch(target: &Target, body: Bytes, contract: Contract) -> Request<Full<Bytes>> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(HOST, target.host().clone());
    let content_type = HeaderValue::from_static("application/cloudevents-batch+json");
    headers.insert(CONTENT_TYPE, content_type);
    contract_headers(&mut headers, None, contract);
    build(Method::POST, target.path(), headers, body)
}

fn build(method: Method, path: &str, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    // The intake stored nothing that is not a path; what somebody else stored may be anything.
    *request.uri_mut() = path.parse().unwrap_or_else(|_| http::Uri::from_static("/"));
    request
}

fn contract_headers(headers: &mut HeaderMap, id: Option<&str>, contract: Contract) {
    if let Some(id) = id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert("weir-id", id);
    }
    headers.insert("weir-attempt", contract.attempt.into());
    headers.insert("weir-max-attempts", contract.max_attempts.into());
    headers.insert(
        "weir-deadline-ms",
        contract.deadline.as_millisecond().into(),
    );
}

/// Adds what makes a CloudEvent of a message that came as something else.
fn wrap(headers: &mut HeaderMap, object: &ObjectKey, message: &Message) {
    if headers.contains_key("ce-id") && headers.contains_key("ce-type") {
        return;
    }
    let values = [
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", message.id.clone()),
        (
            "ce-source",
            format!(
                "/{}/{}/{}",
                object.namespace,
                object.kind.plural(),
                object.name
            ),
        ),
        ("ce-type", format!("weir.{}.received", object.kind.lower())),
        ("ce-time", message.accepted_at.to_string()),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// Method and path as they came, below the path of the target.
fn original(target: &Target, headers: &Headers) -> (Method, String) {
    let method = headers
        .get(METHOD)
        .and_then(|method| Method::from_bytes(method.as_bytes()).ok())
        .unwrap_or(Method::POST);
    let suffix = headers.get(SUFFIX).unwrap_or_default();
    let (base, base_query) = split(target.path());
    let (suffix, query) = split(suffix);
    let mut path = base.trim_end_matches('/').to_owned();
    if !suffix.is_empty() && !suffix.starts_with('/') {
        path.push('/');
    }
    path.push_str(suffix);
    if path.is_empty() {
        path.push('/');
    }
    for (index, query) in [base_query, query].into_iter().flatten().enumerate() {
        path.push(if index == 0 && !path.contains('?') {
            '?'
        } else {
            '&'
        });
        path.push_str(query);
    }
    (method, path)
}

fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('?') {
        Some((path, query)) => (path, Some(query).filter(|query| !query.is_empty())),
        None => (path, None),
    }
}

/// A header value with the bytes that came in (see [`Headers`]); `None` where it is not one.
fn value_of(text: &str) -> Option<HeaderValue> {
    if text.is_ascii() {
        return HeaderValue::from_str(text).ok();
    }
    let bytes: Option<Vec<u8>> = text
        .chars()
        .map(|character| u8::try_from(u32::from(character)).ok())
        .collect();
    HeaderValue::from_bytes(&bytes?).ok()
}

/// The `id` that a handler sees for a message.
pub fn event_id(message: &Message) -> &str {
    message.headers.get("ce-id").unwrap_or(&message.id)
}

/// All messages as one `application/cloudevents-batch+json`.
pub fn batch_body<'a>(object: &ObjectKey, messages: impl Iterator<Item = &'a Message>) -> Bytes {
    use base64::Engine as _;
    let events: Vec<serde_json::Value> = messages
        .map(|message| {
            let data = match std::str::from_utf8(&message.body) {
                Ok(text) => ("data", serde_json::Value::from(text)),
                Err(_) => (
                    "data_base64",
                    base64::engine::general_purpose::STANDARD
                        .encode(&message.body)
                        .into(),
                ),
            };
            serde_json::json!({
                "specversion": "1.0",
                "id": event_id(message),
                "weirid": message.id,
                "source": format!("/{}/{}", object.namespace, object.name),
                "type": format!("weir.{}.received", object.kind.lower()),
                data.0: data.1,
            })
        })
        .collect();
    serde_json::to_vec(&events).unwrap_or_default().into()
}
