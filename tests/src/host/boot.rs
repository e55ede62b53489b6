//! A disk that boots by itself, for guests that are not started directly: the kernel and the user space of `micro` on one
//! FAT partition, with GRUB for the BIOS, and the distribution's signed shim and GRUB for UEFI.
//!
//! The boot loaders come from the host's own package sources, checked by apt, unpacked and not installed. They are
//! fetched once for each build of agentd.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use nix::fcntl::{Flock, FlockArg};

use super::namespace::run;
use super::{Agentd, daemon::binary};
use crate::door;

const PACKAGES: [&str; 4] = ["grub-common", "grub-pc-bin", "grub-efi-amd64-signed", "shim-signed"];
/// What GRUB for the BIOS does first: what it says is to be seen.
const EARLY: &str =
    "serial --unit=0 --speed=115200\nterminal_output serial\nset root=(hd0,msdos1)\nsource /boot/bios.cfg\n";
const SECTOR: u64 = 512;
/// Where the partition begins, in sectors: what is before it is the BIOS's.
const FIRST: u64 = 2048;
const SECTORS: u64 = 160 << 11;

/// Writes the disk to `disk`.
pub fn write_disk(agentd: &Agentd, scratch: &Path, disk: &Path) {
    make(agentd, scratch, disk).unwrap_or_else(|error| panic!("a disk with boot loaders: {error:#}"));
}

fn make(agentd: &Agentd, scratch: &Path, disk: &Path) -> Result<()> {
    let loaders = loaders()?;
    let image = fs::read_dir(agentd.state().join("images"))?.next().context("the image micro")??.path();
    let read = |name: &str| fs::read(image.join(name)).with_context(|| name.to_owned());
    let (kernel, initrd) = (read("kernel")?, read("initrd")?);
    let cmdline = String::from_utf8(read("cmdline")?)?;
    let cmdline = format!("{} no_timer_check", cmdline.trim());
    let grub = loaders.join("usr/lib/grub");
    let files = [
        ("vmlinuz", kernel.clone()),
        ("changed", changed(kernel)),
        ("initrd", initrd),
        ("boot/bios.cfg", entry("vmlinuz", &cmdline).into_bytes()),
        ("EFI/debian/grub.cfg", uefi_entries(&cmdline).into_bytes()),
        ("EFI/BOOT/BOOTX64.EFI", fs::read(loaders.join("usr/lib/shim/shimx64.efi.signed"))?),
        ("EFI/BOOT/grubx64.efi", fs::read(grub.join("x86_64-efi-signed/grubx64.efi.signed"))?),
    ];
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(disk)?;
    file.set_len((FIRST + SECTORS) * SECTOR)?;
    file.write_all(&first_sectors(&grub.join("i386-pc"), &loaders, scratch)?)?;
    let mut part = Partition { file, at: 0 };
    fatfs::format_volume(&mut part, FormatVolumeOptions::new())?;
    let fs = FileSystem::new(&mut part, FsOptions::new())?;
    for (path, content) in &files {
        let mut folder = fs.root_dir();
        let mut names: Vec<&str> = path.split('/').collect();
        let name = names.pop().unwrap_or_default();
        for step in names {
            folder = folder.create_dir(step)?;
        }
        let mut file = folder.create_file(name)?;
        file.write_all(content)?;
        file.flush()?;
    }
    fs.unmount()?;
    Ok(())
}

/// The kernel with a byte changed in the header that DOS would read: it boots as before, and nobody has signed it.
fn changed(mut kernel: Vec<u8>) -> Vec<u8> {
    kernel[8] ^= 1;
    kernel
}

fn entry(kernel: &str, cmdline: &str) -> String {
    format!("linux /{kernel} {cmdline} started={kernel}\ninitrd /initrd\nboot\n")
}

/// The changed kernel where it is let, else the one that is signed.
fn uefi_entries(cmdline: &str) -> String {
    // With secure boot a kernel insists on its integrity measures, which `micro` leaves out.
    let cmdline = &cmdline.replace("lsm=capability ", "").replace("load_system_certificate_list,", "");
    let (changed, signed) = (entry("changed", cmdline), entry("vmlinuz", cmdline));
    let (first, rest) = changed.split_once('\n').expect("lines");
    format!("search --no-floppy --file --set=root /vmlinuz\nif {first}; then\n{rest}fi\n{signed}")
}

/// The boot sector with the partition in it, and behind it GRUB, which finds its configuration on the partition.
fn first_sectors(grub: &Path, loaders: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let (early, core) = (scratch.join("early.cfg"), scratch.join("core.img"));
    fs::write(&early, EARLY)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut arguments =
        vec!["-O", "i386-pc", "-p", "/boot"].into_iter().map(str::to_owned).collect::<Vec<_>>();
    arguments.extend(["-d".to_owned(), text(grub), "-c".to_owned(), text(&early)]);
    arguments.extend(["-o".to_owned(), text(&core)]);
    arguments.extend(
        ["biosdisk", "part_msdos", "fat", "linux", "configfile", "boot", "serial", "terminal"]
            .map(str::to_owned),
    );
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&text(&loaders.join("usr/bin/grub-mkimage")), &arguments)?;
    let mut sectors = fs::read(grub.join("boot.img"))?;
    sectors.resize(512, 0);
    // Where GRUB has a program for floppies.
    sectors[446..510].fill(0);
    // Bootable, an EFI partition, without places of heads and cylinders.
    let mut partition = [0u8; 16];
    (partition[0], partition[4]) = (0x80, 0xef);
    partition[8..12].copy_from_slice(&u32::try_from(FIRST)?.to_le_bytes());
    partition[12..16].copy_from_slice(&u32::try_from(SECTORS)?.to_le_bytes());
    sectors[446..462].copy_from_slice(&partition);
    sectors[510..512].copy_from_slice(&[0x55, 0xaa]);
    sectors.extend(fs::read(core)?);
    anyhow::ensure!((sectors.len() as u64) < FIRST * SECTOR, "GRUB is too large for its place");
    Ok(sectors)
}

/// The packages, unpacked.
fn loaders() -> Result<PathBuf> {
    let folder = binary("agentd").with_file_name("host-boot-loaders");
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let whole = folder.join("whole");
    if whole.is_dir() {
        return Ok(whole);
    }
    let (apt, part) = (folder.join("apt"), folder.join("part"));
    for stale in [&apt, &part] {
        let _ = fs::remove_dir_all(stale);
    }
    fs::create_dir_all(apt.join("state/lists/partial"))?;
    fs::create_dir_all(apt.join("cache/archives/partial"))?;
    fs::write(apt.join("status"), "")?;
    let script = format!(
        "cd '{apt}' && apt='apt-get -q -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 \
         -o Acquire::http::Proxy={proxy} -o Dir::State={apt}/state -o Dir::Cache={apt}/cache \
         -o Dir::State::status={apt}/status' && $apt update && $apt download {packages} && \
         for package in *.deb; do dpkg-deb -x \"$package\" '{part}'; done",
        apt = apt.display(),
        proxy = door::PROXY,
        packages = PACKAGES.join(" "),
        part = part.display(),
    );
    run("/bin/sh", &["-c", &script])?;
    fs::rename(&part, &whole)?;
    fs::remove_dir_all(&apt)?;
    Ok(whole)
}

/// The partition as a disk of its own.
struct Partition {
    file: File,
    at: u64,
}

impl Partition {
    fn go(&mut self) -> std::io::Result<u64> {
        self.file.seek(SeekFrom::Start(FIRST * SECTOR + self.at))
    }
    fn room(&self, wanted: usize) -> usize {
        let left = (SECTORS * SECTOR).saturating_sub(self.at);
        wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
    }
}

impl Read for Partition {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.go()?;
        let room = self.room(buffer.len());
        let read = self.file.read(&mut buffer[..room])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Partition {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.go()?;
        let room = self.room(bytes.len());
        let written = self.file.write(&bytes[..room])?;
        self.at += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Partition {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => (SECTORS * SECTOR).checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
