//! The guard of a server on loopback: users of this machine, and no page of a browser.
//!
//! A page that a browser shows may send requests to 127.0.0.1. It cannot set `authorization` without
//! the server's consent (which is never given), it names itself in `origin` or `sec-fetch-site`, and
//! a name that was bound to 127.0.0.1 behind the browser's back (DNS rebinding) stands in `host`. All
//! three are checked.

use async_trait::async_trait;
use http::StatusCode;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use http::request::Parts;
use subtle::ConstantTimeEq as _;

use crate::guard::{Access, Caller, Guard};
use crate::refusal::Refusal;

/// Lets users of this machine look, and whoever knows the token change things.
pub struct LocalGuard {
    /// What a change must be authorized with; absent: nothing may be changed.
    token: Option<String>,
}

impl LocalGuard {
    /// Nobody may change anything.
    pub fn read_only() -> Self {
        Self { token: None }
    }

    /// Whoever knows `token` may change things: it is in a file that only its owner can read.
    pub fn with_token(token: String) -> Self {
        Self { token: Some(token) }
    }
}

#[async_trait]
impl Guard for LocalGuard {
    async fn admit(&self, head: &Parts, access: Option<&Access>) -> Result<Caller, Refusal> {
        refuse_browsers(&head.headers, head.uri.host())?;
        if access.is_none_or(|access| access.verb.only_looks()) {
            return Ok(Caller::default());
        }
        let Some(token) = &self.token else {
            return Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "this server only shows things; in a cluster the operator changes them: \
                 kubectl weir dlq --help",
            ));
        };
        let given = bearer(&head.headers);
        if given.is_some_and(|given| same(given, token)) {
            return Ok(Caller::default());
        }
        Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "a change needs the token of this `weir run` (header authorization: Bearer TOKEN), which is in a \
             file that only its user can read; `weir dlq` sends it by itself",
        ))
    }
}

/// Whether two secrets are equal, in a time that does not tell where they differ.
pub fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// The token of an `authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn refuse_browsers(headers: &HeaderMap, authority: Option<&str>) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            format!("{why}: this server is for programs of this machine, not for web pages"),
        ))
    };
    if headers.contains_key(ORIGIN) {
        return refuse("the request has an origin");
    }
    let fetch_site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if fetch_site.is_some_and(|site| site != b"none") {
        return refuse("the request comes from a web page");
    }
    let host = headers.get(HOST).map(|value| value.to_str().unwrap_or(""));
    let hosts = [host.map(without_port), authority.map(without_port)];
    if hosts.iter().all(Option::is_none) || !hosts.iter().flatten().all(|host| is_loopback(host)) {
        return refuse("the header host does not name this machine (127.0.0.1, localhost)");
    }
    Ok(())
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None if host.matches(':').count() > 1 => host,
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(host: &str) -> bool {
    let address: Option<std::net::IpAddr> = host.parse().ok();
    host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use weir_core::object::Kind;

    use super::*;
    use crate::guard::Verb;

    async fn status(guard: &LocalGuard, verb: Verb, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::get("/v1/objects");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let access = Access {
            verb,
            kind: Kind::Webhook,
            subresource: Some("deadletters"),
            namespace: None,
            name: None,
        };
        let admitted = guard.admit(&head, Some(&access)).await;
        admitted.map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    #[tokio::test]
    async fn programs_of_this_machine_may_look() {
        let guard = LocalGuard::read_only();
        for host in [
            "127.0.0.1:9401",
            "localhost",
            "LOCALHOST:1",
            "[::1]:9401",
            "127.1.2.3",
            "::1",
        ] {
            assert_eq!(
                status(&guard, Verb::Get, &[("host", host)]).await,
                200,
                "{host}"
            );
        }
    }

    #[tokio::test]
    async fn web_pages_may_not_even_look() {
        let guard = LocalGuard::with_token("t".to_owned());
        let own = ("host", "127.0.0.1:9401");
        let token = ("authorization", "Bearer t");
        for headers in [
            &[("host", "rebound.example:9401"), token][..],
            &[("host", "127.0.0.1.example"), token],
            &[("host", "localhost.example"), token],
            &[("host", ""), token],
            &[token],
            &[own, token, ("origin", "http://127.0.0.1:9401")],
            &[own, token, ("origin", "null")],
            &[own, token, ("sec-fetch-site", "cross-site")],
            &[own, token, ("sec-fetch-site", "same-origin")],
        ] {
            for verb in [Verb::Get, Verb::Redrive] {
                assert_eq!(status(&guard, verb, headers).await, 403, "{headers:?}");
            }
        }
        assert_eq!(
            status(&guard, Verb::Get, &[own, ("sec-fetch-site", "none")]).await,
            200
        );
    }

    #[tokio::test]
    async fn a_change_needs_the_token_and_a_server_that_changes_things() {
        let own = ("host", "localhost:9401");
        let guard = LocalGuard::with_token("secret".to_owned());
        for verb in [Verb::Redrive, Verb::Delete, Verb::Create] {
            for wrong in [
                "",
                "Bearer",
                "Bearer secre",
                "Bearer secrets",
                "Basic secret",
                "secret",
            ] {
                let headers = [own, ("authorization", wrong)];
                assert_eq!(status(&guard, verb, &headers).await, 401, "{wrong}");
            }
            let right = [own, ("authorization", "bearer secret")];
            assert_eq!(status(&guard, verb, &right).await, 200);
            assert_eq!(status(&LocalGuard::read_only(), verb, &right).await, 405);
        }
    }
}
