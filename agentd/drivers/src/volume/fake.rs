//! A volume driver that writes nothing: a stateful stand-in for tests, agentd-sim and the benches.
//!
//! It knows the sizes of images from the [`FakeImage`] it is given: a disk on an image that is not there fails as on a
//! host. Paths are those that the real driver would answer; nothing lies there.

mod sets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use agentd_api::ByteSize;
use async_trait::async_trait;
use parking_lot::Mutex;
use uuid::Uuid;

use super::{DiskSpec, FurtherDisk, Seed, Variables, VolumeDriver, VolumeError, VolumeSeen};
use crate::Instance;
use crate::faults::Faults;
use crate::image::fake::FakeImage;

#[derive(Debug)]
pub struct FakeVolume {
    instance: Instance,
    images: Arc<FakeImage>,
    faults: Faults<VolumeError>,
    folders: Mutex<BTreeMap<Uuid, Folder>>,
    sets: Mutex<BTreeMap<Uuid, sets::Set>>,
}

#[derive(Debug, Default)]
struct Folder {
    disk: Option<ByteSize>,
    further: BTreeMap<usize, ByteSize>,
    seed: Option<Seed>,
    seed_writes: u64,
    stands_on: Option<Uuid>,
    variables: bool,
}

impl FakeVolume {
    /// The methods that can be made to fail, hang or be slow, by the names of the trait.
    pub const METHODS: &[&str] = &[
        "ensure_disk",
        "ensure_further",
        "ensure_seed",
        "ensure_variables",
        "observe",
        "list",
        "remove",
        "console_log",
        "begin_set",
        "copy_disk",
        "copy_variables",
        "finish_set",
        "observe_set",
        "link_set",
        "adopt_set",
        "remove_set",
        "list_sets",
    ];

    pub fn new(instance: Instance, images: Arc<FakeImage>) -> Arc<Self> {
        let (faults, folders, sets) = (Faults::new(Self::METHODS), Mutex::default(), Mutex::default());
        Arc::new(Self { instance, images, faults, folders, sets })
    }
    /// What goes wrong, by the names of the trait's methods.
    pub fn faults(&self) -> &Faults<VolumeError> {
        &self.faults
    }
    /// The seed that a VM has, and how often it was written.
    pub fn seed(&self, vm: Uuid) -> Option<(Seed, u64)> {
        let folders = self.folders.lock();
        folders.get(&vm).and_then(|f| f.seed.clone().map(|seed| (seed, f.seed_writes)))
    }
    /// As `rm` of the disk by somebody else.
    pub fn lose_disk_behind_our_back(&self, vm: Uuid) {
        if let Some(folder) = self.folders.lock().get_mut(&vm) {
            folder.disk = None;
        }
    }

    fn path(&self, vm: Uuid, file: &str) -> PathBuf {
        self.instance.vm_dir(vm).join(file)
    }
}

#[async_trait]
impl VolumeDriver for FakeVolume {
    async fn ensure_disk(&self, spec: &DiskSpec) -> Result<PathBuf, VolumeError> {
        self.faults.pass("ensure_disk").await?;
        let there = self.folders.lock().get(&spec.vm).and_then(|f| f.disk);
        let size = match there {
            Some(there) => spec.size.unwrap_or(there).max(there),
            None => {
                let image = self.images.size_of(&spec.backing).ok_or_else(|| VolumeError::Failed {
                    step: "making the disk".to_owned(),
                    detail: format!("the image's disk {} is not there", spec.backing.display()),
                })?;
                super::disk_size(spec.size, image)?
            }
        };
        self.folders.lock().entry(spec.vm).or_default().disk = Some(size);
        Ok(self.path(spec.vm, super::DISK))
    }

    async fn ensure_further(&self, vm: Uuid, number: usize, size: ByteSize) -> Result<PathBuf, VolumeError> {
        self.faults.pass("ensure_further").await?;
        let mut folders = self.folders.lock();
        let is = folders.entry(vm).or_default().further.entry(number).or_default();
        *is = size.max(*is);
        Ok(self.path(vm, &super::further_name(number)))
    }

    async fn ensure_seed(&self, seed: &Seed) -> Result<PathBuf, VolumeError> {
        self.faults.pass("ensure_seed").await?;
        let mut folders = self.folders.lock();
        let folder = folders.entry(seed.vm).or_default();
        if folder.seed.as_ref() != Some(seed) {
            folder.seed = Some(seed.clone());
            folder.seed_writes += 1;
        }
        Ok(self.path(seed.vm, super::SEED))
    }

    async fn ensure_variables(&self, vm: Uuid, variables: &Variables) -> Result<PathBuf, VolumeError> {
        self.faults.pass("ensure_variables").await?;
        self.folders.lock().entry(vm).or_default().variables = true;
        Ok(self.path(vm, super::variables_name(variables.secure)))
    }

    async fn observe(&self, vm: Uuid) -> Result<VolumeSeen, VolumeError> {
        self.faults.pass("observe").await?;
        let folders = self.folders.lock();
        let Some(folder) = folders.get(&vm) else { return Ok(VolumeSeen::default()) };
        Ok(VolumeSeen {
            disk: folder.disk.map(|_| self.path(vm, super::DISK)),
            variables: folder.variables,
            disk_size: folder.disk,
            further: folder
                .further
                .iter()
                .map(|(&number, &size)| FurtherDisk {
                    number,
                    path: self.path(vm, &super::further_name(number)),
                    size,
                })
                .collect(),
            seed: folder.seed.as_ref().map(|_| self.path(vm, super::SEED)),
        })
    }

    async fn list(&self) -> Result<Vec<Uuid>, VolumeError> {
        self.faults.pass("list").await?;
        Ok(self.folders.lock().keys().copied().collect())
    }

    async fn remove(&self, vm: Uuid) -> Result<(), VolumeError> {
        self.faults.pass("remove").await?;
        self.folders.lock().remove(&vm);
        Ok(())
    }

    async fn console_log(&self, vm: Uuid) -> Result<PathBuf, VolumeError> {
        self.faults.pass("console_log").await?;
        self.folders.lock().entry(vm).or_default();
        Ok(self.path(vm, super::CONSOLE))
    }
}
