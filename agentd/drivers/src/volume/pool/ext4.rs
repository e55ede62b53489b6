//! The file system of volumes for containers.
//!
//! It is made in a file that has not got its name yet, so that no file that has ever been given out is formatted. It is
//! grown by the kernel, which needs it mounted: that is done in a mount namespace of a thread, which nobody else sees, and
//! which is gone with the thread however that ends. So it does not matter in whose namespace the engine has it mounted, or
//! whether it has. A daemon without the capability CAP_SYS_RESOURCE is not let do that; it grows by resize2fs what nobody
//! has mounted.

#![expect(unsafe_code, reason = "a file system is grown only through ioctl")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use uuid::Uuid;

use crate::exec::{ExecError, Program};
use crate::volume::VolumeError;
use crate::volume::host::{blocking, failed};

const GROW: &str = "growing the file system";

// _IOW('f', 16, __u64): how many blocks it is to have.
nix::ioctl_write_ptr!(resize, b'f', 16, u64);

/// Where the superblock is, and in it: blocks (low), the block size as a power of two above 1 KiB, the magic number, what
/// it is incompatible with, blocks (high).
const SUPERBLOCK: u64 = 1024;
const BLOCKS: usize = 0x4;
const BLOCK_SIZE: usize = 0x18;
const MAGIC: usize = 0x38;
const INCOMPATIBLE: usize = 0x60;
const BLOCKS_HIGH: usize = 0x150;
const INCOMPATIBLE_64BIT: u32 = 0x80;

/// Makes one as large as the file, with nothing in it and no part of it kept for root.
pub(super) async fn make(file: &Path, id: Uuid) -> Result<(), ExecError> {
    let make = Program::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-m", "0", "-U"]).arg(id.to_string());
    make.arg(file).deadline(Duration::from_secs(600)).run().await?;
    // e2fsck makes it anew where it needs one.
    Program::new("debugfs").args(["-w", "-R", "rmdir lost+found"]).arg(file).run().await.map(drop)
}

/// How many bytes it has, by its superblock.
pub(super) fn size(file: &Path) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut block = [0u8; 1024];
    File::open(file)?.read_exact_at(&mut block, SUPERBLOCK)?;
    let number = |at: usize, length: usize| {
        block[at..at + length].iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte))
    };
    if number(MAGIC, 2) != 0xef53 {
        let text = format!("{} holds no ext4: it is damaged", file.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let wide = number(INCOMPATIBLE, 4) & u64::from(INCOMPATIBLE_64BIT) != 0;
    let high = if wide { number(BLOCKS_HIGH, 4) } else { 0 };
    let blocks = high << 32 | number(BLOCKS, 4);
    Ok(blocks.saturating_mul(1024 << number(BLOCK_SIZE, 4).min(6)))
}

/// Grows the file system on that device to so many bytes, which the device has. It is mounted at `at` for that, which is a
/// folder, seen by no one else.
pub(super) async fn grow(device: &Path, at: &Path, bytes: u64) -> Result<(), VolumeError> {
    let (of, at) = (device.to_owned(), at.to_owned());
    let refused = blocking(GROW, move || match in_the_kernel(&of, &at, bytes) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(true),
        end => end.map(|()| false),
    });
    if !refused.await? {
        return Ok(());
    }
    let of = device.to_owned();
    let mounted = blocking(GROW, move || is_mounted(&of)).await?;
    if mounted {
        let detail = "a container runs that has it mounted, and without CAP_SYS_RESOURCE agentd may grow only what nobody \
                      has mounted";
        return Err(VolumeError::Failed { step: GROW.to_owned(), detail: detail.to_owned() });
    }
    let limit = Duration::from_secs(600);
    match Program::new("e2fsck").args(["-f", "-p"]).arg(device).deadline(limit).run().await {
        // What was amiss is mended.
        Err(ExecError::Status { status, .. }) if status.ends_with(": 1") => {}
        end => drop(end.map_err(|error| failed(GROW, error))?),
    }
    let grown = Program::new("resize2fs").arg(device).deadline(limit).run().await;
    grown.map(drop).map_err(|error| failed(GROW, error))
}

/// By anybody, in any mount namespace.
fn is_mounted(device: &Path) -> io::Result<bool> {
    use std::os::unix::fs::OpenOptionsExt;
    let alone = File::options().read(true).custom_flags(nix::libc::O_EXCL).open(device);
    match alone {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(true),
        Err(error) => Err(error),
    }
}

fn in_the_kernel(device: &Path, at: &Path, bytes: u64) -> io::Result<()> {
    let (device, at) = (device.to_owned(), at.to_owned());
    // A thread of its own: a namespace cannot be left again.
    let thread = std::thread::Builder::new().name("ext4".to_owned()).spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(&device), &at, Some("ext4"), flags, None::<&str>)?;
        let grown = grow_mounted(&at, bytes);
        // Before the thread ends, so that the device is free when this returns.
        let unmounted = umount2(&at, MntFlags::empty());
        grown.and(unmounted.map_err(io::Error::from))
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("it broke off")))
}

fn grow_mounted(at: &Path, bytes: u64) -> io::Result<()> {
    let folder = File::open(at)?;
    let block = nix::sys::statfs::fstatfs(&folder)?.block_size();
    let blocks = bytes / u64::try_from(block).unwrap_or(4096).max(1024);
    // SAFETY: the descriptor is open, and the kernel reads a number that lives until the call returns.
    unsafe { resize(folder.as_raw_fd(), &raw const blocks) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_size_is_read_and_what_is_none_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        for size in [16 << 20, 700 << 20] {
            std::fs::File::create(&file).expect("a file").set_len(size).expect("its length");
            make(&file, Uuid::now_v7()).await.expect("made");
            assert_eq!(super::size(&file).expect("read"), size);
            let check =
                Program::new("e2fsck").args(["-f", "-n"]).arg(&file).run().await.expect("it is sound");
            let names = Program::new("debugfs").args(["-R", "ls -p"]).arg(&file).run().await.expect("listed");
            let (check, names) = (String::from_utf8_lossy(&check), String::from_utf8_lossy(&names));
            assert!(!names.contains("lost+found"), "{check}\n{names}");
        }
        std::fs::write(&file, vec![0; 4096]).expect("a file");
        assert!(super::size(&file).is_err());
    }
}
