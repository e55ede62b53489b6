//! Loop devices: block devices that are files. Which file one is stands in /sys, so that a daemon that was killed finds
//! again what it has.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::exec::{ExecError, Program};

const DEVICES: &str = "/sys/block";
/// What the kernel writes behind the path of a file that has been removed.
const REMOVED: &str = " (deleted)";

/// The loop devices whose files are below that folder, each with its file. A file may have several.
pub(super) fn below(folder: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    // As the kernel has it.
    let folder = match folder.canonicalize() {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(DEVICES)? {
        let entry = entry?;
        let Some(name) =
            entry.file_name().to_str().filter(|name| name.starts_with("loop")).map(str::to_owned)
        else {
            continue;
        };
        // Not there where the device is free.
        let Ok(file) = std::fs::read_to_string(entry.path().join("loop/backing_file")) else { continue };
        let file = file.trim_end_matches('\n');
        let file = Path::new(file.strip_suffix(REMOVED).unwrap_or(file)).to_owned();
        if file.starts_with(&folder) {
            found.insert(Path::new("/dev").join(name), file);
        }
    }
    Ok(found.into_iter().collect())
}

/// Those that are this file.
pub(super) fn of(file: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(folder) = file.parent() else { return Ok(Vec::new()) };
    let name = file.file_name();
    let found = below(folder)?.into_iter().filter(|(_, backing)| backing.file_name() == name);
    Ok(found.map(|(device, _)| device).collect())
}

/// A new one, or one that is this file already.
pub(super) async fn make(file: &Path) -> Result<PathBuf, ExecError> {
    let made = Program::new("losetup").args(["--find", "--show", "--nooverlap"]).arg(file).run().await?;
    let device = PathBuf::from(String::from_utf8_lossy(&made).trim());
    // Otherwise all that is written is kept in memory twice. Not every file system can do it, and it works without.
    if let Err(error) = Program::new("losetup").arg("--direct-io=on").arg(&device).run().await {
        tracing::debug!(device = %device.display(), "no direct I/O: {error}");
    }
    Ok(device)
}

/// It is as large as its file from now on.
pub(super) async fn grow(device: &Path) -> Result<(), ExecError> {
    Program::new("losetup").arg("--set-capacity").arg(device).run().await.map(drop)
}

/// Where something has it still, the kernel takes it away with the end of that.
pub(super) async fn remove(device: &Path) -> Result<(), ExecError> {
    match Program::new("losetup").arg("--detach").arg(device).run().await {
        // Somebody else was faster.
        Err(ExecError::Status { stderr, .. }) if stderr.contains("No such device") => Ok(()),
        end => end.map(drop),
    }
}
