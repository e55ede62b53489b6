//! The program: arguments, configuration, log, run.

use std::process::ExitCode;

use clap::Parser;

use crate::config::{Arguments, Command, Config};
use crate::daemon::{self, Reload};

/// All of agentd, until it ends.
pub fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agentd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Whatever the configuration says.
    if let Some(Command::SetMac { what }) = &arguments.command {
        return set_mac(what);
    }
    let config = Config::load(&arguments.flags)?;
    match arguments.command {
        Some(Command::CheckConfig) => {
            print!("{}", config.to_toml());
            return Ok(());
        }
        Some(Command::Restore { file }) => return restore(&file, &config),
        Some(Command::SetMac { .. }) | None => {}
    }
    let log = daemon::start_logging(&config.daemon.log)?;
    let reload = Reload::new(arguments.flags, log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("agentd").build()?;
    runtime.block_on(daemon::run(config, reload, daemon::real_drivers))
}

fn set_mac(what: &std::path::Path) -> anyhow::Result<()> {
    alone()?.block_on(agentd_drivers::container::docker::set_mac(what)).map_err(anyhow::Error::msg)
}

/// For what is done once, by this thread.
fn alone() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn restore(file: &std::path::Path, config: &Config) -> anyhow::Result<()> {
    let restored = alone()?.block_on(daemon::restore(file, &config.daemon.state_dir))?;
    let header = &restored.header;
    println!(
        "{}: {} objects at revision {}, as they were at {}",
        restored.file.display(),
        header.objects,
        header.revision,
        header.created_at
    );
    if !restored.lacking.is_empty() {
        println!("a backup has no contents; this host lacks those of");
        restored.lacking.iter().for_each(|line| println!("  {line}"));
        println!(
            "put back what you have of them before agentd is started; what is missing then is told as failed"
        );
    }
    Ok(())
}
