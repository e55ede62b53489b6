//! agentd-sim: the daemon on fake drivers. Needs no root and touches nothing of the host but its two sockets and its
//! state directory.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::process::ExitCode;

use agentd::config::{Config, Flags};
use agentd::daemon::{self, Daemon, Reload};
use agentd::sim::{self, Fakes, Order};
use clap::Parser;

/// agentd on fake drivers, for tests and benches.
#[derive(Debug, Parser)]
#[command(name = "agentd-sim", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// A fault from the start: DRIVER.METHOD=fail[:TIMES[:CLASS]] or DRIVER.METHOD=hang
    #[arg(long = "fault", value_name = "FAULT", value_parser = Order::fault)]
    faults: Vec<Order>,
    /// A delay of each call: DRIVER.METHOD=DURATION, as in vm.start=200ms
    #[arg(long = "delay", value_name = "DELAY", value_parser = Order::delay)]
    delays: Vec<Order>,
    /// A Unix socket that takes further orders, a line of JSON each
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Create this many VMs
    #[arg(long, value_name = "N", default_value_t = 0)]
    preload: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agentd-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.flags)?;
    let reload = Reload::new(arguments.flags.clone(), daemon::start_logging(&config.daemon.log)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("agentd").build()?;
    runtime.block_on(serve(arguments, config, reload))
}

async fn serve(arguments: &Arguments, config: Config, reload: Reload) -> anyhow::Result<()> {
    let fakes = OnceCell::new();
    let daemon = Daemon::start(config, reload, |_, instance| {
        let made = fakes.get_or_init(|| Fakes::new(instance));
        for order in arguments.faults.iter().chain(&arguments.delays) {
            made.obey(order)?;
        }
        Ok(made.drivers())
    })
    .await?;
    if let (Some(path), Some(fakes)) = (&arguments.control, fakes.get()) {
        sim::listen(path, fakes.clone())?;
    }
    let (intents, count) = (daemon.intents().clone(), arguments.preload);
    if count > 0 {
        tokio::spawn(async move {
            match sim::preload(&intents, count).await {
                Ok(()) => tracing::info!(count, "preloaded"),
                Err(problem) => tracing::error!("preloading failed: {problem}"),
            }
        });
    }
    daemon.until_told().await
}
