//! Reads a console's log from a position on, over the changes of name that its rotation makes: each byte once.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::snapshot::{FileId, Part, Snapshot};

/// What there was to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    Data(usize),
    /// The log went on faster than it was read, and what came in between is not kept any more.
    Gap,
    /// All is read that is there.
    Nothing,
}

#[derive(Debug)]
pub struct Reader {
    log: PathBuf,
    /// The file that is read, and the newer ones that are known.
    parts: VecDeque<Part>,
    /// In the first of them.
    position: u64,
}

impl Reader {
    pub fn new(snapshot: Snapshot, position: u64) -> Self {
        let (part, position) = snapshot.locate(position);
        Self { log: snapshot.log, parts: snapshot.parts.into_iter().skip(part).collect(), position }
    }

    /// Blocks for as long as the disk does, and not for the guest.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Piece> {
        loop {
            if let Some(read) = self.read_first(buffer)? {
                return Ok(Piece::Data(read));
            }
            if self.parts.len() > 1 {
                self.parts.pop_front();
                self.position = 0;
                continue;
            }
            let Some(current) = self.parts.front() else {
                self.parts = Snapshot::take(&self.log)?.parts.into();
                self.position = 0;
                if self.parts.iter().all(|part| part.length == 0) {
                    return Ok(Piece::Nothing);
                }
                continue;
            };
            let id = current.id;
            match FileId::at(&self.log)? {
                Some(now) if now == id => {
                    // Somebody emptied it.
                    if current.file.metadata()?.len() < self.position {
                        self.position = 0;
                        return Ok(Piece::Gap);
                    }
                    return Ok(Piece::Nothing);
                }
                // Between two names.
                None => return Ok(Piece::Nothing),
                Some(_) => {}
            }
            // It was renamed, and written to its end before that: what is still unread of it is read first.
            if let Some(read) = self.read_first(buffer)? {
                return Ok(Piece::Data(read));
            }
            let newer = Snapshot::take(&self.log)?.parts;
            let known = newer.iter().position(|part| part.id == id);
            self.parts = newer.into_iter().skip(known.map_or(0, |n| n + 1)).collect();
            self.position = 0;
            if known.is_none() {
                return Ok(Piece::Gap);
            }
        }
    }

    fn read_first(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(part) = self.parts.front() else { return Ok(None) };
        let read = part.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok((read > 0).then_some(read))
    }
}
