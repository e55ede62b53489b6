//! A pool that is a folder: each volume has a folder of its own, named by its id, with one qcow2 or raw file in it.
//!
//! A file is made under another name, synced and renamed, so that a crash leaves either none or a whole one. Files are
//! sparse: they take what was written. libvirt changes the owner of a file while a guest uses it; what is as it should
//! be is never touched.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentd_api::ByteSize;
use async_trait::async_trait;
use uuid::Uuid;

use super::{PoolDriver, PoolVolume, PooledVolume};
use crate::Instance;
use crate::exec::Program;
use crate::vm::{DiskFormat, DiskSource};
use crate::volume::VolumeError;
use crate::volume::host::{blocking, failed, file};

/// Copying an image's content into a volume takes as long as the disk is slow.
const COPY: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct DirPool {
    instance: Instance,
}

impl DirPool {
    pub fn new(instance: Instance) -> Arc<Self> {
        Arc::new(Self { instance })
    }

    fn file(&self, id: Uuid, format: DiskFormat) -> PathBuf {
        self.instance.volume_dir(id).join(name(format))
    }

    async fn make(&self, volume: &PoolVolume) -> Result<(), VolumeError> {
        const STEP: &str = "making the volume";
        let (all, folder) = (self.instance.volumes_dir(), self.instance.volume_dir(volume.id));
        let (new, whole) = (folder.join("volume.new"), self.file(volume.id, volume.format));
        let (made, stale) = (folder.clone(), new.clone());
        blocking(STEP, move || {
            file::ensure_folder(&all)?;
            file::ensure_folder(&made)?;
            file::gone(&stale)
        })
        .await?;
        let format = volume.format.as_str();
        let qemu_img = |words: &[&str]| Program::new("qemu-img").args(words.iter().copied());
        let size = volume.size.bytes().to_string();
        match &volume.content {
            None => {
                let create = qemu_img(&["create", "-q", "-f", format]).arg(&new).arg(&size);
                create.run().await.map_err(|error| failed(STEP, error))?;
            }
            Some(content) => {
                let image = qcow2_size(content).await?;
                if image > volume.size {
                    return Err(VolumeError::Refused(format!(
                        "a volume of {} is smaller than the image, which is {image}; ask for at least that",
                        volume.size
                    )));
                }
                let copy = qemu_img(&["convert", "-q", "-f", "qcow2", "-O", format]).arg(content).arg(&new);
                copy.deadline(COPY).run().await.map_err(|error| failed(STEP, error))?;
                let grow = qemu_img(&["resize", "-q", "-f", format]).arg(&new).arg(&size);
                grow.run().await.map_err(|error| failed(STEP, error))?;
            }
        }
        blocking(STEP, move || file::publish(&new, &whole, 0o600)).await
    }
}

const fn name(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Qcow2 => "volume.qcow2",
        DiskFormat::Raw => "volume.raw",
    }
}

async fn qcow2_size(path: &Path) -> Result<ByteSize, VolumeError> {
    let path = path.to_owned();
    blocking("reading the image's size", move || file::qcow2_size(&path)).await
}

#[async_trait]
impl PoolDriver for DirPool {
    async fn ensure(&self, volume: &PoolVolume) -> Result<PooledVolume, VolumeError> {
        if self.observe(volume.id).await?.is_none() {
            self.make(volume).await?;
        }
        self.observe(volume.id).await?.ok_or_else(|| VolumeError::Failed {
            step: "making the volume".to_owned(),
            detail: "it was made and is not there".to_owned(),
        })
    }

    async fn grow(&self, id: Uuid, size: ByteSize) -> Result<(), VolumeError> {
        const STEP: &str = "growing the volume";
        let Some(there) = self.observe(id).await? else {
            let detail = "it is not there".to_owned();
            return Err(VolumeError::Failed { step: STEP.to_owned(), detail });
        };
        if there.size >= size {
            return Ok(());
        }
        let file = there.source.path().to_owned();
        let grow = Program::new("qemu-img").args(["resize", "-q", "-f", there.format.as_str()]).arg(&file);
        let grow = grow.arg(size.bytes().to_string()).deadline(Duration::from_secs(60));
        grow.run().await.map_err(|error| failed(STEP, error))?;
        blocking(STEP, move || file::sync(&file)).await
    }

    async fn observe(&self, id: Uuid) -> Result<Option<PooledVolume>, VolumeError> {
        let files = [DiskFormat::Qcow2, DiskFormat::Raw].map(|format| (format, self.file(id, format)));
        blocking("looking at the volume", move || {
            for (format, path) in files {
                let length = match std::fs::metadata(&path) {
                    Ok(there) => there.len(),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let size = match format {
                    DiskFormat::Qcow2 => file::qcow2_size(&path)?,
                    DiskFormat::Raw => ByteSize(length),
                };
                return Ok(Some(PooledVolume { source: DiskSource::File(path), format, size }));
            }
            Ok(None)
        })
        .await
    }

    async fn list(&self) -> Result<Vec<Uuid>, VolumeError> {
        let folder = self.instance.volumes_dir();
        blocking("listing the volumes", move || file::uuids_in(&folder)).await
    }

    async fn remove(&self, id: Uuid) -> Result<(), VolumeError> {
        let (all, folder) = (self.instance.volumes_dir(), self.instance.volume_dir(id));
        blocking("removing the volume", move || file::remove_folder(&all, &folder)).await
    }

    async fn free(&self) -> Result<ByteSize, VolumeError> {
        // The folder for volumes is made with the first of them, and is on the same file system.
        let folder = self.instance.state_dir().to_owned();
        blocking("asking how much is free", move || {
            let seen = nix::sys::statvfs::statvfs(&folder)?;
            Ok(ByteSize(seen.blocks_available().saturating_mul(seen.fragment_size())))
        })
        .await
    }
}
