//! Redrives and purges.

use std::ops::ControlFlow;
use std::sync::Arc;

use http::request::Parts;
use http::{Response, StatusCode};
use std::time::Duration;
use weir_broker::{Publication, StoredDeadLetter, WorkQueue, redrive};
use weir_core::ids::new_id;
use weir_core::object::ObjectKey;
use weir_core::ops::{
    DryRun, Edited, Purge, Purged, RedriveList, RedriveStatus, StartRedrive, WantedRedrive,
    parse_filter,
};
use weir_core::redrive::{Counts, Redrive, State, identity};

use crate::api::{Api, queue_of};
use crate::directory::{Directory, Entry, News};
use crate::guard::{Caller, Guard};
use crate::letters::scan;
use crate::redrives::Orders;
use crate::refusal::{Body, Refusal, json};

/// Ids that a dry run names.
const SAMPLE: usize = 10;

pub(crate) async fn list(queue: &dyn WorkQueue) -> Result<RedriveList, Refusal> {
    let known = redrive::read(queue).await?;
    let items = known.redrives.iter().map(RedriveStatus::from).collect();
    Ok(RedriveList { items })
}

pub(crate) async fn status(queue: &dyn WorkQueue, id: &str) -> Result<RedriveStatus, Refusal> {
    let known = redrive::read(queue).await?;
    let found = match id {
        "latest" => known.latest(),
        id => known.find(id),
    };
    found.map(RedriveStatus::from).ok_or_else(|| {
        Refusal::not_found(match id {
            "latest" => "there was no redrive of this object yet".to_owned(),
            id => format!("there is no redrive {id}; the last ten of each object are remembered"),
        })
    })
}

pub(crate) async fn cancel<D: Directory, G: Guard>(
    api: &Api<D, G>,
    entry: &Entry,
    queue: &dyn WorkQueue,
    id: &str,
    caller: &Caller,
) -> Result<RedriveStatus, Refusal> {
    let id = match id {
        "latest" => status(queue, id).await?.id,
        id => id.to_owned(),
    };
    let cancelled = redrive::cancel(queue, &id).await?;
    orders(api)?.look_at(&entry.key);
    tracing::info!(object = %entry.key, redrive = id, by = caller.name, "a redrive was cancelled");
    Ok(RedriveStatus::from(&cancelled))
}

pub(crate) async fn start<D: Directory, G: Guard>(
    api: &Api<D, G>,
    head: &Parts,
    entry: &Entry,
    queue: Arc<dyn WorkQueue>,
    request: StartRedrive,
    caller: Caller,
) -> Result<Response<Body>, Refusal> {
    let wanted = request.check().map_err(Refusal::bad_request)?;
    let to = wanted.to.clone().map(|(kind, name)| {
        let namespace = entry.key.namespace.clone();
        ObjectKey::new(kind, namespace, name)
    });
    let to = to.filter(|to| *to != entry.key);
    let target = match &to {
        None => Arc::clone(&queue),
        Some(to) => {
            api.admit_to(head, to).await?;
            let target = api.find(to.kind, Some(&to.namespace), &to.name)?;
            queue_of(&target)?
        }
    };
    if let Some(after) = wanted.dry_run {
        return Ok(json(
            StatusCode::OK,
            &dry_run(&*queue, &wanted, after).await?,
        ));
    }
    let missing = missing(&*queue, &wanted.ids).await?;
    if !missing.is_empty() {
        let shown = missing.iter().take(SAMPLE).cloned().collect::<Vec<_>>();
        return Err(Refusal::not_found(format!(
            "{} of the ids have no dead letter: {}",
            missing.len(),
            shown.join(", ")
        )));
    }
    if let Some(body) = wanted.edit {
        let stored = queue.dead_letter(&wanted.ids[0]).await?;
        let stored = stored.ok_or_else(|| Refusal::not_found("the letter is gone"))?;
        if !wanted.filter.matches(&stored.letter) {
            return Err(Refusal::bad_request("where: it does not match this letter"));
        }
        let edited = edit(api, &*queue, &*target, stored, body).await?;
        tracing::info!(object = %entry.key, id = edited.id, by = caller.name, "a dead letter was edited and redriven");
        return Ok(json(StatusCode::OK, &edited));
    }
    let orders = orders(api)?;
    let now = api.clock.now();
    let redrive = Redrive {
        id: new_id(now, std::array::from_fn(|_| fastrand::u8(..))),
        object: entry.key.clone(),
        to,
        by: caller.name,
        filter: wanted.filter,
        ids: wanted.ids,
        rate: wanted.rate,
        state: State::Running,
        counts: Counts::default(),
        total: 0,
        until: 0,
        done: 0,
        in_hand: Vec::new(),
        message: String::new(),
        started_at: now,
        updated_at: now,
        finished_at: None,
        owner: orders.owner().to_owned(),
    };
    let begun = redrive::begin(&*queue, redrive).await?;
    orders.look_at(&entry.key);
    tracing::info!(object = %entry.key, redrive = begun.id, by = begun.by, "a redrive begins");
    Ok(json(StatusCode::ACCEPTED, &RedriveStatus::from(&begun)))
}

fn orders<D, G>(api: &Api<D, G>) -> Result<&Orders, Refusal> {
    api.redrives.as_ref().ok_or_else(|| {
        Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "this server only shows things",
        )
    })
}

async fn missing(queue: &dyn WorkQueue, ids: &[String]) -> Result<Vec<String>, Refusal> {
    let mut missing = Vec::new();
    for id in ids {
        if queue.dead_letter(id).await?.is_none() {
            missing.push(id.clone());
        }
    }
    Ok(missing)
}

async fn dry_run(
    queue: &dyn WorkQueue,
    wanted: &WantedRedrive,
    after: Option<u64>,
) -> Result<DryRun, Refusal> {
    let mut run = DryRun::default();
    let mut look = |stored: &StoredDeadLetter| {
        run.looked_at += 1;
        if wanted.filter.matches(&stored.letter) {
            run.matching += 1;
            if run.sample.len() < SAMPLE {
                run.sample.push(stored.letter.message.id.clone());
            }
        }
    };
    if wanted.ids.is_empty() {
        let next = scan(queue, after, |stored| {
            look(&stored);
            ControlFlow::Continue(())
        })
        .await?;
        run.next = next;
        return Ok(run);
    }
    let mut missing = Vec::new();
    for id in &wanted.ids {
        match queue.dead_letter(id).await? {
            Some(stored) => look(&stored),
            None => missing.push(id.clone()),
        }
    }
    run.missing = missing;
    Ok(run)
}

/// One message with another body: published under the identity of its letter, which is then removed. A
/// repeat after a kill in between finds the identity and only removes.
async fn edit<D: Directory, G: Guard>(
    api: &Api<D, G>,
    queue: &dyn WorkQueue,
    target: &dyn WorkQueue,
    stored: StoredDeadLetter,
    body: bytes::Bytes,
) -> Result<Edited, Refusal> {
    let identity = identity(stored.position, &stored.letter);
    let mut message = stored.letter.message;
    message.accepted_at = api.clock.now();
    message.body = body;
    let id = message.id.clone();
    let kept = queue.dead_letters_kept().max(Duration::from_secs(1));
    let publication = Publication {
        message,
        dedup: Some((identity, kept)),
        delay: Duration::ZERO,
    };
    let published = target.publish(publication).await?;
    queue.remove_dead_letter(stored.position).await?;
    Ok(Edited {
        id,
        already_published: published.duplicate,
    })
}

pub(crate) async fn purge<D: Directory, G: Guard>(
    api: &Api<D, G>,
    entry: &Entry,
    queue: &dyn WorkQueue,
    purge: Purge,
    caller: &Caller,
) -> Result<Purged, Refusal> {
    let filter = parse_filter(purge.filter.as_deref()).map_err(Refusal::bad_request)?;
    if !purge.confirm {
        let words = "what is purged is gone: send {\"confirm\": true}; export keeps a copy";
        return Err(Refusal::bad_request(words));
    }
    let active = redrive::read(queue).await;
    let active = active.as_ref().ok().and_then(|known| known.latest());
    if let Some(redrive) = active.filter(|redrive| redrive.state.is_active()) {
        let message = format!("redrive {} is under way; cancel it first", redrive.id);
        return Err(Refusal::new(StatusCode::CONFLICT, "RedriveActive", message));
    }
    let mut done = Purged::default();
    if filter.is_everything() {
        let through = queue.last_dead_letter().await?;
        if let Some(through) = through {
            done.purged = queue.purge_dead_letters(through).await?;
        }
    } else {
        let mut positions = Vec::new();
        let next = scan(queue, None, |stored| {
            if filter.matches(&stored.letter) {
                positions.push(stored.position);
            }
            ControlFlow::Continue(())
        })
        .await?;
        done.more = next.is_some();
        for position in positions {
            done.purged += u64::from(queue.remove_dead_letter(position).await?);
        }
    }
    if done.purged > 0 {
        let news = News::Purged {
            count: done.purged,
            by: caller.name.clone(),
        };
        api.directory.tell(&entry.key, news).await;
    }
    tracing::info!(object = %entry.key, purged = done.purged, by = caller.name, "dead letters were purged");
    Ok(done)
}
