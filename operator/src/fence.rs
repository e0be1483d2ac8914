//! Nothing is written without the lease.
//!
//! The lease module moves a deadline forward with every renewal. Before that deadline no other
//! process can have taken the lease; after it every mutating request is refused here, in the HTTP
//! client itself, so that no code path can forget to ask. A process that slept wakes up fenced.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::Either;
use hyper::{Method, Request};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

/// Whether this process may write. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    until: Arc<Mutex<Option<Instant>>>,
}

/// The lease is not held.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the lease is not held: nothing may be written")]
pub struct Fenced;

impl Fence {
    /// Lets writes pass until `deadline`.
    pub fn open_until(&self, deadline: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
    }

    /// Refuses writes from now on.
    pub fn close(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether writes may pass.
    pub fn check(&self) -> Result<(), Fenced> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        match until {
            Some(deadline) if Instant::now() < deadline => Ok(()),
            _ => Err(Fenced),
        }
    }
}

/// Puts a fence around an HTTP client.
#[derive(Clone, Debug)]
pub struct FenceLayer(pub Fence);

impl<S> Layer<S> for FenceLayer {
    type Service = FencedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FencedService {
            inner,
            fence: self.0.clone(),
        }
    }
}

/// An HTTP client that refuses to write without the lease.
#[derive(Clone, Debug)]
pub struct FencedService<S> {
    inner: S,
    fence: Fence,
}

impl<S, B> Service<Request<B>> for FencedService<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Either<
        futures::future::Ready<Result<S::Response, BoxError>>,
        futures::future::MapErr<S::Future, fn(S::Error) -> BoxError>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        use futures::TryFutureExt as _;
        let reads = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS
        );
        match self.fence.check() {
            Err(fenced) if !reads => Either::Left(futures::future::ready(Err(fenced.into()))),
            _ => Either::Right(self.inner.call(request).map_err(Into::into)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_reads_pass_without_the_lease() {
        let fence = Fence::default();
        let service = FenceLayer(fence.clone()).layer(tower::service_fn(|_: Request<()>| async {
            Ok::<_, BoxError>(())
        }));
        let send = |method: Method| {
            let request = Request::builder().method(method).body(()).unwrap();
            service.clone().oneshot(request)
        };
        let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        for method in writes.clone() {
            assert!(send(method).await.unwrap_err().is::<Fenced>());
        }
        send(Method::GET).await.unwrap();

        fence.open_until(Instant::now() + Duration::from_secs(10));
        for method in writes.clone() {
            send(method).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        for method in writes {
            send(method).await.unwrap_err();
        }
        send(Method::GET).await.unwrap();
    }
}
