//! `batch test|lint [BEHAVIOURS]`: a case in every line of the standard input, an answer in every line
//! of the standard output.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use weir_asl::batch;
use weir_asl::simulate::Behaviours;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let form = arguments.next().unwrap_or_default();
    let behaviours = match arguments.next().map(|path| behaviours(&path)).transpose() {
        Ok(behaviours) => behaviours,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let answer = |line: &str| match form.as_str() {
        "test" => Some(batch::test(line, behaviours.as_ref())),
        "lint" => Some(batch::lint(line)),
        _ => None,
    };
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if line.trim().is_empty() {
            continue;
        }
        let Some(answer) = answer(&line) else {
            eprintln!("usage: batch test|lint [BEHAVIOURS]");
            return ExitCode::FAILURE;
        };
        if writeln!(output, "{answer}").is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn behaviours(path: &str) -> Result<Behaviours, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let value = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    Behaviours::from_json(&value).map_err(|error| format!("{path}: {error}"))
}
