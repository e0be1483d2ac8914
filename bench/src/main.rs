//! Ours beside the raw client: same machine, same run, same body, alternating.
//!
//! The raw programs are what somebody would write without Weir: a hyper server that publishes and waits
//! for the acknowledgement, and a loop that pulls, calls and acknowledges. They are processes of their own,
//! as the sidecar is, so that CPU time is read from the kernel for each. There are no assertions on
//! time here; the ratios are printed for people and for the table in `bench/README.md`.

mod consumer;
mod intake;
mod load;
mod nats;
mod process;
mod raw;

use clap::{Parser, Subcommand};

/// Compares Weir's intake and consumer with hand-written programs on the raw clients.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the comparisons and prints a table.
    Run {
        /// Path of the weir-sidecar binary, built with the same profile as this program.
        #[arg(long)]
        sidecar: std::path::PathBuf,
        /// Path of nats-server.
        #[arg(long)]
        nats: std::path::PathBuf,
        /// Seconds of load for each measurement.
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Messages of one consumer measurement.
        #[arg(long, default_value_t = 60_000)]
        messages: u64,
        /// Measurements of each program; the median counts.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// The hand-written intake: POST, publish, wait for the acknowledgement, 202.
    RawIntake {
        port: u16,
        nats: String,
        subject: String,
    },
    /// The hand-written consumer: pull, call, acknowledge, 64 in flight.
    RawConsumer {
        nats: String,
        stream: String,
        consumer: String,
        handler: String,
    },
    /// A handler that answers 204 to everything.
    Handler { port: u16 },
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
        Command::RawConsumer {
            nats,
            stream,
            consumer,
            handler,
        } => raw::consumer(&nats, &stream, &consumer, handler).await,
        Command::Handler { port } => raw::handler(port).await,
        Command::Run {
            sidecar,
            nats,
            seconds,
            messages,
            rounds,
        } => {
            let site = nats::Site::start(&nats, sidecar).await?;
            println!("1 KiB bodies, 64 in flight, R1 file storage, medians of {rounds} rounds\n");
            intake::compare(&site, seconds, rounds).await?;
            consumer::compare(&site, messages, rounds).await
        }
    }
}

/// The value in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
