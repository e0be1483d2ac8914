//! `weir filter`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use weir_core::pattern::Dialect;

use super::Output;

/// `weir filter`.
#[derive(Debug, Subcommand)]
pub enum Filter {
    /// Try a pattern on an event: no broker, no cluster.
    Test(FilterTest),
}

/// Whose rules a pattern is read by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PatternDialect {
    /// EventBridge, and `filter` of Weir's kinds.
    #[default]
    Eventbridge,
    /// SNS filter policy over message attributes.
    SnsAttributes,
    /// SNS filter policy over the message body.
    SnsBody,
}

impl From<PatternDialect> for Dialect {
    fn from(dialect: PatternDialect) -> Self {
        match dialect {
            PatternDialect::Eventbridge => Self::EventBridge,
            PatternDialect::SnsAttributes => Self::TopicAttributes,
            PatternDialect::SnsBody => Self::TopicBody,
        }
    }
}

/// `weir filter test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir filter test --pattern '{\"source\": [{\"prefix\": \"shop.\"}]}' --event '{\"source\": \"shop.orders\"}'
  weir filter test --pattern @rule.json --event @event.json
  weir filter test --dialect sns-attributes --pattern '{\"price\": [{\"numeric\": [\">\", 10]}]}' \\
      --attributes '{\"price\": {\"DataType\": \"Number\", \"StringValue\": \"12\"}}'
  weir filter test --batch cases.jsonl > answers.jsonl

A case of --batch is one line of JSON: {\"id\", \"event\", \"pattern\"}, or for the dialects of SNS
{\"id\", \"policy\", \"message\", \"attributes\"}. The answer is one line, in the same order:
{\"id\", \"result\": \"match\" | \"no_match\" | \"invalid\", \"message\"?}.

Exit code 0: it matches (or every case of the batch was answered), 1: it does not, 2: pattern or event are
invalid.")]
pub struct FilterTest {
    /// Pattern or filter policy: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE", required_unless_present = "batch")]
    pub pattern: Option<String>,
    /// Event, or body of the message: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    pub event: Option<String>,
    /// Message attributes, for the dialects of SNS: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    pub attributes: Option<String>,
    /// Whose rules the pattern is read by.
    #[arg(long, value_enum, default_value_t)]
    pub dialect: PatternDialect,
    /// Answer many cases, one a line; `-` is standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["pattern", "event", "attributes"])]
    pub batch: Option<PathBuf>,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value_t, conflicts_with = "batch")]
    pub output: Output,
}
