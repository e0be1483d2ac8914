//! Who may: the API server is asked, with the caller's own token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use http::header::AUTHORIZATION;
use http::request::Parts;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};
use weir_core::ops::{AUDIENCE, CALLER};
use weir_ops::{Access, Caller, Guard, Refusal};

use crate::error::chain;

/// Group of the kinds.
const GROUP: &str = "weir.dev";
/// How long a yes is believed, and a no.
const YES_FOR: Duration = Duration::from_secs(10);
const NO_FOR: Duration = Duration::from_secs(2);
/// Answers that are remembered.
const MOST: usize = 4096;
/// Longest wait for the API server.
const PATIENCE: Duration = Duration::from_secs(10);

/// A token that is never kept: its hash.
type Hash = [u8; 32];

/// Asks the API server who somebody is and what they may do.
pub struct ClusterGuard {
    client: Client,
    users: Mutex<HashMap<Hash, (Instant, Option<UserInfo>)>>,
    rights: Mutex<HashMap<(Hash, Access), (Instant, bool)>>,
}

impl ClusterGuard {
    /// Asks through `client`, which needs the right to create the two kinds of reviews.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            users: Mutex::default(),
            rights: Mutex::default(),
        }
    }

    async fn user(&self, token: &str, hash: Hash) -> Result<UserInfo, Refusal> {
        let known = fresh(&self.users, &hash, |(at, user)| {
            at.elapsed() < if user.is_some() { YES_FOR } else { NO_FOR }
        });
        let user = if let Some((_, user)) = known {
            user
        } else {
            // A token that is only good here is tried first: it is the better one.
            let mut user = self.review(token, Some(AUDIENCE)).await?;
            if user.is_none() {
                user = self.review(token, None).await?;
            }
            remember(&self.users, hash, (Instant::now(), user.clone()));
            user
        };
        user.ok_or_else(|| {
            unauthorized("the token is not valid in this cluster, or not any more; log in again")
        })
    }

    async fn review(
        &self,
        token: &str,
        audience: Option<&str>,
    ) -> Result<Option<UserInfo>, Refusal> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: audience.map(|audience| vec![audience.to_owned()]),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let answer = timeout(PATIENCE, reviews.create(&parameters, &review)).await;
        let status = reviewed(answer)?.status.unwrap_or_default();
        // A server that knows nothing of audiences names none.
        let named = status.audiences.unwrap_or_default();
        let is_meant = audience.is_none_or(|audience| named.iter().any(|named| named == audience));
        let is_valid = status.authenticated.unwrap_or(false) && is_meant;
        let user = status
            .user
            .filter(|user| is_valid && user.username.is_some());
        Ok(user)
    }

    async fn may(&self, user: &UserInfo, hash: Hash, access: &Access) -> Result<bool, Refusal> {
        let key = (hash, access.clone());
        let known = fresh(&self.rights, &key, |(at, may)| {
            at.elapsed() < if *may { YES_FOR } else { NO_FOR }
        });
        if let Some((_, may)) = known {
            return Ok(may);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                uid: user.uid.clone(),
                groups: user.groups.clone(),
                extra: user.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some(access.kind.plural().to_owned()),
                    subresource: access.subresource.map(str::to_owned),
                    verb: Some(access.verb.as_str().to_owned()),
                    namespace: access.namespace.clone(),
                    name: access.name.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let answer = timeout(PATIENCE, reviews.create(&parameters, &review)).await;
        let status = reviewed(answer)?.status.unwrap_or_default();
        let may = status.allowed && status.denied != Some(true);
        remember(&self.rights, key, (Instant::now(), may));
        Ok(may)
    }
}

#[async_trait]
impl Guard for ClusterGuard {
    async fn admit(&self, head: &Parts, access: Option<&Access>) -> Result<Caller, Refusal> {
        let token = token(head)?;
        let hash: Hash = Sha256::digest(token).into();
        let user = self.user(token, hash).await?;
        let name = user.username.clone().unwrap_or_default();
        let Some(access) = access else {
            return Ok(Caller { name: Some(name) });
        };
        if access.namespace.as_ref().is_none_or(String::is_empty) {
            return Err(Refusal::bad_request(
                "name a namespace: ?namespace=NAMESPACE (kubectl weir dlq -n NAMESPACE)",
            ));
        }
        if self.may(&user, hash, access).await? {
            return Ok(Caller { name: Some(name) });
        }
        Err(forbidden(&name, access))
    }
}

/// The caller's token. The API server keeps `authorization` for itself; others may use it.
fn token(head: &Parts) -> Result<&str, Refusal> {
    let value = head.headers.get(CALLER).or(head.headers.get(AUTHORIZATION));
    let value = value.and_then(|value| value.to_str().ok());
    let token = value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty());
    token.ok_or_else(|| {
        unauthorized("there is no token: send the header weir-authorization: Bearer TOKEN")
    })
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
}

fn forbidden(name: &str, access: &Access) -> Refusal {
    let subresource = access
        .subresource
        .map_or_else(String::new, |s| format!("/{s}"));
    let object = access
        .name
        .as_deref()
        .map_or_else(String::new, |n| format!(" {n:?}"));
    Refusal::new(
        StatusCode::FORBIDDEN,
        "Forbidden",
        format!(
            "{name:?} may not {} {}.{GROUP}{subresource}{object} in namespace {:?}; grant it there with a \
             RoleBinding to the ClusterRole weir-dlq-viewer (look) or weir-dlq-operator (look, redrive, \
             purge, import)",
            access.verb.as_str(),
            access.kind.plural(),
            access.namespace.as_deref().unwrap_or_default(),
        ),
    )
}

/// The answer of the API server, whose words may quote the request and are only logged.
fn reviewed<T>(
    answer: Result<Result<T, kube::Error>, tokio::time::error::Elapsed>,
) -> Result<T, Refusal> {
    let why = match answer {
        Ok(Ok(review)) => return Ok(review),
        Ok(Err(kube::Error::Api(status))) => format!("{} {}", status.code, status.reason),
        Ok(Err(error)) => chain(&error),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(why, "the API server did not say who may");
    Err(Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "ReviewFailed",
        "the API server did not say whether this is allowed; try again",
    ))
}

fn fresh<K: std::hash::Hash + Eq, V: Clone>(
    known: &Mutex<HashMap<K, V>>,
    key: &K,
    is_fresh: impl Fn(&V) -> bool,
) -> Option<V> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= MOST {
        known.retain(|_, value| is_fresh(value));
    }
    known.get(key).filter(|value| is_fresh(value)).cloned()
}

fn remember<K: std::hash::Hash + Eq, V>(known: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() < MOST {
        known.insert(key, value);
    }
}
