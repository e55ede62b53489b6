//! agentd: arguments, configuration, log, run.

use std::process::ExitCode;

use agentd::config::{Command, Config, Flags};
use agentd::daemon;
use clap::Parser;

/// Turns this host into a cloud: VMs, images and networks as an API on a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "agentd", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agentd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.flags)?;
    if let Some(Command::CheckConfig) = arguments.command {
        print!("{}", config.to_toml());
        return Ok(());
    }
    daemon::start_logging(&config.daemon.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("agentd").build()?;
    runtime.block_on(daemon::run(config, daemon::real_drivers))
}
