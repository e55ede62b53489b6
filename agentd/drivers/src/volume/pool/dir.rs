//! A pool that is a folder: each volume has a folder of its own, named by its id, with one qcow2, raw or ext4 file in it.
//!
//! A file is made under another name, synced and renamed, so that a crash leaves either none or a whole one. Files are
//! sparse: they take what was written. libvirt changes the owner of a file while a guest uses it; what is as it should
//! be is never touched.
//!
//! What containers mount is a loop device that is the volume's file, by a link to it that bears the volume's id: which
//! device that is differs from one time to the next, and the engine is told once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentd_api::ByteSize;
use agentd_api::volume::VolumeMode;
use async_trait::async_trait;
use uuid::Uuid;

use super::{Content, PoolDriver, PoolVolume, PooledVolume, ext4, loops};
use crate::Instance;
use crate::exec::Program;
use crate::vm::{DiskFormat, DiskSource};
use crate::volume::VolumeError;
use crate::volume::host::{blocking, failed, file};

/// Copying an image's content into a volume takes as long as the disk is slow.
const COPY: Duration = Duration::from_secs(3600);

/// There while a file system is smaller than its file.
const GROWING: &str = "growing";

#[derive(Debug)]
pub struct DirPool {
    instance: Instance,
    /// Devices are found, made and taken away one at a time.
    devices: tokio::sync::Mutex<()>,
}

impl DirPool {
    pub fn new(instance: Instance) -> Arc<Self> {
        Arc::new(Self { instance, devices: tokio::sync::Mutex::default() })
    }

    fn file(&self, id: Uuid, mode: VolumeMode, format: DiskFormat) -> PathBuf {
        self.instance.volume_dir(id).join(name(mode, format))
    }

    /// Of a volume with a file system, its file.
    fn file_system(&self, id: Uuid) -> PathBuf {
        self.file(id, VolumeMode::Filesystem, DiskFormat::Raw)
    }

    fn link(&self, id: Uuid) -> PathBuf {
        self.instance.devices_dir().join(id.to_string())
    }

    async fn make(&self, volume: &PoolVolume) -> Result<(), VolumeError> {
        const STEP: &str = "making the volume";
        let (all, folder) = (self.instance.volumes_dir(), self.instance.volume_dir(volume.id));
        let mode = volume.content.mode();
        let (new, whole) = (folder.join("volume.new"), self.file(volume.id, mode, volume.format));
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
            Content::Empty => {
                let create = qemu_img(&["create", "-q", "-f", format]).arg(&new).arg(&size);
                create.run().await.map_err(|error| failed(STEP, error))?;
            }
            Content::FileSystem if volume.format != DiskFormat::Raw => {
                return Err(VolumeError::Refused(format!("a file system is kept raw, not {format}")));
            }
            Content::FileSystem => {
                let (file, length) = (new.clone(), volume.size.bytes());
                blocking(STEP, move || std::fs::File::create_new(file)?.set_len(length)).await?;
                ext4::make(&new, volume.id).await.map_err(|error| failed(STEP, error))?;
            }
            Content::Image(content) => {
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

const ATTACH: &str = "making the volume's device";
const GROW: &str = "growing the volume";

impl DirPool {
    /// The device of the file, made where there is none. Called by whom `devices` was locked.
    async fn device(&self, id: Uuid) -> Result<PathBuf, VolumeError> {
        let file = self.file_system(id);
        if !tokio::fs::try_exists(&file).await.unwrap_or(false) {
            let detail = format!("there is no {}", file.display());
            return Err(VolumeError::Failed { step: ATTACH.to_owned(), detail });
        }
        let there = file.clone();
        match blocking(ATTACH, move || loops::of(&there)).await?.pop() {
            Some(device) => Ok(device),
            None => loops::make(&file).await.map_err(|error| failed(ATTACH, error)),
        }
    }

    /// The file, its device, and then the file system. Whoever was killed in between has left a mark that says so.
    async fn grow_file_system(&self, id: Uuid, size: ByteSize) -> Result<(), VolumeError> {
        let _alone = self.devices.lock().await;
        let (folder, file) = (self.instance.volume_dir(id), self.file_system(id));
        let mark = folder.join(GROWING);
        let (of, marked, parent) = (file.clone(), mark.clone(), folder.clone());
        let bytes = blocking(GROW, move || {
            std::fs::File::create(&marked)?.sync_all()?;
            file::sync(&parent)?;
            let file = std::fs::OpenOptions::new().write(true).open(&of)?;
            let bytes = file.metadata()?.len().max(size.bytes());
            file.set_len(bytes)?;
            file.sync_all().map(|()| bytes)
        })
        .await?;
        let of = file.clone();
        let had = blocking(GROW, move || loops::of(&of)).await?;
        let device = self.device(id).await?;
        loops::grow(&device).await.map_err(|error| failed(GROW, error))?;
        let grown = ext4::grow(&device, &folder, bytes).await;
        if had.is_empty() {
            loops::remove(&device).await.map_err(|error| failed(GROW, error))?;
        }
        grown?;
        blocking(GROW, move || {
            file::gone(&mark)?;
            file::sync(&folder)
        })
        .await
    }
}

const KINDS: [(VolumeMode, DiskFormat); 3] = [
    (VolumeMode::Block, DiskFormat::Qcow2),
    (VolumeMode::Block, DiskFormat::Raw),
    (VolumeMode::Filesystem, DiskFormat::Raw),
];

const fn name(mode: VolumeMode, format: DiskFormat) -> &'static str {
    match (mode, format) {
        (VolumeMode::Filesystem, _) => "volume.ext4",
        (VolumeMode::Block, DiskFormat::Qcow2) => "volume.qcow2",
        (VolumeMode::Block, DiskFormat::Raw) => "volume.raw",
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
        let Some(there) = self.observe(id).await? else {
            let detail = "it is not there".to_owned();
            return Err(VolumeError::Failed { step: GROW.to_owned(), detail });
        };
        if there.size >= size {
            return Ok(());
        }
        if there.mode == VolumeMode::Filesystem {
            return self.grow_file_system(id, size).await;
        }
        let file = there.source.path().to_owned();
        let grow = Program::new("qemu-img").args(["resize", "-q", "-f", there.format.as_str()]).arg(&file);
        let grow = grow.arg(size.bytes().to_string()).deadline(Duration::from_secs(60));
        grow.run().await.map_err(|error| failed(GROW, error))?;
        blocking(GROW, move || file::sync(&file)).await
    }

    async fn observe(&self, id: Uuid) -> Result<Option<PooledVolume>, VolumeError> {
        let files = KINDS.map(|(mode, format)| (mode, format, self.file(id, mode, format)));
        blocking("looking at the volume", move || {
            for (mode, format, path) in files {
                let length = match std::fs::metadata(&path) {
                    Ok(there) => there.len(),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let size = match format {
                    DiskFormat::Qcow2 => file::qcow2_size(&path)?,
                    DiskFormat::Raw if path.with_file_name(GROWING).try_exists()? => {
                        ByteSize(ext4::size(&path)?.min(length))
                    }
                    DiskFormat::Raw => ByteSize(length),
                };
                return Ok(Some(PooledVolume { source: DiskSource::File(path), format, size, mode }));
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

    async fn attach(&self, id: Uuid) -> Result<PathBuf, VolumeError> {
        let _alone = self.devices.lock().await;
        let device = self.device(id).await?;
        let (link, folder) = (self.link(id), self.instance.devices_dir());
        let made = link.clone();
        blocking(ATTACH, move || {
            if std::fs::read_link(&link).is_ok_and(|to| to == device) {
                return Ok(());
            }
            std::fs::create_dir_all(&folder)?;
            file::gone(&link)?;
            std::os::unix::fs::symlink(&device, &link)
        })
        .await?;
        Ok(made)
    }

    async fn detach(&self, id: Uuid) -> Result<(), VolumeError> {
        const STEP: &str = "taking the volume's device away";
        let _alone = self.devices.lock().await;
        let (link, file) = (self.link(id), self.file_system(id));
        let devices = blocking(STEP, move || {
            file::gone(&link)?;
            loops::of(&file)
        })
        .await?;
        for device in devices {
            loops::remove(&device).await.map_err(|error| failed(STEP, error))?;
        }
        Ok(())
    }

    async fn attached(&self) -> Result<Vec<Uuid>, VolumeError> {
        let (links, volumes) = (self.instance.devices_dir(), self.instance.volumes_dir());
        blocking("looking for the volumes' devices", move || {
            let mut found = file::uuids_in(&links)?;
            let id = |file: &Path| file.parent()?.file_name()?.to_str()?.parse::<Uuid>().ok();
            found.extend(loops::below(&volumes)?.iter().filter_map(|(_, file)| id(file)));
            found.sort_unstable();
            found.dedup();
            Ok(found)
        })
        .await
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
