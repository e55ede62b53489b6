//! A top entry of an archive, while it is made.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use crate::TreeError;
use crate::tar::{Entry, Kind};
use crate::target::{Content, Folder, Owner, There};

/// How many folders an archive may hold: their modes and times wait for the end.
const FOLDERS_MAX: usize = 200_000;

pub(super) struct Item {
    /// As the archive calls it.
    pub(super) base: OsString,
    pub(super) last_name: OsString,
    /// Its name until it is whole; its own where it was there before.
    pub(super) now_name: OsString,
    /// Where it is a folder: it.
    root: Option<Folder>,
    /// Whether it was not there before.
    new: bool,
    /// Modes and times that are set at the end, outer ones first.
    folders: Vec<(Vec<OsString>, Entry)>,
    /// The folder that was last written in.
    last: Option<(Vec<OsString>, Folder)>,
}

impl Item {
    pub(super) fn new(base: OsString, last_name: OsString, new: bool) -> Self {
        let now_name = if new { part_name(&last_name) } else { last_name.clone() };
        Self { base, last_name, now_name, root: None, new, folders: Vec::new(), last: None }
    }

    pub(super) fn is_folder(&mut self, root: Folder, entry: &Entry) {
        self.root = Some(root);
        self.folders.push((Vec::new(), entry.clone()));
    }

    /// Makes what lies in it.
    pub(super) fn within(
        &mut self,
        entry: &Entry,
        below: &[OsString],
        (content, owner): (&mut Content<'_>, Owner),
    ) -> Result<(), TreeError> {
        let wrong =
            |error| TreeError::io(String::from_utf8_lossy(&entry.path).escape_debug().to_string(), error);
        let Some((name, above)) = below.split_last() else { return Ok(()) };
        let new = self.new;
        let folder = self.folder(above, owner).map_err(wrong)?;
        if entry.kind == Kind::Folder {
            folder.ensure(name, owner).map_err(wrong)?;
            if self.folders.len() >= FOLDERS_MAX {
                return Err(TreeError::Archive(format!("holds more than {FOLDERS_MAX} folders")));
            }
            self.folders.push((below.to_vec(), entry.clone()));
            return Ok(());
        }
        let mut make = |name: &OsStr| match entry.kind {
            Kind::File => folder.file(name, entry, content, owner),
            _ => folder.link(name, entry, owner),
        };
        if new {
            return make(name).map_err(wrong);
        }
        let part = part_name(name);
        folder.remove(&part).map_err(wrong)?;
        let made = make(&part).and_then(|()| match folder.look(name)? {
            There::Folder => Err(io::Error::other("is there and is a folder")),
            _ => folder.rename(&part, name),
        });
        if made.is_err() {
            let _ = folder.remove(&part);
        }
        made.map_err(wrong)
    }

    /// Modes and times of its folders, inner ones first.
    pub(super) fn finish(&self) -> io::Result<()> {
        let Some(root) = &self.root else { return Ok(()) };
        for (path, entry) in self.folders.iter().rev() {
            let here = root.enter(OsStr::new("."))?;
            let folder = path.iter().try_fold(here, |folder, name| folder.enter(name))?;
            folder.finish(entry)?;
        }
        Ok(())
    }

    /// The folder of those names below the top one, made where it is not there.
    fn folder(&mut self, path: &[OsString], owner: Owner) -> io::Result<&Folder> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let none = || io::Error::other("lies in what is no folder");
            let mut folder = self.root.as_ref().ok_or_else(none)?.enter(OsStr::new("."))?;
            for name in path {
                folder = folder.ensure(name, owner)?;
            }
            self.last = Some((path.to_vec(), folder));
        }
        self.last.as_ref().map(|(_, folder)| folder).ok_or_else(|| io::Error::other("no folder"))
    }
}

/// Where something is made until it is whole: known by its name for what it is.
fn part_name(name: &OsStr) -> OsString {
    let name = name.as_bytes();
    // A name has room for 255 bytes.
    let kept = &name[..name.len().min(200)];
    let part = [b".", kept, format!(".agentd-part-{}", std::process::id()).as_bytes()].concat();
    OsStr::from_bytes(&part).to_owned()
}
