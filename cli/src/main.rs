//! `weir`, also `kubectl-weir`: run manifests on this machine, send messages, read dead letters.

mod args;
mod batch;
mod commands;
mod failure;
mod files;
mod local;
mod output;
mod place;
mod sign;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let name = if place::is_kubectl_plugin() {
        "kubectl weir"
    } else {
        "weir"
    };
    // clap prints usage itself, with code 2 for mistakes and 0 for --help.
    let matches = Arguments::command().bin_name(name).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|why| why.exit());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments.command)),
        Err(why) => Err(Failure::other(why)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            if !why.is_silent() {
                eprintln!("{name}: {why}");
            }
            ExitCode::from(why.code)
        }
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => commands::run::run(arguments).await,
        Command::Send(arguments) => commands::send::send(arguments).await,
        Command::Dlq(command) => commands::dlq::dlq(command).await,
        Command::Groups(command) => commands::groups::groups(command).await,
        Command::Lint(arguments) => commands::lint::lint(&arguments),
        Command::Filter(command) => commands::filter::filter(&command),
        Command::Sm(command) => commands::sm::sm(&command),
        Command::Version(arguments) => commands::version::version(arguments).await,
        Command::Completion { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "weir",
                &mut std::io::stdout(),
            );
            Ok(())
        }
    }
}
