//! The state that host tests begin with: an agentd that has built the image `micro`, and nothing else.
//!
//! It is made once for each build of agentd, in a namespace like any other, and copied into each test's scratch folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::daemon::{Agentd, binary};
use super::{namespace, wait_until};

/// The name of the test that makes it, in the test target `host`.
const MAKER: &str = "template::micro_is_built";

/// Says where the template is, where it is not beside agentd.
pub const FOLDER: &str = "AGENTD_TEST_TEMPLATE";

pub fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return PathBuf::from(folder);
    }
    // What images are built by, and the program that they carry.
    let time = |name| fs::metadata(binary(name)).and_then(|m| m.modified()).expect("it is built");
    let built = time("agentd").max(time("agentd-guest"));
    let stamp = built.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    binary("agentd").with_file_name("host-template").join(stamp.to_string())
}

/// Outside: makes the template where it is not there. Tests that run at once wait for the one that makes it.
pub fn ensure() {
    let folder = folder();
    let parent = folder.parent().expect("a parent").to_owned();
    fs::create_dir_all(&parent).expect("a folder for the template");
    let lock = File::create(parent.join("lock")).expect("a lock file");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("the lock");
    if folder.join("agentd.db").exists() && learned().is_dir() {
        return;
    }
    for old in fs::read_dir(&parent).expect("the folder").filter_map(Result::ok).filter(|e| e.path().is_dir())
    {
        fs::remove_dir_all(old.path()).expect("an old template goes");
    }
    namespace::run_inside(MAKER, Duration::from_secs(300));
}

/// What libvirt has learned of this QEMU, by running it for seconds.
const LEARNED: &str = "/var/cache/libvirt";

fn learned() -> PathBuf {
    folder().with_extension("libvirt")
}

/// Inside: what libvirt would learn of QEMU is the same for each test, and is there before it begins.
pub fn teach_libvirt() {
    copy(&learned().join("."), Path::new(LEARNED));
}

/// Inside the test MAKER: builds the image and keeps the state.
pub fn make(host: &mut super::Host) {
    host.start_libvirt();
    copy(Path::new(LEARNED), &learned());
    let mut agentd: Agentd = host.bare_agentd("template");
    agentd.ok(&["image", "build", "micro"]);
    // How guests run here is found out once and goes with the state, as it does from start to start.
    let known = agentd.state().join("accel.json");
    wait_until("it is known how guests run here", Duration::from_secs(120), || {
        if known.exists() { Ok(()) } else { Err("no answer yet".to_owned()) }
    });
    agentd.stop();
    let part = folder().with_extension("part");
    copy(agentd.state(), &part);
    fs::rename(&part, folder()).expect("the template is kept");
}

/// Inside a test: gives it a state directory that begins as the template.
pub fn copy_to(state: &Path) {
    assert!(folder().join("agentd.db").exists(), "no template: run tests/run");
    copy(&folder(), state);
}

/// A file or folder with all that is in it, as it is.
pub fn copy(from: &Path, to: &Path) {
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    namespace::run("/bin/cp", &["-a", "--reflink=auto", &from, &to]).expect("a copy");
}
