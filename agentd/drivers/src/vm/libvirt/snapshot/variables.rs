//! What a guest's UEFI keeps, beside a snapshot of its disks: QEMU has it in a raw file, which holds no snapshots, so each
//! is a copy in the VM's folder. Half a megabyte; a VM without UEFI has none. A guest's memory has its own of it, which
//! QEMU writes into the file when the guest goes on from there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::vm::VmError;
use crate::volume::{VARIABLES, kept_variables};

fn failed(error: &io::Error, path: &Path) -> VmError {
    let detail = format!("{}: {error}", path.display());
    VmError::Failed { call: "keep what a guest's firmware keeps", detail }
}

/// Whole under its name or not there under it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let new = to.with_extension("new");
    // Its mode, and not its owner: libvirt gives it to QEMU's user at the guest's start.
    fs::copy(from, &new)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, to)?;
    to.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

/// Each file and its copy.
fn pairs(folder: &Path, id: Uuid) -> [(PathBuf, PathBuf); 2] {
    VARIABLES.map(|name| (folder.join(name), folder.join(kept_variables(name, id))))
}

pub(super) fn keep(folder: &Path, id: Uuid) -> Result<(), VmError> {
    for (file, kept) in pairs(folder, id).iter().filter(|(file, _)| file.exists()) {
        copy(file, kept).map_err(|error| failed(&error, kept))?;
    }
    Ok(())
}

/// Where the VM had none when the snapshot was taken, it keeps what it has.
pub(super) fn take_back(folder: &Path, id: Uuid) -> Result<(), VmError> {
    for (file, kept) in pairs(folder, id).iter().filter(|(_, kept)| kept.exists()) {
        copy(kept, file).map_err(|error| failed(&error, file))?;
    }
    Ok(())
}

/// Whether there was any.
pub(super) fn forget(folder: &Path, id: Uuid) -> Result<bool, VmError> {
    let mut had = false;
    for (_, kept) in pairs(folder, id) {
        match fs::remove_file(&kept) {
            Ok(()) => had = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&error, &kept)),
        }
    }
    Ok(had)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_go_back_and_what_a_snapshot_has_not_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (folder, id, other) = (folder.path(), Uuid::now_v7(), Uuid::now_v7());
        let plain = folder.join(VARIABLES[0]);
        keep(folder, other).expect("nothing to keep");
        fs::write(&plain, "first").expect("written");
        keep(folder, id).expect("kept");
        fs::write(&plain, "second").expect("written");
        fs::write(folder.join(VARIABLES[1]), "keys").expect("written");
        take_back(folder, other).expect("nothing");
        assert_eq!(fs::read_to_string(&plain).expect("read"), "second");
        take_back(folder, id).expect("back");
        assert_eq!(fs::read_to_string(&plain).expect("read"), "first");
        assert_eq!(fs::read_to_string(folder.join(VARIABLES[1])).expect("read"), "keys");
        assert!(forget(folder, id).expect("gone") && !forget(folder, id).expect("gone"));
        assert_eq!(fs::read_dir(folder).expect("read").count(), 2, "nothing else is left");
    }
}
