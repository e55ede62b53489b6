//! Folders that are written below: every step is from an open folder to a name in it, and follows no link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat};

use crate::tar::Entry;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum There {
    Nothing,
    Folder,
    Other,
}

/// Who owns what is made; whoever makes it where None.
pub(crate) type Owner = Option<(Uid, Gid)>;

/// A file's content, and who is told of each piece of it.
pub(crate) struct Content<'a> {
    pub(crate) from: &'a mut dyn Read,
    pub(crate) told: &'a mut dyn FnMut(u64),
}

impl Folder {
    /// A folder by a path of the caller's own; links in it are followed.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(openat(AT_FDCWD, path, flags, Mode::empty())?))
    }

    /// A folder in this one, and no link to one.
    pub(crate) fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// As [`enter`](Self::enter), made where it is not there.
    pub(crate) fn ensure(&self, name: &OsStr, owner: Owner) -> io::Result<Self> {
        match mkdirat(&self.0, name, Mode::S_IRWXU) {
            Ok(()) => {
                let made = self.enter(name)?;
                own(&made.0, owner)?;
                Ok(made)
            }
            Err(Errno::EEXIST) => self.enter(name),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn look(&self, name: &OsStr) -> io::Result<There> {
        match fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() => Ok(There::Folder),
            Ok(_) => Ok(There::Other),
            Err(Errno::ENOENT) => Ok(There::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn owner(&self) -> io::Result<(Uid, Gid)> {
        let stat = fstat(&self.0)?;
        Ok((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)))
    }

    /// A new file of that name. Where there is anything of that name it fails.
    pub(crate) fn file(
        &self,
        name: &OsStr,
        entry: &Entry,
        content: &mut Content<'_>,
        owner: Owner,
    ) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.0, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let mut chunk = vec![0; 128 << 10];
        loop {
            let count = content.from.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            file.write_all(&chunk[..count])?;
            (content.told)(count as u64);
        }
        own(&file, owner)?;
        finish(&file, entry)
    }

    pub(crate) fn link(&self, name: &OsStr, entry: &Entry, owner: Owner) -> io::Result<()> {
        symlinkat(OsStr::from_bytes(&entry.target), &self.0, name)?;
        if let Some((uid, gid)) = owner {
            fchownat(&self.0, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        let time = time_of(entry);
        Ok(utimensat(&self.0, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    /// Its mode and time, as the entry says.
    pub(crate) fn finish(&self, entry: &Entry) -> io::Result<()> {
        finish(&self.0, entry)
    }

    /// Removes what is of that name, with all in it; links are removed and not followed.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(error) => return Err(error.into()),
        }
        let folder = self.enter(name)?;
        // A folder that cannot be written to gives up nothing of what is in it.
        fchmod(&folder.0, Mode::S_IRWXU)?;
        for below in folder.names()? {
            folder.remove(&below)?;
        }
        Ok(unlinkat(&self.0, name, UnlinkatFlags::RemoveDir)?)
    }

    fn names(&self) -> io::Result<Vec<OsString>> {
        let mut folder = Dir::from_fd(self.enter(OsStr::new("."))?.0)?;
        let names = folder.iter().map(|e| e.map(|e| OsString::from_vec(e.file_name().to_bytes().to_vec())));
        let names: Result<Vec<_>, _> = names.collect();
        Ok(names?.into_iter().filter(|name| name != "." && name != "..").collect())
    }
}

fn own(what: &impl AsFd, owner: Owner) -> io::Result<()> {
    match owner {
        Some((uid, gid)) => Ok(fchown(what, Some(uid), Some(gid))?),
        None => Ok(()),
    }
}

fn finish(what: &impl AsFd, entry: &Entry) -> io::Result<()> {
    fchmod(what, Mode::from_bits_truncate(entry.mode))?;
    let time = time_of(entry);
    Ok(futimens(what, &time, &time)?)
}

fn time_of(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.seconds, i64::from(entry.nanos))
}
