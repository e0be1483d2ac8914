//! `weir dlq redrive` and what belongs to it, and `purge`.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weir_core::object::Kind;
use weir_core::ops::{
    DryRun, Edit, Edited, Letter, Purge, Purged, RedriveList, RedriveStatus, StartRedrive,
};
use weir_core::redrive::State;

use super::look::find;
use crate::args::{DlqCancel, DlqPurge, DlqRedrive, DlqStatus, Output};
use crate::failure::Failure;
use crate::output::{columns, print};
use crate::place::{Place, parse_object, path_segment};

/// How often progress is shown where nobody watches a line change.
const SELDOM: Duration = Duration::from_secs(10);

/// `weir dlq redrive`.
pub async fn redrive(arguments: DlqRedrive) -> Result<(), Failure> {
    arguments.which.check()?;
    let (kind, name) = parse_object(&arguments.object)?;
    if let Some(to) = &arguments.to {
        parse_object(to)?;
    }
    if (arguments.edit || arguments.body.is_some()) && arguments.ids.len() != 1 {
        return Err(
            Failure::usage("a body can be changed for one message at a time")
                .next("name it with --id; see: weir dlq list"),
        );
    }
    let mut request = StartRedrive {
        ids: arguments.ids.clone(),
        filter: arguments.which.filter.clone(),
        rate: arguments.rate,
        to: arguments.to.clone(),
        dry_run: arguments.dry_run,
        ..StartRedrive::default()
    };
    request.clone().check().map_err(Failure::usage)?;
    let place = Place::find(&arguments.place).await?;
    let path = place.path(kind, &name, "/redrives");
    if arguments.dry_run {
        return dry_run(&place, &path, request, arguments.output).await;
    }
    if let Some(body) = new_body(&place, &arguments).await? {
        request.edit = Some(body);
        let edited: Edited = place.ask(Method::POST, &path, Some(&request)).await?;
        let document = serde_json::to_value(&edited).map_err(Failure::other)?;
        let words = if edited.already_published {
            "published by an earlier try, perhaps with another body; the dead letter is gone"
        } else {
            "published with its new body"
        };
        let table = |_: &Value| format!("{}  {words}", edited.id);
        return print(arguments.output, &document, table, |_| {
            vec![edited.id.clone()]
        });
    }
    let begun: RedriveStatus = place.ask(Method::POST, &path, Some(&request)).await?;
    let object = (kind, name.as_str());
    let ended = if arguments.no_wait {
        begun
    } else {
        wait(&place, object, &begun.id).await?
    };
    show(&ended, arguments.output)?;
    outcome(&ended)
}

/// A redrive that did not do everything is no success.
fn outcome(status: &RedriveStatus) -> Result<(), Failure> {
    match status.state {
        State::Failed => Err(
            Failure::new(format!("the redrive failed: {}", status.message))
                .next("nothing is lost: mend the reason and redrive again"),
        ),
        State::Completed if status.counts.failed > 0 => Err(Failure::new(format!(
            "{} letters could not be published and stay: {}",
            status.counts.failed, status.message
        ))),
        _ => Ok(()),
    }
}

async fn dry_run(
    place: &Place,
    path: &str,
    request: StartRedrive,
    output: Output,
) -> Result<(), Failure> {
    let mut request = request;
    let mut all = DryRun::default();
    loop {
        let part: DryRun = place.ask(Method::POST, path, Some(&request)).await?;
        all.matching += part.matching;
        all.looked_at += part.looked_at;
        let room = 10 - all.sample.len().min(10);
        all.sample.extend(part.sample.into_iter().take(room));
        all.missing.extend(part.missing);
        request.after = part.next;
        if part.next.is_none() {
            break;
        }
    }
    let document = serde_json::to_value(&all).map_err(Failure::other)?;
    let table = |_: &Value| {
        let mut text = format!(
            "would redrive {} of {} dead letters",
            all.matching, all.looked_at
        );
        for id in &all.sample {
            let _ = write!(text, "\n  {id}");
        }
        if all.matching > all.sample.len() as u64 {
            text += "\n  ...";
        }
        for id in &all.missing {
            let _ = write!(text, "\nno dead letter has the id {id}");
        }
        text
    };
    print(output, &document, table, |_| all.sample.clone())
}

/// The new body, from an editor or a file.
async fn new_body(place: &Place, arguments: &DlqRedrive) -> Result<Option<Edit>, Failure> {
    let bytes = if let Some(path) = &arguments.body {
        read(path)?
    } else if arguments.edit {
        let letter = find(place, Some(&arguments.object), &arguments.ids[0]).await?;
        let before = bytes_of(&letter)?;
        let after = edited(&before)?;
        if after == before {
            return Err(Failure::new("the body is as it was: nothing was published")
                .next("without --edit it is published as it is"));
        }
        after
    } else {
        return Ok(None);
    };
    Ok(Some(match String::from_utf8(bytes) {
        Ok(text) => Edit {
            body: Some(text),
            body_base64: None,
        },
        Err(binary) => Edit {
            body: None,
            body_base64: Some(STANDARD.encode(binary.as_bytes())),
        },
    }))
}

fn bytes_of(letter: &Letter) -> Result<Vec<u8>, Failure> {
    match (&letter.body, &letter.body_base64) {
        (Some(text), _) => Ok(text.clone().into_bytes()),
        (None, Some(encoded)) => STANDARD.decode(encoded).map_err(Failure::other),
        (None, None) => Ok(Vec::new()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = if path == Path::new("-") {
        let mut body = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut body).map(|_| body)
    } else {
        std::fs::read(path)
    };
    read.map_err(|why| Failure::usage(format!("cannot read {}: {why}", path.display())))
}

/// What the user makes of a body in an editor.
fn edited(before: &[u8]) -> Result<Vec<u8>, Failure> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|editor| !editor.trim().is_empty())
        .unwrap_or_else(|| "vi".to_owned());
    let folder = tempfile::Builder::new()
        .prefix("weir-edit-")
        .tempdir()
        .map_err(Failure::other)?;
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(before).is_ok();
    let name = if is_json { "body.json" } else { "body" };
    let path = folder.path().join(name);
    std::fs::write(&path, before).map_err(Failure::other)?;
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let done = Command::new(program).args(words).arg(&path).status();
    let done = done.map_err(|why| {
        Failure::new(format!("cannot start the editor {program}: {why}"))
            .next("set EDITOR, or give the body with --body FILE")
    })?;
    if !done.success() {
        return Err(Failure::new("the editor failed: nothing was published"));
    }
    std::fs::read(&path).map_err(Failure::other)
}

/// Waits until a redrive has ended, and shows how far it is. Ctrl-C ends the wait, not the redrive.
async fn wait(
    place: &Place,
    (kind, name): (Kind, &str),
    id: &str,
) -> Result<RedriveStatus, Failure> {
    let path = place.path(kind, name, &format!("/redrives/{}", path_segment(id)));
    let pause = if place.is_cluster() { 1000 } else { 150 };
    let watched = std::io::stderr().is_terminal();
    let mut shown: Option<Instant> = None;
    loop {
        let status: RedriveStatus = place.ops(&path).await?;
        if !status.state.is_active() {
            if watched && shown.is_some() {
                eprint!("\r\x1b[K");
            }
            return Ok(status);
        }
        if watched {
            eprint!("\r\x1b[K{}", line(&status));
            std::io::stderr().flush().ok();
            shown = Some(Instant::now());
        } else if shown.is_none_or(|at| at.elapsed() > SELDOM) {
            eprintln!("{}", line(&status));
            shown = Some(Instant::now());
        }
        tokio::select! {
            () = sleep(Duration::from_millis(pause)) => {}
            _ = tokio::signal::ctrl_c() => {
                let object = format!("{}/{name}", kind.lower());
                eprintln!("\nredrive {id} goes on; see: weir dlq redrive-status {object}; end it: weir dlq redrive-cancel {object}");
                return Ok(status);
            }
        }
    }
}

fn line(status: &RedriveStatus) -> String {
    let counts = status.counts;
    let mut text = format!(
        "{}: {} moved, {} of {} looked at ({} %)",
        status.state.as_str(),
        counts.moved,
        counts.looked_at(),
        status.total,
        status.percent
    );
    if counts.failed > 0 {
        let _ = write!(text, ", {} failed", counts.failed);
    }
    if !status.message.is_empty() {
        let _ = write!(text, "  {}", crate::output::printable(&status.message));
    }
    text
}

fn show(status: &RedriveStatus, output: Output) -> Result<(), Failure> {
    let document = serde_json::to_value(status).map_err(Failure::other)?;
    let table = |_: &Value| format!("redrive {}  {}", status.id, line(status));
    print(output, &document, table, |_| vec![status.id.clone()])
}

/// `weir dlq redrive-status`.
pub async fn status(arguments: DlqStatus) -> Result<(), Failure> {
    let (kind, name) = parse_object(&arguments.object)?;
    let place = Place::find(&arguments.place).await?;
    if arguments.watch {
        let ended = wait(&place, (kind, &name), "latest").await?;
        show(&ended, arguments.output)?;
        return outcome(&ended);
    }
    if let Some(id) = &arguments.id {
        let what = format!("/redrives/{}", path_segment(id));
        let status: RedriveStatus = place.ops(&place.path(kind, &name, &what)).await?;
        return show(&status, arguments.output);
    }
    let list: RedriveList = place.ops(&place.path(kind, &name, "/redrives")).await?;
    let document = serde_json::to_value(&list).map_err(Failure::other)?;
    print(
        arguments.output,
        &document,
        |_| table(&list),
        |_| list.items.iter().map(|item| item.id.clone()).collect(),
    )
}

fn table(list: &RedriveList) -> String {
    if list.items.is_empty() {
        return "no redrive yet".to_owned();
    }
    let rows: Vec<Vec<String>> = list
        .items
        .iter()
        .map(|item| {
            let to = item.to.as_ref();
            let to = to.map_or("-".to_owned(), |to| {
                format!("{}/{}", to.kind.lower(), to.name)
            });
            vec![
                item.id.clone(),
                item.state.as_str().to_owned(),
                item.counts.moved.to_string(),
                item.counts.passed.to_string(),
                item.counts.failed.to_string(),
                format!("{} %", item.percent),
                to,
                format!("{:.0}", item.started_at),
                item.by.clone().unwrap_or_else(|| "-".to_owned()),
                item.message.clone(),
            ]
        })
        .collect();
    let heads = [
        "ID", "STATE", "MOVED", "PASSED", "FAILED", "DONE", "TO", "STARTED", "BY", "MESSAGE",
    ];
    columns(&heads, &rows)
}

/// `weir dlq redrive-cancel`.
pub async fn cancel(arguments: DlqCancel) -> Result<(), Failure> {
    let (kind, name) = parse_object(&arguments.object)?;
    let place = Place::find(&arguments.place).await?;
    let id = arguments.id.as_deref().unwrap_or("latest");
    let what = format!("/redrives/{}", path_segment(id));
    let path = place.path(kind, &name, &what);
    let status: RedriveStatus = place.ask(Method::DELETE, &path, None::<&()>).await?;
    let status = if status.state.is_active() {
        wait(&place, (kind, &name), &status.id).await?
    } else {
        status
    };
    show(&status, arguments.output)
}

/// `weir dlq purge`.
pub async fn purge(arguments: DlqPurge) -> Result<(), Failure> {
    arguments.which.check()?;
    let (kind, name) = parse_object(&arguments.object)?;
    let place = Place::find(&arguments.place).await?;
    let object = format!("{}/{name}", kind.lower());
    if !arguments.yes {
        return Err(Failure::usage(format!(
            "the dead letters of {object} would be gone for good"
        ))
        .next(format!(
            "keep a copy: weir dlq export {object} FILE; then: weir dlq purge {object} --yes"
        )));
    }
    let request = Purge {
        filter: arguments.which.filter.clone(),
        confirm: true,
    };
    let path = place.path(kind, &name, "/purge");
    let mut purged = 0;
    loop {
        let part: Purged = place.ask(Method::POST, &path, Some(&request)).await?;
        purged += part.purged;
        // Nothing of a whole part matched: what is left is looked at by nobody.
        if !part.more || part.purged == 0 {
            break;
        }
    }
    let document = json!({ "purged": purged });
    print(
        arguments.output,
        &document,
        |_| format!("{purged} dead letters are gone"),
        |_| vec![],
    )
}
