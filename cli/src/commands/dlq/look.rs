//! `weir dlq list`, `peek` and `show`. None of them changes anything.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};
use weir_broker::{Clock as _, SystemClock};
use weir_core::object::Kind;
use weir_core::ops::{Letter, Page, Summary};

use super::{cell, objects};
use crate::args::{By, DlqList, DlqPeek, DlqShow};
use crate::failure::Failure;
use crate::output::{age, columns, print, printable};
use crate::place::{Place, parse_object, path_segment};

/// Letters asked for at once.
const PAGE: usize = 200;
/// Bytes of a body that `peek` shows.
const PEEKED: usize = 400;

/// `weir dlq list`.
pub async fn list(arguments: DlqList) -> Result<(), Failure> {
    arguments.which.check()?;
    let place = Place::find(&arguments.place).await?;
    let objects = objects(&place, arguments.object.as_deref()).await?;
    let now = SystemClock.now();
    if let Some(by) = arguments.by {
        let summary = count(&place, &objects, by, &arguments.which.parameter()).await?;
        let document = serde_json::to_value(&summary).map_err(Failure::other)?;
        let document = json!({ "counts": document["counts"] });
        let head = by_name(by).to_uppercase();
        return print(arguments.output, &document, |d| counts(d, &head, now), keys);
    }
    let (mut items, mut more) = (Vec::new(), false);
    for (kind, name) in objects {
        let parameter = arguments.which.parameter();
        let left = arguments.limit - items.len();
        let (letters, is_more) = letters(&place, kind, &name, left, &parameter).await?;
        more |= is_more;
        items.extend(letters.into_iter().map(|letter| {
            let mut item = flat(&letter);
            item["object"] = json!(format!("{}/{name}", kind.lower()));
            item
        }));
    }
    let document = json!({ "items": items });
    print(arguments.output, &document, |d| table(d, now), names)?;
    if more {
        eprintln!(
            "more than {} dead letters; see the rest with --limit, or count them with --by reason",
            arguments.limit
        );
    }
    Ok(())
}

/// The first letters of an object, and whether there are more.
async fn letters(
    place: &Place,
    kind: Kind,
    name: &str,
    limit: usize,
    parameter: &str,
) -> Result<(Vec<Letter>, bool), Failure> {
    let mut found: Vec<Letter> = Vec::new();
    let mut after: Option<u64> = None;
    while found.len() < limit {
        let most = PAGE.min(limit - found.len());
        let from = after.map_or_else(String::new, |after| format!("&after={after}"));
        let what = format!("/dead-letters?limit={most}{from}{parameter}");
        let page: Page<Letter> = place.ops(&place.path(kind, name, &what)).await?;
        found.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok((found, false));
        }
    }
    // With nothing asked for there may be some all the same.
    Ok((found, true))
}

async fn count(
    place: &Place,
    objects: &[(Kind, String)],
    by: By,
    parameter: &str,
) -> Result<Summary, Failure> {
    let mut all = Summary::default();
    for (kind, name) in objects {
        let mut after: Option<u64> = None;
        loop {
            let from = after.map_or_else(String::new, |after| format!("&after={after}"));
            let what = format!("/summary?by={}{from}{parameter}", by_name(by));
            let part: Summary = place.ops(&place.path(*kind, name, &what)).await?;
            after = part.next;
            all.extend(part);
            if after.is_none() {
                break;
            }
        }
    }
    all.sort();
    Ok(all)
}

fn by_name(by: By) -> &'static str {
    match by {
        By::Reason => "reason",
        By::Status => "status",
        By::Type => "type",
    }
}

/// The letter with what is known of the failure beside the message, as people look for it.
fn flat(letter: &Letter) -> Value {
    let mut item = serde_json::to_value(letter).unwrap_or_default();
    if let Some(Value::Object(failure)) = item.get_mut("failure").map(Value::take)
        && let Some(fields) = item.as_object_mut()
    {
        fields.remove("failure");
        fields.extend(failure);
    }
    item
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(|text| text.parse().ok())
}

fn since(value: &Value, now: Timestamp) -> String {
    time(value).map_or("-".into(), |at| age(now.as_second() - at.as_second()))
}

fn counts(document: &Value, head: &str, now: Timestamp) -> String {
    let counts = document["counts"].as_array().cloned().unwrap_or_default();
    if counts.is_empty() {
        return "no dead letters".to_owned();
    }
    let rows: Vec<_> = counts
        .iter()
        .map(|count| {
            vec![
                cell(&count["key"]),
                cell(&count["count"]),
                since(&count["oldest"], now),
                since(&count["newest"], now),
            ]
        })
        .collect();
    columns(&[head, "COUNT", "OLDEST", "NEWEST"], &rows)
}

fn keys(document: &Value) -> Vec<String> {
    let counts = document["counts"].as_array().into_iter().flatten();
    counts.map(|count| cell(&count["key"])).collect()
}

fn table(document: &Value, now: Timestamp) -> String {
    let items = document["items"].as_array().cloned().unwrap_or_default();
    if items.is_empty() {
        return "no dead letters".to_owned();
    }
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            vec![
                cell(&item["object"]),
                cell(&item["id"]),
                cell(&item["reason"]),
                cell(&item["attempts"]),
                cell(&item["lastStatus"]),
                since(&item["failedAt"], now),
                cell(&item["message"]),
            ]
        })
        .collect();
    let heads = [
        "OBJECT", "ID", "REASON", "ATTEMPTS", "STATUS", "AGE", "MESSAGE",
    ];
    columns(&heads, &rows)
}

fn names(document: &Value) -> Vec<String> {
    let items = document["items"].as_array().into_iter().flatten();
    items.map(|item| cell(&item["id"])).collect()
}

/// `weir dlq peek`.
pub async fn peek(arguments: DlqPeek) -> Result<(), Failure> {
    arguments.which.check()?;
    let (kind, name) = parse_object(&arguments.object)?;
    let place = Place::find(&arguments.place).await?;
    let parameter = arguments.which.parameter();
    let (letters, _) = letters(&place, kind, &name, arguments.limit, &parameter).await?;
    let items: Vec<Value> = letters.iter().map(flat).collect();
    let document = json!({ "items": items });
    let now = SystemClock.now();
    print(arguments.output, &document, |d| glance(d, now), names)
}

fn glance(document: &Value, now: Timestamp) -> String {
    let items = document["items"].as_array().cloned().unwrap_or_default();
    if items.is_empty() {
        return "no dead letters".to_owned();
    }
    let mut text = String::new();
    for item in items {
        let (id, message) = (cell(&item["id"]), cell(&item["message"]));
        let age = since(&item["failedAt"], now);
        let _ = writeln!(
            text,
            "{}  {}  {age}  {}",
            printable(&id),
            printable(&cell(&item["reason"])),
            printable(&message)
        );
        let body = body(&item);
        let shown = &body[..body.floor_char_boundary(PEEKED)];
        let more = if shown.len() < body.len() { " ..." } else { "" };
        for line in shown.lines() {
            let _ = writeln!(text, "    {line}");
        }
        if !more.is_empty() {
            let _ = writeln!(text, "   {more} ({} bytes; weir dlq show {id})", body.len());
        }
    }
    text
}

/// `weir dlq show`.
pub async fn show(arguments: DlqShow) -> Result<(), Failure> {
    let place = Place::find(&arguments.place).await?;
    let (object, id) = match arguments.what.as_slice() {
        [object, id] => (Some(object.as_str()), id),
        [id] => (None, id),
        _ => return Err(Failure::usage("write [KIND/NAME] ID")),
    };
    let letter = find(&place, object, id).await?;
    print(arguments.output, &flat(&letter), details, |d| {
        vec![cell(&d["id"])]
    })
}

/// The dead letter of a message, of one object or of whichever has it.
pub async fn find(place: &Place, object: Option<&str>, id: &str) -> Result<Letter, Failure> {
    let what = format!("/dead-letters/{}", path_segment(id));
    let mut last = None;
    for (kind, name) in objects(place, object).await? {
        match place.ops(&place.path(kind, &name, &what)).await {
            Ok(letter) => return Ok(letter),
            Err(why) => last = Some(why),
        }
    }
    let why = last.unwrap_or_else(|| Failure::new("404: there is no object"));
    Err(why.next("see the ids: weir dlq list"))
}

fn details(letter: &Value) -> String {
    let mut text = String::new();
    for (label, field) in [
        ("Id", "id"),
        ("Group", "group"),
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
    let encoding = if letter["bodyBase64"].is_string() {
        " (base64)"
    } else {
        ""
    };
    text + &format!("Body{encoding}\n{}\n", body(letter))
}

/// The body as text that cannot drive the terminal.
fn body(letter: &Value) -> String {
    let encoded = letter["bodyBase64"].as_str();
    let body = encoded.or(letter["body"].as_str()).unwrap_or_default();
    let harmless = |c: char| {
        if c.is_control() && c != '\n' && c != '\t' {
            '\u{fffd}'
        } else {
            c
        }
    };
    body.chars().map(harmless).collect()
}
