//! A pool that writes nothing: a stateful stand-in for tests, agentd-sim and the benches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use agentd_api::ByteSize;
use agentd_api::volume::VolumeMode;
use async_trait::async_trait;
use parking_lot::Mutex;
use uuid::Uuid;

use super::{Content, PoolDriver, PoolVolume, PooledVolume};
use crate::Instance;
use crate::faults::Faults;
use crate::image::fake::FakeImage;
use crate::vm::{DiskFormat, DiskSource};
use crate::volume::VolumeError;

/// What it says is free until it is told otherwise.
const FREE: ByteSize = ByteSize::gib(1 << 10);

#[derive(Debug)]
pub struct FakePool {
    instance: Instance,
    images: Arc<FakeImage>,
    faults: Faults<VolumeError>,
    volumes: Mutex<BTreeMap<Uuid, PooledVolume>>,
    attached: Mutex<BTreeSet<Uuid>>,
    free: Mutex<ByteSize>,
}

impl FakePool {
    /// The methods that can be made to fail, hang or be slow, by the names of the trait.
    pub const METHODS: &[&str] =
        &["ensure", "grow", "observe", "list", "remove", "attach", "detach", "attached", "free"];

    pub fn new(instance: Instance, images: Arc<FakeImage>) -> Arc<Self> {
        let (faults, volumes, free) = (Faults::new(Self::METHODS), Mutex::default(), Mutex::new(FREE));
        Arc::new(Self { instance, images, faults, volumes, attached: Mutex::default(), free })
    }
    /// What goes wrong, by the names of the trait's methods.
    pub fn faults(&self) -> &Faults<VolumeError> {
        &self.faults
    }
    pub fn set_free(&self, free: ByteSize) {
        *self.free.lock() = free;
    }
    /// As `rm` of the file by somebody else.
    pub fn lose_behind_our_back(&self, id: Uuid) {
        self.volumes.lock().remove(&id);
    }
    /// As a boot of the host.
    pub fn lose_devices(&self) {
        self.attached.lock().clear();
    }

    fn file(&self, volume: &PoolVolume) -> PathBuf {
        let name = match volume.content.mode() {
            VolumeMode::Block => format!("volume.{}", volume.format.as_str()),
            VolumeMode::Filesystem => "volume.ext4".to_owned(),
        };
        self.instance.volume_dir(volume.id).join(name)
    }
}

#[async_trait]
impl PoolDriver for FakePool {
    async fn ensure(&self, volume: &PoolVolume) -> Result<PooledVolume, VolumeError> {
        self.faults.pass("ensure").await?;
        if let Some(there) = self.volumes.lock().get(&volume.id) {
            return Ok(there.clone());
        }
        if volume.content == Content::FileSystem && volume.format != DiskFormat::Raw {
            return Err(VolumeError::Refused("a file system is kept raw".to_owned()));
        }
        if let Content::Image(content) = &volume.content {
            let image = self.images.size_of(content).ok_or_else(|| VolumeError::Failed {
                step: "making the volume".to_owned(),
                detail: format!("the image's disk {} is not there", content.display()),
            })?;
            if image > volume.size {
                return Err(VolumeError::Refused(format!("the image is {image}")));
            }
        }
        let source = DiskSource::File(self.file(volume));
        let mode = volume.content.mode();
        let made = PooledVolume { source, format: volume.format, size: volume.size, mode };
        self.volumes.lock().insert(volume.id, made.clone());
        Ok(made)
    }

    async fn grow(&self, id: Uuid, size: ByteSize) -> Result<(), VolumeError> {
        self.faults.pass("grow").await?;
        let mut volumes = self.volumes.lock();
        let Some(there) = volumes.get_mut(&id) else {
            let (step, detail) = ("growing the volume".to_owned(), "it is not there".to_owned());
            return Err(VolumeError::Failed { step, detail });
        };
        there.size = there.size.max(size);
        Ok(())
    }

    async fn observe(&self, id: Uuid) -> Result<Option<PooledVolume>, VolumeError> {
        self.faults.pass("observe").await?;
        Ok(self.volumes.lock().get(&id).cloned())
    }

    async fn list(&self) -> Result<Vec<Uuid>, VolumeError> {
        self.faults.pass("list").await?;
        Ok(self.volumes.lock().keys().copied().collect())
    }

    async fn remove(&self, id: Uuid) -> Result<(), VolumeError> {
        self.faults.pass("remove").await?;
        self.volumes.lock().remove(&id);
        Ok(())
    }

    async fn attach(&self, id: Uuid) -> Result<PathBuf, VolumeError> {
        self.faults.pass("attach").await?;
        let there = self.volumes.lock().get(&id).is_some_and(|there| there.mode == VolumeMode::Filesystem);
        if !there {
            let (step, detail) =
                ("making the volume's device".to_owned(), "there is no such file".to_owned());
            return Err(VolumeError::Failed { step, detail });
        }
        self.attached.lock().insert(id);
        Ok(self.instance.devices_dir().join(id.to_string()))
    }

    async fn detach(&self, id: Uuid) -> Result<(), VolumeError> {
        self.faults.pass("detach").await?;
        self.attached.lock().remove(&id);
        Ok(())
    }

    async fn attached(&self) -> Result<Vec<Uuid>, VolumeError> {
        self.faults.pass("attached").await?;
        Ok(self.attached.lock().iter().copied().collect())
    }

    async fn free(&self) -> Result<ByteSize, VolumeError> {
        self.faults.pass("free").await?;
        Ok(*self.free.lock())
    }
}
