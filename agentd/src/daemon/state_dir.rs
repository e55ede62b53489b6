//! The state directory: made where it is not there, reachable for guests' emulators, its database for nobody else.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::stat::{Mode, umask};

/// Emulators run as another user and must reach the disks below it, but need not see what is there.
const MODE: u32 = 0o711;

/// Its real path: the daemon's marks on the host are made of it, so a symbolic link must not change them.
pub fn prepare(state_dir: &Path) -> anyhow::Result<PathBuf> {
    let context = || format!("the state directory {} cannot be used", state_dir.display());
    std::fs::DirBuilder::new().recursive(true).mode(MODE).create(state_dir).with_context(context)?;
    let real = state_dir.canonicalize().with_context(context)?;
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(MODE)).with_context(context)?;
    Ok(real)
}

/// What else is made is readable as its own mode says, whatever the umask that agentd was started with.
pub fn plain_umask() {
    umask(Mode::from_bits_truncate(0o022));
}

/// Runs `open` so that the files it makes are for this user alone: the database holds user-data and its secrets. SQLite
/// gives the files that it makes later beside a database the database's own mode.
pub fn privately<T>(open: impl FnOnce() -> T) -> T {
    let before = umask(Mode::from_bits_truncate(0o077));
    let done = open();
    umask(before);
    done
}
