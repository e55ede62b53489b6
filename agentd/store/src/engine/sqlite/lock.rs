//! `<db>.lock`: one process at a time. The kernel gives the lock back when its holder ends, however it ends; the number
//! in the file only says whom to look for.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::failure::open_io;
use crate::error::OpenError;

/// Held as long as this is.
pub(crate) struct Lock {
    file: File,
}

/// Closing alone would not do while a program is being started: until it runs, it has the file open too.
impl Drop for Lock {
    fn drop(&mut self) {
        // The kernel takes the lock back in any case, when the last of them closes the file.
        drop(self.file.unlock());
    }
}

impl Lock {
    pub(crate) fn take(path: &Path, database: &Path) -> Result<Self, OpenError> {
        let failed = |error: io::Error| open_io(path, &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = (&file).take(32).read_to_string(&mut text);
                let holder = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::Locked { file: database.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // The number is a courtesy: a full disk must not keep a store from being read.
        drop(tell(&mut file));
        Ok(Self { file })
    }
}

/// Writes over what the last one wrote. To cut that off first would have some file systems give a block back to the disk,
/// and a start wait for it.
fn tell(file: &mut File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    let end = text.len() as u64;
    if file.metadata()?.len() > end { file.set_len(end) } else { Ok(()) }
}
