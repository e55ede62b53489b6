//! Sets of disks of the fake: the sizes of what they hold.

use std::collections::BTreeMap;
use std::path::Path;

use agentd_api::ByteSize;
use async_trait::async_trait;
use uuid::Uuid;

use super::{FakeVolume, Folder};
use crate::volume::sets::{CopyDisk, DiskSets};
use crate::volume::{VolumeError, disk_name};

#[derive(Debug, Clone, Default)]
pub(super) struct Set {
    whole: bool,
    disks: BTreeMap<usize, ByteSize>,
    variables: bool,
}

fn missing(set: Uuid) -> VolumeError {
    let detail = format!("the set of disks {set} is not there");
    VolumeError::Failed { step: "looking at a set of disks".to_owned(), detail }
}

impl Folder {
    fn is_there(&self, number: usize) -> bool {
        if number == 0 { self.disk.is_some() } else { self.further.contains_key(&number) }
    }
    fn put(&mut self, number: usize, size: ByteSize) {
        if number == 0 {
            self.disk = Some(size);
        } else {
            self.further.insert(number, size);
        }
    }
}

impl FakeVolume {
    /// The size of the disk in that file.
    pub(crate) fn size_of(&self, disk: &Path) -> Option<ByteSize> {
        let folders = self.folders.lock();
        folders.iter().find_map(|(vm, folder)| {
            let further = folder.further.iter().map(|(number, size)| (*number, *size));
            let mut all = folder.disk.map(|size| (0, size)).into_iter().chain(further);
            all.find(|(number, _)| self.path(*vm, &disk_name(*number)) == disk).map(|(_, size)| size)
        })
    }
    /// A whole set of such disks.
    pub(crate) fn put_set(&self, set: Uuid, disks: BTreeMap<usize, ByteSize>, variables: bool) {
        self.sets.lock().insert(set, Set { whole: true, disks, variables });
    }
    pub(crate) fn has_variables(&self, vm: Uuid) -> bool {
        self.folders.lock().get(&vm).is_some_and(|folder| folder.variables)
    }
    /// What a linked VM's disks stand on.
    pub fn stands_on(&self, vm: Uuid) -> Option<Uuid> {
        self.folders.lock().get(&vm).and_then(|folder| folder.stands_on)
    }
    /// The whole set that is given to a VM.
    fn given(&self, set: Uuid) -> Result<Set, VolumeError> {
        let sets = self.sets.lock();
        sets.get(&set).filter(|there| there.whole).cloned().ok_or_else(|| missing(set))
    }
    fn give(&self, vm: Uuid, set: &Set, stands_on: Option<Uuid>) {
        let mut folders = self.folders.lock();
        let folder = folders.entry(vm).or_default();
        folder.variables |= set.variables;
        for (number, size) in &set.disks {
            if !folder.is_there(*number) {
                folder.put(*number, *size);
            }
        }
        folder.stands_on = stands_on.or(folder.stands_on);
    }
}

#[async_trait]
impl DiskSets for FakeVolume {
    async fn begin_set(&self, set: Uuid) -> Result<(), VolumeError> {
        self.faults.pass("begin_set").await?;
        self.sets.lock().insert(set, Set::default());
        Ok(())
    }

    async fn copy_disk(&self, copy: &CopyDisk) -> Result<bool, VolumeError> {
        self.faults.pass("copy_disk").await?;
        let size = self.size_of(&copy.disk).ok_or_else(|| VolumeError::Failed {
            step: "copying a disk".to_owned(),
            detail: format!("{} is not there", copy.disk.display()),
        })?;
        let mut sets = self.sets.lock();
        sets.get_mut(&copy.set).ok_or_else(|| missing(copy.set))?.disks.insert(copy.number, size);
        Ok(true)
    }

    async fn copy_variables(&self, set: Uuid, vm: Uuid, _: Uuid) -> Result<(), VolumeError> {
        self.faults.pass("copy_variables").await?;
        let has = self.folders.lock().get(&vm).is_some_and(|folder| folder.variables);
        self.sets.lock().get_mut(&set).ok_or_else(|| missing(set))?.variables = has;
        Ok(())
    }

    async fn finish_set(&self, set: Uuid) -> Result<(), VolumeError> {
        self.faults.pass("finish_set").await?;
        self.sets.lock().get_mut(&set).ok_or_else(|| missing(set))?.whole = true;
        Ok(())
    }

    async fn observe_set(&self, set: Uuid) -> Result<Option<Vec<usize>>, VolumeError> {
        self.faults.pass("observe_set").await?;
        let sets = self.sets.lock();
        Ok(sets.get(&set).filter(|there| there.whole).map(|there| there.disks.keys().copied().collect()))
    }

    async fn link_set(&self, vm: Uuid, set: Uuid) -> Result<(), VolumeError> {
        self.faults.pass("link_set").await?;
        let given = self.given(set)?;
        self.give(vm, &given, Some(set));
        Ok(())
    }

    async fn adopt_set(&self, vm: Uuid, set: Uuid) -> Result<(), VolumeError> {
        self.faults.pass("adopt_set").await?;
        let Ok(given) = self.given(set) else { return Ok(()) };
        self.give(vm, &given, None);
        self.sets.lock().remove(&set);
        Ok(())
    }

    async fn remove_set(&self, set: Uuid) -> Result<(), VolumeError> {
        self.faults.pass("remove_set").await?;
        self.sets.lock().remove(&set);
        Ok(())
    }

    async fn list_sets(&self) -> Result<Vec<Uuid>, VolumeError> {
        self.faults.pass("list_sets").await?;
        Ok(self.sets.lock().keys().copied().collect())
    }
}
