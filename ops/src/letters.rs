//! Looking: pages, one letter, counts. Nothing here changes anything.

use std::ops::ControlFlow;

use weir_broker::{BrokerError, StoredDeadLetter, WorkQueue};
use weir_core::ops::{By, Letter, MOST_LOOKED_AT, Page, Summary, Waiting};
use weir_core::redrive::Filter;

use crate::refusal::Refusal;

/// Bytes of bodies after which a page ends.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Letters that are read at once.
const AT_ONCE: usize = 100;

/// Looks at letters behind `after`, in order, until `look` breaks, there are none left, or so many
/// were looked at as one request may. Answers where to go on.
pub(crate) async fn scan(
    queue: &dyn WorkQueue,
    after: Option<u64>,
    mut look: impl FnMut(StoredDeadLetter) -> ControlFlow<()> + Send,
) -> Result<Option<u64>, BrokerError> {
    let mut after = after;
    let mut looked_at = 0;
    loop {
        let page = queue.dead_letters(after, AT_ONCE).await?;
        let mut left = page.items.len();
        for stored in page.items {
            let position = stored.position;
            left -= 1;
            looked_at += 1;
            let stop = look(stored).is_break() || looked_at >= MOST_LOOKED_AT;
            if stop {
                return Ok(Some(position).filter(|_| left > 0 || page.next.is_some()));
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(None),
        }
    }
}

pub(crate) async fn list(
    queue: &dyn WorkQueue,
    after: Option<u64>,
    limit: usize,
    filter: &Filter,
) -> Result<Page<Letter>, Refusal> {
    let (mut items, mut bytes) = (Vec::new(), 0);
    let next = scan(queue, after, |stored| {
        if filter.matches(&stored.letter) {
            bytes += stored.letter.message.body.len();
            items.push(Letter::of(&stored.letter, stored.position));
        }
        if items.len() >= limit || bytes >= PAGE_BYTES {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .await?;
    Ok(Page { items, next })
}

pub(crate) async fn messages(
    queue: &dyn WorkQueue,
    after: Option<u64>,
    limit: usize,
) -> Result<Page<Waiting>, Refusal> {
    let page = queue.peek(after, limit).await?;
    let (mut items, mut bytes, mut next) = (Vec::new(), 0, page.next);
    for stored in page.items {
        if bytes >= PAGE_BYTES {
            next = items.last().map(|item: &Waiting| item.position);
            break;
        }
        bytes += stored.message.body.len();
        let (message, position) = (&stored.message, stored.position);
        items.push(Waiting::of(message, stored.attempts, stored.due, position));
    }
    Ok(Page { items, next })
}

pub(crate) async fn one(queue: &dyn WorkQueue, id: &str) -> Result<Letter, Refusal> {
    let stored = queue.dead_letter(id).await?;
    let stored =
        stored.ok_or_else(|| Refusal::not_found(format!("there is no dead letter {id}")))?;
    Ok(Letter::of(&stored.letter, stored.position))
}

pub(crate) async fn summary(
    queue: &dyn WorkQueue,
    by: By,
    after: Option<u64>,
    filter: &Filter,
) -> Result<Summary, Refusal> {
    let mut summary = Summary::default();
    let mut passed = 0;
    let next = scan(queue, after, |stored| {
        if filter.matches(&stored.letter) {
            summary.add(by, &stored.letter);
        } else {
            passed += 1;
        }
        ControlFlow::Continue(())
    })
    .await?;
    summary.looked_at += passed;
    summary.next = next;
    summary.sort();
    Ok(summary)
}
