//! Fixtures that break one bound each: `crds/fixtures/rejected/`, files that carry a mark.
//!
//! A bound is broken in the smallest object that has the field: the kind's `minimal` fixture with
//! what is needed of an `every-field-set` one. Each result is judged before it is written; one that
//! breaks anything else as well is an error, unless a rule makes it so, and then both are expected.
//! A bound of a block that several kinds share has one fixture, for the first kind that has it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use serde_json::Value;
use weir_crds::lint::Linter;

use crate::output::Output;

mod bases;
mod change;
mod limits;

use bases::{Bases, select, steps};
use change::broken;

const FIXTURES: &str = "crds/fixtures";
const MARK: &str = "# bound: made by `cargo run -p xtask -- generate`";
/// Kinds in the order in which shared blocks are looked for.
const KINDS: [&str; 4] = ["QueueConsumer", "Webhook", "FifoConsumer", "MessageBus"];

/// One file a bound.
pub fn files(root: &Path) -> Result<Output, String> {
    let linter = Linter::new();
    let mut output = Output::default();
    output.own(format!("{FIXTURES}/rejected"), MARK);
    output.own(format!("{FIXTURES}/accepted"), MARK);
    let mut done = BTreeSet::new();
    for kind in KINDS {
        let schema = schema_of(kind)?;
        let bases = Bases::read(root, kind)?;
        let mut bounds = Vec::new();
        collect(&schema["properties"]["spec"], "spec", &mut bounds);
        for bound in bounds {
            if done.insert((bound.path.clone(), bound.suffix)) {
                let name = format!(
                    "{}-{}-{}",
                    kind.to_lowercase(),
                    kebab(&bound.path),
                    bound.suffix
                );
                let text =
                    fixture(&linter, &bases, &bound).map_err(|why| format!("{name}: {why}"))?;
                output.add(format!("{FIXTURES}/rejected/{name}.yaml"), text);
            }
        }
        for (name, mut value) in limits::of(&linter, &bases, &schema)? {
            value.sort_all_objects();
            let name = format!("{}-{name}", kind.to_lowercase());
            let text = serde_saphyr::to_string(&value).map_err(|error| error.to_string())?;
            output.add(
                format!("{FIXTURES}/accepted/{name}.yaml"),
                format!("{MARK}\n{text}"),
            );
        }
    }
    Ok(output)
}

fn schema_of(kind: &str) -> Result<Value, String> {
    let crd = weir_crds::all_crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind);
    let crd = crd.ok_or_else(|| format!("no kind {kind}"))?;
    let schema = crd
        .spec
        .versions
        .into_iter()
        .next()
        .and_then(|version| version.schema);
    let mut schema = serde_json::to_value(schema.and_then(|schema| schema.open_api_v3_schema))
        .map_err(|error| error.to_string())?;
    crate::crds::whole_numbers(&mut schema);
    schema.sort_all_objects();
    Ok(schema)
}

/// A bound of a field: where it is, what to do to a value to break it, what is said then.
struct Bound {
    path: String,
    suffix: &'static str,
    schema: Value,
    expect: String,
}

fn collect(schema: &Value, path: &str, bounds: &mut Vec<Bound>) {
    let mut add = |suffix, expect: String| {
        bounds.push(Bound {
            path: path.into(),
            suffix,
            schema: schema.clone(),
            expect,
        });
    };
    let limit = |keyword: &str| schema[keyword].as_i64();
    if let Some(limit) = limit("minimum") {
        add(
            "below-its-minimum",
            format!("should be greater than or equal to {limit}"),
        );
    }
    if let Some(limit) = limit("maximum") {
        add(
            "above-its-maximum",
            format!("should be less than or equal to {limit}"),
        );
    }
    if let Some(limit) = limit("maxLength") {
        add(
            "too-long",
            format!("Too long: may not be more than {limit} bytes"),
        );
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        add("malformed", format!("should match '{pattern}'"));
    }
    if schema["enum"].is_array() {
        add("not-of-the-list", "Unsupported value: \"Nonsense\"".into());
    }
    if let Some(limit) = limit("minItems") {
        add(
            "without-entries",
            format!("should have at least {limit} items"),
        );
    }
    if let Some(limit) = limit("maxItems").or(limit("maxProperties")) {
        let many = limit + 1;
        add(
            "with-too-many-entries",
            format!("Too many: {many}: must have at most {limit} items"),
        );
    }
    if matches!(
        schema["x-kubernetes-list-type"].as_str(),
        Some("set" | "map")
    ) {
        add("with-an-entry-twice", "Duplicate value".into());
    }
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        bounds.push(Bound {
            path: format!("{path}.{name}"),
            suffix: "missing",
            schema: Value::Null,
            expect: "Required value".into(),
        });
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        collect(child, &format!("{path}.{name}"), bounds);
    }
    if schema["items"].is_object() {
        collect(&schema["items"], &format!("{path}[]"), bounds);
    }
    if schema["additionalProperties"].is_object() {
        collect(
            &schema["additionalProperties"],
            &format!("{path}{{}}"),
            bounds,
        );
    }
}

/// `spec.handler.envFrom[].prefix` is `handler-env-from-entry-prefix`.
fn kebab(path: &str) -> String {
    let path = path
        .trim_start_matches("spec.")
        .replace("[]", ".entry")
        .replace("{}", ".value");
    path.chars().fold(String::new(), |mut text, letter| {
        match letter {
            '.' => text.push('-'),
            _ if letter.is_ascii_uppercase() => {
                text.push('-');
                text.push(letter.to_ascii_lowercase());
            }
            _ => text.push(letter),
        }
        text
    })
}

/// The text of the fixture that breaks `bound`.
fn fixture(linter: &Linter, bases: &Bases, bound: &Bound) -> Result<String, String> {
    let steps = steps(&bound.path);
    let mut best: Option<(usize, Value, Vec<String>, String)> = None;
    for base in bases.with(&steps) {
        if !linter.judge(&base).is_empty() {
            continue;
        }
        for pointer in select(&base, &steps) {
            for broken in broken(&base, &pointer, bound) {
                let problems = linter.judge(&broken);
                let said = |text: &str| text.contains(&bound.expect);
                let Some(first) = problems.iter().find(|problem| said(&problem.message)) else {
                    continue;
                };
                let path = first.path.clone();
                let others = problems.iter().filter(|problem| !said(&problem.message));
                let others: Vec<String> = others.map(|problem| problem.message.clone()).collect();
                if best
                    .as_ref()
                    .is_none_or(|(count, ..)| problems.len() < *count)
                {
                    best = Some((problems.len(), broken, others, path));
                }
            }
        }
        if best.as_ref().is_some_and(|(count, ..)| *count == 1) {
            break;
        }
    }
    let (count, mut value, others, path) = best.ok_or("no object breaks it")?;
    if count > 2 {
        return Err(format!("{count} problems at once: {others:?}"));
    }
    value.sort_all_objects();
    let mut text = format!("# expect: {}\n", bound.expect);
    for other in others {
        // Hints are ours, not the server's.
        let other = other.split(": supported values").next().unwrap_or_default();
        let _ = writeln!(text, "# expect: {other}");
    }
    let _ = writeln!(text, "# path: {path}\n{MARK}");
    Ok(text + &serde_saphyr::to_string(&value).map_err(|error| error.to_string())?)
}
