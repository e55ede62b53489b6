//! Processes as units of systemd: `TEMPLATE@PATH.service`, from templates that the package brings.
//!
//! A process that agentd starts itself is in the control group of agentd's service: it is counted with it, limited with
//! it, confined as it, and named as left over whenever agentd is started anew. A unit of its own is none of that: it may
//! outlive agentd, and what it may do is its own.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use crate::exec::{ExecError, Program};

const FOLDERS: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// systemd's own bound for a unit's name.
const NAME_MAX: usize = 255;
/// As long as systemd itself gives a start.
const DEADLINE: Duration = Duration::from_secs(90);

/// Whether systemd runs this process as a service.
static IS_SERVICE: LazyLock<bool> = LazyLock::new(|| {
    std::env::var_os("NOTIFY_SOCKET").is_some() && Path::new("/run/systemd/system").is_dir()
});

#[derive(Debug)]
pub struct Unit {
    name: String,
}

/// The unit that `template` gives for `path`; none where systemd does not run this process, or has no such template.
pub fn of(template: &str, path: &Path) -> Option<Unit> {
    let there = |folder: &&str| Path::new(folder).join(format!("{template}@.service")).is_file();
    if !*IS_SERVICE || !FOLDERS.iter().any(there) {
        return None;
    }
    let name = format!("{template}@{}.service", escaped(path)?);
    (name.len() <= NAME_MAX).then_some(Unit { name })
}

impl Unit {
    /// Starts it, from its files as they are now, and returns once it is up, or, where it only does something, done. An
    /// error says what it said.
    pub async fn start(&self) -> Result<(), ExecError> {
        match self.systemctl("restart").await {
            Err(ExecError::Status { program, status, stderr }) => {
                let stderr = self.said().await.unwrap_or(stderr);
                Err(ExecError::Status { program, status, stderr })
            }
            other => other,
        }
    }

    /// Ends it, and returns once it has ended. One that does not run is no error.
    pub async fn stop(&self) -> Result<(), ExecError> {
        self.systemctl("stop").await?;
        // One that could not start is forgotten with it.
        let _ = self.systemctl("reset-failed").await;
        Ok(())
    }

    async fn systemctl(&self, verb: &str) -> Result<(), ExecError> {
        Program::new("systemctl").args([verb, "--quiet", &self.name]).deadline(DEADLINE).run().await.map(drop)
    }

    /// What it said to the journal in its last try.
    async fn said(&self) -> Option<String> {
        let show = Program::new("systemctl").args(["show", "--value", "--property=InvocationID", &self.name]);
        let id = String::from_utf8(show.run().await.ok()?).ok()?;
        let of = format!("_SYSTEMD_INVOCATION_ID={}", id.trim());
        let journal =
            Program::new("journalctl").args(["--quiet", "--no-pager", "--output=cat", "--lines=5", &of]);
        let text = String::from_utf8(journal.run().await.ok()?).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

/// A path as a part of a unit's name, as systemd-escape(1) writes it. None for one that has no such name.
fn escaped(path: &Path) -> Option<String> {
    let text = path.to_str()?.strip_prefix('/').filter(|text| !text.is_empty())?;
    let mut name = String::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at > 0 => name.push('.'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' => name.push(char::from(byte)),
            _ => {
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_systemd_writes_them() {
        for (path, name) in [
            ("/var/lib/agentd/networks/0197-ab", "var-lib-agentd-networks-0197\\x2dab"),
            ("/srv/a b/.x", "srv-a\\x20b-.x"),
            ("/.hidden/\u{e9}", "\\x2ehidden-\\xc3\\xa9"),
        ] {
            assert_eq!(escaped(Path::new(path)).as_deref(), Some(name));
        }
        assert_eq!(escaped(Path::new("relative")), None);
        assert_eq!(escaped(Path::new("/")), None);
    }

    #[test]
    fn a_process_that_systemd_does_not_run_has_no_units() {
        assert!(std::env::var_os("NOTIFY_SOCKET").is_none(), "tests are no service");
        assert!(of("agentd-dnsmasq", Path::new("/var/lib/agentd/networks/x")).is_none());
    }
}
