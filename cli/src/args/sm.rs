//! `weir sm`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

/// `weir sm`.
#[derive(Debug, Subcommand)]
pub enum StateMachines {
    /// Run a state machine with mocks and a virtual clock: a year's wait takes no time.
    Test(Box<StateMachineTest>),
    /// Check definitions: every problem with its place and what to write instead.
    Lint(StateMachineLint),
}

/// `weir sm test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir sm test -f order.json --input '{\"total\": 12}' --mocks mocks.json
  weir sm test --batch cases.jsonl --functions behaviours.json > answers.jsonl

A mock names a state, a resource or a function, and gives what it returns or how it fails, call after call:
  {\"Charge\": [{\"Throw\": {\"Error\": \"Busy\", \"Cause\": \"try again\"}}, {\"Return\": {\"paid\": true}}]}

A case of --batch is one line of JSON: {\"id\", \"definition\", \"input\", \"type\", \"mocks\"?}. The answer is one
line, in the same order: {\"id\", \"status\", \"output\" or \"error\" and \"cause\", \"events\", \"rejected\"?}.

Exit code 0: the execution succeeded (or every case of the batch was answered), 1: it did not, 2: definition,
input or mocks are invalid.")]
pub struct StateMachineTest {
    /// Definition in Amazon States Language, JSON or YAML; `-` is standard input.
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        required_unless_present = "batch"
    )]
    pub filename: Option<PathBuf>,
    /// Input: JSON, or @FILE [default: {}].
    #[arg(long, value_name = "JSON|@FILE")]
    pub input: Option<String>,
    /// What tasks answer: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    pub mocks: Option<String>,
    /// Run only this state, with the input as its input.
    #[arg(long, value_name = "NAME")]
    pub state: Option<String>,
    /// Run it by the rules of express workflows.
    #[arg(long)]
    pub express: bool,
    /// Seed of what is random: jitter, States.UUID, States.MathRandom.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What the clock says at the start, RFC 3339 [default: 2024-01-01T00:00:00Z].
    #[arg(long, value_name = "TIME")]
    pub start_time: Option<String>,
    /// Answer many cases, one a line; `-` is standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["filename", "input", "mocks", "state", "express", "seed", "start_time"])]
    pub batch: Option<PathBuf>,
    /// Behaviours of the functions that cases list as lambda_functions.
    #[arg(long, value_name = "FILE", requires = "batch")]
    pub functions: Option<PathBuf>,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value_t, conflicts_with = "batch")]
    pub output: Output,
}

/// `weir sm lint`.
#[derive(Debug, Args)]
#[command(after_help = "\
A case of --batch is one line of JSON: {\"id\", \"definition\"}; the answer {\"id\", \"valid\", \"problems\"}.

Exit code 0: nothing wrong (or every case of the batch was answered), 1: problems, 2: could not read.")]
pub struct StateMachineLint {
    /// Definition in Amazon States Language, JSON or YAML; may repeat. `-` is standard input.
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        required_unless_present = "batch"
    )]
    pub filenames: Vec<PathBuf>,
    /// Check it by the rules of express workflows.
    #[arg(long, conflicts_with = "batch")]
    pub express: bool,
    /// Answer many cases, one a line; `-` is standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with = "filenames")]
    pub batch: Option<PathBuf>,
    /// How to print problems.
    #[arg(short, long, value_enum, default_value_t, conflicts_with = "batch")]
    pub output: Output,
}
