//! The recipe `debian-12`: a small Debian with systemd, cloud-init, the guest agent and sshd, made by mmdebstrap.
//!
//! mmdebstrap runs in a mount and process namespace of its own, so that what it mounts in the new tree is gone when it
//! ends, however it ends: scratch space can always be removed without reaching the host's /dev. What is then written
//! into the tree is in `debian/`; nothing of the new tree is run by us.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apt::{RELEASE, host_sources};
use super::busybox::busybox;
use super::cpio::Archive;
use super::kernel::Kernel;
use super::{Dish, Kitchen};
use crate::exec::Program;
use crate::image::ImageError;
use crate::image::host::run::{failed, files, report};

const LONGEST: Duration = Duration::from_secs(30 * 60);
const MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_rng", "ext4"];
const PACKAGES: [&str; 16] = [
    "ca-certificates",
    "cloud-init",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "less",
    "libpam-systemd",
    "linux-image-cloud-amd64",
    "netbase",
    "openssh-server",
    "qemu-guest-agent",
    "sudo",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
];
/// Units that would look for something outside, or for hardware that a guest does not have.
const MASKED: [&str; 6] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "getty@tty1.service",
    "systemd-pstore.service",
];

pub(super) async fn build(kitchen: &Kitchen<'_>) -> Result<PathBuf, ImageError> {
    let root = kitchen.scratch.join("root");
    bootstrap(kitchen, &root, &PACKAGES).await?;
    report(kitchen.work, "setting up the system", 0, None, "steps");
    let (tree, program) = (root.clone(), kitchen.guest_program.clone());
    files("setting up the system", move || {
        set_up(&tree)?;
        program.map_or(Ok(()), |program| add_guest_program(&tree, &program))
    })
    .await?;
    let kernel = Kernel::find(kitchen, &root).await?;
    let initrd = initrd(kitchen, &kernel).await?;
    report(kitchen.work, "making the disk", 0, None, "steps");
    kitchen
        .plate(Dish {
            kernel: &kernel.image,
            initrd,
            cmdline: "root=LABEL=root ro console=ttyS0 quiet net.ifnames=0",
            content: &root,
            label: "root",
            size: 2 << 30,
        })
        .await
}

pub(super) async fn bootstrap(
    kitchen: &Kitchen<'_>,
    root: &Path,
    packages: &[&str],
) -> Result<(), ImageError> {
    const STEP: &str = "installing packages";
    let list = kitchen.scratch.join("agentd.list");
    let (lines, written) = (host_sources(kitchen.mirror.clone()).await?, list.clone());
    files(STEP, move || std::fs::write(written, lines.join("\n") + "\n")).await?;
    let mut options = vec!["Acquire::Languages \"none\"".to_owned(), "Acquire::Retries \"3\"".to_owned()];
    options.extend(proxies(kitchen).await?);
    let program = kitchen
        .contained("mmdebstrap")?
        // An initrd of the distribution's own would take a quarter of the time and never be booted.
        .env("INITRD", "No")
        .args(["--mode=root", "--variant=minbase", "--format=directory", "--verbose"])
        .args(options.iter().map(|option| format!("--aptopt={option}")))
        .args(["--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/doc/*"])
        .args([
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            "--dpkgopt=path-exclude=/usr/share/man/*",
        ])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/info/*"])
        .arg(format!("--include={}", packages.join(",")))
        .arg(RELEASE)
        .arg(root)
        .arg(list)
        .deadline(LONGEST);
    let mut meter = Meter::default();
    let run = program.run_watched(|line| {
        if meter.line(line) {
            report(kitchen.work, meter.step, meter.done, meter.total, "packages");
        }
    });
    run.await.map_err(|error| failed(STEP, error))?;
    Ok(())
}

/// Reads off mmdebstrap's and apt's talk how far they are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meter {
    step: &'static str,
    done: u64,
    total: Option<u64>,
}

impl Meter {
    /// True where the line changed something.
    fn line(&mut self, line: &str) -> bool {
        const STEPS: [(&str, &str); 6] = [
            ("I: running apt-get update", "reading the package lists"),
            ("I: downloading packages", "fetching packages"),
            ("I: extracting archives", "unpacking the base system"),
            ("I: installing essential", "installing the base system"),
            ("I: installing remaining", "installing packages"),
            ("I: cleaning", "cleaning up"),
        ];
        if let Some((_, step)) = STEPS.iter().find(|(begins, _)| line.starts_with(begins)) {
            *self = Self { step, done: 0, total: None };
        } else if let Some(number) = line.split(" newly installed").next().filter(|rest| *rest != line) {
            // Each is unpacked and then set up.
            self.total = number.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).map(|n| n * 2);
        } else if line.starts_with("Unpacking ") || line.starts_with("Setting up ") {
            self.done = self.total.map_or(self.done + 1, |total| total.min(self.done + 1));
        } else {
            return false;
        }
        !self.step.is_empty()
    }
}

/// The host's proxies, as apt.conf has them; mmdebstrap reads no apt.conf of the host's.
async fn proxies(kitchen: &Kitchen<'_>) -> Result<Vec<String>, ImageError> {
    let dump = Program::new("apt-config").args(["dump", "Acquire"]);
    let text = kitchen.run("reading the host's proxy", dump).await?;
    Ok(proxy_options(&String::from_utf8_lossy(&text)))
}

fn proxy_options(dump: &str) -> Vec<String> {
    let proxy = |line: &&str| {
        let key = line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        key.starts_with("acquire::http") && key.contains("::proxy")
    };
    let line = |line: &str| line.trim().trim_end_matches(';').to_owned();
    dump.lines().filter(proxy).map(line).filter(|l| !l.ends_with("\"\"")).collect()
}

/// Removes what mmdebstrap set for the build alone.
pub(super) fn forget_build(root: &Path) -> std::io::Result<()> {
    for path in ["etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap"] {
        match std::fs::remove_file(root.join(path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Writes what makes the tree a guest of ours.
fn set_up(root: &Path) -> std::io::Result<()> {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
    };
    let remove = |path: &str| match std::fs::remove_file(root.join(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    write("etc/cloud/cloud.cfg.d/90-agentd.cfg", include_str!("debian/cloud.cfg"))?;
    write("etc/systemd/resolved.conf.d/agentd.conf", include_str!("debian/resolved.conf"))?;
    write("etc/udev/rules.d/80-agentd-plugged.rules", include_str!("debian/plugged.rules"))?;
    write("etc/systemd/network/zz-agentd-plugged.network", include_str!("debian/plugged.network"))?;
    write("etc/fstab", "LABEL=root / ext4 errors=remount-ro 0 1\n")?;
    write("etc/hostname", "debian\n")?;
    write("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")?;
    // Empty, so that the first boot makes one; the same for the host keys, which cloud-init makes.
    write("etc/machine-id", "")?;
    for name in
        std::fs::read_dir(root.join("etc/ssh"))?.filter_map(|e| e.ok()?.file_name().into_string().ok())
    {
        if name.starts_with("ssh_host_") {
            remove(&format!("etc/ssh/{name}"))?;
        }
    }
    forget_build(root)?;
    let units = root.join("etc/systemd/system");
    let point = |target: &str, name: String| {
        let link = units.join(name);
        link.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(target, link)
    };
    // What is in these two is up to date with /usr: else the first boot would build the hardware database, the
    // linker's cache and the message catalogue again, each of them slow.
    write("etc/.updated", "")?;
    write("var/.updated", "")?;
    for unit in MASKED {
        point("/dev/null", unit.to_owned())?;
        for target in ["timers", "multi-user", "getty", "sysinit"] {
            remove(&format!("etc/systemd/system/{target}.target.wants/{unit}"))?;
        }
    }
    for (target, unit) in [
        ("multi-user.target.wants", "systemd-networkd.service"),
        ("sockets.target.wants", "systemd-networkd.socket"),
        ("network-online.target.wants", "systemd-networkd-wait-online.service"),
    ] {
        point(&format!("/lib/systemd/system/{unit}"), format!("{target}/{unit}"))?;
    }
    Ok(())
}

/// agentd's own program, and the unit that starts it.
fn add_guest_program(root: &Path, program: &[u8]) -> std::io::Result<()> {
    let (file, units) = (root.join("usr/local/sbin/agentd-guest"), root.join("etc/systemd/system"));
    std::fs::write(&file, program)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    let wants = units.join("multi-user.target.wants");
    std::fs::create_dir_all(&wants)?;
    std::fs::write(units.join(crate::volume::GUEST_UNIT_NAME), crate::volume::GUEST_UNIT)?;
    symlink(
        Path::new("/etc/systemd/system").join(crate::volume::GUEST_UNIT_NAME),
        wants.join(crate::volume::GUEST_UNIT_NAME),
    )
}

/// The initrd: busybox of the tree or the host, and a script that finds the root by its label.
async fn initrd(kitchen: &Kitchen<'_>, kernel: &Kernel) -> Result<Vec<u8>, ImageError> {
    const APPLETS: [&str; 8] =
        ["sh", "mount", "modprobe", "xargs", "findfs", "switch_root", "usleep", "poweroff"];
    let (busybox, _) = busybox(kitchen, None, &APPLETS).await?;
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "lib", "proc", "root", "sys"] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.program("bin/busybox", &busybox);
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.program("init", include_bytes!("debian/init"));
    kernel.add_modules(kitchen, &mut archive, &[("order", &MODULES)]).await?;
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_is_read_off_what_is_said() {
        let mut meter = Meter::default();
        assert!(!meter.line("Unpacking base-files"));
        for line in [
            "I: installing remaining packages inside the chroot...",
            "0 upgraded, 69 newly installed, 0 to remove and 0 not upgraded.",
            "Unpacking cloud-init (22.4.2-1+deb12u3) ...",
            "Setting up cloud-init (22.4.2-1+deb12u3) ...",
        ] {
            assert!(meter.line(line), "{line}");
        }
        assert!(!meter.line("Get:1 http://deb.debian.org ..."));
        assert_eq!(meter, Meter { step: "installing packages", done: 2, total: Some(138) });
    }

    #[test]
    fn proxies_are_taken_from_apt_and_nothing_else() {
        let dump = "Acquire \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://p:3128\";\nAcquire::https::Proxy::host \"DIRECT\";\nAcquire::Retries \"5\";\n";
        assert_eq!(
            proxy_options(dump),
            ["Acquire::http::Proxy \"http://p:3128\"", "Acquire::https::Proxy::host \"DIRECT\""]
        );
    }
}
