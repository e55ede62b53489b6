//! Tests on a host of their own: the real agentd, the real agentctl, a private libvirtd, real guests.
//!
//! A test is declared by [`host_test!`](crate::host_test) and gets a [`Host`]. What it asserts, it asserts of what the
//! guest, the packet or the disk shows.

pub mod boot;
pub mod daemon;
pub mod engine;
pub mod guest;
pub mod namespace;
pub mod outside;
pub mod registry;
pub mod template;
pub mod traces;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use daemon::{Agentd, Answer};

/// How long one test may take, namespace and all.
pub const LIMIT: Duration = Duration::from_secs(900);

/// Declares a test that runs in a namespace of its own. Ignored by plain `cargo test`; `tests/run` asks for it, and then
/// it fails loudly where it cannot run.
#[macro_export]
macro_rules! host_test {
    ($name:ident, $body:expr) => {
        #[test]
        #[ignore = "needs a host of its own: run by tests/run"]
        fn $name() {
            let path = concat!(module_path!(), "::", stringify!($name));
            let test = path.split_once("::").map_or(path, |(_, rest)| rest);
            $crate::host::test(test, $body);
        }
    };
}

/// Outside: prepares what all tests share and runs the test inside. Inside: furnishes the host and runs its body.
pub fn test(name: &str, body: impl FnOnce(&mut Host)) {
    match namespace::inside() {
        None => {
            template::ensure();
            namespace::run_inside(name, LIMIT);
        }
        Some(scratch) => {
            namespace::furnish(&scratch).expect("a furnished namespace");
            template::teach_libvirt();
            let mut host = Host::new(scratch);
            body(&mut host);
        }
    }
}

/// The host inside: its scratch folder and the services it runs.
pub struct Host {
    scratch: PathBuf,
    virtlogd: Option<Child>,
    libvirtd: Option<Child>,
}

impl Host {
    pub fn new(scratch: PathBuf) -> Self {
        Self { scratch, virtlogd: None, libvirtd: None }
    }

    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Starts virtlogd and libvirtd and waits until libvirt answers.
    pub fn start_libvirt(&mut self) {
        daemon::clock("libvirt starts");
        if self.virtlogd.is_none() {
            self.virtlogd = Some(self.service("/usr/sbin/virtlogd"));
            wait_until("virtlogd listens", Duration::from_secs(30), || {
                if Path::new("/run/libvirt/virtlogd-sock").exists() {
                    Ok(())
                } else {
                    Err("no socket".to_owned())
                }
            });
        }
        self.libvirtd = Some(self.service("/usr/sbin/libvirtd"));
        wait_until("libvirtd answers", Duration::from_secs(60), || virsh(&["version"]).map(|_| ()));
    }

    /// Ends libvirtd as `systemctl stop` does; guests go on.
    pub fn stop_libvirt(&mut self) {
        let mut child = self.libvirtd.take().expect("libvirtd runs");
        signal(child.id(), nix::sys::signal::Signal::SIGTERM);
        wait_until("libvirtd ends", Duration::from_secs(30), || match child.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    #[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
    fn service(&self, program: &str) -> Child {
        let name = Path::new(program).file_name().expect("a name").to_string_lossy().into_owned();
        let log = std::fs::File::create(self.scratch.join(format!("{name}.log"))).expect("a log");
        Command::new(program)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// libvirt, and an agentd whose image `micro` is there.
    pub fn with_agentd(&mut self) -> Agentd {
        self.start_libvirt();
        self.agentd("state")
    }

    /// One that is not started, with a state directory and a socket of that name.
    fn placed(&self, name: &str) -> Agentd {
        Agentd::new(&self.scratch.join(name), &self.scratch.join(format!("{name}.sock")))
    }

    /// An agentd on a copy of the template state, in a state directory of that name.
    pub fn agentd(&self, name: &str) -> Agentd {
        let state = self.scratch.join(name);
        template::copy_to(&state);
        self.bare_agentd(name)
    }

    /// An agentd on whatever that state directory holds; nothing at first.
    pub fn bare_agentd(&self, name: &str) -> Agentd {
        let mut agentd = self.placed(name);
        agentd.start();
        agentd
    }

    /// As `agentd`, of one that is passed its socket.
    pub fn activated_agentd(&self, name: &str) -> Agentd {
        template::copy_to(&self.scratch.join(name));
        let mut agentd = self.placed(name).activated();
        agentd.start();
        agentd
    }

    /// As `bare_agentd`, of one that is confined as by its unit.
    pub fn confined_agentd(&self, name: &str) -> Agentd {
        namespace::run("/bin/mount", &["--make-shared", "/run"]).expect("a /run as an init has it");
        let mut agentd = self.placed(name).confined();
        agentd.start();
        agentd
    }
}

pub fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    nix::sys::signal::kill(pid, signal).expect("a process of ours");
}

pub fn virsh(arguments: &[&str]) -> Result<String, String> {
    let mut all = vec!["-q", "-c", "qemu:///system"];
    all.extend(arguments);
    namespace::run("/usr/bin/virsh", &all).map_err(|e| format!("{e:#}"))
}

/// Waits until `check` is Ok and gives its value; panics with the last thing that it said. A limit of up to ten seconds is
/// what agentd promises; a longer one says how long things take, and a machine that has others to serve takes several times
/// that.
pub fn wait_until<T>(what: &str, limit: Duration, check: impl FnMut() -> Result<T, String>) -> T {
    wait_or_tell(what, limit, check, String::new)
}

/// Whether a condition of the object's is there and false.
pub fn lacks(object: &serde_json::Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == condition && c["status"] == false))
}

/// Whoever has waited longer looks less often: to look takes from what is waited for.
fn pause(waited: Duration) -> Duration {
    (waited / 50).clamp(Duration::from_millis(20), Duration::from_millis(100))
}

/// As `wait_until`, and what is only looked at where it was in vain.
pub fn wait_or_tell<T>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> Result<T, String>,
    tell: impl FnOnce() -> String,
) -> T {
    daemon::clock(&format!("until {what}"));
    let from = Instant::now();
    let limit = if limit <= Duration::from_secs(10) { limit } else { limit * 4 };
    loop {
        match check() {
            Ok(value) => return value,
            Err(last) if from.elapsed() > limit => {
                panic!("{what}: not within {limit:?}; last seen: {last}\n{}", tell())
            }
            Err(_) => std::thread::sleep(pause(from.elapsed())),
        }
    }
}
