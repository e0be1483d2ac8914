//! A namespace of a cluster.
//!
//! The operator's ops API is reached through the API server's proxy of its Service: no port of the
//! operator is open to the world, and the right `services/proxy` on one Service lets nobody reach
//! anything else, as a port-forward would. The proxy takes the `authorization` header for itself, so
//! the caller's token goes along in a header of its own, over TLS to the API server and from there over
//! TLS to the operator. A caller that authenticates with a certificate has no token; a service account
//! whose rights it may use lends one, for ten minutes and for this audience only.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tower::{Layer as _, ServiceExt as _};
use weir_core::ops::{AUDIENCE, CALLER};

use super::{Answer, exchange};
use crate::args::Where;
use crate::failure::Failure;

/// Port of a runtime pod that takes messages.
const POD_DATA: u16 = 8080;
/// How long the API server may take for something small.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a borrowed token lives: the least that an API server gives.
const TOKEN_SECONDS: i64 = 600;

/// A namespace of a cluster.
pub struct Cluster {
    client: Client,
    config: kube::Config,
    namespace: String,
    /// Namespace and name of the operator's Service.
    operator: (String, String),
    token_file: Option<std::path::PathBuf>,
    service_account: Option<String>,
    token: OnceCell<HeaderValue>,
}

impl Cluster {
    /// The namespace that `place` names.
    pub async fn find(place: &Where) -> Result<Self, Failure> {
        let options = KubeConfigOptions {
            context: place.context.clone(),
            ..Default::default()
        };
        let config = match &place.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(Failure::other)?;
                kube::Config::from_custom_kubeconfig(file, &options).await
            }
            None => kube::Config::from_kubeconfig(&options).await,
        };
        let config = config.map_err(|why| {
            Failure::new(format!("no cluster to talk to: {why}")).next(
                "name one with --kubeconfig or --context, or start `weir run` and leave them out",
            )
        })?;
        let namespace = place
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let operator = place.operator.split_once('/').ok_or_else(|| {
            Failure::usage(format!(
                "--operator {}: it names no Service",
                place.operator
            ))
            .next("write NAMESPACE/SERVICE, such as weir-system/weir-ops")
        })?;
        Ok(Self {
            client: Client::try_from(config.clone()).map_err(Failure::other)?,
            namespace,
            operator: (operator.0.to_owned(), operator.1.to_owned()),
            token_file: place.token_file.clone(),
            service_account: place.service_account.clone(),
            config,
            token: OnceCell::new(),
        })
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "operator {}/{} for namespace {}",
            self.operator.0, self.operator.1, self.namespace
        )
    }

    pub(super) async fn ops(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let token = self.token.get_or_try_init(|| self.find_token()).await?;
        let (namespace, service) = &self.operator;
        let uri =
            format!("/api/v1/namespaces/{namespace}/services/https:{service}:ops/proxy{path}");
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(CALLER, token)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(Failure::other)?;
        let response = self.client.send(request).await.map_err(|why| {
            Failure::new(format!("the cluster does not answer: {why}"))
                .next("try: kubectl get pods")
        })?;
        Ok(answer(response))
    }

    /// The token of the caller, as a header.
    async fn find_token(&self) -> Result<HeaderValue, Failure> {
        let token = if let Some(path) = &self.token_file {
            read_token(path)?
        } else if let Some(account) = &self.service_account {
            self.borrow_token(account).await?
        } else {
            own_token(&self.config).await?.ok_or_else(|| {
                Failure::new("this kubeconfig has no token to show to the operator: it authenticates with a certificate or a password")
                    .next("use the rights of a service account of the namespace with --service-account NAME (takes the right `create serviceaccounts/token`), or --token-file FILE")
            })?
        };
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Failure::new("the token has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn borrow_token(&self, account: &str) -> Result<String, Failure> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let wanted = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![AUDIENCE.to_owned()],
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let parameters = PostParams::default();
        let asked = accounts.create_token_request(account, &parameters, &wanted);
        let given = asked.await.map_err(|why| {
            Failure::new(format!("no token for service account {account}: {why}"))
                .next("the right `create serviceaccounts/token` in the namespace is needed")
        })?;
        let token = given.status.map(|status| status.token);
        token.ok_or_else(|| Failure::new("the API server gave no token"))
    }

    /// What the API server says where it is not the operator that answers.
    pub(super) fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        let (namespace, service) = &self.operator;
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        let said = said["message"].as_str().map_or_else(
            || String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned(),
            str::to_owned,
        );
        let failure = Failure::new(format!("{}: {said}", status.as_u16()));
        match status.as_u16() {
            403 => failure.next(format!(
                "to reach the operator, the right `services/proxy` (get, create, delete) on Service https:{service}:ops in {namespace} is needed; the ClusterRoles weir-dlq-viewer and weir-dlq-operator say what else"
            )),
            401 => failure.next("log in to the cluster again"),
            404 => failure.next(format!(
                "is Weir installed there, with ops.enabled? Another place: --operator NAMESPACE/SERVICE, now {namespace}/{service}"
            )),
            503 => failure.next(format!("see: kubectl -n {namespace} get pods")),
            _ => failure,
        }
    }

    /// Sends a message to the namespace's runtime.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let namespace = &self.namespace;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let wanted = ListParams::default().labels("app.kubernetes.io/name=weir-runtime");
        let found = tokio::time::timeout(PATIENCE, pods.list(&wanted))
            .await
            .map_err(|_| Failure::new("the cluster does not answer").next("try: kubectl get pods"))?
            .map_err(Failure::other)?;
        let ready = found
            .items
            .into_iter()
            .find(is_ready)
            .and_then(|pod| pod.metadata.name);
        let pod = ready.ok_or_else(|| {
            Failure::new(format!(
                "no weir-runtime pod is ready in namespace {namespace}"
            ))
            .next(format!(
                "see: kubectl -n {namespace} get weir; kubectl -n {namespace} get pods"
            ))
        })?;
        let mut forward = pods.portforward(&pod, &[POD_DATA]).await.map_err(|why| {
            Failure::new(format!("cannot forward a port of pod {pod}: {why}"))
                .next("the right `create pods/portforward` in the namespace is needed")
        })?;
        let stream = forward
            .take_stream(POD_DATA)
            .ok_or_else(|| Failure::new("the port-forward has no stream"))?;
        let mut answer = exchange(stream, request).await?;
        // The forward must live as long as the answer is read.
        answer.driver.spawn(async move {
            forward.join().await.ok();
        });
        Ok(answer)
    }
}

fn answer(response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    Answer {
        status: head.status,
        body: body.map_err(Into::into).boxed_unsync(),
        driver: JoinSet::new(),
    }
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let text =
        text.map_err(|why| Failure::usage(format!("cannot read {}: {why}", path.display())))?;
    match text.trim() {
        "" => Err(Failure::usage(format!("{} is empty", path.display()))
            .next("it should hold one token, as `kubectl create token` prints it")),
        token => Ok(token.to_owned()),
    }
}

/// The token that the kubeconfig gives, from a file, a plugin or itself.
async fn own_token(config: &kube::Config) -> Result<Option<String>, Failure> {
    let layer = config.auth_layer().map_err(Failure::other)?;
    let Some(layer) = layer else { return Ok(None) };
    // What the client would send comes back as the head of an answer.
    let mirror = tower::service_fn(|request: Request<Body>| async move {
        let mut answer = Response::new(Body::empty());
        *answer.headers_mut() = request.headers().clone();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer)
    });
    let asked = layer.layer(mirror).oneshot(Request::new(Body::empty()));
    let answer = asked
        .await
        .map_err(|why| Failure::new(format!("no token: {why}")))?;
    let value = answer.headers().get(AUTHORIZATION);
    Ok(value
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::to_owned))
}

fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref())
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
