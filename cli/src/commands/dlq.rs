//! `weir dlq`: what was given up, and why. Looking changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};
use weir_broker::{Clock as _, SystemClock};

use crate::args::{By, Dlq, DlqList, DlqShow};
use crate::failure::Failure;
use crate::output::{age, columns, print, printable};
use crate::place::{Place, parse_object, path_segment};

/// Dead letters read at once.
const PAGE: usize = 200;

/// Runs one of the subcommands.
pub async fn dlq(command: Dlq) -> Result<(), Failure> {
    match command {
        Dlq::List(arguments) => list(arguments).await,
        Dlq::Show(arguments) => show(arguments).await,
    }
}

async fn list(arguments: DlqList) -> Result<(), Failure> {
    let place = Place::find(&arguments.place).await?;
    let objects = match &arguments.object {
        Some(object) => vec![parse_object(object)?],
        None => every_object(&place).await?,
    };
    let mut items = Vec::new();
    let mut more = false;
    for (kind, name) in objects {
        let mut after = None;
        while items.len() < arguments.limit {
            let limit = PAGE.min(arguments.limit - items.len());
            let from = after.map_or_else(String::new, |after: u64| format!("&after={after}"));
            let path = format!(
                "/v1/objects/{}/{name}/dead-letters?limit={limit}{from}",
                kind.lower()
            );
            let page = place.ops(&path).await?;
            let found = page["items"].as_array().cloned().unwrap_or_default();
            items.extend(found.into_iter().map(|item| {
                let mut item = flat(item);
                item["object"] = json!(format!("{}/{name}", kind.lower()));
                item
            }));
            after = page["next"].as_u64();
            if after.is_none() {
                break;
            }
        }
        more |= after.is_some();
    }
    let document = match arguments.by {
        Some(by) => json!({ "counts": count(&items, by) }),
        None => json!({ "items": items }),
    };
    let now = SystemClock.now();
    print(arguments.output, &document, |d| table(d, now), names)?;
    if more {
        eprintln!(
            "more than {} dead letters; see the rest with --limit",
            arguments.limit
        );
    }
    Ok(())
}

/// The runtime's document with what is known of the failure beside the message, as people look for it.
fn flat(mut item: Value) -> Value {
    if let Some(Value::Object(failure)) = item.get_mut("failure").map(Value::take)
        && let Some(fields) = item.as_object_mut()
    {
        fields.remove("failure");
        fields.extend(failure);
    }
    item
}

/// The first value of a header; headers are pairs because names may repeat.
fn header<'a>(item: &'a Value, name: &str) -> Option<&'a str> {
    let pairs = item["headers"].as_array()?;
    pairs.iter().find(|pair| pair[0] == name)?[1].as_str()
}

async fn every_object(place: &Place) -> Result<Vec<(weir_core::object::Kind, String)>, Failure> {
    let document = place.ops("/v1/objects").await?;
    let objects = document["objects"].as_array().cloned().unwrap_or_default();
    objects
        .iter()
        .map(|object| {
            let part = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
            parse_object(&format!("{}/{}", part("kind"), part("name")))
        })
        .collect()
}

fn count(items: &[Value], by: By) -> Vec<Value> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for item in items {
        let key = match by {
            By::Reason => item["reason"].as_str().unwrap_or("-").to_owned(),
            By::Status => item["lastStatus"]
                .as_u64()
                .map_or("-".into(), |status| status.to_string()),
            By::Type => header(item, "ce-type").unwrap_or("-").to_owned(),
        };
        *counts.entry(key).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|(key, count)| json!({ "key": key, "count": count }))
        .collect()
}

fn table(document: &Value, now: Timestamp) -> String {
    if let Some(counts) = document["counts"].as_array() {
        let rows: Vec<_> = counts
            .iter()
            .map(|c| vec![cell(&c["key"]), cell(&c["count"])])
            .collect();
        return columns(&["KEY", "COUNT"], &rows);
    }
    let items = document["items"].as_array().cloned().unwrap_or_default();
    if items.is_empty() {
        return "no dead letters".to_owned();
    }
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            let failed: Option<Timestamp> =
                item["failedAt"].as_str().and_then(|text| text.parse().ok());
            vec![
                cell(&item["object"]),
                cell(&item["id"]),
                cell(&item["reason"]),
                cell(&item["attempts"]),
                cell(&item["lastStatus"]),
                failed.map_or("-".into(), |at| age(now.as_second() - at.as_second())),
                cell(&item["message"]),
            ]
        })
        .collect();
    columns(
        &[
            "OBJECT", "ID", "REASON", "ATTEMPTS", "STATUS", "AGE", "MESSAGE",
        ],
        &rows,
    )
}

fn names(document: &Value) -> Vec<String> {
    document["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| cell(&item["id"]))
        .collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

async fn show(arguments: DlqShow) -> Result<(), Failure> {
    let (kind, name) = parse_object(&arguments.object)?;
    let place = Place::find(&arguments.place).await?;
    let id = path_segment(&arguments.id);
    let path = format!("/v1/objects/{}/{name}/dead-letters/{id}", kind.lower());
    let letter = flat(place.ops(&path).await?);
    print(arguments.output, &letter, details, |d| vec![cell(&d["id"])])
}

fn details(letter: &Value) -> String {
    let mut text = String::new();
    for (label, field) in [
        ("Id", "id"),
        ("Reason", "reason"),
        ("Message", "message"),
        ("Attempts", "attempts"),
        ("Last status", "lastStatus"),
        ("Accepted", "acceptedAt"),
        ("Given up", "failedAt"),
        ("Answer", "answer"),
    ] {
        if !letter[field].is_null() && letter[field] != "" {
            let _ = writeln!(text, "{label:12} {}", printable(&cell(&letter[field])));
        }
    }
    if let Some(headers) = letter["headers"].as_array() {
        text += "Headers\n";
        for pair in headers {
            let (name, value) = (cell(&pair[0]), cell(&pair[1]));
            let _ = writeln!(text, "  {}: {}", printable(&name), printable(&value));
        }
    }
    let (body, encoding) = match letter["bodyBase64"].as_str() {
        Some(encoded) => (encoded, " (base64)"),
        None => (letter["body"].as_str().unwrap_or_default(), ""),
    };
    let body: String = body
        .chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect();
    text + &format!("Body{encoding}\n{body}\n")
}
