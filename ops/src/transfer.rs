//! Export and import: NDJSON, a letter a line, read and written as it goes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::header::HeaderValue;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::{Duration, timeout};
use weir_broker::{BrokerError, WorkQueue};
use weir_core::ops::{Imported, LONGEST_LINE, Letter, TOTAL};
use weir_core::redrive::Filter;

use crate::refusal::{Body, Refusal, set_headers};

/// Letters that are read at once.
const AT_ONCE: usize = 50;
/// Longest silence of whoever sends an import.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where an export is.
struct Export {
    queue: Arc<dyn WorkQueue>,
    filter: Filter,
    after: Option<u64>,
    until: u64,
    over: bool,
}

/// The letters that there are now and match, behind `after`. A broker that fails ends the
/// connection in the middle of the answer, which clients notice.
pub(crate) async fn export(
    queue: Arc<dyn WorkQueue>,
    after: Option<u64>,
    filter: Filter,
) -> Result<Response<Body>, Refusal> {
    let total = queue.depth().await?.dead;
    let until = queue.last_dead_letter().await?.unwrap_or(0);
    let export = Export {
        queue,
        filter,
        after,
        until,
        over: false,
    };
    let lines = stream::unfold(export, |mut export| async move {
        let page = export.page().await?;
        if page.is_err() {
            export.over = true;
        }
        let frame = page.map(http_body::Frame::data).map_err(Into::into);
        Some((frame, export))
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    set_headers(&mut response, "application/x-ndjson");
    let headers = response.headers_mut();
    headers.insert(TOTAL, HeaderValue::from(total));
    Ok(response)
}

impl Export {
    /// The next lines; none at the end.
    async fn page(&mut self) -> Option<Result<Bytes, BrokerError>> {
        if self.over {
            return None;
        }
        let page = match self.queue.dead_letters(self.after, AT_ONCE).await {
            Ok(page) => page,
            Err(error) => return Some(Err(error)),
        };
        let mut lines = Vec::new();
        for stored in &page.items {
            if stored.position <= self.until && self.filter.matches(&stored.letter) {
                let letter = Letter::of(&stored.letter, stored.position);
                // Writing JSON into memory does not fail.
                serde_json::to_writer(&mut lines, &letter).ok();
                lines.push(b'\n');
            }
        }
        let last = page.items.last().map_or(0, |stored| stored.position);
        self.after = page.next;
        self.over = page.next.is_none() || last >= self.until;
        Some(Ok(lines.into()))
    }
}

/// Stores letters as they come. What is there already is not stored again, so that an import that
/// ended early can be sent again as a whole.
pub(crate) async fn import<B>(queue: &dyn WorkQueue, body: B) -> Result<Imported, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut import = Import {
        queue,
        done: Imported::default(),
        line: 0,
    };
    let mut body = body;
    let mut held = BytesMut::new();
    loop {
        let frame = timeout(PATIENCE, body.frame()).await;
        let frame = frame.map_err(|_| {
            import.refuse(
                StatusCode::REQUEST_TIMEOUT,
                "BodyTooSlow",
                "nothing came for 30 s",
            )
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            let why = format!("the body ended early: {}", error.into());
            import.refuse(StatusCode::BAD_REQUEST, "BadRequest", &why)
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let mut from = held.len();
        held.extend_from_slice(&data);
        while let Some(end) = held[from..].iter().position(|byte| *byte == b'\n') {
            let line = held.split_to(from + end + 1);
            import.line(&line).await?;
            from = 0;
        }
        if held.len() > LONGEST_LINE {
            let why = format!("it is longer than {LONGEST_LINE} bytes");
            return Err(import.refuse_line(&why));
        }
    }
    import.line(&held).await?;
    Ok(import.done)
}

struct Import<'a> {
    queue: &'a dyn WorkQueue,
    done: Imported,
    line: u64,
}

impl Import<'_> {
    async fn line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        let letter = match Letter::parse(line) {
            Ok(letter) => letter,
            Err(error) => return Err(self.refuse_line(&error.to_string())),
        };
        match self.queue.store_dead_letter(&letter).await {
            Ok(true) => self.done.stored += 1,
            Ok(false) => self.done.known += 1,
            Err(error @ (BrokerError::TooLarge { .. } | BrokerError::Refused { .. })) => {
                return Err(self.refuse_line(&error.to_string()));
            }
            Err(error) => {
                let refusal = Refusal::from(error);
                return Err(self.refuse(refusal.status, refusal.error, &refusal.message));
            }
        }
        self.line += 1;
        Ok(())
    }

    fn refuse_line(&self, why: &str) -> Refusal {
        let why = format!("letter {}: {why}", self.line + 1);
        self.refuse(StatusCode::BAD_REQUEST, "BadLetter", &why)
    }

    fn refuse(&self, status: StatusCode, error: &'static str, why: &str) -> Refusal {
        Refusal::new(
            status,
            error,
            format!(
                "{why}; {} letters before it were stored or known: send the whole again when it is mended",
                self.line
            ),
        )
    }
}
