//! `weir groups`: groups of ordered queues, and those that wait for a human.

use hyper::Method;
use serde_json::Value;
use weir_core::ops::{Groups as Listed, Released};

use crate::args::{GroupOf, Groups, GroupsList};
use crate::failure::Failure;
use crate::output::{columns, print};
use crate::place::{Place, parse_object, path_segment};

/// Runs one of the subcommands.
pub async fn groups(command: Groups) -> Result<(), Failure> {
    match command {
        Groups::List(arguments) => list(arguments).await,
        Groups::Release(arguments) => go_on(arguments, "release").await,
        Groups::Redrive(arguments) => go_on(arguments, "redrive").await,
    }
}

async fn list(arguments: GroupsList) -> Result<(), Failure> {
    let (kind, name) = parse_object(&arguments.object)?;
    let place = Place::find(&arguments.place).await?;
    let listed: Listed = place.ops(&place.path(kind, &name, "/groups")).await?;
    let document = serde_json::to_value(&listed).map_err(Failure::other)?;
    let table = |_: &Value| {
        let rows: Vec<Vec<String>> = listed
            .items
            .iter()
            .map(|held| {
                vec![
                    shown(&held.group),
                    held.hold.as_str().to_owned(),
                    held.since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                    held.message_id.clone(),
                    held.failure.reason.as_str().to_owned(),
                    held.failure.message.clone(),
                ]
            })
            .collect();
        let numbers = format!(
            "{} groups with messages, {} in a call, {} waiting for you",
            listed.runnable, listed.in_turn, listed.held
        );
        if rows.is_empty() {
            return numbers;
        }
        let heads = ["GROUP", "HOLD", "SINCE", "MESSAGE-ID", "REASON", "MESSAGE"];
        format!("{numbers}\n{}", columns(&heads, &rows))
    };
    print(arguments.output, &document, table, |_| {
        listed.items.iter().map(|held| held.group.clone()).collect()
    })
}

async fn go_on(arguments: GroupOf, how: &str) -> Result<(), Failure> {
    let (kind, name) = parse_object(&arguments.object)?;
    let place = Place::find(&arguments.place).await?;
    let group = path_segment(&arguments.group);
    let path = place.path(kind, &name, &format!("/groups/{group}/{how}"));
    let released: Released = place.ask(Method::POST, &path, None::<&Value>).await?;
    let document = serde_json::to_value(&released).map_err(Failure::other)?;
    let group = shown(&arguments.group);
    let table = |_: &Value| match (released.released, released.put_back) {
        (false, _) => format!("{group} was not held"),
        (true, 0) => format!("{group} goes on"),
        (true, count) => format!("{group} goes on with {count} dead letters in front"),
    };
    print(arguments.output, &document, table, |_| vec![group.clone()])
}

/// The group of messages that have none has the empty name.
fn shown(group: &str) -> String {
    if group.is_empty() {
        "\"\"".to_owned()
    } else {
        group.to_owned()
    }
}
