//! How a message becomes a request. What its headers say is decided in `weir_core::cloudevents`; here
//! it gets a method, a path and a place.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HOST};
use http::{Method, Request, Uri, Version};
use http_body_util::Full;
use weir_core::cloudevents::{
    Contract, batch_document, batch_headers, event_headers, plain_headers,
};
use weir_core::config::Protocol;
use weir_core::headers::to_http;
use weir_core::message::{Headers, Message};
use weir_core::object::ObjectKey;
use weir_core::wire::{METHOD, PATH};

use super::Target;

/// The request for one message.
pub fn single(
    target: &Target,
    protocol: Protocol,
    object: &ObjectKey,
    message: &Message,
    contract: &Contract,
) -> Request<Full<Bytes>> {
    let body = message.body.clone();
    match protocol {
        Protocol::CloudEvents => {
            let headers = event_headers(object, message, contract);
            build(target, Method::POST, target.uri().clone(), &headers, body)
        }
        Protocol::Http => {
            let method = message.headers.get(METHOD);
            let method = method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
            let path = path(target.uri(), message.headers.get(PATH).unwrap_or_default());
            // The intake stores nothing that is not a path; what somebody else stored may be anything.
            let uri = path.parse().unwrap_or_else(|_| target.uri().clone());
            let headers = plain_headers(message, contract);
            build(target, method.unwrap_or(Method::POST), uri, &headers, body)
        }
    }
}

/// The request for a batch: messages, and the attempt that this is for each.
pub fn batch<'a>(
    target: &Target,
    object: &ObjectKey,
    messages: impl IntoIterator<Item = (&'a Message, u32)>,
    contract: &Contract,
) -> Request<Full<Bytes>> {
    let body = batch_document(object, messages);
    build(
        target,
        Method::POST,
        target.uri().clone(),
        &batch_headers(contract),
        body,
    )
}

fn build(
    target: &Target,
    method: Method,
    uri: Uri,
    headers: &Headers,
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut map = to_http(headers);
    // It was the sender's wish for an answer that went back to it; here it would compress what is read.
    map.remove(ACCEPT_ENCODING);
    map.insert(HOST, target.host().clone());
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = map;
    *request.uri_mut() = uri;
    request
}

/// Path and query as they came, below the path of the target.
fn path(base: &Uri, given: &str) -> String {
    let (suffix, query) = match given.split_once('?') {
        Some((suffix, query)) => (suffix, Some(query)),
        None => (given, None),
    };
    let mut path = match suffix {
        "" => base.path().to_owned(),
        _ => format!("{}{suffix}", base.path().trim_end_matches('/')),
    };
    let queries = [base.query(), query]
        .into_iter()
        .flatten()
        .filter(|query| !query.is_empty());
    for (index, query) in queries.enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(query);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_goes_below_the_path_and_queries_are_joined() {
        let base = |text: &'static str| Uri::from_static(text);
        for (target, given, expected) in [
            ("/", "", "/"),
            ("/in", "", "/in"),
            ("/in/", "/a", "/in/a"),
            ("/in", "/a/b?x=1", "/in/a/b?x=1"),
            ("/in?k=v", "?x=1", "/in?k=v&x=1"),
            ("/in?k=v", "/a", "/in/a?k=v"),
            ("/in", "?", "/in"),
            ("/", "//a", "//a"),
        ] {
            assert_eq!(path(&base(target), given), expected, "{target} {given}");
        }
    }
}
