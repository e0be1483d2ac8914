//! `weir sm`: state machines tried and checked on this machine.

use std::path::Path;

use serde_json::{Map, Value, json};
use weir_asl::batch;
use weir_asl::simulate::Behaviours;

use crate::args::sm::{StateMachineLint, StateMachineTest, StateMachines};
use crate::batch::answer_lines;
use crate::failure::Failure;
use crate::files;
use crate::output::{columns, print};

/// Runs a command about state machines.
pub fn sm(command: &StateMachines) -> Result<(), Failure> {
    match command {
        StateMachines::Test(arguments) => test(arguments),
        StateMachines::Lint(arguments) => lint(arguments),
    }
}

fn test(arguments: &StateMachineTest) -> Result<(), Failure> {
    if let Some(from) = &arguments.batch {
        let behaviours = arguments.functions.as_deref().map(behaviours).transpose()?;
        return answer_lines(from, |line| {
            batch::test(&String::from_utf8_lossy(line), behaviours.as_ref())
        });
    }
    let filename = arguments.filename.as_deref().unwrap_or(Path::new("-"));
    let mut case = Map::new();
    case.insert("definition".to_owned(), definition(filename)?);
    case.insert("type".to_owned(), workflow(arguments.express).into());
    for (field, given) in [("input", &arguments.input), ("mocks", &arguments.mocks)] {
        if let Some(given) = given {
            case.insert(field.to_owned(), json_value(field, given)?);
        }
    }
    if let Some(state) = &arguments.state {
        case.insert("state".to_owned(), state.as_str().into());
    }
    let mut options = json!({ "seed": arguments.seed });
    if let Some(time) = &arguments.start_time {
        options["startTime"] = time.as_str().into();
    }
    case.insert("options".to_owned(), options);
    let answer = ask(&Value::Object(case), |line| batch::test(line, None))?;
    print(arguments.output, &answer, show_execution, |document| {
        vec![document["status"].as_str().unwrap_or_default().to_owned()]
    })?;
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        eprintln!("warning: {}", warning.as_str().unwrap_or_default());
    }
    match answer["status"].as_str() {
        Some("SUCCEEDED") => Ok(()),
        Some("REJECTED") => {
            let message = &answer["rejected"]["message"];
            Err(Failure::usage(message.as_str().unwrap_or_default())
                .next("`weir sm lint` lists every problem with its place"))
        }
        _ => Err(Failure::silent(1)),
    }
}

fn lint(arguments: &StateMachineLint) -> Result<(), Failure> {
    if let Some(from) = &arguments.batch {
        return answer_lines(from, |line| batch::lint(&String::from_utf8_lossy(line)));
    }
    let mut problems = Vec::new();
    for file in &arguments.filenames {
        let case = json!({
            "definition": definition(file)?,
            "type": workflow(arguments.express),
        });
        let answer = ask(&case, batch::lint)?;
        for problem in answer["problems"].as_array().into_iter().flatten() {
            let mut problem = problem.clone();
            problem["file"] = file.display().to_string().into();
            problems.push(problem);
        }
    }
    let (count, files) = (problems.len(), arguments.filenames.len());
    print(
        arguments.output,
        &json!({ "problems": problems }),
        show_problems,
        |document| {
            let problems = document["problems"].as_array();
            problems
                .into_iter()
                .flatten()
                .map(|problem| problem["path"].as_str().unwrap_or_default().to_owned())
                .collect()
        },
    )?;
    if count > 0 {
        return Err(Failure::new(format!("{count} problems in {files} files")));
    }
    eprintln!("{files} files: nothing wrong");
    Ok(())
}

/// One case through the form that batches have.
fn ask(case: &Value, answer: impl FnOnce(&str) -> String) -> Result<Value, Failure> {
    let mut answer: Value =
        serde_json::from_str(&answer(&case.to_string())).map_err(Failure::other)?;
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("id");
        if !fields.contains_key("status")
            && let Some(error) = fields.get("error").and_then(Value::as_str)
        {
            return Err(Failure::usage(error));
        }
    }
    Ok(answer)
}

fn workflow(express: bool) -> &'static str {
    if express { "EXPRESS" } else { "STANDARD" }
}

fn behaviours(file: &Path) -> Result<Behaviours, Failure> {
    let text = files::text(file)?;
    let document: Value = serde_json::from_str(&text)
        .map_err(|why| Failure::usage(format!("{}: {why}", file.display())))?;
    Behaviours::from_json(&document)
        .map_err(|why| Failure::usage(format!("{}: {why}", file.display())))
}

/// A definition: JSON as its text, so that places in it are right; YAML as what it means.
fn definition(file: &Path) -> Result<Value, Failure> {
    let text = files::text(file)?;
    let yaml = file
        .extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml");
    if yaml {
        return serde_saphyr::from_str(&text)
            .map_err(|why| Failure::usage(format!("{}: {why}", file.display())));
    }
    Ok(text.into())
}

fn json_value(field: &str, given: &str) -> Result<Value, Failure> {
    serde_json::from_str(&files::value(given)?)
        .map_err(|why| Failure::usage(format!("--{field} is not JSON: {why}")))
}

fn show_execution(document: &Value) -> String {
    let mut rows = vec![vec!["status".to_owned(), plain(&document["status"])]];
    for field in ["output", "next", "error", "cause"] {
        if let Some(value) = document.get(field) {
            rows.push(vec![field.to_owned(), plain(value)]);
        }
    }
    let events: Vec<String> = document["events"]
        .as_array()
        .into_iter()
        .flatten()
        .map(plain)
        .collect();
    for (number, event) in events.iter().enumerate() {
        let name = if number == 0 { "events" } else { "" };
        rows.push(vec![name.to_owned(), event.clone()]);
    }
    columns(&["", ""], &rows).trim_start().to_owned()
}

fn show_problems(document: &Value) -> String {
    let rows: Vec<_> = document["problems"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|problem| {
            ["file", "path", "code", "message"]
                .map(|field| plain(&problem[field]))
                .to_vec()
        })
        .collect();
    if rows.is_empty() {
        String::new()
    } else {
        columns(&["FILE", "PATH", "CODE", "PROBLEM"], &rows)
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
