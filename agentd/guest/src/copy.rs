//! Copies: a tree of the guest's as an archive, and an archive as a tree.

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use agentd_guest_tree::{Rules, TreeError, pack as pack_tree, unpack as unpack_tree};
use agentd_guest_wire::{Answer, DATA_MAX, Stream, Trouble};

use crate::session::{Input, Session};

/// agentd's caller decides, and is root here.
const RULES: Rules = Rules { modes: 0o7777, owned_as_above: true };

pub fn pack(session: &Session, path: &str) {
    if let Err(why) = checked(path) {
        return session.fail(Trouble::Invalid, why);
    }
    let mut out = BufWriter::with_capacity(DATA_MAX, Out { session, begun: false });
    match pack_tree(Path::new(path), &mut out, &mut |_, _| ()) {
        Ok(done) => drop(session.answer(Answer::Done { count: done.entries, bytes: done.bytes })),
        Err(error) => {
            // What is half sent is not to be sent once more on the way out.
            drop(out.into_parts());
            failed(session, path, &error);
        }
    }
}

pub fn unpack(session: &Session, path: &str) {
    if let Err(why) = checked(path) {
        return session.fail(Trouble::Invalid, why);
    }
    session.answer(Answer::Started);
    let mut input = Input::new(session);
    let done = unpack_tree(Path::new(path), RULES, &mut input, &mut |_, _| ());
    match done {
        Ok(done) => {
            // What tar fills an archive up with.
            let _ = io::copy(&mut input.by_ref(), &mut io::sink());
            session.answer(Answer::Done { count: done.entries, bytes: done.bytes });
        }
        Err(error) => failed(session, path, &error),
    }
}

fn failed(session: &Session, path: &str, error: &TreeError) {
    if let TreeError::Io { source, .. } = error
        && matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    {
        return session.fail(Trouble::Full, format!("there is no room for {path}: {error}"));
    }
    let trouble = match error {
        TreeError::Missing(_) => Trouble::Missing,
        TreeError::Refused(_) | TreeError::Archive(_) => Trouble::Invalid,
        TreeError::Told(_) | TreeError::Io { .. } => Trouble::Failed,
    };
    session.fail(trouble, error.to_string());
}

/// agentd has looked already; this program believes nobody either.
fn checked(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("'{path}' is not absolute"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("'{path}' climbs"));
    }
    Ok(())
}

struct Out<'a> {
    session: &'a Session,
    begun: bool,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.begun, true) {
            self.session.answer(Answer::Started);
        }
        if self.session.data(Stream::Out, bytes) {
            Ok(bytes.len())
        } else {
            Err(io::Error::other("agentd went away"))
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
