//! A host of a test's own: network, mount and pid namespaces with a private /run and private folders for libvirt.
//!
//! The test's process runs itself again inside (`unshare`), under a small init that reaps what daemons leave. Everything
//! dies with the namespace. Nothing of the outer host's is seen or touched, and no packet leaves.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount, umount};

use crate::door;

/// Set inside: the scratch folder.
const INSIDE: &str = "AGENTD_TEST_SCRATCH";

/// The scratch folder when this process is the inner one.
pub fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

/// Runs this very test again inside a namespace of its own; panics with its output when it fails.
pub fn run_inside(test: &str, limit: Duration) {
    assert!(nix::unistd::geteuid().is_root(), "{test} needs root: it makes namespaces");
    let scratch = scratch_folder().expect("a scratch folder");
    door::serve(&scratch.path().join("door.sock")).expect("the door");
    let log = scratch.path().join("output");
    let status = spawn(test, scratch.path(), &log, limit).expect("the namespace");
    let output = fs::read(&log).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    match status {
        // Shown with --nocapture: when each command was given.
        Some(status) if status.success() && output.contains("1 passed") => print!("{output}"),
        Some(status) => panic!("{test} failed inside its namespace ({status}):\n{output}"),
        None => panic!("{test} was not done after {} s:\n{output}", limit.as_secs()),
    }
}

/// On a disk and not in a tmpfs, and such that the user of QEMU can reach files in it.
pub fn scratch_folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("agentd-test-").tempdir_in("/var/tmp")?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
    Ok(folder)
}

/// What runs a program, given as arguments, within a namespace of its own, and tells it its scratch folder.
#[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
pub fn command(scratch: &Path) -> Command {
    let mut command = Command::new("/usr/bin/unshare");
    command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--"])
        // The shell is the namespace's init: it waits for the program and reaps whatever is left to it.
        .args(["/bin/sh", "-c", "\"$@\" & test=$!; wait $test; exit $?", "init"])
        .env(INSIDE, scratch);
    command
}

fn spawn(test: &str, scratch: &Path, log: &Path, limit: Duration) -> Result<Option<ExitStatus>> {
    let output = File::create(log)?;
    let mut child = command(scratch)
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads", "1"])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("unshare (util-linux)")?;
    let from = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if from.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the inner process does first.
pub fn furnish(scratch: &Path) -> Result<()> {
    run("/usr/sbin/ip", &["link", "set", "lo", "up"])?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .context("a private /run")?;
    for folder in ["/run/lock", "/run/libvirt"] {
        fs::create_dir_all(folder)?;
    }
    for folder in ["/var/lib/libvirt", "/etc/libvirt/qemu", "/var/log/libvirt", "/var/cache/libvirt"] {
        if !Path::new(folder).is_dir() {
            bail!("{folder} is not there: libvirt is not installed (packaging/host-packages run)");
        }
        let private = scratch.join("private").join(folder.trim_start_matches('/'));
        fs::create_dir_all(&private)?;
        mount(Some(&private), folder, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("a private {folder}"))?;
    }
    for folder in ["/var/lib/swtpm-localca", "/var/log/swtpm"] {
        if Path::new(folder).is_dir() {
            let private = scratch.join("private").join(folder.trim_start_matches('/'));
            // Its owner is the one that swtpm runs as.
            run("/bin/cp", &["-a", "--parents", folder, &scratch.join("private").to_string_lossy()])?;
            mount(Some(&private), folder, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("a private {folder}"))?;
        }
    }
    for folder in [scratch.join("private"), scratch.join("private/var"), scratch.join("private/var/lib")] {
        fs::set_permissions(folder, Permissions::from_mode(0o711))?;
    }
    if Path::new("/dev/kvm").exists() {
        offer_kvm(&scratch.join("private/kvm"))?;
    }
    door::open(&scratch.join("door.sock"))
}

/// `/dev/kvm` as udev would set it up. Where only root may open it, libvirt takes what it knows of QEMU for outdated at
/// each look, and runs QEMU a dozen times to define one domain.
fn offer_kvm(node: &Path) -> Result<()> {
    let text = node.to_str().context("a path in UTF-8")?;
    run("/bin/mknod", &["-m", "0666", text, "c", "10", "232"])?;
    mount(Some(node), "/dev/kvm", None::<&str>, MsFlags::MS_BIND, None::<&str>).context("a private /dev/kvm")
}

#[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!(
            "{program} {arguments:?} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Hides programs and files, as if they were not installed: what is not a regular file is not found.
pub fn hide(paths: &[&str]) -> Result<()> {
    for path in paths.iter().filter(|p| Path::new(p).exists()) {
        mount(Some("/dev/null"), *path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("hiding {path}"))?;
    }
    Ok(())
}

/// Has back what was hidden, as if it were installed now.
pub fn show(paths: &[&str]) -> Result<()> {
    for path in paths.iter().filter(|p| Path::new(p).exists()) {
        umount(*path).with_context(|| format!("showing {path}"))?;
    }
    Ok(())
}
