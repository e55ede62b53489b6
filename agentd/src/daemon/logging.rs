//! Where the log goes: to the journal with its fields when systemd gave us one, else to stderr as lines. What is logged
//! can be changed while it runs.
//!
//! In the journal every field is one of `AGENTD_...`. What belongs to an object has AGENTD_KIND, AGENTD_PROJECT and
//! AGENTD_NAME, and what a request caused AGENTD_REQUEST_ID, from the event itself or from a span around it: so that
//! `journalctl AGENTD_NAME=web` tells the story of one VM.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Fields of the journal begin with this: `AGENTD_NAME=web`.
const PREFIX: &str = "AGENTD";

/// What `journalctl -p info` and the like choose by. There is nothing below `debug`.
const PRIORITIES: PriorityMappings = PriorityMappings {
    error: Priority::Error,
    warn: Priority::Warning,
    info: Priority::Informational,
    debug: Priority::Debug,
    trace: Priority::Debug,
};

/// The log as it was started.
#[derive(Debug, Clone)]
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
    journal: bool,
}

impl Log {
    /// Logs from now on what `filter` says, which was checked with the configuration.
    pub fn filter_by(&self, filter: &str) -> anyhow::Result<()> {
        self.filter.reload(filter.parse::<Targets>()?).context("the log's filter cannot be changed")
    }

    /// Whether it goes to the journal, with fields.
    pub fn in_journal(&self) -> bool {
        self.journal
    }
}

/// `filter` was checked with the configuration. Called once, before anything is logged.
pub fn start(filter: &str) -> anyhow::Result<Log> {
    let (layer, filter) = reload::Layer::new(filter.parse::<Targets>()?);
    let subscriber = tracing_subscriber::registry().with(layer);
    if stderr_is_the_journal() {
        match tracing_journald::layer() {
            Ok(journal) => {
                let journal = journal.with_field_prefix(Some(PREFIX.to_owned()));
                subscriber.with(journal.with_priority_mappings(PRIORITIES)).try_init()?;
                return Ok(Log { filter, journal: true });
            }
            Err(error) => eprintln!("agentd: the journal cannot be reached ({error}); logging to stderr"),
        }
    }
    let colour = std::io::stderr().is_terminal();
    subscriber.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colour)).try_init()?;
    Ok(Log { filter, journal: false })
}

/// systemd says in the environment which stream it connected to the journal, by device and inode. The variable alone
/// says nothing: a shell within a service hands it on to what it starts with another stderr.
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let stderr = nix::sys::stat::fstat(std::io::stderr());
    stderr.is_ok_and(|found| stream.to_str() == Some(&format!("{}:{}", found.st_dev, found.st_ino)))
}
