//! Images of disks, and in [`container`] those of containers: built, fetched or received, checked, converted, and stored once under the digest of their content.
//!
//! Layout below the state directory: `images/<64 hex digits>/` holds `disk.qcow2` and, where the image boots by a kernel
//! of its own, `kernel`, `initrd` and `cmdline`; `manifest.json` lists them with size and digest. A folder appears there
//! by one rename, whole. `incoming/<image id>/` is where one is put together; it is kept across a restart so that a
//! pull can resume, and `discard` removes it.

pub mod container;
#[cfg(any(test, feature = "fake"))]
pub mod contract;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod format;
pub mod host;
mod recipe;

use std::path::PathBuf;

use agentd_api::image::{Recipe, UploadSource, UrlSource};
use agentd_api::{ByteSize, ErrorCode, Progress};
use async_trait::async_trait;
use tokio::io::AsyncRead;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::engine::EngineError;
use crate::vm::DirectBoot;

/// An image that is there, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageContent {
    /// `sha256:` and 64 digits.
    pub digest: String,
    pub disk: PathBuf,
    pub boot: Option<DirectBoot>,
    pub virtual_size: ByteSize,
    pub stored_size: ByteSize,
    /// What it was recognised as before it was converted: qcow2, raw, vmdk, vhdx, iso; "built" for a recipe's.
    pub source_format: String,
}

/// What long work is given: where to say how far it is, and when to stop.
#[derive(Debug, Clone)]
pub struct Work {
    /// The image's id; names its `incoming` folder.
    pub image: Uuid,
    pub progress: watch::Sender<Progress>,
    pub cancel: CancellationToken,
}

impl Work {
    /// Work that nobody watches and nobody stops.
    pub fn detached(image: Uuid) -> Self {
        Self { image, progress: watch::Sender::new(Progress::default()), cancel: CancellationToken::new() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The content is not what may be an image: a text file, a backing file, a wrong digest.
    #[error("{0}")]
    Refused(String),
    #[error("{program} is needed for this and is not installed")]
    ProgramMissing { program: String },
    #[error("the content has not been sent yet: {received} of {expected} bytes are here")]
    Incomplete { received: u64, expected: u64 },
    #[error("the disk is full or cannot be written: {0}")]
    Capacity(String),
    #[error("{url} cannot be fetched: {detail}")]
    Fetch { url: String, detail: String },
    #[error("{step} failed: {detail}")]
    Failed { step: String, detail: String },
    #[error("stopped before it was done")]
    Cancelled,
    /// The container engine is away, late, or failed in a way that has no name here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("a container is made of it: {0}")]
    InUse(String),
}

impl crate::Classed for ImageError {
    fn class(&self) -> crate::Class {
        use crate::Class;
        match self {
            Self::Refused(_) => Class::Permanent,
            Self::ProgramMissing { .. } => Class::Unsupported,
            Self::Capacity(_) => Class::Capacity,
            Self::Incomplete { .. }
            | Self::Fetch { .. }
            | Self::Failed { .. }
            | Self::Cancelled
            | Self::InUse(_) => Class::Transient,
            Self::Engine(error) => error.class(),
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Engine(error) => error.code(),
            Self::InUse(_) => ErrorCode::InUse,
            other => crate::fault::code_of(other.class()),
        }
    }
}

#[async_trait]
pub trait ImageDriver: Send + Sync {
    /// What this host lacks for each sort of source: (what, package that brings it). Empty where nothing.
    async fn missing(&self) -> Vec<(String, String)>;
    async fn build(&self, recipe: Recipe, work: &Work) -> Result<ImageContent, ImageError>;
    /// Fetches (resuming what `incoming` holds), checks the digest, converts, stores.
    async fn pull(&self, source: &UrlSource, work: &Work) -> Result<ImageContent, ImageError>;
    /// Writes an upload's bytes into `incoming`, replacing an earlier attempt. More than `source.size` is refused.
    /// The bytes are on disk when this returns their number.
    async fn receive(
        &self,
        image: Uuid,
        source: &UploadSource,
        from: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<u64, ImageError>;
    /// How many bytes of an upload or pull `incoming` holds. Of an upload that was cut off nothing is kept.
    async fn received(&self, image: Uuid) -> Result<u64, ImageError>;
    /// Checks, converts and stores what `receive` wrote.
    async fn import(&self, source: &UploadSource, work: &Work) -> Result<ImageContent, ImageError>;
    /// The stored content of that digest, or None. Cheap: does not read the disk's bytes.
    async fn observe(&self, digest: &str) -> Result<Option<ImageContent>, ImageError>;
    async fn list(&self) -> Result<Vec<String>, ImageError>;
    /// Removes the content of that digest; nothing where it is gone already.
    async fn remove(&self, digest: &str) -> Result<(), ImageError>;
    /// Removes what `incoming` holds of that image; nothing where it is gone already.
    async fn discard(&self, image: Uuid) -> Result<(), ImageError>;
    /// The images that `incoming` holds something of.
    async fn list_incoming(&self) -> Result<Vec<Uuid>, ImageError>;
}
