//! agentd: arguments, configuration, log, run.

use std::process::ExitCode;

use agentd::config::{Arguments, Command, Config};
use agentd::daemon::{self, Reload};
use clap::Parser;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agentd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.flags)?;
    if let Some(Command::CheckConfig) = arguments.command {
        print!("{}", config.to_toml());
        return Ok(());
    }
    let log = daemon::start_logging(&config.daemon.log)?;
    let reload = Reload::new(arguments.flags, log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("agentd").build()?;
    runtime.block_on(daemon::run(config, reload, daemon::real_drivers))
}
