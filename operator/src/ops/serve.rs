//! The server: TLS, HTTP/1.1, bounds.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use weir_ops::{Api, Redrives};

use super::directory::Known;
use super::guard::ClusterGuard;
use crate::context::Context;
use crate::fence::Fence;

/// Connections at once.
const CONNECTIONS: usize = 128;
/// Longest time for the handshake, and for the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Bytes of a head: tokens are long.
const HEAD_BYTES: usize = 64 * 1024;

/// Where the ops API is served, and how.
pub struct OpsListener {
    /// The socket.
    pub listener: TcpListener,
    /// TLS; without it tokens are in the clear, which only a test does.
    pub tls: Option<TlsAcceptor>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// It could not be used.
    #[error("cannot use the certificate")]
    Use(#[from] rustls::Error),
}

/// TLS with a certificate that is made now and known to nobody: the API server's proxy asks for none
/// (it does not check certificates of Services), so this keeps tokens from whoever reads the network
/// between it and this pod, and nothing has to be rotated.
pub fn self_signed() -> Result<TlsAcceptor, CertificateError> {
    let made = rcgen::generate_simple_self_signed(["weir-ops".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `stop`, then lets go of the redrives that run: whoever is next goes on with them.
/// `reviews` asks the API server who may; it changes nothing, so that it is not fenced.
pub async fn serve(
    ops: OpsListener,
    context: Arc<Context>,
    fence: Fence,
    reviews: kube::Client,
    stop: CancellationToken,
) {
    let clock = Arc::clone(&context.clock);
    let known = Arc::new(Known { context, fence });
    let (redrives, orders) = Redrives::new(Arc::clone(&known), Arc::clone(&clock));
    let api = Arc::new(Api {
        directory: known,
        guard: ClusterGuard::new(reviews),
        redrives: Some(orders),
        clock,
    });
    let carrying = redrives.run(stop.clone(), || {});
    let answering = async {
        tokio::select! {
            () = accept(ops, api) => {}
            () = stop.cancelled() => {}
        }
    };
    tokio::join!(carrying, answering);
}

async fn accept(ops: OpsListener, api: Arc<Api<Known, ClusterGuard>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match ops.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (api, tls) = (Arc::clone(&api), ops.tls.clone());
        connections.spawn(async move {
            connection(stream, tls, api).await;
            drop(place);
        });
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    api: Arc<Api<Known, ClusterGuard>>,
) {
    let Some(tls) = tls else {
        return answer(stream, api).await;
    };
    match timeout(HEAD, tls.accept(stream)).await {
        Ok(Ok(stream)) => Box::pin(answer(stream, api)).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
        Err(_) => tracing::debug!("no TLS in time"),
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    api: Arc<Api<Known, ClusterGuard>>,
) {
    let service = service_fn(move |request| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(api.answer(request).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD * 3)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        tracing::debug!(%error, "connection ended");
    }
}
