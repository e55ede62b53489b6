//! The configuration read again while the daemon runs, on SIGHUP.
//!
//! What is taken up at once: what is logged, and who agentd is to which registry. What else has changed is named in the
//! log, and waits for a restart. Files that cannot be understood change nothing.

use agentd_drivers::Drivers;
use sd_notify::NotifyState;

use super::drivers::registries;
use super::logging::Log;
use crate::config::{Config, Flags};

const TAKEN_UP: [&str; 2] = ["daemon.log", "containers.registries"];

/// Where the configuration came from, and the log that it is for.
#[derive(Debug, Clone)]
pub struct Reload {
    flags: Flags,
    log: Option<Log>,
}

impl Reload {
    pub fn new(flags: Flags, log: Log) -> Self {
        Self { flags, log: Some(log) }
    }

    /// For a daemon whose log is another's: it is left as it is.
    #[cfg(test)]
    pub(super) fn without_log(flags: Flags) -> Self {
        Self { flags, log: None }
    }

    pub(super) fn in_journal(&self) -> bool {
        self.log.as_ref().is_some_and(Log::in_journal)
    }

    /// Reads it again and takes up what can be; `running` is then what holds.
    pub(super) fn again(&self, running: &mut Config, drivers: &Drivers) {
        // A manager that does not hear this only shows another state meanwhile.
        let _ = NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]));
        match Config::load(&self.flags) {
            Ok(new) => self.take_up(running, new, drivers),
            Err(error) => {
                tracing::error!(
                    "the configuration is not taken up: {}",
                    agentd_drivers::fault::chain(&error)
                );
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }

    fn take_up(&self, running: &mut Config, new: Config, drivers: &Drivers) {
        let changed = running.differences(&new);
        let (taken, waiting): (Vec<_>, Vec<_>) =
            changed.iter().map(String::as_str).partition(|key| TAKEN_UP.contains(key));
        if let Some(log) = &self.log
            && running.daemon.log != new.daemon.log
            && let Err(error) = log.filter_by(&new.daemon.log)
        {
            tracing::error!("{error:#}");
        }
        drivers.registries.replace(registries(&new));
        running.daemon.log = new.daemon.log;
        running.containers.registries = new.containers.registries;
        let named = |keys: &[&str]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
        tracing::info!("the configuration was read again; taken up: {}", named(&taken));
        if !waiting.is_empty() {
            tracing::warn!("changed, and waiting for a restart (which stops no guest): {}", named(&waiting));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use agentd_drivers::Instance;

    use super::*;
    use crate::sim::Fakes;

    #[test]
    fn what_can_be_is_taken_up_and_the_rest_waits() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("agentd.toml");
        let drivers = Fakes::new(&Instance::new(Path::new("/var/lib/agentd"))).drivers();
        let reload = Reload::without_log(Flags { config: Some(path.clone()), ..Flags::default() });
        let mut running = Config::default();
        let text = "[daemon]\nlog = 'debug'\ngroup = 'ops'\n[containers.registries.'h:5000']\nauth_file = '/secret'\n";
        std::fs::write(&path, text).expect("written");
        reload.again(&mut running, &drivers);
        assert_eq!(running.daemon.log, "debug");
        assert_eq!(running.daemon.group, Config::default().daemon.group, "it waits");
        assert!(drivers.registries.knows("h:5000"));
        std::fs::write(&path, "[daemon]\nlog = 'debug'\n").expect("written");
        reload.again(&mut running, &drivers);
        assert!(!drivers.registries.knows("h:5000"), "what was taken out is gone");
        std::fs::write(&path, "[daemon]\nlgo = 'trace'\n").expect("written");
        reload.again(&mut running, &drivers);
        assert_eq!(running.daemon.log, "debug", "files that are not understood change nothing");
    }
}
