//! Archives of the fake: real ones, of disks whose content is made up.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::format::{DISK, INITRD, KERNEL, further_name, further_number};
use super::write::{Content, pieces};
use super::{
    ArchiveDriver, ArchiveError, ArchiveReader, Entry, Manifest, Pack, Pieces, Stored, check_source, io_error,
};
use crate::faults::Faults;
use crate::image::fake::FakeImage;
use crate::volume::VARIABLES;
use crate::volume::fake::FakeVolume;

#[derive(Debug)]
pub struct FakeArchive {
    images: Arc<FakeImage>,
    volumes: Arc<FakeVolume>,
    faults: Faults<ArchiveError>,
    incoming: Mutex<BTreeMap<Uuid, BTreeMap<String, Vec<u8>>>>,
}

impl FakeArchive {
    /// The methods that can be made to fail, hang or be slow, by the names of the trait.
    pub const METHODS: &[&str] = &["pack", "receive", "store", "discard"];

    pub fn new(images: Arc<FakeImage>, volumes: Arc<FakeVolume>) -> Arc<Self> {
        Arc::new(Self { images, volumes, faults: Faults::new(Self::METHODS), incoming: Mutex::default() })
    }
    /// What goes wrong, by the names of the trait's methods.
    pub fn faults(&self) -> &Faults<ArchiveError> {
        &self.faults
    }
    /// The scratch spaces that are there.
    pub fn scratch(&self) -> Vec<Uuid> {
        self.incoming.lock().keys().copied().collect()
    }
}

fn missing(what: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Failed { step: "packing a VM".to_owned(), detail: format!("{what} is not there") }
}

#[async_trait]
impl ArchiveDriver for FakeArchive {
    async fn pack(&self, pack: &Pack) -> Result<Pieces, ArchiveError> {
        self.incoming.lock().entry(pack.export).or_default();
        self.faults.pass("pack").await?;
        let mut files = Vec::new();
        for (number, disk) in &pack.disks {
            let size = self.volumes.size_of(disk).ok_or_else(|| missing(disk.display()))?;
            let name = if *number == 0 { DISK.to_owned() } else { further_name(*number) };
            files.push((name, format!("what a disk of {size} holds").into_bytes(), Some(size)));
        }
        if self.volumes.has_variables(pack.vm) {
            files.push((VARIABLES[0].to_owned(), b"what a UEFI keeps".to_vec(), None));
        }
        let mut manifest = pack.manifest.clone();
        if let Some(boot) = &pack.boot {
            manifest.cmdline = Some(boot.cmdline.clone());
            files.extend([KERNEL, INITRD].map(|name| (name.to_owned(), name.as_bytes().to_vec(), None)));
        }
        manifest.files = files
            .iter()
            .map(|(name, bytes, virtual_size)| Entry {
                name: name.clone(),
                size: bytes.len() as u64,
                sha256: hex::encode(Sha256::digest(bytes)),
                virtual_size: *virtual_size,
            })
            .collect();
        let contents = files.into_iter().map(|(_, bytes, _)| Content::Bytes(bytes)).collect();
        pieces(&manifest, contents).map_err(|error| io_error("packing a VM", &error))
    }

    async fn receive(
        &self,
        import: Uuid,
        manifest: &Manifest,
        mut reader: ArchiveReader<'_>,
    ) -> Result<(), ArchiveError> {
        self.incoming.lock().entry(import).or_default();
        self.faults.pass("receive").await?;
        check_source(manifest)?;
        for file in &manifest.files {
            let mut bytes = Vec::new();
            reader.file(file, &mut bytes).await?;
            self.incoming.lock().entry(import).or_default().insert(file.name.clone(), bytes);
        }
        reader.end().await
    }

    async fn store(&self, import: Uuid, manifest: &Manifest) -> Result<Stored, ArchiveError> {
        self.faults.pass("store").await?;
        let files = self.incoming.lock().get(&import).cloned().ok_or_else(|| missing(import))?;
        let sizes = |name: &str| manifest.files.iter().find(|f| f.name == name).and_then(|f| f.virtual_size);
        let further: BTreeMap<usize, _> =
            files.keys().filter_map(|name| Some((further_number(name)?, sizes(name)?))).collect();
        let variables = manifest.variables().next().is_some();
        let any = !further.is_empty() || variables;
        if any {
            self.volumes.put_set(import, further, variables);
        }
        let disk = files.get(DISK).ok_or_else(|| missing(DISK))?;
        let size = sizes(DISK).ok_or_else(|| missing(DISK))?;
        let content = self.images.keep(disk, manifest.cmdline.is_some(), size, &manifest.source_format);
        Ok(Stored { digest: content.digest, further: any })
    }

    async fn discard(&self, id: Uuid) -> Result<(), ArchiveError> {
        self.faults.pass("discard").await?;
        self.incoming.lock().remove(&id);
        Ok(())
    }
}
