//! A whole host in a VM: for what a namespace on this host cannot give, such as another kernel, an init, device-mapper.
//!
//! ```text
//!   tests/host-vm/root ──► root.img, kernel, initrd     made once for each change of its recipe, kept in the target folder
//!   a folder           ──► payload.img                  what is to be run: its file `run`, and whatever that needs
//!   QEMU boots both; nothing is written to root.img, or what is goes to a file of the test's, for a machine that is
//!   booted again. No network card: no packet leaves.
//!   agent-test.output, .journal, .status                three virtio-serial ports, each a file out here
//! ```
//!
//! A machine that does not come up, or does not end within its limit, fails the test with what its console said.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::host::daemon::{binary, clock};
use crate::host::{Host, namespace, template};

/// What a run in the machine was like.
pub struct Run {
    /// Of `run`, in the machine.
    pub status: i32,
    pub output: String,
    /// All that the machine's journal holds.
    pub journal: String,
}

/// Where the recipe of the machine's root is.
fn recipe() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("host-vm")
}

/// The machine's root, made where it is not there. Tests that run at once wait for the one that makes it.
pub fn root() -> PathBuf {
    let parent = binary("agentd").with_file_name("host-vm");
    fs::create_dir_all(&parent).expect("a folder for the test host");
    let lock = File::create(parent.join("lock")).expect("a lock file");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("the lock");
    let folder = parent.join(format!("{:016x}", of_recipe()));
    if folder.is_dir() {
        return folder;
    }
    for old in fs::read_dir(&parent).expect("the folder").filter_map(Result::ok).filter(|e| e.path().is_dir())
    {
        fs::remove_dir_all(old.path()).expect("an old root goes");
    }
    clock("the test host's root is made");
    let program = recipe().join("root");
    namespace::run(&program.to_string_lossy(), &[&folder.to_string_lossy()]).expect("the test host's root");
    clock("the test host's root is there");
    folder
}

/// Of all that the root is made by.
fn of_recipe() -> u64 {
    let mut hasher = DefaultHasher::new();
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging").join("host-packages");
    let mut files = vec![packages, recipe().join("root")];
    let mut folders = vec![recipe().join("files")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the recipe's files") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file).expect("a file of the recipe").hash(&mut hasher);
    }
    hasher.finish()
}

/// How a machine that is booted again is run for once.
#[derive(Clone, Copy)]
pub struct Boot {
    body: fn(),
    cut: Option<fn(&str) -> bool>,
}

/// It goes down in order once its body has ended.
pub const fn whole(body: fn()) -> Boot {
    Boot { body, cut: None }
}

/// Its power is cut as soon as that can be said of its output. The next finds the output in `/payload/said`.
pub const fn until(body: fn(), cut: fn(&str) -> bool) -> Boot {
    Boot { body, cut: Some(cut) }
}

/// Boots the machine, has it run `payload`/run as root, and gives what became of that. `kept` is where what it writes
/// to its root goes, for the next boot; nowhere without it. What is cut has no status.
fn run(payload: &Path, limit: Duration, kept: Option<&Path>, cut: Option<fn(&str) -> bool>) -> Run {
    assert!(nix::unistd::geteuid().is_root(), "a machine needs root: it makes disks with their owners");
    let root = root();
    let scratch = namespace::scratch_folder().expect("a scratch folder");
    let at = |name: &str| scratch.path().join(name);
    let disk = at("payload.img");
    File::create(&disk).and_then(|file| file.set_len(4 << 30)).expect("a disk");
    let made = namespace::run(
        "/usr/sbin/mkfs.ext4",
        &["-q", "-L", "payload", "-d", &payload.to_string_lossy(), &disk.to_string_lossy()],
    );
    made.expect("a disk of what is to be run");
    clock("the test host boots");
    let mut qemu = start(&root, &drive(&root, kept), &disk, &at);
    let from = Instant::now();
    let text = |name: &str| String::from_utf8_lossy(&fs::read(at(name)).unwrap_or_default()).into_owned();
    let ended = loop {
        if let Some(status) = qemu.try_wait().expect("QEMU") {
            break status.success();
        }
        if cut.is_some_and(|cut| cut(&text("output"))) {
            // At once: nothing in there is asked, or told.
            qemu.kill().and_then(|()| qemu.wait()).expect("an end");
            clock("the test host has lost its power");
            return Run { status: CUT, output: text("output"), journal: String::new() };
        }
        if from.elapsed() > limit {
            qemu.kill().and_then(|()| qemu.wait()).expect("an end");
            break false;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    clock("the test host is off");
    let status = text("status").trim().parse().ok();
    let (Some(status), true) = (status, ended) else {
        panic!(
            "the test host did not come to its end within {} s.\nIts output:\n{}\nits console:\n{}\nQEMU:\n{}",
            limit.as_secs(),
            text("output"),
            text("console"),
            text("qemu"),
        );
    };
    Run { status, output: text("output"), journal: text("journal") }
}

fn drive(root: &Path, kept: Option<&Path>) -> String {
    let image = root.join("root.img");
    let Some(kept) = kept else {
        // Written to a file of QEMU's own that is gone with it.
        return format!("file={},format=raw,if=virtio,snapshot=on", image.display());
    };
    if !kept.exists() {
        let (image, kept) = (image.to_string_lossy(), kept.to_string_lossy());
        namespace::run(
            "/usr/bin/qemu-img",
            &["create", "-q", "-f", "qcow2", "-b", &image, "-F", "raw", &kept],
        )
        .expect("a disk on top of the root");
    }
    format!("file={},format=qcow2,if=virtio,cache=unsafe", kept.display())
}

#[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
fn start(root: &Path, drive: &str, disk: &Path, at: &dyn Fn(&str) -> PathBuf) -> Child {
    let log = File::create(at("qemu")).expect("a log");
    let mut command = Command::new("/usr/bin/qemu-system-x86_64");
    command
        .args(["-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "3072", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-nic", "none", "-no-reboot"])
        .args(["-accel", "tcg,thread=multi", "-object", "rng-random,id=rng,filename=/dev/urandom"])
        .args(["-device", "virtio-rng-pci,rng=rng", "-device", "virtio-serial-pci"])
        .arg("-kernel")
        .arg(root.join("vmlinuz"))
        .arg("-initrd")
        .arg(root.join("initrd"))
        .args(["-append", "root=/dev/vda ro console=ttyS0 quiet mitigations=off net.ifnames=0"])
        .args(["-drive", drive])
        .arg("-drive")
        .arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()))
        .arg("-serial")
        .arg(format!("file:{}", at("console").display()));
    for port in ["output", "journal", "status"] {
        command
            .arg("-chardev")
            .arg(format!("file,id={port},path={}", at(port).display()))
            .arg("-device")
            .arg(format!("virtserialport,chardev={port},name=agent-test.{port}"));
    }
    let command = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
    command.spawn().expect("qemu-system-x86_64 starts")
}

/// The status of one whose power was cut.
const CUT: i32 = -1;
/// Set inside: that this is the machine.
const INSIDE: &str = "AGENTD_TEST_MACHINE";
/// Inside: where a test's files go.
const SCRATCH: &str = "/var/lib/agent-test";

/// Declares a test that runs in a machine of its own, within so many seconds. Ignored by plain `cargo test`;
/// `tests/run` asks for it, and then it fails loudly where it cannot run.
#[macro_export]
macro_rules! machine_test {
    ($name:ident, $seconds:expr, $body:expr) => {
        #[test]
        #[ignore = "needs a machine of its own: run by tests/run"]
        fn $name() {
            let path = concat!(module_path!(), "::", stringify!($name));
            let test = path.split_once("::").map_or(path, |(_, rest)| rest);
            $crate::machine::test(test, std::time::Duration::from_secs($seconds), $body);
        }
    };
}

/// Declares a test whose machine is booted once for each [`Boot`](crate::machine::Boot), and keeps its root from one to the next. What the first
/// argument makes, out here, lies in `/payload` in there.
#[macro_export]
macro_rules! boots_test {
    ($name:ident, $seconds:expr, $furnish:expr, [$($boot:expr),+]) => {
        #[test]
        #[ignore = "needs a machine of its own: run by tests/run"]
        fn $name() {
            let path = concat!(module_path!(), "::", stringify!($name));
            let test = path.split_once("::").map_or(path, |(_, rest)| rest);
            let limit = std::time::Duration::from_secs($seconds);
            $crate::machine::test_boots(test, limit, $furnish, &[$($boot),+]);
        }
    };
}

/// Outside: boots a machine once for each of `boots`, `limit` for each. Inside: runs the one that it was booted for.
pub fn test_boots(name: &str, limit: Duration, furnish: fn(&Path), boots: &[Boot]) {
    if let Some(boot) = std::env::var_os(INSIDE) {
        let boot: usize = boot.to_string_lossy().parse().expect("the number of the boot");
        return (boots[boot].body)();
    }
    template::ensure();
    let kept = namespace::scratch_folder().expect("a scratch folder");
    let payload = namespace::scratch_folder().expect("a scratch folder");
    fs::create_dir_all(payload.path().join("debug/deps")).expect("a folder");
    template::copy(&template::folder(), &payload.path().join("template"));
    template::copy(
        &std::env::current_exe().expect("this program's own path"),
        &payload.path().join("debug/deps/test"),
    );
    furnish(payload.path());
    for (n, boot) in boots.iter().enumerate() {
        write_script(payload.path(), name, &n.to_string());
        let run = run(payload.path(), limit, Some(&kept.path().join("root.qcow2")), boot.cut);
        fs::write(payload.path().join("said"), &run.output).expect("what it said");
        match boot.cut {
            None => judge(&format!("boot {n} of {name}"), &run),
            Some(_) => assert_eq!(run.status, CUT, "boot {n} of {name} ended by itself:\n{}", run.output),
        }
    }
}

/// Outside: boots a machine that runs this very test. Inside: runs its body, on a host whose systemd has libvirt and the
/// rest at hand.
pub fn test(name: &str, limit: Duration, body: impl FnOnce(&mut Host)) {
    if std::env::var_os(INSIDE).is_some() {
        fs::create_dir_all(SCRATCH).expect("a folder");
        fs::set_permissions(SCRATCH, fs::Permissions::from_mode(0o711)).expect("a folder of ours");
        return body(&mut Host::new(PathBuf::from(SCRATCH)));
    }
    template::ensure();
    let payload = namespace::scratch_folder().expect("a scratch folder");
    pack(payload.path(), name);
    judge(name, &run(payload.path(), limit, None, None));
}

/// Shows what it said, and fails with it where it failed.
fn judge(name: &str, run: &Run) {
    let lines: Vec<&str> = run.journal.lines().collect();
    let journal = lines[lines.len().saturating_sub(200)..].join("\n");
    assert!(
        run.status == 0 && run.output.contains("1 passed"),
        "{name} failed in its machine ({}):\n{}\nThe end of the machine's journal:\n{journal}",
        run.status,
        run.output
    );
    print!("{}", run.output);
}

/// The programs under test, the state that tests begin with, and this test, as they lie beside each other out here.
fn pack(payload: &Path, test: &str) {
    let own = std::env::current_exe().expect("this program's own path");
    let deps = payload.join("debug/deps");
    fs::create_dir_all(&deps).expect("a folder");
    for name in ["agentd", "agentctl", "agentd-guest"] {
        template::copy(&binary(name), &payload.join("debug").join(name));
    }
    template::copy(&own, &deps.join("test"));
    template::copy(&template::folder(), &payload.join("template"));
    write_script(payload, test, "yes");
}

fn write_script(payload: &Path, test: &str, boot: &str) {
    let script = format!(
        "#!/bin/sh\nexport {INSIDE}={boot} RUST_BACKTRACE=1 {}=/payload/template\n\
         exec /payload/debug/deps/test --exact {test} --include-ignored --nocapture --test-threads 1\n",
        template::FOLDER
    );
    fs::write(payload.join("run"), script).expect("a script");
    fs::set_permissions(payload.join("run"), fs::Permissions::from_mode(0o755)).expect("a script of ours");
}
