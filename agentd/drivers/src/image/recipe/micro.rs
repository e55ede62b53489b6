//! The recipe `micro`: the distribution's kernel and busybox, in an initrd that is the whole system, and a small disk
//! for what it keeps. It is what tests boot, so it tells about itself over HTTP (see `micro/*.cgi`), says on the console
//! what it does, and powers off when ACPI asks it to.

use std::path::PathBuf;

use super::apt::Apt;
use super::busybox::busybox;
use super::cpio::Archive;
use super::kernel::Kernel;
use super::{Dish, Kitchen};
use crate::image::ImageError;
use crate::image::host::run::files;

const STEPS: u64 = 6;
/// Without these there is no disk, no network and no power button. Loaded before anything else.
const EARLY: [&str; 6] = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "button", "evdev"];
/// Loaded while DHCP is under way.
const LATE: [&str; 9] = [
    "pvpanic_mmio",
    "virtio_balloon",
    "virtio_console",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    // For a CD-ROM drive.
    "virtio_scsi",
    "sr_mod",
];
/// Nothing in this guest is worth the mitigations, and an emulated CPU is slow enough: what it does not need is left out
/// of its boot. Unplugging goes by ACPI here, not by the PCIe port services.
const CMDLINE: [&str; 14] = [
    "console=ttyS0",
    "quiet",
    "edd=off",
    "mitigations=off",
    "audit=0",
    "nokaslr",
    "cryptomgr.notests",
    "lsm=capability",
    "noreplace-smp",
    "pcie_ports=compat",
    "8250.nr_uarts=1",
    "i8042.noaux",
    "i8042.nokbd",
    // Tables for tracing and of each slab, self-tests of a key derivation, keys that modules are signed by; and what
    // would have all type information of the kernel read: one TCP variant, functions for BPF, and each module.
    "initcall_blacklist=init_kprobe_trace,slab_sysfs_init,crypto_kdf108_init,load_system_certificate_list,\
     cubictcp_register,bpf_rstat_kfunc_init,kfunc_init,bpf_prog_test_run_init,bpf_tcp_ca_kfunc_init,\
     bpf_key_sig_kfuncs_init,btf_module_init",
];
/// What the guest's scripts use.
const APPLETS: [&str; 9] =
    ["httpd", "udhcpc", "acpid", "nslookup", "wget", "modprobe", "findfs", "cttyhack", "uevent"];

pub(super) async fn build(kitchen: &Kitchen<'_>) -> Result<PathBuf, ImageError> {
    kitchen.step("reading the package lists", 0, STEPS);
    let apt = Apt::open(kitchen).await?;
    kitchen.step("fetching the kernel", 1, STEPS);
    let root = kitchen.scratch.join("root");
    let package = apt.newest_kernel("linux-image-cloud-amd64").await?;
    apt.unpack(&package, &root).await?;
    kitchen.step("fetching busybox", 2, STEPS);
    let (busybox, applets) = busybox(kitchen, Some(&apt), &APPLETS).await?;
    kitchen.step("making the initrd", 3, STEPS);
    let kernel = Kernel::find(kitchen, &root).await?;
    let initrd = initrd(kitchen, &kernel, &busybox, &applets).await?;
    kitchen.step("making the disk", 4, STEPS);
    let empty = kitchen.scratch.join("empty");
    let made = empty.clone();
    files("making the disk", move || std::fs::create_dir(made)).await?;
    let folder = kitchen
        .plate(Dish {
            kernel: &kernel.image,
            initrd,
            cmdline: &CMDLINE.join(" "),
            content: &empty,
            label: "micro",
            size: 64 << 20,
        })
        .await?;
    kitchen.step("storing the image", 5, STEPS);
    Ok(folder)
}

async fn initrd(
    kitchen: &Kitchen<'_>,
    kernel: &Kernel,
    busybox: &[u8],
    applets: &[String],
) -> Result<Vec<u8>, ImageError> {
    let mut archive = Archive::default();
    for folder in [
        "bin",
        "data",
        "dev",
        "etc",
        "etc/acpi",
        "etc/acpi/PWRF",
        "lib",
        "proc",
        "root",
        "run",
        "sbin",
        "seed",
        "sys",
        "tmp",
        "www",
        "www/cgi-bin",
    ] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.program("bin/busybox", busybox);
    // An applet's name is never a path.
    for applet in applets.iter().filter(|a| !a.contains('/') && *a != "busybox") {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    for (path, text) in [
        ("init", include_str!("micro/init")),
        ("etc/dhcp", include_str!("micro/dhcp")),
        ("etc/acpi/PWRF/00000080", include_str!("micro/power")),
        ("sbin/power-off", include_str!("micro/power-off")),
        ("sbin/devices", include_str!("micro/devices")),
        ("sbin/nic", include_str!("micro/nic")),
        ("sbin/plugged", include_str!("micro/plugged")),
        ("www/cgi-bin/index.cgi", include_str!("micro/index.cgi")),
        ("www/cgi-bin/devices", include_str!("micro/devices.cgi")),
        ("www/cgi-bin/resolve", include_str!("micro/resolve.cgi")),
        ("www/cgi-bin/get", include_str!("micro/get.cgi")),
        ("www/cgi-bin/write", include_str!("micro/write.cgi")),
        ("www/cgi-bin/disk", include_str!("micro/disk.cgi")),
    ] {
        archive.program(path, text.as_bytes());
    }
    let mut inittab = include_str!("micro/inittab").to_owned();
    if let Some(program) = &kitchen.guest_program {
        archive.program("sbin/agentd-guest", program);
        inittab.push_str("::respawn:/sbin/agentd-guest\n");
    }
    archive.file("etc/inittab", inittab.as_bytes());
    archive.file("etc/hosts", b"127.0.0.1 localhost\n");
    archive.file("etc/nsswitch.conf", b"hosts: files dns\n");
    archive.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n");
    kernel.add_modules(kitchen, &mut archive, &[("early", &EARLY), ("late", &LATE)]).await?;
    Ok(archive.finish())
}
