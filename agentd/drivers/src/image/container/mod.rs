//! Images that containers are made of. The container engine keeps them; each has a name of ours there.
//!
//! ```text
//!   registry --pull--+
//!   archive  --load--+--> an image of the engine's, and our mark on it: agentd-<instance>:<image id>
//!   context  --build-+
//!   recipe   --root--+
//! ```
//! The mark is a tag, so that the engine does not take the image for one that nobody needs. No other name in the engine is
//! made, moved or removed: what is pulled is pulled by its digest, and the names within an archive are not taken over.

mod archive;
#[cfg(any(test, feature = "fake"))]
pub mod contract;
pub mod credentials;
pub mod docker;
#[cfg(any(test, feature = "fake"))]
pub mod fake;

use std::collections::BTreeSet;
use std::io;

use agentd_api::ByteSize;
use agentd_api::image::{BuildSource, Recipe, RegistryRef, UploadSource};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{ImageError, Work};
use crate::Instance;
use crate::engine::EngineEvent;

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerImage {
    /// The engine's own: `sha256:` and 64 digits.
    pub id: String,
    /// `HOST/PATH@sha256:...`, of one that was pulled.
    pub registry_digest: Option<String>,
    /// What its files take, those that it shares with others included.
    pub size: ByteSize,
    /// registry, docker archive, oci archive, root tree, dockerfile, built. Empty where it was only looked at.
    pub source_format: String,
}

/// The bytes of an archive. An error cuts them short.
pub type SavedPieces = BoxStream<'static, io::Result<Bytes>>;

/// Of which layout a saved archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveAs<'a> {
    /// Docker's, as the engine packs it, without names in it.
    Docker,
    /// OCI's, with that name for it. Layers are not compressed.
    Oci { name: &'a str },
}

/// Every call that makes something reports how far it is and ends when its work is cancelled; the engine is told to stop.
#[async_trait]
pub trait ContainerImageDriver: Send + Sync {
    /// Asks the registry what the reference leads to, and has the engine pull that. Refused where the registry refuses it.
    async fn pull(&self, from: &RegistryRef, work: &Work) -> Result<ContainerImage, ImageError>;
    /// Takes in what [`ImageDriver::receive`](super::ImageDriver::receive) wrote: an archive of one image in Docker's or
    /// OCI's layout, or a tree of files.
    async fn load(&self, source: &UploadSource, work: &Work) -> Result<ContainerImage, ImageError>;
    /// Builds what `receive` wrote: a tar archive with a Dockerfile in it. A step that fails is Refused with its last words.
    async fn build(&self, source: &BuildSource, work: &Work) -> Result<ContainerImage, ImageError>;
    async fn build_recipe(&self, recipe: Recipe, work: &Work) -> Result<ContainerImage, ImageError>;
    /// The image of that engine's id, with the mark of `image` put on it where somebody took that away. None where the
    /// engine has it no more.
    async fn observe(&self, image: Uuid, id: &str) -> Result<Option<ContainerImage>, ImageError>;
    /// An archive of it. Nothing of that is left here once it was taken, or nobody takes it any more, or this process ended.
    async fn save(&self, id: &str, wanted: SaveAs<'_>) -> Result<SavedPieces, ImageError>;
    /// Takes the mark away, and what a pull that broke off left; nothing where it is gone already. The engine removes what has
    /// no name then. InUse, and nothing is changed, where a container is made of it and nobody else names it. To be called
    /// before [`ImageDriver::discard`](super::ImageDriver::discard), which forgets what was pulled.
    async fn remove(&self, image: Uuid) -> Result<(), ImageError>;
    /// Takes away what builds left in the engine that were cut off by an end of this daemon or of the engine, but for those of the
    /// images in `keep`, which are to be built again and go on with it. Nothing while a build is under way. The images whose
    /// builds it was.
    async fn clear(&self, keep: &BTreeSet<Uuid>) -> Result<Vec<Uuid>, ImageError>;
    /// Those that bear a mark of this daemon.
    async fn list(&self) -> Result<Vec<Uuid>, ImageError>;
    /// What the engine tells. A receiver that lags must look at all.
    fn events(&self) -> broadcast::Receiver<EngineEvent>;
}

/// What our images are called in the engine.
pub(crate) fn repository(instance: &Instance) -> String {
    format!("agentd-{}", instance.tag())
}

/// The image whose mark that is.
pub(crate) fn marked(instance: &Instance, name: &str) -> Option<Uuid> {
    name.strip_prefix(&repository(instance))?.strip_prefix(':')?.parse().ok()
}
