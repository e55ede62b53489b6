//! Where volumes are kept: a pool, which makes, grows and removes disks that belong to no VM, each named by its volume's
//! id.
//!
//! [`dir`] keeps them as files of a folder. Whatever keeps them otherwise (a volume group) answers a
//! [`DiskSource`] of its own sort, which is all that a domain needs to know. A volume that is made is there whole or not
//! at all; nothing here knows who uses it.

#[cfg(any(test, feature = "fake"))]
pub mod contract;
pub mod dir;
#[cfg(any(test, feature = "fake"))]
pub mod fake;

use std::path::PathBuf;

use agentd_api::ByteSize;
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
    /// A qcow2 file whose content it begins with. Refused where that is larger than the volume.
    pub content: Option<PathBuf>,
}

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PooledVolume {
    pub source: DiskSource,
    pub format: DiskFormat,
    /// The size that guests see.
    pub size: ByteSize,
}

#[async_trait]
pub trait PoolDriver: Send + Sync {
    /// Makes the volume where it is not there; one that is there is left as it is.
    async fn ensure(&self, volume: &PoolVolume) -> Result<PooledVolume, VolumeError>;
    /// Grows a volume that no guest has; nothing where it is as large. One that a guest has is Failed: only its QEMU can
    /// grow it.
    async fn grow(&self, id: Uuid, size: ByteSize) -> Result<(), VolumeError>;
    /// Cheap: does not read the volume's bytes.
    async fn observe(&self, id: Uuid) -> Result<Option<PooledVolume>, VolumeError>;
    async fn list(&self) -> Result<Vec<Uuid>, VolumeError>;
    /// Removes the volume with all that is kept beside it; nothing where it is gone already.
    async fn remove(&self, id: Uuid) -> Result<(), VolumeError>;
    /// How much more fits into the pool, or why that cannot be told. Cheap, asked before a volume is written down.
    async fn free(&self) -> Result<ByteSize, VolumeError>;
}
