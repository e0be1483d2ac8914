//! The runtime that a command talks to: a `weir run` on this machine, or a namespace's runtime in a cluster,
//! reached by port-forward so that the caller's own rights in the cluster decide.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, api::ListParams};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weir_core::object::Kind;

use crate::args::Where;
use crate::failure::Failure;

/// Where `weir run` answers unless told otherwise.
pub const LOCAL_OPS: &str = "http://127.0.0.1:9401";
/// Ports of a runtime pod: data, and operations on its loopback.
const POD_DATA: u16 = 8080;
const POD_OPS: u16 = 9902;
/// Largest answer that is read, bytes.
const ANSWER_LIMIT: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(15);

/// Which side of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Takes messages.
    Data,
    /// Tells about them.
    Ops,
}

/// A runtime that answers.
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum Place {
    /// `weir run` on this machine.
    Local {
        /// `host:port` of its operations.
        ops: String,
    },
    /// The runtime of a namespace.
    Cluster {
        /// Pods of the namespace.
        pods: Api<Pod>,
        /// A ready pod of it.
        pod: String,
        /// The namespace.
        namespace: String,
    },
}

/// Whether the program was called as a plugin of kubectl.
pub fn is_kubectl_plugin() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name)
        .file_name()
        .is_some_and(|n| n.to_string_lossy().starts_with("kubectl-"))
}

impl Place {
    /// Finds the runtime that `place` names.
    pub async fn find(place: &Where) -> Result<Self, Failure> {
        let cluster =
            place.namespace.is_some() || place.context.is_some() || place.kubeconfig.is_some();
        if place.ops.is_some() && cluster {
            return Err(Failure::usage("--ops names a runtime on this machine; --namespace, --context and --kubeconfig name one in a cluster").next("give one or the other"));
        }
        if !(cluster || is_kubectl_plugin() && place.ops.is_none()) {
            let url = place.ops.as_deref().unwrap_or(LOCAL_OPS);
            let ops = url
                .trim_start_matches("http://")
                .trim_end_matches('/')
                .to_owned();
            return Ok(Self::Local { ops });
        }
        Self::in_cluster(place).await
    }

    async fn in_cluster(place: &Where) -> Result<Self, Failure> {
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
        let client = kube::Client::try_from(config).map_err(Failure::other)?;
        let pods: Api<Pod> = Api::namespaced(client, &namespace);
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
        Ok(Self::Cluster {
            pods,
            pod,
            namespace,
        })
    }

    /// One request; answers the status and the body.
    pub async fn request(
        &self,
        side: Side,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let exchange = async {
            match self {
                Self::Local { ops } => {
                    let address = match side {
                        Side::Ops => ops.clone(),
                        Side::Data => self.local_data(ops).await?,
                    };
                    let stream = TcpStream::connect(&address).await.map_err(|why| {
                        Failure::new(format!("no `weir run` answers at {address}: {why}")).next(
                            "start one: weir run -f DIR; or name a namespace of a cluster with -n",
                        )
                    })?;
                    exchange(stream, request).await
                }
                Self::Cluster { pods, pod, .. } => {
                    let port = if side == Side::Data {
                        POD_DATA
                    } else {
                        POD_OPS
                    };
                    let mut forward = pods.portforward(pod, &[port]).await.map_err(|why| {
                        Failure::new(format!("cannot forward a port of pod {pod}: {why}"))
                            .next("the right `create pods/portforward` in the namespace is needed")
                    })?;
                    let stream = forward
                        .take_stream(port)
                        .ok_or_else(|| Failure::new("the port-forward has no stream"))?;
                    exchange(stream, request).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| Failure::new(format!("no answer within {} s", PATIENCE.as_secs())))?
    }

    /// GET of an operations path; the document, or the runtime's own error.
    pub async fn ops(&self, path: &str) -> Result<Value, Failure> {
        let request = Request::get(path)
            .header("host", "weir")
            .body(Full::default())
            .map_err(Failure::other)?;
        let (status, body) = self.request(Side::Ops, request).await?;
        let document: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(document);
        }
        let said = document["message"]
            .as_str()
            .unwrap_or("no explanation")
            .to_owned();
        Err(Failure::new(format!("{status}: {said}")))
    }

    async fn local_data(&self, ops: &str) -> Result<String, Failure> {
        let objects = Box::pin(self.ops("/v1/objects")).await?;
        objects["listen"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(format!("the runtime at {ops} does not take messages")))
    }

    /// How people would name it.
    pub fn describe(&self) -> String {
        match self {
            Self::Local { ops } => format!("weir run at {ops}"),
            Self::Cluster { namespace, pod, .. } => format!("pod {pod} in namespace {namespace}"),
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref())
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::other)?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answer = sender
        .send_request(request)
        .await
        .map_err(|why| Failure::new(format!("the runtime ended the connection: {why}")))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_LIMIT)
        .collect()
        .await;
    let body = body.map_err(|why| Failure::new(format!("cannot read the answer: {why}")))?;
    Ok((status, body.to_bytes()))
}

/// `webhook/payments` in any of a kind's names.
pub fn parse_object(text: &str) -> Result<(Kind, String), Failure> {
    let known = Kind::ALL.map(Kind::lower).join(", ");
    let wanted = || format!("write KIND/NAME, such as webhook/payments; kinds: {known}");
    let (kind, name) = text
        .split_once('/')
        .ok_or_else(|| Failure::usage(format!("`{text}` names no object")).next(wanted()))?;
    let kind = Kind::parse(kind)
        .ok_or_else(|| Failure::usage(format!("no kind is called `{kind}`")).next(wanted()))?;
    let is_label = !name.is_empty()
        && name.len() <= 40
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if is_label {
        return Ok((kind, name.to_owned()));
    }
    Err(Failure::usage(format!("`{name}` is no name of an object"))
        .next("names are at most 40 lower case letters, digits and `-`"))
}

/// Any text as one segment of a path.
pub fn path_segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_by_any_name_of_their_kind() {
        for text in ["webhook/a", "Webhooks/a", "whk/a"] {
            assert_eq!(
                parse_object(text).unwrap(),
                (Kind::Webhook, "a".to_owned()),
                "{text}"
            );
        }
        for text in [
            "a",
            "/a",
            "webhook/",
            "webhook/A",
            "nothing/a",
            "webhook/a/b",
        ] {
            let why = parse_object(text).unwrap_err();
            assert_eq!(why.code, 2, "{text}");
            assert!(why.to_string().contains('\n'), "says what to do: {why}");
        }
    }

    #[test]
    fn an_id_cannot_leave_its_segment() {
        assert_eq!(path_segment("../a b?c#d%"), "..%2Fa%20b%3Fc%23d%25");
    }
}
