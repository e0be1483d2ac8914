//! The command line. Help texts are for somebody who sees Weir for the first time.

#![allow(clippy::doc_markdown, reason = "these comments are help texts")]

pub mod filter;
pub mod sm;

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
    /// Look at dead letters, move them, throw them away: messages that were given up, kept whole with the reason.
    #[command(subcommand)]
    Dlq(Dlq),
    /// Look at the groups of an ordered queue, and let those go on that wait for you.
    #[command(subcommand)]
    Groups(Groups),
    /// Check manifests without a cluster: schema, rules, references.
    Lint(Lint),
    /// Try event patterns and filter policies on events.
    #[command(subcommand)]
    Filter(filter::Filter),
    /// Try and check state machines (Amazon States Language).
    #[command(subcommand)]
    Sm(sm::StateMachines),
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
    /// Service of the operator, which answers for queues in a cluster.
    #[arg(
        long,
        value_name = "NAMESPACE/SERVICE",
        env = "WEIR_OPERATOR",
        default_value = "weir-system/weir-ops",
        help_heading = "Where"
    )]
    pub operator: String,
    /// Use the rights of this service account of the namespace, for a kubeconfig without a token.
    #[arg(long, value_name = "NAME", help_heading = "Where")]
    pub service_account: Option<String>,
    /// Use the rights of the token in this file (`-`: standard input).
    #[arg(
        long,
        value_name = "FILE",
        env = "WEIR_TOKEN_FILE",
        conflicts_with = "service_account",
        help_heading = "Where"
    )]
    pub token_file: Option<PathBuf>,
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
Messages are kept in memory and lost at the end; with --nats URL they live in a NATS server, with
--rabbitmq FILE in RabbitMQ.")]
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
    /// Keep messages in RabbitMQ (4.0 or newer) instead: a file that holds its URI, such as
    /// `amqp://user:password@127.0.0.1:5672/%2F`. Beside it --nats is where identities are remembered.
    #[arg(long, value_name = "FILE")]
    pub rabbitmq: Option<PathBuf>,
    /// Its management API, where that is not port 15672 (15671 for amqps) of the URI's host.
    #[arg(long, value_name = "URL", requires = "rabbitmq")]
    pub rabbitmq_management: Option<String>,
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

/// `weir groups`.
#[derive(Debug, Subcommand)]
pub enum Groups {
    /// Count groups, and list those that were blocked or given up as a whole.
    List(GroupsList),
    /// Let a held group go on: a blocked one with the message that failed, another with what comes next.
    Release(GroupOf),
    /// Put the dead letters of a group back in front of it, in their order, and let it go on.
    Redrive(GroupOf),
}

/// `weir groups list`.
#[derive(Debug, Args)]
pub struct GroupsList {
    /// KIND/NAME, such as fifoconsumer/transfers.
    pub object: String,
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}

/// `weir groups release` and `redrive`.
#[derive(Debug, Args)]
pub struct GroupOf {
    /// KIND/NAME, such as fifoconsumer/transfers.
    pub object: String,
    /// The group; '' is that of messages without one.
    pub group: String,
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
    /// List dead letters, oldest first, or count them.
    List(DlqList),
    /// Look at the oldest dead letters with their bodies.
    Peek(DlqPeek),
    /// Show one dead letter: why it was given up, its headers and its body.
    Show(DlqShow),
    /// Publish dead letters again: with their ids, in order, each once.
    Redrive(DlqRedrive),
    /// Say how far a redrive is.
    RedriveStatus(DlqStatus),
    /// End a redrive. What it has published stays published.
    RedriveCancel(DlqCancel),
    /// Throw dead letters away.
    Purge(DlqPurge),
    /// Write dead letters to a file, one JSON document a line.
    Export(DlqExport),
    /// Store dead letters from a file that `export` wrote. What is there is not stored twice.
    Import(DlqImport),
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

/// Which dead letters.
#[derive(Clone, Debug, Default, Args)]
pub struct Which {
    /// Only what matches: key=value, joined by commas. Keys: reason, status (500, 5xx, -), type
    /// (com.example.*), id, failedAfter, failedBefore (2026-01-31T12:00:00Z).
    #[arg(long = "where", value_name = "FILTER")]
    pub filter: Option<String>,
}

/// `weir dlq list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dlq list
  weir dlq list webhook/payments --by reason
  weir dlq list webhook/payments --where 'status=5xx,failedAfter=2026-01-31'")]
pub struct DlqList {
    /// KIND/NAME, such as webhook/payments; all objects without it.
    pub object: Option<String>,
    /// Count them instead.
    #[arg(long, value_enum)]
    pub by: Option<By>,
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
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

/// `weir dlq peek`.
#[derive(Debug, Args)]
pub struct DlqPeek {
    /// KIND/NAME, such as webhook/payments.
    pub object: String,
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// How many.
    #[arg(long, default_value_t = 10)]
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
    /// KIND/NAME, such as webhook/payments. Without it every object is searched.
    #[arg(value_name = "[KIND/NAME] ID", num_args = 1..=2, required = true)]
    pub what: Vec<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}

/// `weir dlq redrive`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dlq redrive webhook/payments --dry-run
  weir dlq redrive webhook/payments --where reason=MaxAttempts --rate 20
  weir dlq redrive webhook/payments --id 01a20b7e-f8c3-730a-bf32-55383d3a81d9 --edit
  weir dlq redrive webhook/payments --to queueconsumer/by-hand

A redrive handles the letters that are there when it begins. It goes on when this command ends, and after
a kill of whatever runs it; see redrive-status and redrive-cancel.")]
pub struct DlqRedrive {
    /// KIND/NAME, such as webhook/payments.
    pub object: String,
    /// Only this message; may repeat.
    #[arg(long = "id", value_name = "ID")]
    pub ids: Vec<String>,
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// Most messages a second, 1 to 5000 [default: as many as the broker takes].
    #[arg(long, value_name = "PER SECOND")]
    pub rate: Option<u32>,
    /// Publish them to this object of the same namespace instead.
    #[arg(long, value_name = "KIND/NAME")]
    pub to: Option<String>,
    /// Change the body in $VISUAL or $EDITOR first. Needs one --id.
    #[arg(long, conflicts_with_all = ["dry_run", "body"])]
    pub edit: bool,
    /// Publish with the body in this file (`-`: standard input). Needs one --id.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub body: Option<PathBuf>,
    /// Only say what would be moved.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait until it has ended.
    #[arg(long)]
    pub no_wait: bool,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}

/// `weir dlq redrive-status`.
#[derive(Debug, Args)]
pub struct DlqStatus {
    /// KIND/NAME, such as webhook/payments.
    pub object: String,
    /// Id of a redrive; without it the last ten are listed.
    pub id: Option<String>,
    /// Wait until the newest one has ended.
    #[arg(short, long, conflicts_with = "id")]
    pub watch: bool,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}

/// `weir dlq redrive-cancel`.
#[derive(Debug, Args)]
pub struct DlqCancel {
    /// KIND/NAME, such as webhook/payments.
    pub object: String,
    /// Id of a redrive [default: the newest].
    pub id: Option<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}

/// `weir dlq purge`.
#[derive(Debug, Args)]
pub struct DlqPurge {
    /// KIND/NAME, such as webhook/payments.
    pub object: String,
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// Yes, throw them away.
    #[arg(long)]
    pub yes: bool,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}

/// `weir dlq export`.
#[derive(Debug, Args)]
pub struct DlqExport {
    /// KIND/NAME, such as webhook/payments.
    pub object: String,
    /// File to write; `-` is standard output.
    pub file: PathBuf,
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// How to print what was done (on standard error, with `-`).
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which runtime.
    #[command(flatten)]
    pub place: Where,
}

/// `weir dlq import`.
#[derive(Debug, Args)]
pub struct DlqImport {
    /// KIND/NAME, such as webhook/payments.
    pub object: String,
    /// File to read; `-` is standard input.
    pub file: PathBuf,
    /// How to print what was done.
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
