//! `weir lint`: what the API server and the operator would say, without either.

use serde_json::{Value, json};
use weir_crds::lint::Severity;

use crate::args::{Lint, Output};
use crate::failure::Failure;
use crate::files;
use crate::local::world::Manifests;
use crate::output::{columns, print};

/// Prints problems; fails when there is an error.
pub fn lint(arguments: &Lint) -> Result<(), Failure> {
    let files = files::read(&arguments.filenames)?;
    let manifests = Manifests::read(&files);
    let errors = manifests
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .count();
    let document = json!({ "problems": manifests.problems, "objects": manifests.objects.len() });
    print(arguments.output, &document, table, names)?;
    let (seen, objects) = (files.len(), manifests.objects.len());
    if errors > 0 {
        return Err(Failure::new(format!("{errors} errors in {seen} files")));
    }
    if objects == 0 {
        return Err(
            Failure::new(format!("{seen} files hold no object of weir.dev"))
                .next("is it the right folder? see examples/ for manifests"),
        );
    }
    if arguments.output == Output::Table {
        eprintln!("{objects} objects in {seen} files: nothing wrong");
    }
    Ok(())
}

fn table(document: &Value) -> String {
    let rows: Vec<_> = document["problems"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|problem| {
            let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
            let line = problem["line"]
                .as_u64()
                .map_or_else(String::new, |line| format!(":{line}"));
            let at = if text("path").is_empty() {
                String::new()
            } else {
                format!("{}: ", text("path"))
            };
            vec![
                format!("{}{line}", text("file")),
                text("object"),
                text("severity"),
                format!("{at}{}", text("message")),
            ]
        })
        .collect();
    if rows.is_empty() {
        String::new()
    } else {
        columns(&["WHERE", "OBJECT", "SEVERITY", "PROBLEM"], &rows)
    }
}

fn names(document: &Value) -> Vec<String> {
    let problems = document["problems"].as_array();
    problems
        .into_iter()
        .flatten()
        .map(|problem| problem["object"].as_str().unwrap_or_default().to_owned())
        .collect()
}
