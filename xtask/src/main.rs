//! Generators of what is written from the code, so that it cannot differ from it.
//!
//! `cargo run -p xtask -- generate` writes; with `--check` it writes nothing, prints which files
//! differ, and ends with 1 if any does. A generator is a module with a function `files`, listed in
//! [`GENERATORS`].

mod conditions;
mod crds;
mod fields;
mod fixtures;
mod output;
mod transports;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::Output;

/// A generator: what its files are for, and the files.
type Generator = (&'static str, fn(&Path) -> Result<Output, String>);

const GENERATORS: [Generator; 5] = [
    ("custom resource definitions for the chart", crds::files),
    ("reference of all fields", fields::files),
    ("reference of conditions and events", |_| {
        Ok(conditions::files())
    }),
    ("guarantees and transports", |_| Ok(transports::files())),
    ("fixtures that break one bound each", fixtures::files),
];

#[derive(Parser)]
#[command(about = "Generates what is written from the code")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write all generated files
    Generate {
        /// Write nothing; say which files differ, and fail if any does
        #[arg(long)]
        check: bool,
        /// Root of the repository
        #[arg(long, default_value_os_t = root())]
        root: PathBuf,
    },
}

fn main() -> ExitCode {
    let Command::Generate { check, root } = Arguments::parse().command;
    match generate(&root, check) {
        Ok(differing) if check && differing > 0 => {
            eprintln!("{differing} files differ: run `cargo run -p xtask -- generate`");
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn generate(root: &Path, check: bool) -> Result<usize, String> {
    let mut differing = 0;
    for (what, files) in GENERATORS {
        let output = files(root).map_err(|error| format!("{what}: {error}"))?;
        differing += output.apply(root, check)?;
    }
    Ok(differing)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_are_as_the_code_makes_them() {
        assert_eq!(
            generate(&root(), true),
            Ok(0),
            "run `cargo run -p xtask -- generate`"
        );
    }
}
