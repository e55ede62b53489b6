//! Sets of disks as folders: `disk-sets/<id>`, and `disk-sets/<id>.new` while one is put together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use uuid::Uuid;

use super::{HostVolume, blocking, failed, file};
use crate::exec::{Program, find};
use crate::volume::sets::{CopyDisk, DiskSets};
use crate::volume::{VARIABLES, VolumeError, disk_name, disk_number, kept_variables};

/// For a disk to be copied: 2 TiB at 100 MB/s.
const COPY: Duration = Duration::from_secs(6 * 3600);
/// Others read them, and nobody writes them any more.
const MODE: u32 = 0o644;
const NEW: &str = ".new";

/// What qemu-img tells of a disk, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    #[serde(default)]
    snapshots: Vec<Snapshot>,
    full_backing_filename: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Snapshot {
    name: String,
}

impl HostVolume {
    fn set(&self, set: Uuid) -> PathBuf {
        self.instance.disk_sets_dir().join(set.to_string())
    }
    fn new_set(&self, set: Uuid) -> PathBuf {
        self.instance.disk_sets_dir().join(format!("{set}{NEW}"))
    }
}

/// How the snapshot of a disk is copied.
enum How {
    /// As it is for a guest to use.
    Plain,
    /// Only what is above what the disk itself stands on.
    Upper,
    /// For an archive.
    Compressed,
}

impl HostVolume {
    /// False where the disk lacks the snapshot.
    async fn copy(&self, disk: &Path, snapshot: Uuid, to: &Path, how: How) -> Result<bool, VolumeError> {
        let _turn = self.copies.acquire().await;
        let (snapshot, seen) = (snapshot.to_string(), info(disk).await?);
        if seen.snapshots.iter().all(|there| there.name != snapshot) {
            return Ok(false);
        }
        let mut program = mortal_qemu_img()?
            .args(["convert", "-q", "-U", "-f", "qcow2", "-O", "qcow2", "-l"])
            .arg(format!("snapshot.name={snapshot}"));
        match (how, seen.full_backing_filename) {
            (How::Upper, Some(backing)) => {
                program = program.args(["-F", "qcow2", "-B"]).arg(backing);
            }
            (How::Compressed, _) => program = program.args(["-c", "-o", "compression_type=zstd"]),
            (How::Plain | How::Upper, _) => {}
        }
        let done = program.arg(disk).arg(to).deadline(COPY).run().await;
        done.map(|_| true).map_err(|error| failed("copying a disk", error))
    }
}

impl HostVolume {
    /// What a disk held at a snapshot, by itself and compressed. False where it lacks the snapshot.
    pub(crate) async fn copy_compressed(
        &self,
        disk: &Path,
        snapshot: Uuid,
        to: &Path,
    ) -> Result<bool, VolumeError> {
        self.copy(disk, snapshot, to, How::Compressed).await
    }

    /// Moves a file into a set that was begun.
    async fn put(&self, set: Uuid, name: &str, file: PathBuf) -> Result<(), VolumeError> {
        let to = self.new_set(set).join(name);
        blocking("putting a file into a set", move || fs::rename(file, to)).await
    }
    pub(crate) async fn put_disk(&self, set: Uuid, number: usize, disk: PathBuf) -> Result<(), VolumeError> {
        self.put(set, &disk_name(number), disk).await
    }
    /// One of [`VARIABLES`], synced.
    pub(crate) async fn put_variables(
        &self,
        set: Uuid,
        name: &str,
        file: PathBuf,
    ) -> Result<(), VolumeError> {
        self.put(set, name, file).await
    }
}

/// Copies what a UEFI keeps from one folder into another, which keeps what it has.
fn copy_kept(pairs: [(PathBuf, PathBuf); 2], mode: u32) -> io::Result<()> {
    for (from, to) in &pairs {
        if !from.try_exists()? || to.try_exists()? {
            continue;
        }
        let new = to.with_extension("new");
        fs::copy(from, &new)?;
        file::publish(&new, to, mode)?;
    }
    Ok(())
}

/// Into a VM's folder.
fn give_variables(set: &Path, folder: &Path) -> io::Result<()> {
    copy_kept(VARIABLES.map(|name| (set.join(name), folder.join(name))), 0o600)
}

async fn info(disk: &Path) -> Result<Info, VolumeError> {
    const STEP: &str = "looking at a disk";
    let program = Program::new("qemu-img").args(["info", "-U", "--output=json", "-f", "qcow2"]).arg(disk);
    let text = program.run().await.map_err(|error| failed(STEP, error))?;
    serde_json::from_slice(&text)
        .map_err(|error| VolumeError::Failed { step: STEP.to_owned(), detail: error.to_string() })
}

/// A copy takes long: it dies with this process, or two would be at the same disk after a kill.
fn mortal_qemu_img() -> Result<Program, VolumeError> {
    let find = |name: &str| find(name).map_err(|error| failed("copying a disk", error));
    let guard = Program::new(find("setpriv")?.to_string_lossy().into_owned());
    Ok(guard.args(["--pdeathsig", "KILL", "--"]).arg(find("qemu-img")?))
}

/// The disks in a folder, the one that is booted from last. None where there is no such folder.
fn disks_in(folder: &Path) -> io::Result<Option<Vec<usize>>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        numbers.extend(entry?.file_name().to_str().and_then(disk_number));
    }
    numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    Ok(Some(numbers))
}

#[async_trait]
impl DiskSets for HostVolume {
    async fn begin_set(&self, set: Uuid) -> Result<(), VolumeError> {
        let (all, folder) = (self.instance.disk_sets_dir(), self.new_set(set));
        blocking("beginning a set of disks", move || {
            file::ensure_folder(&all)?;
            file::remove_folder(&all, &folder)?;
            file::ensure_folder(&folder)
        })
        .await
    }

    async fn copy_disk(&self, copy: &CopyDisk) -> Result<bool, VolumeError> {
        let to = self.new_set(copy.set).join(disk_name(copy.number));
        let how = if copy.upper { How::Upper } else { How::Plain };
        self.copy(&copy.disk, copy.snapshot, &to, how).await
    }

    async fn copy_variables(&self, set: Uuid, vm: Uuid, snapshot: Uuid) -> Result<(), VolumeError> {
        let (from, to) = (self.instance.vm_dir(vm), self.new_set(set));
        let pairs = VARIABLES.map(|name| (from.join(kept_variables(name, snapshot)), to.join(name)));
        blocking("copying what a UEFI keeps", move || copy_kept(pairs, MODE)).await
    }

    async fn finish_set(&self, set: Uuid) -> Result<(), VolumeError> {
        let (from, to) = (self.new_set(set), self.set(set));
        blocking("finishing a set of disks", move || {
            for number in disks_in(&from)?.unwrap_or_default() {
                let disk = from.join(disk_name(number));
                fs::set_permissions(&disk, std::os::unix::fs::PermissionsExt::from_mode(MODE))?;
                file::sync(&disk)?;
            }
            file::sync(&from)?;
            fs::rename(&from, &to)?;
            to.parent().map_or(Ok(()), file::sync)
        })
        .await
    }

    async fn observe_set(&self, set: Uuid) -> Result<Option<Vec<usize>>, VolumeError> {
        let folder = self.set(set);
        let seen = blocking("looking at a set of disks", move || disks_in(&folder)).await?;
        Ok(seen.map(|mut numbers| {
            numbers.sort_unstable();
            numbers
        }))
    }

    async fn link_set(&self, vm: Uuid, set: Uuid) -> Result<(), VolumeError> {
        const STEP: &str = "making a disk on another";
        let (folder, base) = (self.folder(vm).await?, self.set(set));
        let looked = base.clone();
        let numbers = blocking(STEP, move || disks_in(&looked)).await?;
        let missing = || VolumeError::Failed {
            step: STEP.to_owned(),
            detail: format!("the set of disks {set} is not there"),
        };
        let numbers = numbers.ok_or_else(missing)?;
        let (set, given) = (base.clone(), folder.clone());
        blocking(STEP, move || give_variables(&set, &given)).await?;
        for number in numbers {
            let (new, disk) = (folder.join("linked.new"), folder.join(disk_name(number)));
            if tokio::fs::try_exists(&disk).await.unwrap_or(false) {
                continue;
            }
            let program = Program::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                .arg(base.join(disk_name(number)))
                .arg(&new);
            program.run().await.map_err(|error| failed(STEP, error))?;
            blocking(STEP, move || file::publish(&new, &disk, 0o600)).await?;
        }
        Ok(())
    }

    async fn adopt_set(&self, vm: Uuid, set: Uuid) -> Result<(), VolumeError> {
        let (folder, from) = (self.folder(vm).await?, self.set(set));
        let all = self.instance.disk_sets_dir();
        blocking("taking over a set of disks", move || {
            let Some(numbers) = disks_in(&from)? else { return Ok(()) };
            give_variables(&from, &folder)?;
            for number in numbers {
                let (there, disk) = (from.join(disk_name(number)), folder.join(disk_name(number)));
                if !disk.try_exists()? {
                    file::publish(&there, &disk, 0o600)?;
                }
            }
            file::remove_folder(&all, &from)
        })
        .await
    }

    async fn remove_set(&self, set: Uuid) -> Result<(), VolumeError> {
        let (all, folders) = (self.instance.disk_sets_dir(), [self.new_set(set), self.set(set)]);
        blocking("removing a set of disks", move || {
            folders.iter().try_for_each(|folder| file::remove_folder(&all, folder))
        })
        .await
    }

    async fn list_sets(&self) -> Result<Vec<Uuid>, VolumeError> {
        let folder = self.instance.disk_sets_dir();
        blocking("listing the sets of disks", move || {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut ids = Vec::new();
            for entry in entries {
                let name = entry?.file_name();
                let id = name.to_str().map(|name| name.strip_suffix(NEW).unwrap_or(name));
                ids.extend(id.and_then(|id| id.parse::<Uuid>().ok()));
            }
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_uefi_kept_at_a_snapshot_is_given_with_the_set_to_those_who_have_none() {
        let state = tempfile::tempdir().expect("a folder");
        let volumes = HostVolume::new(crate::Instance::new(state.path()), None);
        let (source, set, snapshot) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let (plain, has) = (Uuid::now_v7(), Uuid::now_v7());
        let at = |vm: Uuid| volumes.instance.vm_dir(vm).join(VARIABLES[0]);
        for vm in [source, has] {
            fs::create_dir_all(volumes.instance.vm_dir(vm)).expect("a folder");
            fs::write(at(vm), "its own").expect("written");
        }
        let kept = volumes.instance.vm_dir(source).join(kept_variables(VARIABLES[0], snapshot));
        fs::write(&kept, "kept").expect("written");
        volumes.begin_set(set).await.expect("begun");
        volumes.copy_variables(set, source, snapshot).await.expect("copied");
        volumes.finish_set(set).await.expect("whole");
        assert_eq!(volumes.observe_set(set).await.expect("looked"), Some(Vec::new()), "they are no disk");
        for (vm, wanted) in [(plain, "kept"), (has, "its own")] {
            volumes.link_set(vm, set).await.expect("linked");
            assert_eq!(fs::read_to_string(at(vm)).expect("read"), wanted);
        }
        let adopted = Uuid::now_v7();
        volumes.adopt_set(adopted, set).await.expect("taken over");
        assert_eq!(fs::read_to_string(at(adopted)).expect("read"), "kept");
        assert_eq!(volumes.list_sets().await.expect("listed"), Vec::<Uuid>::new());
        let names = fs::read_dir(volumes.instance.vm_dir(adopted)).expect("its folder").count();
        assert_eq!(names, 1, "nothing else is left");
    }
}
