//! Files that appear whole or not at all, and folders that are there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use uuid::Uuid;

/// A folder that others may pass through, for QEMU runs as another user. Its mode is set whatever the umask.
pub(in crate::volume) fn ensure_folder(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o711).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o711).create(path)?;
        }
        Err(error) => return Err(error),
    }
    fs::set_permissions(path, Permissions::from_mode(0o711))?;
    path.parent().map_or(Ok(()), sync)
}

/// Asks the disk to keep a file, or a folder's names.
pub(in crate::volume) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Gives a finished file its name.
pub(in crate::volume) fn publish(new: &Path, name: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(new, Permissions::from_mode(mode))?;
    sync(new)?;
    fs::rename(new, name)?;
    name.parent().map_or(Ok(()), sync)
}

/// Removes a file, if it is there.
pub(in crate::volume) fn gone(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file whole. No one else can open it for a moment in between: it is created with its mode.
pub(in crate::volume) fn write(new: &Path, name: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    gone(new)?;
    OpenOptions::new().write(true).create_new(true).mode(mode).open(new)?.write_all(content)?;
    publish(new, name, mode)
}

/// The names in a folder that are ids. Other names are not ours; a folder that is not there holds nothing.
pub(in crate::volume) fn uuids_in(folder: &Path) -> io::Result<Vec<Uuid>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut ids = Vec::new();
    for entry in entries {
        ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Uuid>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Removes a folder with all in it. Links in it are removed and not followed.
pub(in crate::volume) fn remove_folder(parent: &Path, folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Ok(()) => sync(parent),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The size of the disk that a guest sees of a qcow2 file.
pub(in crate::volume) fn qcow2_size(path: &Path) -> io::Result<agentd_api::ByteSize> {
    let mut header = [0u8; 32];
    let read = File::open(path)?.read_exact(&mut header);
    if read.is_err() || !header.starts_with(b"QFI\xfb") {
        let text = format!("{} is no qcow2 file: it is damaged", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let size = header[24..32].iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    Ok(agentd_api::ByteSize(size))
}
