//! Disks of a domain beside its root disk and its seed: plugged and unplugged while the guest runs, grown under it, and
//! the medium in its CD-ROM drive.
//!
//! A disk is known by its serial, which the guest sees too (`/sys/block/*/serial`, `/dev/disk/by-id`). The name of its
//! device (vdc, ...) is whatever was free when it was plugged, and is only ever read from the domain, never worked out
//! from a place in a list: an unplugged disk leaves a gap, and the others keep their names.

use std::path::PathBuf;

use agentd_api::ByteSize;
use async_trait::async_trait;
use uuid::Uuid;

use super::{Change, VmError};

/// The serials of the disk that the guest boots from and of its seed.
pub const ROOT: &str = "root";
pub const SEED: &str = "seed";

/// A serial is at most so long: virtio carries no more.
pub const SERIAL_MAX: usize = 20;

/// The serial of a volume: the last 20 of its id's digits, which hold all that is random in it.
pub fn volume_serial(volume: Uuid) -> String {
    volume.simple().to_string().split_off(32 - SERIAL_MAX)
}

/// The serial of the n-th of the VM's own further disks, counted from 1.
pub fn own_serial(number: usize) -> String {
    format!("disk-{number}")
}

/// Where a disk's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskSource {
    File(PathBuf),
    /// A block device of the host.
    Block(PathBuf),
}

impl DiskSource {
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::File(path) | Self::Block(path) => path,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskFormat {
    Qcow2,
    Raw,
}

impl DiskFormat {
    /// As QEMU names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// A disk as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDisk {
    pub serial: String,
    pub source: DiskSource,
    pub format: DiskFormat,
    pub read_only: bool,
}

/// A CD-ROM drive, and the disc in it: a qcow2 file, as every image is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cdrom {
    pub medium: Option<PathBuf>,
}

/// A disk of any sort as the domain has it: the running one where it runs, else the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSeen {
    /// As vdc: the guest of a domain that has only virtio disks names it so too, if it names in the order of discovery.
    pub target: String,
    /// None for a drive without a medium.
    pub source: Option<PathBuf>,
    /// None where somebody else plugged it.
    pub serial: Option<String>,
    pub read_only: bool,
    pub cdrom: bool,
}

/// What became of a disk that was to be unplugged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplugged {
    /// The domain does not have it (any more), running or defined.
    Gone,
    /// The guest was asked and has not let go of it. It may at any time, which is told as an event; asking again is
    /// harmless.
    Asked,
}

#[async_trait]
pub trait VmDisks: Send + Sync {
    /// Plugs a disk into the running guest and into its definition. AlreadySo where the guest has it. Conflict where it
    /// has another file under that serial; Capacity where no slot is free until the guest is started anew; Failed where
    /// the guest is off.
    async fn attach_disk(&self, id: Uuid, disk: &DomainDisk) -> Result<Change, VmError>;
    /// Asks the running guest to let go of the disk of that serial, and takes it out of the definition. Waits some seconds
    /// for the guest.
    async fn detach_disk(&self, id: Uuid, serial: &str) -> Result<Unplugged, VmError>;
    /// Grows the disk of that serial or target under the running guest, which sees it at once. AlreadySo where it is as
    /// large; never shrinks. Failed where the guest is off, NoDisk where it has
    /// no such disk.
    async fn resize_disk(&self, id: Uuid, disk: &str, size: ByteSize) -> Result<Change, VmError>;
    /// Puts an ISO into the running guest's drive, or takes out what is in it. Unsupported where it has no drive, Failed
    /// where the guest holds the tray.
    async fn change_medium(&self, id: Uuid, medium: Option<PathBuf>) -> Result<Change, VmError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_fit_and_differ_between_volumes_made_at_once() {
        let ids: Vec<Uuid> = (0..64).map(|_| Uuid::now_v7()).collect();
        let serials: std::collections::BTreeSet<String> = ids.iter().map(|id| volume_serial(*id)).collect();
        assert_eq!(serials.len(), ids.len());
        assert!(serials.iter().all(|s| s.len() == SERIAL_MAX));
        assert!(own_serial(64).len() <= SERIAL_MAX);
    }
}
