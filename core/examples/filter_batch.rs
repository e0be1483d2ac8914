//! Tries patterns on events from the shell: JSON lines in, JSON lines out.
//!
//! ```sh
//! echo '{"id": 1, "event": {"a": 1}, "pattern": {"a": [1]}}' | cargo run -q -p weir-core --example filter_batch -- eventbridge
//! ```

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use weir_core::pattern::{Dialect, batch};

fn main() -> ExitCode {
    let dialect = match std::env::args().nth(1).as_deref() {
        None | Some("eventbridge") => Dialect::EventBridge,
        Some("sns-attributes") => Dialect::TopicAttributes,
        Some("sns-body") => Dialect::TopicBody,
        Some(other) => {
            eprintln!("unknown dialect {other}: write eventbridge, sns-attributes or sns-body");
            return ExitCode::from(2);
        }
    };
    match answer_all(dialect) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn answer_all(dialect: Dialect) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().split(b'\n') {
        let line = line?;
        if !line.trim_ascii().is_empty() {
            writeln!(out, "{}", batch::answer(&line, dialect))?;
        }
    }
    out.flush()
}
