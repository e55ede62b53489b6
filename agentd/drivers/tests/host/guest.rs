//! A guest for tests: the distribution's kernel and an initrd of busybox that says when it is up and powers off when the
//! power button is pressed. Made once and kept in the build's temporary folder.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::run;

/// What the guest writes to its console once it obeys the power button.
pub const UP: &str = "test guest is up";
/// What the kernel writes there as the last thing before the power is off.
pub const POWERED_OFF: &str = "reboot: Power down";
pub const CMDLINE: &str = "console=ttyS0 panic=-1 loglevel=6";

const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
for name in /sys/class/input/event*/device/name; do
  grep -q '^Power Button' $name || continue
  event=${name#/sys/class/input/}
  exec 3</dev/input/${event%%/*}
done
until echo 1 >/sys/devices/system/cpu/cpu1/online; do sleep 1; done 2>/dev/null &
echo 'test guest is up' >/dev/ttyS0
dd bs=24 count=1 <&3 >/dev/null 2>&1
poweroff -f
";

/// Kernel and initrd, made where they are not there yet. Called outside of the namespace, since it may ask apt.
pub fn ensure() -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    fs::create_dir_all(&folder).expect("a folder");
    let lock = File::create(folder.join("lock")).expect("a lock");
    let _held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).expect("a lock");
    let (kernel, initrd, init) = (folder.join("kernel"), folder.join("initrd"), folder.join("init"));
    if !kernel.exists() || fs::read_to_string(&init).unwrap_or_default() != INIT {
        let from = tempfile::tempdir_in(&folder).expect("a folder");
        let (root, version) = distribution_kernel(from.path());
        make_initrd(&root, &version, from.path(), &initrd);
        fs::copy(root.join("boot").join(format!("vmlinuz-{version}")), folder.join("kernel.new"))
            .expect("the kernel");
        fs::rename(folder.join("kernel.new"), &kernel).expect("the kernel");
        // The last, so that what was made halfway is made again.
        fs::write(&init, INIT).expect("a note of what it was made of");
    }
    (kernel, initrd)
}

/// The root folder and version of a kernel with its modules: the host's own, or the one that apt has.
fn distribution_kernel(scratch: &Path) -> (PathBuf, String) {
    let host = fs::read_dir("/boot").into_iter().flatten().flatten();
    let version =
        host.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("vmlinuz-").map(str::to_owned));
    if let Some(version) = version.filter(|v| Path::new("/lib/modules").join(v).join("kernel").is_dir()).max()
    {
        return (PathBuf::from("/"), version);
    }
    let meta = "linux-image-cloud-amd64";
    let package = run("/usr/bin/apt-cache", &["depends", "--important", meta])
        .expect("apt knows a kernel for clouds")
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: ").map(str::to_owned))
        .expect("a kernel package");
    let script = "cd \"$1\" && apt-get download -q \"$2\" >&2 && dpkg-deb -x ./*.deb root";
    let text = scratch.to_str().expect("UTF-8");
    run("/bin/sh", &["-ec", script, "sh", text, &package]).expect("a kernel from apt");
    (scratch.join("root"), package.trim_start_matches("linux-image-").to_owned())
}

fn make_initrd(root: &Path, version: &str, scratch: &Path, to: &Path) {
    let tree = scratch.join("tree");
    for folder in ["bin", "proc", "sys", "dev", "modules"] {
        fs::create_dir_all(tree.join(folder)).expect("a folder");
    }
    fs::copy("/usr/bin/busybox", tree.join("bin/busybox"))
        .expect("busybox-static (packaging/host-packages run)");
    symlink("busybox", tree.join("bin/sh")).expect("a link");
    let modules = root.join("lib/modules").join(version).join("kernel/drivers");
    // What a kernel has built in, it has no file of.
    for module in ["acpi/button.ko", "input/evdev.ko"] {
        let file = modules.join(module);
        if file.exists() {
            let name = file.file_name().expect("a name");
            fs::copy(&file, tree.join("modules").join(name)).expect("a module");
        }
    }
    fs::write(tree.join("init"), INIT).expect("init");
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755)).expect("init");
    let script = "cd \"$1\" && find . | cpio --quiet -o -H newc >\"$2\"";
    let new = scratch.join("initrd");
    let paths = [tree.to_str().expect("UTF-8"), new.to_str().expect("UTF-8")];
    run("/bin/sh", &["-ec", script, "sh", paths[0], paths[1]]).expect("cpio (packaging/host-packages run)");
    fs::copy(&new, to).expect("the initrd");
}
