//! The files of `remote.dir`: whether they have changed, and what is in them. Blocks.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use agentd_api::remote;

use crate::http::{Pems, Trust, TrustError};

const LONGEST: u64 = 4 << 20;
const FILES: [&str; 4] = [remote::CA, remote::REVOKED, remote::SERVER, remote::SERVER_KEY];

#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("{} cannot be read (`agentctl remote init` makes it)", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is longer than {LONGEST} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("{path} can be read by others (mode {mode:04o}): chmod 600 {path}", path = path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{path} belongs to user {uid}, not to root: chown root {path}", path = path.display())]
    Owner { path: PathBuf, uid: u32 },
    #[error("what is in {}", dir.display())]
    Content { dir: PathBuf, source: TrustError },
}

/// A file as it was: inode, size, when its content and when its inode changed.
type Stamp = Option<(u64, u64, (i64, i64), (i64, i64))>;

/// The folder, and its files as they were when they were last read.
#[derive(Debug, Clone)]
pub struct Look {
    dir: PathBuf,
    /// Nothing where the next look is to read them in any case.
    read: Option<[Stamp; 4]>,
}

impl Look {
    pub fn at(dir: PathBuf) -> Self {
        Self { dir, read: None }
    }

    /// The next look reads them whether they have changed or not.
    pub fn forget(&mut self) {
        self.read = None;
    }

    /// What they say, where they have changed since they were read and were good.
    pub fn again(mut self) -> (Self, Option<Result<Trust, FilesError>>) {
        // Before they are read: what changes in between is seen by the next look.
        let now = FILES.map(|name| stamp(&self.dir.join(name)));
        if self.read == Some(now) {
            return (self, None);
        }
        let read = load(&self.dir);
        self.read = read.is_ok().then_some(now);
        (self, Some(read))
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = path.metadata().ok()?;
    Some((meta.ino(), meta.len(), (meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())))
}

fn load(dir: &Path) -> Result<Trust, FilesError> {
    let public = |name| read(&dir.join(name), false);
    let pems = Pems {
        ca: public(remote::CA)?,
        revoked: public(remote::REVOKED)?,
        server: public(remote::SERVER)?,
        server_key: read(&dir.join(remote::SERVER_KEY), true)?,
    };
    Trust::new(&pems).map_err(|source| FilesError::Content { dir: dir.to_owned(), source })
}

fn read(path: &Path, secret: bool) -> Result<Vec<u8>, FilesError> {
    let path = path.to_owned();
    let failed = |source| FilesError::Read { path: path.clone(), source };
    // A pipe in a file's place would be waited for.
    let no_wait = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = File::options().read(true).custom_flags(no_wait).open(&path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(io::Error::from(io::ErrorKind::InvalidInput)));
    }
    if secret && meta.mode() & 0o077 != 0 {
        return Err(FilesError::Open { path, mode: meta.mode() & 0o777 });
    }
    if secret && meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(FilesError::Owner { path, uid: meta.uid() });
    }
    if meta.len() > LONGEST {
        return Err(FilesError::TooLong { path });
    }
    let mut content = Vec::new();
    file.take(LONGEST).read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}
