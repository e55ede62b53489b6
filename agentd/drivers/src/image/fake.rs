//! An image driver that stores nothing: a stateful stand-in for tests, agentd-sim and the benches.
//!
//! It keeps uploads in memory, recognises them as the real one does, reports progress and respects cancelling. A build
//! makes nothing up but the paths. A URL leads to what [`FakeImage::serve`] was told; any other URL is taken to lead
//! to exactly what was asked for.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentd_api::image::{Recipe, UploadSource, UrlSource};
use agentd_api::{ByteSize, Progress};
use async_trait::async_trait;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};
use uuid::Uuid;

use super::format::{self, Recognised};
use super::{ImageContent, ImageDriver, ImageError, Work};
use crate::Instance;
use crate::faults::Faults;
use crate::vm::DirectBoot;

#[derive(Debug)]
pub struct FakeImage {
    instance: Instance,
    faults: Faults<ImageError>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    contents: BTreeMap<String, ImageContent>,
    incoming: BTreeMap<Uuid, Vec<u8>>,
    urls: BTreeMap<String, Vec<u8>>,
    lacks: Vec<(String, String)>,
    step: Duration,
}

impl FakeImage {
    /// The methods that can be made to fail, hang or be slow, by the names of the trait.
    pub const METHODS: &[&str] = &[
        "build",
        "pull",
        "receive",
        "received",
        "import",
        "observe",
        "list",
        "remove",
        "discard",
        "list_incoming",
    ];

    pub fn new(instance: Instance) -> Arc<Self> {
        Arc::new(Self { instance, faults: Faults::new(Self::METHODS), state: Mutex::default() })
    }
    /// What goes wrong, by the names of the trait's methods.
    pub fn faults(&self) -> &Faults<ImageError> {
        &self.faults
    }
    /// What `url` leads to.
    pub fn serve(&self, url: &str, content: Vec<u8>) {
        self.state.lock().urls.insert(url.to_owned(), content);
    }
    /// How long each reported step of a build, pull or import takes.
    pub fn step_takes(&self, time: Duration) {
        self.state.lock().step = time;
    }
    pub fn set_missing(&self, lacks: Vec<(String, String)>) {
        self.state.lock().lacks = lacks;
    }
    /// As `rm -r` of an image's folder by somebody else.
    pub fn lose_behind_our_back(&self, digest: &str) {
        self.state.lock().contents.remove(digest);
    }
    /// The size of the image whose disk that is, where there is one.
    pub fn size_of(&self, disk: &Path) -> Option<ByteSize> {
        self.state.lock().contents.values().find(|c| c.disk == disk).map(|c| c.virtual_size)
    }

    /// `step` in `total` parts, each of them reported.
    async fn progress(&self, work: &Work, step: &str, total: u64, unit: &str) -> Result<(), ImageError> {
        let pause = self.state.lock().step;
        for done in 0..=total {
            let (step, unit) = (step.to_owned(), unit.to_owned());
            work.progress.send_replace(Progress {
                step,
                done,
                total: Some(total),
                unit,
                ..Progress::default()
            });
            // Cancel safety: neither arm holds anything.
            tokio::select! {
                biased;
                () = work.cancel.cancelled() => return Err(ImageError::Cancelled),
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    async fn pass(&self, method: &str, work: &Work) -> Result<(), ImageError> {
        // Cancel safety: a dropped `pass` has counted its call and changed nothing else.
        tokio::select! {
            biased;
            () = work.cancel.cancelled() => Err(ImageError::Cancelled),
            passed = self.faults.pass(method) => passed,
        }
    }

    pub(crate) fn keep(
        &self,
        seed: &[u8],
        direct: bool,
        size: ByteSize,
        source_format: &str,
    ) -> ImageContent {
        let hex = hex::encode(Sha256::digest(seed));
        let folder: PathBuf = self.instance.images_dir().join(&hex);
        let boot = direct.then(|| DirectBoot {
            kernel: folder.join("kernel"),
            initrd: folder.join("initrd"),
            cmdline: "console=ttyS0".to_owned(),
        });
        let content = ImageContent {
            digest: format!("sha256:{hex}"),
            disk: folder.join("disk.qcow2"),
            boot,
            virtual_size: size,
            stored_size: ByteSize(size.bytes() / 8),
            source_format: source_format.to_owned(),
        };
        self.state.lock().contents.insert(content.digest.clone(), content.clone());
        content
    }

    /// An upload that is whole, of the digest that was announced.
    pub(crate) fn uploaded(&self, source: &UploadSource, image: Uuid) -> Result<Vec<u8>, ImageError> {
        let bytes = self.state.lock().incoming.get(&image).cloned().unwrap_or_default();
        if bytes.len() as u64 != source.size {
            return Err(ImageError::Incomplete { received: bytes.len() as u64, expected: source.size });
        }
        let seen = hex::encode(Sha256::digest(&bytes));
        if source.sha256.as_ref().is_some_and(|wanted| *wanted != seen) {
            let wanted = source.sha256.as_deref().unwrap_or_default();
            return Err(ImageError::Refused(format!("the file has the SHA-256 {seen}, not {wanted}")));
        }
        Ok(bytes)
    }

    /// Checks bytes as the real driver checks a file, and keeps what it would.
    fn take(&self, bytes: &[u8], what: &str) -> Result<ImageContent, ImageError> {
        let Recognised { format, virtual_size } = format::recognise(&mut Cursor::new(bytes))
            .map_err(|error| ImageError::Refused(format!("{what} {error}")))?;
        let size = ByteSize(virtual_size.unwrap_or(1 << 30));
        Ok(self.keep(bytes, false, size, format.as_str()))
    }
}

#[async_trait]
impl ImageDriver for FakeImage {
    async fn missing(&self) -> Vec<(String, String)> {
        self.state.lock().lacks.clone()
    }

    async fn build(&self, recipe: Recipe, work: &Work) -> Result<ImageContent, ImageError> {
        self.pass("build", work).await?;
        for step in ["fetching packages", "unpacking", "making the disk"] {
            self.progress(work, step, 4, "steps").await?;
        }
        let size = match recipe {
            Recipe::Micro => ByteSize::mib(64),
            Recipe::Debian12 => ByteSize::gib(2),
        };
        Ok(self.keep(format!("recipe {}", recipe.as_str()).as_bytes(), true, size, "built"))
    }

    async fn pull(&self, source: &UrlSource, work: &Work) -> Result<ImageContent, ImageError> {
        self.pass("pull", work).await?;
        self.progress(work, "fetching", 8, "bytes").await?;
        let served = self.state.lock().urls.get(&source.url).cloned();
        let Some(bytes) = served else {
            return Ok(self.keep(source.sha256.as_bytes(), false, ByteSize::gib(1), "qcow2"));
        };
        let seen = hex::encode(Sha256::digest(&bytes));
        if seen != source.sha256 {
            let wanted = &source.sha256;
            return Err(ImageError::Refused(format!("the file has the SHA-256 {seen}, not {wanted}")));
        }
        self.state.lock().incoming.insert(work.image, bytes.clone());
        self.take(&bytes, "the file")
    }

    async fn receive(
        &self,
        image: Uuid,
        source: &UploadSource,
        from: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<u64, ImageError> {
        self.faults.pass("receive").await?;
        let mut bytes = Vec::new();
        let read = from.take(source.size.saturating_add(1)).read_to_end(&mut bytes).await;
        read.map_err(|e| ImageError::Failed { step: "receiving".to_owned(), detail: e.to_string() })?;
        let received = bytes.len() as u64;
        if received > source.size {
            let size = source.size;
            return Err(ImageError::Refused(format!("more than the {size} bytes that were announced came")));
        }
        if received < source.size {
            return Err(ImageError::Incomplete { received, expected: source.size });
        }
        self.state.lock().incoming.insert(image, bytes);
        Ok(received)
    }

    async fn received(&self, image: Uuid) -> Result<u64, ImageError> {
        self.faults.pass("received").await?;
        Ok(self.state.lock().incoming.get(&image).map_or(0, |bytes| bytes.len() as u64))
    }

    async fn import(&self, source: &UploadSource, work: &Work) -> Result<ImageContent, ImageError> {
        self.pass("import", work).await?;
        let bytes = self.uploaded(source, work.image)?;
        self.progress(work, "converting", 8, "percent").await?;
        self.take(&bytes, "the file")
    }

    async fn observe(&self, digest: &str) -> Result<Option<ImageContent>, ImageError> {
        self.faults.pass("observe").await?;
        Ok(self.state.lock().contents.get(digest).cloned())
    }

    async fn list(&self) -> Result<Vec<String>, ImageError> {
        self.faults.pass("list").await?;
        Ok(self.state.lock().contents.keys().cloned().collect())
    }

    async fn remove(&self, digest: &str) -> Result<(), ImageError> {
        self.faults.pass("remove").await?;
        self.state.lock().contents.remove(digest);
        Ok(())
    }

    async fn discard(&self, image: Uuid) -> Result<(), ImageError> {
        self.faults.pass("discard").await?;
        self.state.lock().incoming.remove(&image);
        Ok(())
    }

    async fn list_incoming(&self) -> Result<Vec<Uuid>, ImageError> {
        self.faults.pass("list_incoming").await?;
        Ok(self.state.lock().incoming.keys().copied().collect())
    }
}
