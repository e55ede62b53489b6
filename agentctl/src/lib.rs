//! agentctl: the command line of agentd.
//!
//! ```text
//! cli (flags) -> noun/* (one file a noun) -> verb/* (what nouns share) -> agentd-client
//!                      \-> wait/* (until it is so, with progress)   \-> output/* (stdout)
//! ```
//!
//! stdout is data, stderr is talk. What goes wrong becomes a [`failure::Failure`], which knows its exit status and what
//! to try next; it is printed here and nowhere else, save where a command goes on past it.

mod app;
mod cli;
mod failure;
mod noun;
mod output;
mod remotes;
mod target;
mod terminal;
mod verb;
mod wait;

use std::process::ExitCode;

use clap::CommandFactory;

use crate::failure::{Exit, Failure};

/// All that can be typed, for its manual pages and completions.
pub fn command() -> clap::Command {
    cli::Cli::command()
}

/// Does what the process's arguments say.
pub fn main() -> ExitCode {
    let cli = cli::Cli::of_process();
    // One thread: nothing here computes, and a list should cost no more than its bytes.
    let done = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let done = runtime.block_on(cli.run());
            // A read of stdin or a file that still blocks must not hold the process.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(Failure::new(Exit::Failed, format!("no asynchronous runtime: {error}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit as u8)
        }
    }
}
