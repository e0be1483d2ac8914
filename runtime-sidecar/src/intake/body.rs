//! Reading bodies: bounded in size, in time, and in what all of them together may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::reject::{BODY_LATE, BODY_LOST, BUSY, Rejection};

/// Bytes of bodies that may be in memory at once.
#[derive(Clone)]
pub struct Budget(Arc<AtomicU64>);

/// Bytes that a body takes; given back when dropped.
pub struct Reserved {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// So many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Nothing yet.
    pub fn reserve(&self) -> Reserved {
        Reserved {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl Reserved {
    /// Takes `bytes` more, if they are there.
    fn grow(&mut self, bytes: u64) -> bool {
        let took = self
            .budget
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                left.checked_sub(bytes)
            });
        if took.is_ok() {
            self.bytes += bytes;
        }
        took.is_ok()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// Reads a body of at most `limit` bytes within `deadline`.
pub async fn read(
    body: Incoming,
    limit: u64,
    deadline: Duration,
    reserved: &mut Reserved,
) -> Result<Bytes, Rejection> {
    if body.size_hint().lower() > limit {
        return Err(Rejection::too_large(limit));
    }
    timeout(deadline, collect(body, limit, reserved))
        .await
        .unwrap_or_else(|_| {
            let message = format!(
                "the body was not complete after {} s",
                deadline.as_secs_f32()
            );
            Err(Rejection::new(
                StatusCode::REQUEST_TIMEOUT,
                BODY_LATE,
                message,
            ))
        })
}

async fn collect(
    mut body: Incoming,
    limit: u64,
    reserved: &mut Reserved,
) -> Result<Bytes, Rejection> {
    // Most bodies come in one piece, which is kept as it came.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let message = format!("the body did not come to its end: {error}");
            Rejection::new(StatusCode::BAD_REQUEST, BODY_LOST, message)
        })?;
        // Trailers say nothing that is kept.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        total += data.len() as u64;
        if total > limit {
            return Err(Rejection::too_large(limit));
        }
        if !reserved.grow(data.len() as u64) {
            let message = "too many large requests at once; send again later";
            return Err(
                Rejection::new(StatusCode::SERVICE_UNAVAILABLE, BUSY, message).retry_after(1),
            );
        }
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_a_request_ends() {
        let budget = Budget::new(10);
        let (mut one, mut two) = (budget.reserve(), budget.reserve());
        assert!(one.grow(6) && two.grow(4) && !two.grow(1));
        drop(one);
        assert!(two.grow(6));
        drop(two);
        assert_eq!(budget.0.load(Ordering::Relaxed), 10);
    }
}
