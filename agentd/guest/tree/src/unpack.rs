//! An archive as a tree.
//!
//! ```text
//!   target is a folder: each top entry goes into it        target is not there: the one top entry becomes it
//!   a top entry that is not there yet:  made as .NAME.agentd-part-N, renamed once all of it is there
//!   a folder that is there already:     merged: each file is made under another name and renamed
//! ```

mod item;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::TreeError;
use crate::tar::{Entry, Kind, Reader};
use crate::target::{Content, Folder, Owner, There};
use item::Item;

/// The deepest that an entry may lie.
const DEPTH_MAX: usize = 256;

#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Which bits of a mode are kept. Without set-id bits where the archive is a stranger's.
    pub modes: u32,
    /// Whether what is made belongs to who owns the folder that it is put into, and not to who makes it.
    pub owned_as_above: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unpacked {
    pub entries: u64,
    /// Of files.
    pub bytes: u64,
}

/// Unpacks an archive to `target`. `told` is called with the bytes of files so far, and of all where they are known.
pub fn unpack(
    target: &Path,
    rules: Rules,
    archive: impl Read,
    told: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Unpacked, TreeError> {
    let (folder, name) = place(target)?;
    let owner = if rules.owned_as_above {
        Some(folder.owner().map_err(|e| TreeError::io(target.display().to_string(), e))?)
    } else {
        None
    };
    let mut work = Work { folder, name, rules, owner, item: None, items: 0 };
    let mut reader = Reader::new(archive);
    let mut done = Unpacked::default();
    while let Some(mut entry) = reader.entry()? {
        entry.mode &= rules.modes;
        let total = reader.total;
        let mut count = |more| {
            done.bytes += more;
            told(done.bytes, total);
        };
        work.entry(&entry, &mut Content { from: &mut reader, told: &mut count })?;
        done.entries += 1;
    }
    work.close()?;
    if work.items == 0 {
        return Err(TreeError::Archive("is empty".to_owned()));
    }
    Ok(done)
}

/// The folder to write in, and the name that the top entry gets where that is not its own.
fn place(target: &Path) -> Result<(Folder, Option<OsString>), TreeError> {
    let wrong = |path: &Path, error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => TreeError::Missing(path.to_owned()),
        _ => TreeError::io(path.display().to_string(), error),
    };
    if std::fs::metadata(target).is_ok_and(|meta| meta.is_dir()) {
        return Ok((Folder::open(target).map_err(|e| wrong(target, e))?, None));
    }
    if target.as_os_str().as_bytes().ends_with(b"/") {
        return Err(TreeError::Missing(target.to_owned()));
    }
    let name = target.file_name().ok_or_else(|| TreeError::Missing(target.to_owned()))?;
    let above = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = Folder::open(above).map_err(|e| wrong(above, e))?;
    Ok((folder, Some(name.to_owned())))
}

/// The parts of an entry's name. What climbs, or is none, is refused.
fn parts(path: &[u8]) -> Result<Vec<OsString>, TreeError> {
    let refused = |why: &str| {
        let path = String::from_utf8_lossy(path);
        Err(TreeError::Archive(format!("holds the name '{}', which {why}", path.escape_debug())))
    };
    if path.starts_with(b"/") {
        return refused("is absolute");
    }
    if path.contains(&0) {
        return refused("holds a NUL");
    }
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
    if parts.contains(&&b".."[..]) {
        return refused("climbs");
    }
    if parts.len() > DEPTH_MAX || parts.iter().any(|p| p.len() > 255) {
        return refused("is too long");
    }
    Ok(parts.into_iter().map(|p| OsStr::from_bytes(p).to_owned()).collect())
}

struct Work {
    folder: Folder,
    name: Option<OsString>,
    rules: Rules,
    owner: Owner,
    item: Option<Item>,
    items: u64,
}

impl Work {
    fn entry(&mut self, entry: &Entry, content: &mut Content<'_>) -> Result<(), TreeError> {
        let parts = parts(&entry.path)?;
        // "./" is the folder itself.
        let Some((base, below)) = parts.split_first() else { return Ok(()) };
        if below.is_empty() {
            return self.open(entry, base, content);
        }
        if self.item.as_ref().is_none_or(|item| item.base != *base) {
            // An archive that does not name the folder that its files are in.
            let mode = 0o755 & self.rules.modes;
            let folder = Entry { kind: Kind::Folder, mode, size: 0, ..entry.clone() };
            self.open(&folder, base, &mut Content { from: &mut io::empty(), told: &mut |_| () })?;
        }
        match &mut self.item {
            Some(item) => item.within(entry, below, (content, self.owner)),
            None => Ok(()),
        }
    }

    /// Begins a top entry.
    fn open(&mut self, entry: &Entry, base: &OsStr, content: &mut Content<'_>) -> Result<(), TreeError> {
        self.close()?;
        self.items += 1;
        if self.items > 1 && self.name.is_some() {
            let why = "holds several things, and the target is no folder to put them into";
            return Err(TreeError::Archive(why.to_owned()));
        }
        let last_name = self.name.clone().unwrap_or_else(|| base.to_owned());
        let wrong = |error| TreeError::io(last_name.display().to_string(), error);
        let there = self.folder.look(&last_name).map_err(wrong)?;
        let refused = |why: &str| Err(TreeError::Refused(format!("'{}' {why}", last_name.display())));
        match (there, entry.kind) {
            (There::Folder, Kind::File | Kind::Link) => return refused("is there and is a folder"),
            (There::Other, Kind::Folder) => return refused("is there and is no folder"),
            _ => {}
        }
        let new = there != There::Folder;
        let item = self.item.insert(Item::new(base.to_owned(), last_name.clone(), new));
        if new {
            // Of a try that was cut off.
            self.folder.remove(&item.now_name).map_err(wrong)?;
        }
        let made = match entry.kind {
            Kind::File => self.folder.file(&item.now_name, entry, content, self.owner),
            Kind::Link => self.folder.link(&item.now_name, entry, self.owner),
            Kind::Folder => {
                self.folder.ensure(&item.now_name, self.owner).map(|root| item.is_folder(root, entry))
            }
        };
        made.map_err(wrong)
    }

    /// What is being made is whole: it gets its modes, times and name.
    fn close(&mut self) -> Result<(), TreeError> {
        let Some(item) = &self.item else { return Ok(()) };
        let wrong = |error| TreeError::io(item.last_name.display().to_string(), error);
        item.finish().map_err(wrong)?;
        if item.now_name != item.last_name {
            self.folder.rename(&item.now_name, &item.last_name).map_err(wrong)?;
        }
        self.item = None;
        Ok(())
    }
}

/// What was not finished goes.
impl Drop for Work {
    fn drop(&mut self) {
        if let Some(item) = &self.item
            && item.now_name != item.last_name
        {
            let _ = self.folder.remove(&item.now_name);
        }
    }
}
