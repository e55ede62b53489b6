//! Archives of a real host: copies by qemu-img, stored the way images are.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentd_api::ByteSize;
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::format::{CMDLINE_MAX, DISK, INITRD, KERNEL, further_name};
use super::write::{Content, pieces};
use super::{
    ArchiveDriver, ArchiveError, ArchiveReader, Entry, Manifest, Pack, Pieces, Stored, check_source, io_error,
};
use crate::Instance;
use crate::image::ImageError;
use crate::image::host::HostImage;
use crate::image::host::archived::Parts;
use crate::vm::DirectBoot;
use crate::volume::host::HostVolume;
use crate::volume::sets::DiskSets;
use crate::volume::{VARIABLES, VolumeError, kept_variables};

#[derive(Debug)]
pub struct HostArchive {
    instance: Instance,
    images: Arc<HostImage>,
    volumes: Arc<HostVolume>,
}

impl HostArchive {
    pub fn new(instance: Instance, images: Arc<HostImage>, volumes: Arc<HostVolume>) -> Arc<Self> {
        Arc::new(Self { instance, images, volumes })
    }

    fn folder(&self, id: Uuid) -> PathBuf {
        self.instance.incoming_dir(id)
    }
}

impl From<VolumeError> for ArchiveError {
    fn from(error: VolumeError) -> Self {
        match error {
            VolumeError::Refused(why) => Self::Refused(why),
            VolumeError::Capacity(why) => Self::Capacity(why),
            VolumeError::ProgramMissing { program } => Self::ProgramMissing { program },
            VolumeError::Failed { step, detail } => Self::Failed { step, detail },
        }
    }
}

impl From<ImageError> for ArchiveError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Refused(why) => Self::Refused(why),
            ImageError::Capacity(why) => Self::Capacity(why),
            ImageError::ProgramMissing { program } => Self::ProgramMissing { program },
            other => Self::Failed { step: "storing the archive".to_owned(), detail: other.to_string() },
        }
    }
}

async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ArchiveError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.map_err(|error| io_error(step, &error))
}

/// Size and checksum of a file.
fn entry(folder: &Path, name: &str) -> std::io::Result<Entry> {
    let mut file = std::fs::File::open(folder.join(name))?;
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0u8; 1 << 20]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        size += read as u64;
    }
    let virtual_size = name.ends_with(".qcow2").then(|| crate::volume::host::size_in(&folder.join(name)));
    Ok(Entry {
        name: name.to_owned(),
        size,
        sha256: hex::encode(hash.finalize()),
        virtual_size: virtual_size.transpose()?,
    })
}

/// The kernel's files in the scratch space: links, so that they stay when what they are of goes.
fn take_boot(folder: &Path, boot: &DirectBoot) -> std::io::Result<()> {
    for (from, name) in [(&boot.kernel, KERNEL), (&boot.initrd, INITRD)] {
        let to = folder.join(name);
        if std::fs::hard_link(from, &to).is_err() {
            std::fs::copy(from, &to)?;
        }
    }
    Ok(())
}

#[async_trait]
impl ArchiveDriver for HostArchive {
    async fn pack(&self, pack: &Pack) -> Result<Pieces, ArchiveError> {
        const STEP: &str = "packing a VM";
        let folder = self.folder(pack.export);
        let made = folder.clone();
        blocking(STEP, move || std::fs::create_dir_all(made)).await?;
        let mut names = Vec::new();
        for (number, disk) in &pack.disks {
            let name = if *number == 0 { DISK.to_owned() } else { further_name(*number) };
            if self.volumes.copy_compressed(disk, pack.snapshot, &folder.join(&name)).await? {
                names.push(name);
            }
        }
        if names.first().is_none_or(|name| name != DISK) {
            let detail = "the snapshot is not in the disk that is booted from".to_owned();
            return Err(ArchiveError::Failed { step: STEP.to_owned(), detail });
        }
        let kept = self.instance.vm_dir(pack.vm);
        let kept = VARIABLES.map(|name| (kept.join(kept_variables(name, pack.snapshot)), name));
        let (mut manifest, boot) = (pack.manifest.clone(), pack.boot.clone());
        manifest.cmdline = boot.as_ref().map(|boot| boot.cmdline.clone());
        blocking(STEP, move || {
            for (file, name) in kept {
                if file.try_exists()? {
                    std::fs::copy(file, folder.join(name))?;
                    names.push(name.to_owned());
                }
            }
            if let Some(boot) = boot {
                take_boot(&folder, &boot)?;
                names.extend([KERNEL.to_owned(), INITRD.to_owned()]);
            }
            manifest.files = names.iter().map(|name| entry(&folder, name)).collect::<Result<_, _>>()?;
            let contents = names.iter().map(|name| Content::File(folder.join(name))).collect();
            pieces(&manifest, contents)
        })
        .await
    }

    async fn receive(
        &self,
        import: Uuid,
        manifest: &Manifest,
        mut reader: ArchiveReader<'_>,
    ) -> Result<(), ArchiveError> {
        const STEP: &str = "receiving an archive";
        check_source(manifest)?;
        if manifest.cmdline.as_ref().is_some_and(|line| line.len() > CMDLINE_MAX || line.contains('\0')) {
            return Err(ArchiveError::Refused("the archive's command line cannot be one".to_owned()));
        }
        let folder = self.folder(import);
        let made = folder.clone();
        blocking(STEP, move || std::fs::create_dir_all(made)).await?;
        for file in &manifest.files {
            let path = folder.join(&file.name);
            let mut to = tokio::fs::File::create(path).await.map_err(|error| io_error(STEP, &error))?;
            reader.file(file, &mut to).await?;
            to.sync_all().await.map_err(|error| io_error(STEP, &error))?;
        }
        reader.end().await
    }

    async fn store(&self, import: Uuid, manifest: &Manifest) -> Result<Stored, ArchiveError> {
        let folder = self.folder(import);
        let sizes = |name: &str| {
            let file = manifest.files.iter().find(|file| file.name == name);
            file.and_then(|file| file.virtual_size)
        };
        let numbers: Vec<usize> = manifest.further().collect();
        let further = !numbers.is_empty() || manifest.variables().next().is_some();
        if further {
            self.volumes.begin_set(import).await?;
            for file in manifest.variables() {
                self.volumes.put_variables(import, &file.name, folder.join(&file.name)).await?;
            }
            for number in &numbers {
                let name = further_name(*number);
                let made = self.images.convert_archived(import, &folder.join(&name)).await?;
                same_size(&name, sizes(&name), made.virtual_size)?;
                self.volumes.put_disk(import, *number, made.disk).await?;
            }
            self.volumes.finish_set(import).await?;
        }
        let boot = manifest.cmdline.clone().map(|cmdline| DirectBoot {
            kernel: folder.join(KERNEL),
            initrd: folder.join(INITRD),
            cmdline,
        });
        let parts = Parts { disk: folder.join(DISK), boot, source_format: manifest.source_format.clone() };
        let content = self.images.store_archived(import, parts).await?;
        same_size(DISK, sizes(DISK), content.virtual_size)?;
        Ok(Stored { digest: content.digest, further })
    }

    async fn discard(&self, id: Uuid) -> Result<(), ArchiveError> {
        let folder = self.folder(id);
        blocking("discarding an archive", move || match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }
}

fn same_size(name: &str, said: Option<ByteSize>, is: ByteSize) -> Result<(), ArchiveError> {
    if said == Some(is) {
        return Ok(());
    }
    let said = said.map_or_else(|| "nothing".to_owned(), |said| said.to_string());
    Err(ArchiveError::Refused(format!(
        "{name} in the archive is a disk of {is}, and its manifest says {said}"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::format::further_number;
    use super::*;

    #[test]
    fn a_size_that_differs_is_told() {
        let mib = ByteSize::mib;
        same_size(DISK, Some(mib(1)), mib(1)).expect("the same");
        assert!(same_size(DISK, None, mib(1)).expect_err("none").to_string().contains("nothing"));
        assert_eq!(further_number(&further_name(3)), Some(3));
    }
}
