//! The last acknowledgements, to be said again after a connection was lost.
//!
//! A server that is killed has removed what was acknowledged, but its consumer may have forgotten
//! that it did: such entries would hold slots of the limit until their lease ends.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::connection::Connection;

/// A server writes the state of a consumer several times a second.
const KEPT: Duration = Duration::from_secs(3);
const MOST: usize = 4096;

/// The acknowledgements of the last seconds.
#[derive(Default)]
pub(crate) struct Recent(Mutex<VecDeque<Acknowledged>>);

struct Acknowledged {
    at: Instant,
    reply: String,
    stored_at: Timestamp,
}

#[derive(Deserialize)]
struct Created {
    created: Timestamp,
}

impl Recent {
    /// Notes an acknowledgement that the server has confirmed.
    pub(crate) fn note(&self, reply: &str, stored_at: Timestamp) {
        let at = Instant::now();
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while recent.len() >= MOST || recent.front().is_some_and(|first| first.at + KEPT < at) {
            recent.pop_front();
        }
        recent.push_back(Acknowledged {
            at,
            reply: reply.to_owned(),
            stored_at,
        });
    }

    /// Says them again, where the stream is still the same: in a stream made anew the same words
    /// would remove other messages.
    pub(crate) async fn repeat(&self, connection: &Connection, stream: &str) {
        let recent = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if recent.is_empty() {
            return;
        }
        let subject = format!("STREAM.INFO.{stream}");
        let info = connection
            .api::<Created>("read stream", &subject, &Value::Null)
            .await;
        let Ok(Created { created }) = info else {
            return;
        };
        for said in recent.into_iter().filter(|said| said.stored_at >= created) {
            let word = Bytes::from_static(b"+ACK");
            let headers = HeaderMap::new();
            if connection
                .send("acknowledge", &said.reply, None, headers, word)
                .await
                .is_err()
            {
                return;
            }
        }
    }
}
