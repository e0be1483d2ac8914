//! Ours beside the raw client: same machine, same run, same body, alternating.
//!
//! The raw programs are what somebody would write without Weir: a hyper server that publishes and waits
//! for the acknowledgement, and a loop that pulls, calls and acknowledges. They are processes of their own,
//! as the sidecar is, so that CPU time is read from the kernel for each. There are no assertions on
//! time here; the ratios are printed for people and for the table in `bench/README.md`.

mod consumer;
mod handler;
mod intake;
mod load;
mod process;
mod raw;
mod site;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use weir_conformance::server::rabbitmq::tested;

use crate::consumer::{Contest, Peer, compare, memory};
use crate::site::Site;

/// Compares Weir's intake and consumer with hand-written programs on the raw clients.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the comparisons and prints tables.
    Run(Run),
    /// The hand-written intake: POST, publish, wait for the acknowledgement, 202.
    RawIntake {
        port: u16,
        nats: String,
        subject: String,
    },
    /// The hand-written consumer on NATS: pull, call, acknowledge.
    RawPulled {
        nats: String,
        stream: String,
        consumer: String,
        handler: String,
        slots: usize,
    },
    /// The hand-written consumer on RabbitMQ: consume, call, acknowledge.
    RawPushed {
        uri_file: String,
        queue: String,
        handler: String,
        slots: u16,
    },
    /// The hand-written order on NATS: queues in memory by key over one consumer in order.
    RawKeyed {
        nats: String,
        stream: String,
        subjects: String,
        handler: String,
        slots: usize,
    },
    /// A handler that answers 204 to everything.
    Handler {
        port: u16,
        /// The longest time that it takes.
        #[arg(long, default_value_t = 0)]
        work_micros: u64,
    },
}

#[derive(Args)]
struct Run {
    /// Path of the weir-sidecar binary, built with the same profile as this program.
    #[arg(long)]
    sidecar: PathBuf,
    /// Path of nats-server.
    #[arg(long)]
    nats: PathBuf,
    /// Seconds of load for each measurement of an intake.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Messages of one measurement of a consumer.
    #[arg(long, default_value_t = 60_000)]
    messages: u64,
    /// Measurements of each program; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these: intake, consumer, fifo, rabbitmq.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    match Arguments::parse().command {
        Command::RawIntake {
            port,
            nats,
            subject,
        } => raw::intake(port, &nats, subject).await,
        Command::RawPulled {
            nats,
            stream,
            consumer,
            handler,
            slots,
        } => raw::pulled(&nats, &stream, &consumer, handler, slots).await,
        Command::RawPushed {
            uri_file,
            queue,
            handler,
            slots,
        } => raw::pushed(&uri_file, &queue, handler, slots).await,
        Command::RawKeyed {
            nats,
            stream,
            subjects,
            handler,
            slots,
        } => raw::keyed(&nats, &stream, &subjects, handler, slots).await,
        Command::Handler { port, work_micros } => {
            raw::handler(port, Duration::from_micros(work_micros)).await
        }
        Command::Run(run) => run.go().await,
    }
}

impl Run {
    async fn go(self) -> Result<(), Failure> {
        let wanted = |part: &str| self.only.is_empty() || self.only.iter().any(|only| only == part);
        let rounds = self.rounds;
        let contest = |peer, slots, work, messages| Contest {
            peer,
            slots,
            work: Duration::from_millis(work),
            messages,
            rounds,
        };
        println!("1 KiB bodies, R1 file storage, medians of {rounds} rounds\n");
        let nats = Site::nats(&self.nats, self.sidecar.clone()).await?;
        if wanted("intake") {
            intake::compare(&nats, self.seconds, rounds).await?;
        }
        if wanted("consumer") {
            compare(&nats, contest(Peer::Pulled, 64, 0, self.messages)).await?;
            memory(&nats, self.messages).await?;
        }
        if wanted("fifo") {
            for slots in [16, 64] {
                compare(&nats, contest(Peer::Keyed, slots, 5, self.messages / 2)).await?;
            }
        }
        drop(nats);
        if wanted("rabbitmq") {
            if let Err(why) = tested()? {
                println!("rabbitmq: left out: {why}");
                return Ok(());
            }
            let site = Site::rabbitmq("forky", &self.nats, self.sidecar).await?;
            compare(&site, contest(Peer::Pushed, 64, 0, self.messages / 2)).await?;
        }
        Ok(())
    }
}

/// The value in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
