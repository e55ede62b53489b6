//! The files of a VM on this host: its disk, a qcow2 overlay on an image, its further disks, and its cloud-init seed.
//! Volumes, which belong to no VM, are in a [`pool`].
//!
//! All of a VM's files lie in one folder named by its id, so that what belongs to nobody can be found and removing a VM
//! is removing its folder. A file appears by a rename, whole and synced, or not at all.

#[cfg(any(test, feature = "fake"))]
pub mod contract;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod host;
pub mod pool;
pub mod sets;

use std::path::PathBuf;

use agentd_api::{ByteSize, Cidr, MacAddr, ObjectName};
use async_trait::async_trait;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    pub vm: Uuid,
    /// The image's disk, a qcow2 file that is never written again.
    pub backing: PathBuf,
    /// The size that the guest sees; the image's own where absent. Refused where smaller than the image's.
    pub size: Option<ByteSize>,
}

/// What cloud-init is told. Holds secrets: has no Debug of its content, is written with mode 0600 and never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    pub vm: Uuid,
    pub hostname: ObjectName,
    /// The network's domain, where it has one.
    pub domain: Option<String>,
    pub ssh_keys: Vec<String>,
    /// The user's own user-data, given on as it is. The default (keys, growth of the disk) where absent.
    pub user_data: Option<String>,
    /// The user's own network-config, given on as it is. One made of `nics` where absent.
    pub network_config: Option<String>,
    pub nics: Vec<SeedNic>,
    /// The machine id that the guest is to take, for a disk that has another guest's.
    pub machine_id: Option<String>,
    /// Whether agentd's program for guests goes with it, for an image that does not carry it.
    pub guest_program: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedNic {
    pub mac: MacAddr,
    pub ip: std::net::Ipv4Addr,
    pub cidr: Cidr,
    pub gateway: std::net::Ipv4Addr,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seed").field("vm", &self.vm).field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

/// What a guest's UEFI keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variables {
    /// What they begin as.
    pub template: PathBuf,
    pub secure: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeSeen {
    pub disk: Option<PathBuf>,
    pub disk_size: Option<ByteSize>,
    /// Its further disks, by their numbers.
    pub further: Vec<FurtherDisk>,
    pub seed: Option<PathBuf>,
    /// Whether there is what a UEFI keeps.
    pub variables: bool,
}

impl VolumeSeen {
    /// All disks of the VM's own: what a snapshot of it holds, and what goes with it.
    pub fn own_disks(&self) -> impl Iterator<Item = &std::path::Path> {
        self.disk.iter().chain(self.further.iter().map(|disk| &disk.path)).map(PathBuf::as_path)
    }
    /// The same with their numbers; 0 is the one that is booted from.
    pub fn numbered_disks(&self) -> impl Iterator<Item = (usize, &std::path::Path)> {
        let further = self.further.iter().map(|disk| (disk.number, disk.path.as_path()));
        self.disk.iter().map(|disk| (0, disk.as_path())).chain(further)
    }
    pub fn further(&self, number: usize) -> Option<&FurtherDisk> {
        self.further.iter().find(|disk| disk.number == number)
    }
}

/// A further disk of a VM's own, a qcow2 file that stands on nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FurtherDisk {
    /// Counted from 1, as in the VM's spec.
    pub number: usize,
    pub path: PathBuf,
    pub size: ByteSize,
}

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("{0}")]
    Refused(String),
    #[error("the disk is full or cannot be written: {0}")]
    Capacity(String),
    #[error("{program} is needed for this and is not installed")]
    ProgramMissing { program: String },
    #[error("{step} failed: {detail}")]
    Failed { step: String, detail: String },
}

impl crate::Classed for VolumeError {
    fn class(&self) -> crate::Class {
        use crate::Class;
        match self {
            Self::Refused(_) => Class::Permanent,
            Self::Capacity(_) => Class::Capacity,
            Self::ProgramMissing { .. } => Class::Unsupported,
            Self::Failed { .. } => Class::Transient,
        }
    }
}

/// The unit that starts agentd's program in a guest with systemd.
pub(crate) const GUEST_UNIT: &str = include_str!("host/agentd-guest.service");
pub(crate) const GUEST_UNIT_NAME: &str = "agentd-guest.service";

/// The files in a VM's folder.
pub const DISK: &str = "disk.qcow2";
/// The further disks are `disk-1.qcow2`, ...
const FURTHER: (&str, &str) = ("disk-", ".qcow2");
pub const SEED: &str = "seed.img";
pub const CONSOLE: &str = "console.log";
/// The variables of a guest's UEFI. Those of one with secure boot begin with keys in them, and are others.
pub const VARIABLES: [&str; 2] = ["uefi.fd", "uefi-secure.fd"];

pub const fn variables_name(secure: bool) -> &'static str {
    if secure { VARIABLES[1] } else { VARIABLES[0] }
}

/// The copy of such a file that goes with a snapshot of the VM's disks.
pub fn kept_variables(name: &str, snapshot: Uuid) -> String {
    format!("{name}.{snapshot}")
}

/// The file of the n-th further disk.
fn further_name(number: usize) -> String {
    format!("{}{number}{}", FURTHER.0, FURTHER.1)
}

/// The number of the further disk that is in a file of that name.
fn further_number(name: &str) -> Option<usize> {
    let number = name.strip_prefix(FURTHER.0)?.strip_suffix(FURTHER.1)?.parse().ok()?;
    (further_name(number) == name).then_some(number)
}

/// The file of the disk of that number; 0 is the one that is booted from.
fn disk_name(number: usize) -> String {
    if number == 0 { DISK.to_owned() } else { further_name(number) }
}

/// The number of the disk that is in a file of that name.
fn disk_number(name: &str) -> Option<usize> {
    if name == DISK { Some(0) } else { further_number(name).filter(|number| *number > 0) }
}

/// The size that a disk on an image gets.
fn disk_size(wanted: Option<ByteSize>, image: ByteSize) -> Result<ByteSize, VolumeError> {
    match wanted {
        Some(wanted) if wanted < image => Err(VolumeError::Refused(format!(
            "a disk of {wanted} is smaller than the image, which is {image}; ask for at least that"
        ))),
        wanted => Ok(wanted.unwrap_or(image)),
    }
}

#[async_trait]
pub trait VolumeDriver: sets::DiskSets {
    /// Makes the disk where it is not there; one that is there is left as it is, but grown to `size` where smaller.
    async fn ensure_disk(&self, spec: &DiskSpec) -> Result<PathBuf, VolumeError>;
    /// Makes the VM's n-th further disk, counted from 1, where it is not there; one that is there is grown to `size` where
    /// smaller. One that a guest has cannot be grown, and is Failed: only its QEMU can.
    async fn ensure_further(&self, vm: Uuid, number: usize, size: ByteSize) -> Result<PathBuf, VolumeError>;
    /// Writes the seed; one of the same content is left as it is.
    async fn ensure_seed(&self, seed: &Seed) -> Result<PathBuf, VolumeError>;
    /// Makes the variables of the VM's UEFI where they are not there; those that are, are left as they are.
    async fn ensure_variables(&self, vm: Uuid, variables: &Variables) -> Result<PathBuf, VolumeError>;
    async fn observe(&self, vm: Uuid) -> Result<VolumeSeen, VolumeError>;
    /// The VMs that have a folder.
    async fn list(&self) -> Result<Vec<Uuid>, VolumeError>;
    /// Removes the VM's folder with all in it; nothing where it is gone already.
    async fn remove(&self, vm: Uuid) -> Result<(), VolumeError>;
    /// Where the console of that VM is logged; its folder is made.
    async fn console_log(&self, vm: Uuid) -> Result<PathBuf, VolumeError>;
}
