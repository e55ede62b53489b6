//! Where the log goes: to the journal with its fields when systemd gave us one, else to stderr as lines.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Fields of the journal begin with this: `AGENTD_VM=web`.
const PREFIX: &str = "AGENTD";

/// `filter` was checked with the configuration. Called once, before anything is logged.
pub fn start(filter: &str) -> anyhow::Result<()> {
    let subscriber = tracing_subscriber::registry().with(EnvFilter::try_new(filter)?);
    // systemd sets this where it connected stderr to the journal.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        match tracing_journald::layer() {
            Ok(journal) => {
                subscriber.with(journal.with_field_prefix(Some(PREFIX.to_owned()))).try_init()?;
                return Ok(());
            }
            Err(error) => eprintln!("agentd: the journal cannot be reached ({error}); logging to stderr"),
        }
    }
    let colour = std::io::stderr().is_terminal();
    subscriber.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colour)).try_init()?;
    Ok(())
}
