//! The volume driver of a real host: qcow2 overlays made by qemu-img, seeds written by ourselves, in one folder a VM.
//!
//! A file is made under another name, synced and renamed, so that a crash leaves either none or a whole one; what a
//! crash left under the other name is overwritten by the next try. libvirt changes the owner of a disk or seed while
//! a guest uses it, so files that are as they should be are never touched.

pub(super) mod file;
mod seed;
mod sets;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentd_api::ByteSize;
use async_trait::async_trait;
use uuid::Uuid;

use super::{
    CONSOLE, DISK, DiskSpec, FurtherDisk, SEED, Seed, VARIABLES, Variables, VolumeDriver, VolumeError,
    VolumeSeen, disk_size, further_name, further_number, variables_name,
};
use crate::Instance;
use crate::exec::{ExecError, Program};

#[derive(Debug)]
pub struct HostVolume {
    instance: Instance,
    guest_program: Option<PathBuf>,
    /// How many disks are copied at once.
    copies: tokio::sync::Semaphore,
}

impl HostVolume {
    /// `guest_program` is what seeds carry for images that have it not.
    pub fn new(instance: Instance, guest_program: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self { instance, guest_program, copies: tokio::sync::Semaphore::new(2) })
    }

    /// The folder of a VM, made where it is not there. Others may pass through it and not look around.
    async fn folder(&self, vm: Uuid) -> Result<PathBuf, VolumeError> {
        let (all, folder) = (self.instance.vms_dir(), self.instance.vm_dir(vm));
        let made = folder.clone();
        blocking("making the VM's folder", move || {
            file::ensure_folder(&all)?;
            file::ensure_folder(&made)
        })
        .await?;
        Ok(folder)
    }

    async fn make_disk(&self, folder: &Path, spec: &DiskSpec) -> Result<(), VolumeError> {
        const STEP: &str = "making the disk";
        if !tokio::fs::try_exists(&spec.backing).await.unwrap_or(false) {
            let detail = format!("the image's disk {} is not there", spec.backing.display());
            return Err(VolumeError::Failed { step: STEP.to_owned(), detail });
        }
        let image = size_of(&spec.backing).await?;
        let size = disk_size(spec.size, image)?;
        let (new, disk) = (folder.join("disk.new"), folder.join(DISK));
        let program = Program::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .arg(&spec.backing)
            .arg(&new)
            .arg(size.bytes().to_string());
        program.run().await.map_err(|error| failed(STEP, error))?;
        blocking(STEP, move || file::publish(&new, &disk, 0o600)).await
    }

    /// Grows a disk that is there. One that a guest holds cannot be grown from outside, and says so.
    async fn grow_disk(&self, disk: &Path, wanted: ByteSize) -> Result<(), VolumeError> {
        if size_of(disk).await? >= wanted {
            return Ok(());
        }
        let program = Program::new("qemu-img")
            .args(["resize", "-q", "-f", "qcow2"])
            .arg(disk)
            .arg(wanted.bytes().to_string())
            .deadline(Duration::from_secs(60));
        program.run().await.map_err(|error| failed("growing the disk", error))?;
        let disk = disk.to_owned();
        blocking("growing the disk", move || file::sync(&disk)).await
    }
}

#[async_trait]
impl VolumeDriver for HostVolume {
    async fn ensure_disk(&self, spec: &DiskSpec) -> Result<PathBuf, VolumeError> {
        let folder = self.folder(spec.vm).await?;
        let disk = folder.join(DISK);
        if !tokio::fs::try_exists(&disk).await.unwrap_or(false) {
            self.make_disk(&folder, spec).await?;
        } else if let Some(wanted) = spec.size {
            self.grow_disk(&disk, wanted).await?;
        }
        Ok(disk)
    }

    async fn ensure_further(&self, vm: Uuid, number: usize, size: ByteSize) -> Result<PathBuf, VolumeError> {
        const STEP: &str = "making a further disk";
        let folder = self.folder(vm).await?;
        let disk = folder.join(further_name(number));
        if tokio::fs::try_exists(&disk).await.unwrap_or(false) {
            self.grow_disk(&disk, size).await?;
            return Ok(disk);
        }
        let (new, whole) = (folder.join("further.new"), disk.clone());
        let program = Program::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&new);
        program.arg(size.bytes().to_string()).run().await.map_err(|error| failed(STEP, error))?;
        blocking(STEP, move || file::publish(&new, &whole, 0o600)).await?;
        Ok(disk)
    }

    async fn ensure_seed(&self, seed: &Seed) -> Result<PathBuf, VolumeError> {
        const STEP: &str = "writing the seed";
        let folder = self.folder(seed.vm).await?;
        let path = folder.join(SEED);
        let (seed, target) = (seed.clone(), path.clone());
        let program = self.guest_program.clone().filter(|_| seed.guest_program);
        blocking(STEP, move || {
            let program = program.map(std::fs::read).transpose()?;
            let image = seed::render_image(&seed, program.as_deref())?;
            if std::fs::read(&target).is_ok_and(|there| there == image) {
                return Ok(());
            }
            file::write(&folder.join("seed.new"), &target, &image, 0o600)
        })
        .await?;
        Ok(path)
    }

    async fn ensure_variables(&self, vm: Uuid, variables: &Variables) -> Result<PathBuf, VolumeError> {
        let folder = self.folder(vm).await?;
        let path = folder.join(variables_name(variables.secure));
        let (template, target) = (variables.template.clone(), path.clone());
        blocking("making the firmware's variables", move || {
            if target.try_exists()? {
                return Ok(());
            }
            file::write(&folder.join("uefi.new"), &target, &std::fs::read(template)?, 0o600)
        })
        .await?;
        Ok(path)
    }

    async fn observe(&self, vm: Uuid) -> Result<VolumeSeen, VolumeError> {
        let folder = self.instance.vm_dir(vm);
        let there = async |file: &str| {
            let path = folder.join(file);
            tokio::fs::try_exists(&path).await.unwrap_or(false).then_some(path)
        };
        let (disk, seed) = (there(DISK).await, there(SEED).await);
        let disk_size = match &disk {
            Some(disk) => Some(size_of(disk).await?),
            None => None,
        };
        let mut variables = false;
        for name in VARIABLES {
            variables |= there(name).await.is_some();
        }
        let further = blocking("looking at the VM's disks", move || further_in(&folder)).await?;
        Ok(VolumeSeen { disk, disk_size, further, seed, variables })
    }

    async fn list(&self) -> Result<Vec<Uuid>, VolumeError> {
        let folder = self.instance.vms_dir();
        blocking("listing the VMs' folders", move || file::uuids_in(&folder)).await
    }

    async fn remove(&self, vm: Uuid) -> Result<(), VolumeError> {
        let (all, folder) = (self.instance.vms_dir(), self.instance.vm_dir(vm));
        blocking("removing the VM's folder", move || file::remove_folder(&all, &folder)).await
    }

    async fn console_log(&self, vm: Uuid) -> Result<PathBuf, VolumeError> {
        Ok(self.folder(vm).await?.join(CONSOLE))
    }
}

fn further_in(folder: &Path) -> std::io::Result<Vec<FurtherDisk>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(further_number) {
            let (path, size) = (entry.path(), file::qcow2_size(&entry.path())?);
            all.push(FurtherDisk { number, path, size });
        }
    }
    all.sort_unstable_by_key(|disk| disk.number);
    Ok(all)
}

/// The size of the disk in a qcow2 file of ours, whether or not a guest holds it. Read from the header by ourselves:
/// asking qemu-img costs 20 ms, and this is asked of every VM.
async fn size_of(disk: &Path) -> Result<ByteSize, VolumeError> {
    let disk = disk.to_owned();
    blocking("reading the disk's size", move || file::qcow2_size(&disk)).await
}

/// The size of the disk that a guest sees of a qcow2 file.
pub(crate) fn size_in(disk: &Path) -> std::io::Result<ByteSize> {
    file::qcow2_size(disk)
}

/// Runs what blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    step: &str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, VolumeError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done =
        done.map_err(|error| VolumeError::Failed { step: step.to_owned(), detail: error.to_string() })?;
    done.map_err(|error| {
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded | ReadOnlyFilesystem => VolumeError::Capacity(error.to_string()),
            _ => VolumeError::Failed { step: step.to_owned(), detail: error.to_string() },
        }
    })
}

pub(super) fn failed(step: &str, error: ExecError) -> VolumeError {
    match error {
        ExecError::Missing(program) => VolumeError::ProgramMissing { program },
        ExecError::Status { stderr, .. } if stderr.contains("No space left on device") => {
            VolumeError::Capacity(stderr)
        }
        error => VolumeError::Failed { step: step.to_owned(), detail: crate::fault::chain(&error) },
    }
}

#[cfg(test)]
mod tests;
