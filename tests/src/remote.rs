//! Another machine, as its user has it: agentctl with a home of its own and no socket. And what the host needs to let it
//! in. All of it on loopback.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::host::daemon::{Answer, binary};
use crate::sim::finished;

pub struct OtherMachine {
    home: PathBuf,
}

impl OtherMachine {
    pub fn at(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    #[expect(clippy::disallowed_methods, reason = "a test starts programs; the rule is for the daemon")]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("agentctl"));
        command.env_remove("AGENTD_SOCKET").env_remove("AGENTD_HOST");
        command.env("XDG_CONFIG_HOME", self.home.join("config"));
        command.args(arguments).current_dir(&self.home).stdin(Stdio::null());
        command
    }

    pub fn ctl(&self, arguments: &[&str]) -> Answer {
        finished(self.command(arguments).output().expect("agentctl runs"))
    }

    /// agentctl that must succeed; gives its stdout.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let answer = self.ctl(arguments);
        assert_eq!(answer.status, 0, "agentctl {arguments:?}: {answer:?}");
        answer.stdout
    }

    /// Makes an authority in `authority`, whose daemon is for `localhost`, the addresses of loopback and `rack.test`, and
    /// a client's `laptop.pem`. Gives a free port of that address, and the configuration of a daemon that listens there.
    pub fn let_in(&self, address: &str) -> (String, String) {
        let free = TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr());
        let at = free.expect("a port").to_string();
        self.ok(&["remote", "init", "--dir", "authority", "--name", "rack.test"]);
        self.ok(&["remote", "add-client", "laptop", "--dir", "authority", "--out", "laptop.pem"]);
        let dir = self.home.join("authority");
        let config = format!("[remote]\nlisten = \"{at}\"\ndir = \"{}\"\n", dir.display());
        (at, config)
    }
}
