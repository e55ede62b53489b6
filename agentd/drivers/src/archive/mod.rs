//! A VM as one file: what its disks held at a snapshot, flattened and compressed, with its spec, the kernel that it boots
//! by, and checksums of all of it.
//!
//! ```text
//! export: pack    --> the disks' copies below `incoming/<id>`, hashed --> pieces, as they are asked for
//! import: receive --> `incoming/<id>`, each byte checked --> store --> content as of an image, and a set of further disks
//! ```
//! What is below `incoming/` belongs to nobody until it is stored, and is removed with [`ArchiveDriver::discard`] or by the
//! next sweep. Snapshots, volumes, media and what a TPM holds, which is of one machine, are no part of an archive.

#[cfg(any(test, feature = "fake"))]
pub mod contract;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod format;
pub mod host;
mod manifest;
mod read;
mod write;

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use uuid::Uuid;

use crate::vm::DirectBoot;

pub use manifest::{Entry, FORMAT, Manifest, VERSION};
pub use read::{ArchiveReader, Incoming};
pub use write::Pieces;

/// What a VM's disks may have been recognised as before they were agentd's own.
const SOURCE_FORMATS: [&str; 5] = ["built", "qcow2", "raw", "vmdk", "vhdx"];

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive is not what may be one; says what of it.
    #[error("{0}")]
    Refused(String),
    #[error("{program} is needed for this and is not installed")]
    ProgramMissing { program: String },
    #[error("the disk is full or cannot be written: {0}")]
    Capacity(String),
    #[error("{step} failed: {detail}")]
    Failed { step: String, detail: String },
}

impl crate::Classed for ArchiveError {
    fn class(&self) -> crate::Class {
        use crate::Class;
        match self {
            Self::Refused(_) => Class::Permanent,
            Self::ProgramMissing { .. } => Class::Unsupported,
            Self::Capacity(_) => Class::Capacity,
            Self::Failed { .. } => Class::Transient,
        }
    }
}

fn io_error(step: &str, error: &io::Error) -> ArchiveError {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | ReadOnlyFilesystem => ArchiveError::Capacity(error.to_string()),
        _ => ArchiveError::Failed { step: step.to_owned(), detail: error.to_string() },
    }
}

/// What is to be packed.
#[derive(Debug, Clone)]
pub struct Pack {
    /// Names its scratch space.
    pub export: Uuid,
    pub vm: Uuid,
    /// The VM's disks with their numbers, 0 being the one that is booted from. Those that lack the snapshot are left out.
    pub disks: Vec<(usize, PathBuf)>,
    pub snapshot: Uuid,
    pub boot: Option<DirectBoot>,
    /// All but its files and the command line.
    pub manifest: Manifest,
}

/// What came of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Of the content that the disk which is booted from stands on.
    pub digest: String,
    /// Whether there is a set, of further disks and of what a UEFI kept, which has the import's id.
    pub further: bool,
}

#[async_trait]
pub trait ArchiveDriver: Send + Sync {
    /// Copies the disks, whether a guest uses them or not, and answers the archive of them. Its scratch space has to stay
    /// until the last piece was read; then it is to be discarded.
    async fn pack(&self, pack: &Pack) -> Result<Pieces, ArchiveError>;
    /// Takes in the files behind the manifest that was read, and checks all to the archive's end.
    async fn receive(
        &self,
        import: Uuid,
        manifest: &Manifest,
        reader: ArchiveReader<'_>,
    ) -> Result<(), ArchiveError>;
    /// Looks at what was received as at any file of unknown origin, and stores it.
    async fn store(&self, import: Uuid, manifest: &Manifest) -> Result<Stored, ArchiveError>;
    /// Removes the scratch space of that id; nothing where it is gone already.
    async fn discard(&self, id: Uuid) -> Result<(), ArchiveError>;
}

/// What a manifest cannot tell by itself to be wrong.
fn check_source(manifest: &Manifest) -> Result<(), ArchiveError> {
    if SOURCE_FORMATS.contains(&manifest.source_format.as_str()) {
        return Ok(());
    }
    let format = manifest.source_format.escape_debug();
    Err(ArchiveError::Refused(format!("the archive's source format '{format}' is not known")))
}
