//! Connections to one origin, kept for the next call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::CallError;
use crate::egress::{Connection, Egress, EgressError, Origin};

/// A connection that was idle for longer is not used again: handlers close theirs after 2 s or more,
/// and a request that meets such a close would count as an attempt.
const KEEP_IDLE: Duration = Duration::from_secs(1);

/// Most idle connections.
const MOST_IDLE: usize = 256;

/// Most header lines of an answer.
const HEADERS: usize = 100;

/// Most bytes of an answer's head.
const HEAD: usize = 64 * 1024;

type Sender = SendRequest<Full<Bytes>>;

/// The connections to one origin. Dropping it closes them.
pub struct Pool {
    origin: Origin,
    egress: Arc<Egress>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The one used last is at the end.
    idle: Vec<(Sender, Instant)>,
    /// What drives the connections.
    tasks: JoinSet<()>,
}

/// A connection in use. Dropping it closes it.
pub struct Pooled<'a> {
    pool: &'a Pool,
    sender: Sender,
}

impl Pooled<'_> {
    /// Keeps it for the next call. Only after the answer was read to its end.
    pub fn reuse(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut inner = self.pool.lock();
        if inner.idle.len() < MOST_IDLE {
            inner.idle.push((self.sender, Instant::now()));
        }
    }
}

impl Pool {
    /// No connections yet.
    pub fn new(origin: Origin, egress: Arc<Egress>) -> Self {
        Self {
            origin,
            egress,
            inner: Mutex::default(),
        }
    }

    /// Whether anybody listens.
    pub async fn probe(&self) -> Result<(), EgressError> {
        self.egress.connect(&self.origin).await.map(drop)
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A kept connection that was closed before anything was written is replaced by a new one, once;
    /// nothing else is ever sent twice.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Pooled<'_>), CallError> {
        let mut request = request;
        if let Some(mut sender) = self.idle().await {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Pooled { pool: self, sender })),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(lost(error.error())),
                },
            }
        }
        // Rare and large: it must not make every call's future large.
        let mut sender = Box::pin(self.open()).await?;
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, Pooled { pool: self, sender })),
            Err(error) => Err(lost(error.error())),
        }
    }

    /// A kept connection that is still open.
    async fn idle(&self) -> Option<Sender> {
        loop {
            let mut sender = {
                let mut inner = self.lock();
                let (sender, since) = inner.idle.pop()?;
                if since.elapsed() > KEEP_IDLE {
                    // All that are left are older.
                    inner.idle.clear();
                    return None;
                }
                sender
            };
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn open(&self) -> Result<Sender, CallError> {
        let mut builder = Builder::new();
        builder.max_headers(HEADERS).max_buf_size(HEAD);
        match self.egress.connect(&self.origin).await? {
            Connection::Plain(stream) => {
                let (sender, connection) = builder
                    .handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| lost(&error))?;
                self.drive(connection);
                Ok(sender)
            }
            Connection::Tls(stream) => {
                let (sender, connection) = builder
                    .handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| lost(&error))?;
                self.drive(connection);
                Ok(sender)
            }
        }
    }

    fn drive<C, E>(&self, connection: C)
    where
        C: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        let mut inner = self.lock();
        while inner.tasks.try_join_next().is_some() {}
        // What went wrong is told to whoever waits for the answer.
        inner.tasks.spawn(async move { drop(connection.await) });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost(error: &hyper::Error) -> CallError {
    use std::error::Error as _;
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text = format!("{text}: {source}");
    }
    CallError::Lost(text)
}
