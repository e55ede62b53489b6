//! The state directory: made where it is not there, reachable for guests' emulators, its database for nobody else.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentd_drivers::Instance;
use anyhow::{Context, bail};
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

/// Refuses to begin a new database beside the disks of VMs: to it they would be nobody's, and be swept.
pub fn refuse_orphans(state_dir: &Path, database: &Path) -> anyhow::Result<()> {
    let vms = Instance::new(state_dir).vms_dir();
    let there = match std::fs::read_dir(&vms) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", vms.display())),
        Ok(mut folders) => folders.next().is_some(),
    };
    if there && !database.try_exists().with_context(|| format!("{} cannot be seen", database.display()))? {
        let (database, vms) = (database.display(), vms.display());
        bail!(
            "{database} is gone, but {vms} holds VMs; put the database back, or move {vms} away to begin anew without them"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_whose_database_is_gone_are_not_taken_for_nobodys() {
        let dir = tempfile::tempdir().expect("a folder");
        let database = dir.path().join("agentd.db");
        refuse_orphans(dir.path(), &database).expect("a first start");
        let folder = Instance::new(dir.path()).vms_dir().join("0197");
        std::fs::create_dir_all(folder.parent().expect("vms")).expect("made");
        refuse_orphans(dir.path(), &database).expect("no VM in it");
        std::fs::create_dir(&folder).expect("made");
        let why = refuse_orphans(dir.path(), &database).expect_err("refused").to_string();
        assert!(why.contains("agentd.db is gone") && why.contains("move"), "{why}");
        assert!(folder.exists());
        std::fs::write(&database, "").expect("written");
        refuse_orphans(dir.path(), &database).expect("there");
    }
}
