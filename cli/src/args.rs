//! The command line. Help texts are for somebody who sees Weir for the first time.

#![allow(clippy::doc_markdown, reason = "these comments are help texts")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Serverless patterns without a cloud: webhooks, queues, retries and dead letters.
///
/// The same manifests run on this machine (`weir run`) and in a cluster (`kubectl apply`). Commands that look at
/// a running object talk to `weir run` on this machine, or to a cluster when one is named with
/// --context, --kubeconfig or -n, and always when called as `kubectl weir`.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run manifests on this machine: no cluster, no Docker, no account.
    Run(Run),
    /// Send one message and print its id.
    Send(Send),
    /// Look at dead letters: messages that were given up, kept whole with the reason.
    #[command(subcommand)]
    Dlq(Dlq),
    /// Check manifests without a cluster: schema, rules, references.
    Lint(Lint),
    /// Print versions: this program, and the runtime it can reach.
    Version(Version),
    /// Print a completion script for a shell.
    ///
    /// bash: `source <(weir completion bash)`; zsh and fish: save it where the shell looks for completions.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// The same as YAML.
    Yaml,
    /// Only names or ids, one a line.
    Name,
}

/// Which runtime a command talks to.
#[derive(Clone, Debug, Default, Args)]
pub struct Where {
    /// Operations address of a `weir run` on this machine [default: http://127.0.0.1:9401].
    #[arg(long, value_name = "URL", env = "WEIR_OPS", help_heading = "Where")]
    pub ops: Option<String>,
    /// Namespace in the cluster.
    #[arg(short, long, help_heading = "Where")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig.
    #[arg(long, help_heading = "Where")]
    pub context: Option<String>,
    /// Path of a kubeconfig.
    #[arg(long, value_name = "FILE", help_heading = "Where")]
    pub kubeconfig: Option<PathBuf>,
}

/// `weir run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir run -f examples/scalable-webhook
  weir run -f webhook.yaml -- python3 handler.py        one handler for the one object
  weir run -f shop/ --handler stripe=http://127.0.0.1:3000 --handler rows=http://127.0.0.1:3001

A handler is, in this order: what --handler names; the command after --; the annotation weir.dev/run of the
object. A command gets its port in the environment variable PORT and is started again when it ends.
Messages are kept in memory and lost at the end; with --nats URL they live in a NATS server.")]
pub struct Run {
    /// Manifest file or folder (its *.yaml and *.yml); may repeat. `-` is standard input.
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR")]
    pub filenames: Vec<PathBuf>,
    /// Handler of an object: NAME=URL; may repeat.
    #[arg(long = "handler", value_name = "NAME=URL")]
    pub handlers: Vec<String>,
    /// Keep messages in this NATS server (2.12 or newer) instead of memory.
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    /// Address that takes messages.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9400")]
    pub listen: SocketAddr,
    /// Address for `weir send`, `weir dlq` and the metrics; keep it on loopback.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9401")]
    pub ops: SocketAddr,
    /// Log what the runtime does, not only what goes wrong.
    #[arg(short, long)]
    pub verbose: bool,
    /// Command that handles messages.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `weir send`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir send queueconsumer/ledger-rows -d '{\"amount\": 5}'
  weir send webhook/payments -f event.json --sign-with whsec_...
  weir send qc/ledger-rows -n shop -d '{}' --header idempotency-key=row-7
  weir send fifo/transfers --group acc-7 -d '{\"amount\": 5}'")]
pub struct Send {
    /// KIND/NAME, such as webhook/payments.
    pub object: String,
    /// Body.
    #[arg(short, long, conflicts_with = "file")]
    pub data: Option<String>,
    /// File that holds the body; `-` is standard input.
    #[arg(short, long)]
    pub file: Option<PathBuf>,
    /// Request header name=value; may repeat.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// Content type of the body [default: application/json where the body is JSON].
    #[arg(long)]
    pub content_type: Option<String>,
    /// Deliver it not before so many seconds (queues).
    #[arg(long, value_name = "SECONDS")]
    pub delay: Option<u32>,
    /// Its group: messages of one group are handled in order (FifoConsumer).
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Sign with this key, by the scheme of --scheme. `env:NAME` and `file:PATH` keep it off the command line.
    #[arg(long, value_name = "KEY")]
    pub sign_with: Option<String>,
    /// Signature scheme.
    #[arg(long, default_value = "StandardWebhooks")]
    pub scheme: String,
    /// Header of the signature, for the scheme HmacSha256.
    #[arg(long, value_name = "NAME")]
    pub signature_header: Option<String>,
    /// Header of the time, for the scheme HmacSha256 with `payload: TimestampDotBody`.
    #[arg(long, value_name = "NAME", requires = "signature_header")]
    pub timestamp_header: Option<String>,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}

/// `weir dlq`.
#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// List dead letters, oldest first.
    List(DlqList),
    /// Show one dead letter: why it was given up, its headers and its body.
    Show(DlqShow),
}

/// How dead letters are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Why they were given up.
    Reason,
    /// Last HTTP status.
    Status,
    /// CloudEvents type.
    Type,
}

/// `weir dlq list`.
#[derive(Debug, Args)]
pub struct DlqList {
    /// KIND/NAME, such as webhook/payments; all objects without it.
    pub object: Option<String>,
    /// Count them instead.
    #[arg(long, value_enum)]
    pub by: Option<By>,
    /// Most that are listed.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}

/// `weir dlq show`.
#[derive(Debug, Args)]
pub struct DlqShow {
    /// KIND/NAME, such as webhook/payments.
    pub object: String,
    /// Id of the message, from `weir dlq list`.
    pub id: String,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}

/// `weir lint`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0: nothing wrong, 1: problems, 2: could not read.")]
pub struct Lint {
    /// Manifest file or folder; may repeat. `-` is standard input.
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR")]
    pub filenames: Vec<PathBuf>,
    /// How to print problems.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `weir version`.
#[derive(Debug, Args)]
pub struct Version {
    /// Only this program: do not look for a runtime.
    #[arg(long)]
    pub client: bool,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}
