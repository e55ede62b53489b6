//! All that is kept of a console, at one moment: its log's files as one run of bytes, the oldest first.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// More backups than anyone keeps of a console.
const BACKUPS_MAX: usize = 1000;
const BLOCK: u64 = 64 << 10;

/// Tells a file of the log from another that had its name, or its inode, before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    inode: u64,
    /// Nanoseconds since the epoch; 0 where the file system does not keep it.
    born: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let born = born.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or_default());
        Self { inode: metadata.ino(), born }
    }

    pub(super) const fn numbers(self) -> [u64; 2] {
        [self.inode, self.born]
    }

    pub(super) const fn from_numbers([inode, born]: [u64; 2]) -> Self {
        Self { inode, born }
    }

    /// What has that name now, if anything has.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// One file of the log, open, so that it stays what it is when it is renamed or removed.
#[derive(Debug)]
pub struct Part {
    pub(super) id: FileId,
    pub(super) file: File,
    pub(super) length: u64,
}

impl Part {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        Ok(Some(Self { id: FileId::of(&metadata), file, length: metadata.len() }))
    }
}

#[derive(Debug)]
pub struct Snapshot {
    pub(super) log: PathBuf,
    /// Oldest first.
    pub(super) parts: Vec<Part>,
}

impl Snapshot {
    /// `log` is the newest file's name. None of its files being there is a snapshot of nothing.
    pub fn take(log: &Path) -> io::Result<Self> {
        // The newest first: where the files are renamed meanwhile, one is met twice, and none is missed.
        let mut parts: Vec<Part> = Part::open(log)?.into_iter().collect();
        for number in 0..BACKUPS_MAX {
            let Some(part) = Part::open(&backup(log, number))? else { break };
            if parts.iter().all(|known| known.id != part.id) {
                parts.push(part);
            }
        }
        parts.reverse();
        Ok(Self { log: log.to_owned(), parts })
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        self.parts.iter().map(|part| part.length).sum()
    }

    /// Where its last `lines` lines begin.
    pub fn last_lines(&self, lines: u64) -> io::Result<u64> {
        let mut end = self.length();
        if lines == 0 {
            return Ok(end);
        }
        let (mut left, mut last) = (lines, true);
        while end > 0 {
            let begin = end.saturating_sub(BLOCK);
            let block = self.bytes(begin, end)?;
            for (n, byte) in block.iter().enumerate().rev() {
                // The end of the last line begins no other.
                if *byte == b'\n' && !std::mem::take(&mut last) {
                    left -= 1;
                    if left == 0 {
                        return Ok(begin + n as u64 + 1);
                    }
                }
                last = false;
            }
            end = begin;
        }
        Ok(0)
    }

    /// Where the first line begins at or after this position; the position itself where that line is very long.
    pub fn line_from(&self, position: u64) -> io::Result<u64> {
        let Some(before) = position.checked_sub(1) else { return Ok(0) };
        let block = self.bytes(before, self.length().min(before.saturating_add(BLOCK)))?;
        Ok(block.iter().position(|b| *b == b'\n').map_or(position, |n| before + n as u64 + 1))
    }

    /// The file that holds this position, and where in it.
    pub(super) fn locate(&self, position: u64) -> (usize, u64) {
        let mut left = position;
        for (n, part) in self.parts.iter().enumerate() {
            if left < part.length || n + 1 == self.parts.len() {
                return (n, left.min(part.length));
            }
            left -= part.length;
        }
        (0, 0)
    }

    fn bytes(&self, begin: u64, end: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut first = 0;
        for part in &self.parts {
            let (from, to) = (begin.max(first), end.min(first + part.length));
            if from < to {
                let mut piece = vec![0; usize::try_from(to - from).unwrap_or_default()];
                part.file.read_exact_at(&mut piece, from - first)?;
                out.append(&mut piece);
            }
            first += part.length;
        }
        Ok(out)
    }
}

fn backup(log: &Path, number: usize) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}
