//! Where volumes are kept: a pool, which makes, grows and removes disks that belong to no VM, each named by its volume's
//! id. Some hold a file system from the start, for containers.
//!
//! [`dir`] keeps them as files of a folder. Whatever keeps them otherwise (a volume group) answers a
//! [`DiskSource`] of its own sort, which is all that a domain needs to know. A volume that is made is there whole or not
//! at all; nothing here knows who uses it.
//!
//! What a container mounts is mounted by its engine, of a block device of the host's ([`PoolDriver::attach`]): the engine
//! may live in another mount namespace, counts who uses it, and goes on when this daemon ends.

#[cfg(any(test, feature = "fake"))]
pub mod contract;
pub mod dir;
mod ext4;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod loops;

use std::path::PathBuf;

use agentd_api::ByteSize;
use agentd_api::volume::VolumeMode;
use async_trait::async_trait;
use uuid::Uuid;

use super::VolumeError;
use crate::vm::{DiskFormat, DiskSource};

/// A volume as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolVolume {
    pub id: Uuid,
    pub size: ByteSize,
    pub format: DiskFormat,
    pub content: Content,
}

/// What a volume begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Empty,
    /// What is in a qcow2 file. Refused where that is larger than the volume.
    Image(PathBuf),
    /// A file system with nothing in it, not even `lost+found`: what an image has where it is mounted can come into it, as
    /// into a volume of the engine's own. Its format must be raw.
    FileSystem,
}

impl Content {
    pub fn mode(&self) -> VolumeMode {
        match self {
            Self::Empty | Self::Image(_) => VolumeMode::Block,
            Self::FileSystem => VolumeMode::Filesystem,
        }
    }
}

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PooledVolume {
    pub source: DiskSource,
    pub format: DiskFormat,
    /// The size that guests see. Of one with a file system, what that has: less than wanted until it has grown as well.
    pub size: ByteSize,
    pub mode: VolumeMode,
}

#[async_trait]
pub trait PoolDriver: Send + Sync {
    /// Makes the volume where it is not there; one that is there is left as it is.
    async fn ensure(&self, volume: &PoolVolume) -> Result<PooledVolume, VolumeError>;
    /// Grows a volume that no guest has; nothing where it is as large. One that a guest has is Failed: only its QEMU can
    /// grow it. One with a file system is grown with that, mounted or not.
    async fn grow(&self, id: Uuid, size: ByteSize) -> Result<(), VolumeError>;
    /// Cheap: does not read the volume's bytes.
    async fn observe(&self, id: Uuid) -> Result<Option<PooledVolume>, VolumeError>;
    async fn list(&self) -> Result<Vec<Uuid>, VolumeError>;
    /// Removes the volume with all that is kept beside it; nothing where it is gone already.
    async fn remove(&self, id: Uuid) -> Result<(), VolumeError>;
    /// The block device of one with a file system, at a path that stays the same whatever the device is called; made where
    /// there is none. Gone after a boot of the host, until this is called again.
    async fn attach(&self, id: Uuid) -> Result<PathBuf, VolumeError>;
    /// Takes the device away, which nothing mounts any more; nothing where there is none, and also where the volume is gone.
    async fn detach(&self, id: Uuid) -> Result<(), VolumeError>;
    /// The volumes of this daemon that have a device or are left half of one. Cheap.
    async fn attached(&self) -> Result<Vec<Uuid>, VolumeError>;
    /// How much more fits into the pool, or why that cannot be told. Cheap, asked before a volume is written down.
    async fn free(&self) -> Result<ByteSize, VolumeError>;
}
