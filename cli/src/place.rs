//! The runtime that a command talks to: a `weir run` on this machine, or a cluster.
//!
//! In a cluster, messages go to the namespace's runtime by port-forward, and everything about queues
//! to the operator, which asks the API server whether the caller may (`cluster`).

mod cluster;
mod local;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use weir_core::object::Kind;
use weir_core::ops::Problem;

use crate::args::Where;
use crate::failure::Failure;

pub use local::{LOCAL_OPS, TokenFile};

/// Largest answer that is read at once, bytes.
const ANSWER_LIMIT: usize = 64 << 20;
/// How long an answer, or a part of one, may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A runtime that answers.
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum Place {
    /// `weir run` on this machine.
    Local(local::Local),
    /// A namespace of a cluster.
    Cluster(cluster::Cluster),
}

/// Whether the program was called as a plugin of kubectl.
pub fn is_kubectl_plugin() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name)
        .file_name()
        .is_some_and(|n| n.to_string_lossy().starts_with("kubectl-"))
}

/// A part of an answer, or why there is none.
type Parts = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// An answer that is read as it comes.
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    body: Parts,
    /// Carries the connection, where it is ours.
    driver: JoinSet<()>,
}

impl Answer {
    /// The next part of the body.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| late())?;
            match frame {
                None => return Ok(None),
                Some(Err(why)) => {
                    return Err(Failure::new(format!("the answer broke off: {why}")));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body.
    pub async fn bytes(mut self) -> Result<Bytes, Failure> {
        let mut all = Vec::new();
        while let Some(part) = self.next().await? {
            all.extend_from_slice(&part);
            if all.len() > ANSWER_LIMIT {
                return Err(Failure::new("the answer is larger than 64 MiB"));
            }
        }
        Ok(all.into())
    }
}

fn late() -> Failure {
    Failure::new(format!("no answer within {} s", PATIENCE.as_secs()))
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
            return Ok(Self::Local(local::Local::at(url)));
        }
        cluster::Cluster::find(place).await.map(Self::Cluster)
    }

    /// Whether it is a cluster, where asking takes longer.
    pub fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Sends a message; answers the status and the body.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let answer = match self {
            Self::Local(local) => {
                let about: weir_core::ops::ObjectList = self.ops("/v1/objects").await?;
                local.send(about.listen, request).await?
            }
            Self::Cluster(cluster) => cluster.send(request).await?,
        };
        let status = answer.status;
        Ok((status, answer.bytes().await?))
    }

    /// GET of an operations path.
    pub async fn ops<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, None::<&()>).await
    }

    /// A request to an operations path with a document.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        document: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let body = match document {
            Some(document) => serde_json::to_vec(document).map_err(Failure::other)?,
            None => Vec::new(),
        };
        let answer = self.open(method, path, body.into()).await?;
        let bytes = answer.bytes().await?;
        serde_json::from_slice(&bytes)
            .map_err(|why| Failure::new(format!("the server answers something else: {why}")))
    }

    /// A request to an operations path whose answer is read as it comes. An answer that is not a
    /// success is a failure with the server's own words.
    pub async fn open(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Failure> {
        let opened = async {
            match self {
                Self::Local(local) => local.ops(method, path, body).await,
                Self::Cluster(cluster) => cluster.ops(method, path, body).await,
            }
        };
        let answer = tokio::time::timeout(PATIENCE, opened).await;
        let answer = answer.map_err(|_| late())??;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let status = answer.status;
        let body = answer.bytes().await.unwrap_or_default();
        Err(self.refused(status, &body))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => {
                let failure = Failure::new(format!("{}: {}", status.as_u16(), problem.message));
                match (self, problem.error.as_str()) {
                    (Self::Local(local), "Unauthorized") => failure.next(local.about_the_token()),
                    (_, "RedriveActive") => failure
                        .next("see it: weir dlq redrive-status KIND/NAME; end it: weir dlq redrive-cancel KIND/NAME"),
                    _ => failure,
                }
            }
            Err(_) => match self {
                Self::Local(_) => Failure::new(format!("{status}: no explanation")),
                Self::Cluster(cluster) => cluster.refused(status, body),
            },
        }
    }

    /// How people would name it.
    pub fn describe(&self) -> String {
        match self {
            Self::Local(local) => local.describe(),
            Self::Cluster(cluster) => cluster.describe(),
        }
    }

    /// Path of an object in the ops API, with room for parameters: `what` may have its own.
    pub fn path(&self, kind: Kind, name: &str, what: &str) -> String {
        let path = format!("/v1/objects/{}/{name}{what}", kind.lower());
        match self {
            Self::Local(_) => path,
            Self::Cluster(cluster) => {
                let join = if path.contains('?') { '&' } else { '?' };
                format!("{path}{join}namespace={}", cluster.namespace())
            }
        }
    }

    /// Path of the list of objects.
    pub fn objects_path(&self) -> String {
        match self {
            Self::Local(_) => "/v1/objects".to_owned(),
            Self::Cluster(cluster) => format!("/v1/objects?namespace={}", cluster.namespace()),
        }
    }
}

/// One request on a connection of its own.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::other)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        connection.await.ok();
    });
    let answer = sender
        .send_request(request)
        .await
        .map_err(|why| Failure::new(format!("the runtime ended the connection: {why}")))?;
    let (head, body) = answer.into_parts();
    Ok(Answer {
        status: head.status,
        body: body.map_err(Into::into).boxed_unsync(),
        driver,
    })
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

/// Any text as one segment of a path, or a value of a parameter.
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
