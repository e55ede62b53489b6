//! A tree as an archive.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::TreeError;
use crate::tar::{self, Entry, Kind};

const CHUNK: usize = 128 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packed {
    pub entries: u64,
    /// Of files.
    pub bytes: u64,
}

/// Writes what is at `source` (a link there is followed, links within are kept as such) as an archive whose one top
/// entry is called as the last part of `source`. Pipes, sockets and devices are left out. `told` is called with the bytes
/// of files so far and of all. Where it fails in the middle, the archive says so at its end.
pub fn pack(
    source: &Path,
    out: &mut impl Write,
    told: &mut dyn FnMut(u64, u64),
) -> Result<Packed, TreeError> {
    let meta = fs::metadata(source).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => TreeError::Missing(source.to_owned()),
        _ => TreeError::io(source.display().to_string(), error),
    })?;
    if !meta.is_dir() && !meta.is_file() {
        return Err(TreeError::Refused(format!("{} is neither file nor folder", source.display())));
    }
    let own = || fs::canonicalize(source).ok()?.file_name().map(PathBuf::from);
    let name = source.file_name().map(PathBuf::from).or_else(own).unwrap_or_else(|| PathBuf::from("root"));
    let total = total_of(source, &meta);
    let mut work = Work { out, told, total, wanted: &|_, _| Taken::Yes, packed: Packed::default() };
    match work.begin(source, &name, &meta) {
        Ok(()) => Ok(work.packed),
        Err(error) => {
            // If it cannot be told, the cut tells.
            let _ = work.out.write_all(&tar::failed(&error.to_string())).and_then(|()| work.out.flush());
            Err(error)
        }
    }
}

/// Whether something goes into an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Yes,
    No,
    /// A folder itself not, but maybe what is below it.
    Through,
}

/// Writes what is below the folder `source` and `wanted` as an archive, each with its path from there. `wanted` is asked by
/// that path, and whether it is a folder. Where it fails in the middle, the archive has no end.
pub fn pack_below(
    source: &Path,
    out: &mut impl Write,
    wanted: &dyn Fn(&Path, bool) -> Taken,
) -> Result<Packed, TreeError> {
    let mut work = Work { out, told: &mut |_, _| {}, total: 0, wanted, packed: Packed::default() };
    work.below(source, Path::new(""))?;
    work.write(&tar::END)?;
    work.out.flush().map_err(|e| TreeError::io("writing the archive", e))?;
    Ok(work.packed)
}

fn total_of(path: &Path, meta: &Metadata) -> u64 {
    if meta.is_file() {
        return meta.len();
    }
    if !meta.is_dir() {
        return 0;
    }
    let Ok(names) = fs::read_dir(path) else { return 0 };
    let sizes = names.filter_map(Result::ok).filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        Some(total_of(&entry.path(), &meta))
    });
    sizes.sum()
}

struct Work<'a, W> {
    out: &'a mut W,
    told: &'a mut dyn FnMut(u64, u64),
    total: u64,
    wanted: &'a dyn Fn(&Path, bool) -> Taken,
    packed: Packed,
}

impl<W: Write> Work<'_, W> {
    fn begin(&mut self, source: &Path, name: &Path, meta: &Metadata) -> Result<(), TreeError> {
        self.write(&tar::total(self.total))?;
        self.entry(source, name, meta)?;
        self.write(&tar::END)?;
        self.out.flush().map_err(|e| TreeError::io("writing the archive", e))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        self.out.write_all(bytes).map_err(|e| TreeError::io("writing the archive", e))
    }

    fn entry(&mut self, path: &Path, name: &Path, meta: &Metadata) -> Result<(), TreeError> {
        let wrong = |error| TreeError::io(path.display().to_string(), error);
        let kind = meta.file_type();
        let mut entry = Entry {
            kind: Kind::File,
            path: name.as_os_str().as_bytes().to_vec(),
            target: Vec::new(),
            mode: meta.mode() & 0o7777,
            size: 0,
            seconds: meta.mtime(),
            // Below a thousand million.
            nanos: u32::try_from(meta.mtime_nsec()).unwrap_or(0),
        };
        if kind.is_dir() {
            // A folder that cannot be read is told before it is begun.
            fs::read_dir(path).map_err(wrong)?;
            entry.kind = Kind::Folder;
            entry.path.push(b'/');
            self.write(&tar::header(&entry))?;
            self.packed.entries += 1;
            self.below(path, name)?;
        } else if kind.is_symlink() {
            entry.kind = Kind::Link;
            entry.target = fs::read_link(path).map_err(wrong)?.as_os_str().as_bytes().to_vec();
            self.write(&tar::header(&entry))?;
            self.packed.entries += 1;
        } else if kind.is_file() {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                opened => opened.map_err(wrong)?,
            };
            entry.size = file.metadata().map_err(wrong)?.len();
            self.write(&tar::header(&entry))?;
            self.content(file, entry.size).map_err(wrong)?;
            self.packed.entries += 1;
        }
        Ok(())
    }

    /// What is in a folder.
    fn below(&mut self, path: &Path, name: &Path) -> Result<(), TreeError> {
        let names = fs::read_dir(path).map_err(|error| TreeError::io(path.display().to_string(), error))?;
        let mut names: Vec<_> = names.filter_map(Result::ok).map(|e| e.file_name()).collect();
        names.sort();
        for part in names {
            let (below, name) = (path.join(&part), name.join(part));
            // What went in between is left out.
            let Ok(meta) = fs::symlink_metadata(&below) else { continue };
            match (self.wanted)(&name, meta.is_dir()) {
                Taken::Yes => self.entry(&below, &name, &meta)?,
                Taken::Through => self.below(&below, &name)?,
                Taken::No => {}
            }
        }
        Ok(())
    }

    /// Exactly `size` bytes: a file that grows is cut, one that shrinks is filled up, as tar does.
    fn content(&mut self, file: File, size: u64) -> io::Result<()> {
        let mut file = file.take(size);
        let (mut left, mut chunk) = (size, vec![0; CHUNK]);
        while left > 0 {
            let mut count = file.read(&mut chunk)?;
            if count == 0 {
                count = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
                chunk[..count].fill(0);
            }
            self.out.write_all(&chunk[..count])?;
            left -= count as u64;
            self.packed.bytes += count as u64;
            (self.told)(self.packed.bytes, self.total);
        }
        tar::fill(self.out, size)
    }
}
