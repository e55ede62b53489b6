//! Puts a store's file where there is none: under the lock of that place, so that no daemon begins one of its own
//! there meanwhile, and by a rename, so that it is there whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::engine::sqlite::{Lock, suffixed, sync_directory};
use crate::error::OpenError;

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(
        "{f} is there already, and is left as it is; move it away (with {f}-wal and {f}.mark), or restore into another \
         state directory",
        f = .file.display()
    )]
    Occupied { file: PathBuf },
    /// SQLite would take it for the log of what is put beside it.
    #[error("{} belongs to a database that is gone; move it away first", .log.display())]
    StrayLog { log: PathBuf },
    #[error("the place of the store cannot be had")]
    Place(#[source] OpenError),
    #[error("{} cannot be put into its place", .file.display())]
    Put { file: PathBuf, source: io::Error },
}

/// A place without a store, locked.
pub struct Vacancy {
    file: PathBuf,
    _lock: Lock,
}

impl Vacancy {
    /// Refused where a store is, and where a daemon runs that has one.
    pub fn take(file: &Path) -> Result<Self, RestoreError> {
        // An agentd that runs has it open: that is the more useful thing to say.
        let lock = Lock::take(&suffixed(file, ".lock"), file).map_err(RestoreError::Place)?;
        let there = |path: &Path| {
            let seen = path.try_exists();
            seen.map_err(|source| RestoreError::Put { file: path.to_owned(), source })
        };
        if there(file)? {
            return Err(RestoreError::Occupied { file: file.to_owned() });
        }
        let log = suffixed(file, "-wal");
        if there(&log)? && fs::metadata(&log).map_or(true, |log| log.len() > 0) {
            return Err(RestoreError::StrayLog { log });
        }
        Ok(Self { file: file.to_owned(), _lock: lock })
    }

    /// Moves in a store that was closed, from the same file system.
    pub fn fill(self, from: &Path) -> Result<(), RestoreError> {
        let put = |source| RestoreError::Put { file: self.file.clone(), source };
        // The mark of what was there before would say that commits are missing. One without its store keeps a daemon from
        // beginning a new one, should this end between the two.
        fs::rename(suffixed(from, ".mark"), suffixed(&self.file, ".mark")).map_err(put)?;
        fs::rename(from, &self.file).map_err(put)?;
        sync_directory(&self.file).map_err(put)
    }
}
