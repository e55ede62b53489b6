//! Sets of disks beside those of VMs: what linked clones stand on, and what is put together before it becomes a VM's.
//!
//! ```text
//! begin_set -> copy_disk ..., copy_variables -> finish_set
//!     -> link_set    the VM's disks stand on the set's, which stay as they are
//!     -> adopt_set   they become the VM's, and the set is no more
//! ```
//! A set is a folder that appears under its name by one rename, whole and synced. What stands on a set is known to the
//! store alone: whoever removes one looks there first.

use std::path::PathBuf;

use async_trait::async_trait;
use uuid::Uuid;

use super::VolumeError;

/// One disk of a set, made of what a VM's disk held at a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyDisk {
    /// A set that was begun.
    pub set: Uuid,
    /// 0 for the disk that is booted from, else that of the further disk.
    pub number: usize,
    pub disk: PathBuf,
    pub snapshot: Uuid,
    /// Only what the disk holds beyond what it stands on itself: the copy stands on that too.
    pub upper: bool,
}

/// Every call can be made again. One that is dropped half way leaves a set that is not whole, which is begun anew.
#[async_trait]
pub trait DiskSets: Send + Sync {
    /// Begins it with nothing in it; what an earlier try left is removed.
    async fn begin_set(&self, set: Uuid) -> Result<(), VolumeError>;
    /// Copies while a guest uses the disk or not. False, and there is no such disk in the set, where the disk lacks the
    /// snapshot: it was added since.
    async fn copy_disk(&self, copy: &CopyDisk) -> Result<bool, VolumeError>;
    /// Copies into the set what the VM's UEFI kept at the snapshot; nothing where it kept none. `link_set` and `adopt_set`
    /// give the VM a copy of it, before its disks, unless it has its own.
    async fn copy_variables(&self, set: Uuid, vm: Uuid, snapshot: Uuid) -> Result<(), VolumeError>;
    /// The set that was begun is whole. Failed where none was.
    async fn finish_set(&self, set: Uuid) -> Result<(), VolumeError>;
    /// The numbers of the disks of a set that is whole; None where there is none.
    async fn observe_set(&self, set: Uuid) -> Result<Option<Vec<usize>>, VolumeError>;
    /// Makes the VM's disks, each on that of the set with the same number. Those that are there are left; the one that is
    /// booted from is made last.
    async fn link_set(&self, vm: Uuid, set: Uuid) -> Result<(), VolumeError>;
    /// Makes the set's disks the VM's, the one that is booted from last, and then removes the set. Those that the VM has
    /// are left.
    async fn adopt_set(&self, vm: Uuid, set: Uuid) -> Result<(), VolumeError>;
    /// Removes it, whole or not; nothing where it is gone already.
    async fn remove_set(&self, set: Uuid) -> Result<(), VolumeError>;
    /// All sets, whole or not.
    async fn list_sets(&self) -> Result<Vec<Uuid>, VolumeError>;
}
