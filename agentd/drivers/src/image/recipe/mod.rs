//! How images are built from a distribution's packages.
//!
//! A recipe works in a scratch folder that is empty when it begins and answers a folder with a disk, a kernel, an
//! initrd of ours and a command line. Packages come from the host's own apt sources as far as they are Debian's, at
//! the release that the recipe is for; nothing of the host's package state is read, locked or changed.
//!
//! Both boot by an initrd of ours, plain and uncompressed, that carries the few modules a guest here needs: an emulated
//! CPU has loaded it in the time in which it would unpack the distribution's. The kernel stays packed, though an emulated CPU
//! unpacks it for a second: of one that is not, QEMU lays the initrd over the ACPI tables where these are large (a TPM).

mod apt;
mod busybox;
mod cpio;
mod debian;
mod kernel;
mod micro;
mod sources;
mod tree;

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentd_api::image::Recipe;

use super::host::run::{contained, failed, files, program, report};
use super::host::store::{CMDLINE, DISK, INITRD, KERNEL, fresh_folder};
use super::{ImageError, Work};
use crate::exec::Program;

pub(super) use tree::{Tree, tree};

/// Programs that recipes run, and the packages that bring them.
pub(super) const NEEDS: [(&str, &str); 8] = [
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("depmod", "kmod"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("unshare", "util-linux"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// What Debian's archive signs its lists with.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where a recipe works, and for whom.
pub(super) struct Kitchen<'a> {
    /// Empty at the beginning.
    pub scratch: PathBuf,
    pub mirror: Option<String>,
    /// agentd's own program, which the image's guests run.
    pub guest_program: Option<Vec<u8>>,
    pub work: &'a Work,
}

pub(super) async fn build(recipe: Recipe, kitchen: &Kitchen<'_>) -> Result<PathBuf, ImageError> {
    if std::env::consts::ARCH != "x86_64" {
        let why = format!("{} is built on x86-64 only, and this host is not", recipe.as_str());
        return Err(ImageError::Refused(why));
    }
    match recipe {
        Recipe::Micro => micro::build(kitchen).await,
        Recipe::Debian12 => debian::build(kitchen).await,
    }
}

impl Kitchen<'_> {
    fn step(&self, text: &str, done: u64, total: u64) {
        report(self.work, text, done, Some(total), "steps");
    }
    fn program(&self, name: &str) -> Result<Program, ImageError> {
        Ok(program(name, self.work)?.deadline(Duration::from_secs(600)))
    }
    fn contained(&self, name: &str) -> Result<Program, ImageError> {
        contained(name, self.work)
    }
    async fn run(&self, step: &str, program: Program) -> Result<Vec<u8>, ImageError> {
        program.run().await.map_err(|error| failed(step, error))
    }

    /// Makes the image's folder: an ext4 of `size` bytes with what is in `content`, the kernel, the initrd.
    async fn plate(&self, dish: Dish<'_>) -> Result<PathBuf, ImageError> {
        const STEP: &str = "making the disk";
        let (folder, raw) = (self.scratch.join("content"), self.scratch.join("disk.raw"));
        let (made, sparse, size) = (folder.clone(), raw.clone(), dish.size);
        let (kernel, initrd) = (dish.kernel.to_owned(), dish.initrd);
        let cmdline = format!("{}\n", dish.cmdline);
        files(STEP, move || {
            fresh_folder(made.clone())?;
            std::fs::File::create(&sparse)?.set_len(size)?;
            std::fs::copy(kernel, made.join(KERNEL))?;
            std::fs::write(made.join(INITRD), initrd)?;
            std::fs::write(made.join(CMDLINE), cmdline)
        })
        .await?;
        let mkfs = self
            .program("mkfs.ext4")?
            .args(["-q", "-F", "-m", "1", "-E", "nodiscard", "-L", dish.label, "-d"])
            .arg(dish.content)
            .arg(&raw);
        self.run(STEP, mkfs).await?;
        let convert = self
            .program("qemu-img")?
            .args(["convert", "-q", "-f", "raw", "-O", "qcow2"])
            .arg(&raw)
            .arg(folder.join(DISK));
        self.run(STEP, convert).await?;
        files(STEP, move || std::fs::remove_file(raw)).await?;
        Ok(folder)
    }
}

/// What an image is made of.
struct Dish<'a> {
    kernel: &'a Path,
    initrd: Vec<u8>,
    cmdline: &'a str,
    /// A folder; its owners and modes become the disk's.
    content: &'a Path,
    label: &'a str,
    size: u64,
}
