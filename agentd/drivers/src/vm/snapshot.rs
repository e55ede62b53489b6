//! Snapshots of a VM: of its own disks, with or without what is in its guest's memory; and memory that is kept on disk
//! while the guest is off.
//!
//! A snapshot of disks lies inside each of them, under the snapshot's id, so that any may be deleted in any order and
//! all of a VM's are found in its disks. Memory is a file in the VM's folder; a file that was not written to its end is
//! never taken for a whole one. Volumes that are attached to a VM are not part of its snapshots.
//!
//! ```text
//! take:    (pause) -> disks, all at one point -> memory -> (resume)
//! restore: save_memory(Undo) -> revert -> start, or start_from_memory -> forget_memory(Undo), delete_snapshot(UNDO)
//! suspend: save_memory(Suspended) ... start_from_memory(Suspended) -> forget_memory(Suspended)
//! ```
//! A guest that runs goes on: it is paused only while its memory is written. A call that fails leaves nothing of a new
//! snapshot, and the disks as they were.

use std::path::PathBuf;

use agentd_api::ByteSize;
use async_trait::async_trait;
use uuid::Uuid;

use super::{Change, DomainSpec, Power, VmError};

/// The state of the disks before a restore, kept until that has succeeded.
pub const UNDO: Uuid = Uuid::nil();

/// The disks of a VM that are its own: those that come and go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnDisks {
    pub vm: Uuid,
    /// qcow2 files, the one that it boots from first.
    pub disks: Vec<PathBuf>,
}

/// A snapshot to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeSnapshot {
    pub id: Uuid,
    pub of: OwnDisks,
    /// Refused where the guest is off.
    pub memory: bool,
}

/// A snapshot as the disks and the VM's folder show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSeen {
    pub id: Uuid,
    /// Whether the first of the disks has it. One that lacks it was added since.
    pub in_first_disk: bool,
    /// What its memory takes; None where it has none, or none that is whole.
    pub memory: Option<ByteSize>,
}

/// A file of a guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Memory {
    /// Of a VM that is suspended to disk.
    Suspended,
    /// Of before a restore, until that has succeeded.
    Undo,
    /// Part of that snapshot.
    Snapshot(Uuid),
}

/// As of [`VmDriver`](super::VmDriver): every call is idempotent, has a deadline of its own, and goes on to its end when
/// its caller stops waiting.
#[async_trait]
pub trait VmSnapshots: Send + Sync {
    /// Takes it of all disks at one point, and tells what the guest was at. What an earlier try left of it is removed
    /// first. Freezing the guest's file systems is the caller's.
    async fn take_snapshot(&self, want: &TakeSnapshot) -> Result<Power, VmError>;
    /// All that the disks hold, the one of [`UNDO`] too.
    async fn snapshots(&self, of: &OwnDisks) -> Result<Vec<SnapshotSeen>, VmError>;
    /// What would be free without it: of the disks what it alone holds, and its memory. Nothing where there is none. Of a
    /// guest that runs it is what is on disk by now.
    async fn snapshot_size(&self, of: &OwnDisks, id: Uuid) -> Result<ByteSize, VmError>;
    /// Of the disks and of the memory, whether the guest runs or not. AlreadySo where there is none.
    async fn delete_snapshot(&self, of: &OwnDisks, id: Uuid) -> Result<Change, VmError>;
    /// Takes the disks back to it, and leaves those as they are that were added since. Fails, as Failed, while the guest
    /// runs, and where the first disk lacks it; then none of them is changed.
    async fn revert(&self, of: &OwnDisks, id: Uuid) -> Result<(), VmError>;
    /// Writes the guest's memory down and ends the domain, as one: where the writing fails the guest runs on as it did.
    /// Fails, as Failed, where the guest is off.
    async fn save_memory(&self, vm: Uuid, which: Memory) -> Result<ByteSize, VmError>;
    /// What it takes, where it is there and whole.
    async fn saved_memory(&self, vm: Uuid, which: Memory) -> Result<Option<ByteSize>, VmError>;
    /// Starts the domain of `spec`, which must be defined, where the memory left off. The file stays. AlreadySo where it
    /// runs. Refused where the memory is of a machine that `spec` is not.
    async fn start_from_memory(
        &self,
        spec: &DomainSpec,
        which: Memory,
        paused: bool,
    ) -> Result<Change, VmError>;
    /// Removes the file.
    async fn forget_memory(&self, vm: Uuid, which: Memory) -> Result<Change, VmError>;
}
