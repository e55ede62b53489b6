//! `<db>.mark`: which commit was the last one that was acknowledged, beside the database and outside of it.
//!
//! SQLite takes a write-ahead log whose tail is damaged or gone for one that ends earlier, and drops the commits behind
//! in silence. The mark is what tells: a database that is behind it has lost something. It is written after each commit
//! and never synced, which costs a microsecond: after a power cut it may be behind the database, never ahead of it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const MAGIC: [u8; 4] = *b"agm1";
const SIZE: usize = 16;

pub(super) struct Mark {
    file: File,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked {
    /// There is none, or an empty one: the database was restored from a backup, or is new.
    Nothing,
    Commit(u64),
    Damaged,
}

impl Mark {
    pub(super) fn read(path: &Path) -> io::Result<Marked> {
        match std::fs::read(path) {
            // A file that was made just before a power cut may be empty or all zeros.
            Ok(bytes) if bytes.len() <= SIZE && bytes.iter().all(|b| *b == 0) => Ok(Marked::Nothing),
            Ok(bytes) => Ok(decode(&bytes).map_or(Marked::Damaged, Marked::Commit)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Marked::Nothing),
            Err(error) => Err(error),
        }
    }

    pub(super) fn open(path: &Path, commit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mark = Self { file };
        mark.write(commit)?;
        Ok(mark)
    }

    pub(super) fn write(&self, commit: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(commit), 0)
    }
}

fn encode(commit: u64) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..12].copy_from_slice(&commit.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let commit = u64::from_le_bytes(bytes.get(4..12)?.try_into().ok()?);
    (bytes == encode(commit)).then_some(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_or_missing_byte_is_found() {
        let good = encode(0x0102_0304_0506_0708);
        assert_eq!(decode(&good), Some(0x0102_0304_0506_0708));
        for at in 0..SIZE * 8 {
            let mut bad = good;
            bad[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode(&bad), None, "bit {at}");
        }
        for length in 0..SIZE {
            assert_eq!(decode(&good[..length]), None);
        }
    }
}
