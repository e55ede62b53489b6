//! A host of a test's own: network, mount and pid namespaces with a private /run and private folders for libvirt.
//!
//! The test runs itself again inside. Nothing of the outer host's is seen or touched, no packet leaves, and everything
//! dies with the namespace. A test that cannot run here fails and says why.

#![expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]

pub mod guest;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Set inside: the scratch folder.
const INSIDE: &str = "AGENTD_DRIVER_TEST_SCRATCH";
/// Set in a process that a test started to be killed.
const VICTIM: &str = "AGENTD_DRIVER_TEST_VICTIM";
const LIMIT: Duration = Duration::from_secs(600);

/// Runs `body` on a host of its own. `test` is the name of the calling test, as the test binary knows it.
pub fn inside(test: &str, body: impl FnOnce(&mut Host)) {
    let Some(scratch) = std::env::var_os(INSIDE).map(PathBuf::from) else {
        return outside(test);
    };
    if std::env::var_os(VICTIM).is_none() {
        furnish(&scratch);
    }
    body(&mut Host { scratch, virtlogd: None, libvirtd: None });
}

/// Whether this process was started by [`Host::victim`].
pub fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

fn outside(test: &str) {
    assert!(nix::unistd::geteuid().is_root(), "{test} needs root: it makes namespaces");
    // On a disk, and such that QEMU's user can reach files in it.
    let scratch =
        tempfile::Builder::new().prefix("agentd-test-").tempdir_in("/var/tmp").expect("a scratch folder");
    open_up(scratch.path());
    let log = scratch.path().join("output");
    let output = File::create(&log).expect("a log");
    let mut child = Command::new("/usr/bin/unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--"])
        // The shell is the namespace's init: it waits for the test and reaps whatever is left to it.
        .args(["/bin/sh", "-c", "\"$@\" & test=$!; wait $test; exit $?", "init"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads", "1"])
        .env(INSIDE, scratch.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a log"))
        .stderr(output)
        .spawn()
        .expect("unshare, of util-linux");
    let status = wait_for(&mut child, LIMIT);
    let said = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    match status {
        Some(status) if status.success() && said.contains("1 passed") => (),
        Some(status) => panic!("{test} failed on its host ({status}):\n{said}"),
        None => panic!("{test} was not done after {} s:\n{said}", LIMIT.as_secs()),
    }
}

fn wait_for(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let from = Instant::now();
    while from.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    None
}

fn open_up(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o711)).expect("a folder of ours");
}

fn furnish(scratch: &Path) {
    run("/usr/sbin/ip", &["link", "set", "lo", "up"]).expect("lo");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).expect("a private /run");
    let private = scratch.join("private");
    let bind = |own: &Path, folder: &str| {
        assert!(
            Path::new(folder).is_dir(),
            "{folder} is not there: install libvirt (packaging/host-packages run)"
        );
        fs::create_dir_all(own).expect("a private folder");
        open_up(own);
        mount(Some(own), folder, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a private folder");
    };
    for (name, folder) in
        [("lib", "/var/lib/libvirt"), ("etc", "/etc/libvirt/qemu"), ("log", "/var/log/libvirt")]
    {
        bind(&private.join(name), folder);
    }
    // What libvirt has learned of this QEMU, by running it for seconds, is the same for all tests.
    bind(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("libvirt-cache"), "/var/cache/libvirt");
    open_up(&private);
    if Path::new("/dev/kvm").exists() {
        offer_kvm(&private.join("kvm"));
    }
}

/// `/dev/kvm` as udev would set it up. Where only root may open it, libvirt takes what it knows of QEMU for outdated at
/// each look, and runs QEMU a dozen times to define one domain.
fn offer_kvm(node: &Path) {
    let text = node.to_str().expect("UTF-8");
    run("/bin/mknod", &["-m", "0666", text, "c", "10", "232"]).expect("a device node");
    mount(Some(node), "/dev/kvm", None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a private /dev/kvm");
}

/// The host inside.
pub struct Host {
    scratch: PathBuf,
    virtlogd: Option<Child>,
    libvirtd: Option<Child>,
}

impl Host {
    /// A folder of this name that QEMU's user can go through.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.scratch.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        open_up(&folder);
        folder
    }

    /// Starts virtlogd and libvirtd and waits until libvirt answers.
    pub fn start_libvirt(&mut self) {
        if self.virtlogd.is_none() {
            self.virtlogd = Some(self.service("/usr/sbin/virtlogd"));
            wait_until("virtlogd listens", Duration::from_secs(30), || {
                Path::new("/run/libvirt/virtlogd-sock").exists().then_some(()).ok_or("no socket".to_owned())
            });
        }
        self.libvirtd = Some(self.service("/usr/sbin/libvirtd"));
        wait_until("libvirtd answers", Duration::from_secs(60), || virsh(&["version"]).map(drop));
    }

    /// Ends libvirtd as `systemctl stop` does; guests go on.
    pub fn stop_libvirt(&mut self) {
        let mut child = self.libvirtd.take().expect("libvirtd runs");
        signal(child.id(), Signal::SIGTERM);
        assert!(wait_for(&mut child, Duration::from_secs(30)).is_some(), "libvirtd did not end");
    }

    pub fn libvirtd(&self) -> u32 {
        self.libvirtd.as_ref().expect("libvirtd runs").id()
    }

    fn service(&self, program: &str) -> Child {
        let name = Path::new(program).file_name().expect("a name").to_string_lossy().into_owned();
        let log = File::options().append(true).create(true).open(self.scratch.join(name)).expect("a log");
        Command::new(program)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// This test once more, as a process that is there to be killed; in it, [`is_victim`] is true.
    pub fn victim(&self, test: &str) -> Child {
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads", "1"])
            .env(VICTIM, "1")
            .stdin(Stdio::null())
            .spawn()
            .expect("this program")
    }
}

pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("a process of ours");
}

pub fn virsh(arguments: &[&str]) -> Result<String, String> {
    run("/usr/bin/virsh", &[&["-q", "-c", "qemu:///system"], arguments].concat())
}

/// Runs a program to its end; Ok with its stdout.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(format!("{program} {arguments:?} ({}): {}", done.status, String::from_utf8_lossy(&done.stderr)))
}

/// Waits until `check` is Ok and gives its value; panics with the last thing that it said.
pub fn wait_until<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Result<T, String>) -> T {
    let from = Instant::now();
    loop {
        match check() {
            Ok(value) => return value,
            Err(last) if from.elapsed() > limit => panic!("{what}: not within {limit:?}; last seen: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
