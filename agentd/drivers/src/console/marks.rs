//! When what stands in a console's log was said: marks beside the log, each a place in one of its files and a time.
//!
//! A mark says that what begins there was written at that time or up to a second later ([`GRAIN`]). Marks are made by
//! whoever follows the log; what was written while nobody did gets one mark when somebody comes back, at the time of the
//! last write to its file. So what is asked for since a time may begin too early, never too late.
//!
//! The file is a run of records of 32 bytes, appended to. A record that a crash cut short is left out; marks of files that
//! are not kept any more are dropped when there are [`MARKS_MAX`], and then two become one where that is not enough.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use agentd_api::Timestamp;

use super::snapshot::{FileId, Part, Snapshot};

/// How much later than its mark something may have been written.
pub const GRAIN: u64 = 1000;
/// 512 KiB of them.
const MARKS_MAX: usize = 16 << 10;
const RECORD: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    file: FileId,
    offset: u64,
    at: u64,
}

/// The marks of one log. One at a time may write them; any number may read.
#[derive(Debug)]
pub struct Marks {
    log: PathBuf,
    marks: Vec<Mark>,
    /// The end of what has a mark.
    end: Option<(FileId, u64)>,
}

fn path(log: &Path) -> PathBuf {
    log.with_extension("marks")
}

fn written(part: &Part) -> io::Result<u64> {
    let at = part.file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(at.as_millis()).unwrap_or(u64::MAX))
}

impl Marks {
    /// No marks where there is no file of them.
    pub fn read(log: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match File::open(path(log)) {
            Ok(mut file) => drop(file.read_to_end(&mut bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let marks: Vec<Mark> = bytes.chunks_exact(RECORD).filter_map(Mark::read).collect();
        Ok(Self { log: log.to_owned(), marks, end: None })
    }

    /// Marks what the log has gained since this was called last, or since the last mark.
    pub fn keep_up(&mut self) -> io::Result<()> {
        let parts = Snapshot::take(&self.log)?.parts;
        let known = self.end.or_else(|| self.marks.last().map(|mark| (mark.file, mark.offset)));
        let first = known.and_then(|(file, _)| parts.iter().position(|part| part.id == file));
        let mut new = Vec::new();
        for (n, part) in parts.iter().enumerate().skip(first.unwrap_or(0)) {
            let from = match (known, first) {
                (Some((_, offset)), Some(at)) if at == n => offset.min(part.length),
                _ => 0,
            };
            let at = written(part)?;
            let recent = self.marks.last().is_some_and(|m| m.file == part.id && at < m.at + GRAIN);
            if from < part.length && !recent {
                let mark = Mark { file: part.id, offset: from, at };
                new.push(mark);
                self.marks.push(mark);
            }
            self.end = Some((part.id, part.length));
        }
        if self.marks.len() > MARKS_MAX { self.shrink(&parts) } else { self.append(&new) }
    }

    /// Where in a snapshot of the log begins what was written since then.
    pub fn since(&self, snapshot: &Snapshot, since: Timestamp) -> io::Result<u64> {
        let recent = |at: u64| at.saturating_add(GRAIN) >= since.millis();
        let mut begin = 0;
        for part in &snapshot.parts {
            let mut marks = self.marks.iter().filter(|mark| mark.file == part.id).peekable();
            // What was written before the first mark was written before its time; without one, the file's own tells.
            let unmarked = marks.peek().map_or(part.length, |mark| mark.offset.min(part.length));
            if unmarked > 0 && marks.peek().map_or(written(part)?, |mark| mark.at) >= since.millis() {
                return Ok(begin);
            }
            if let Some(mark) = marks.find(|mark| recent(mark.at)) {
                return Ok(begin + mark.offset.min(part.length));
            }
            begin += part.length;
        }
        // What came after the last mark has none yet.
        match self.unmarked(snapshot)? {
            Some((position, at)) if at >= since.millis() => Ok(position),
            _ => Ok(begin),
        }
    }

    /// The position of the newest file's last mark, where the file was written to more than a grain after it.
    fn unmarked(&self, snapshot: &Snapshot) -> io::Result<Option<(u64, u64)>> {
        let Some(part) = snapshot.parts.last() else { return Ok(None) };
        let at = written(part)?;
        let last = self.marks.iter().rev().find(|mark| mark.file == part.id);
        let begin = snapshot.length() - part.length;
        Ok(last.filter(|m| at > m.at + GRAIN).map(|m| (begin + m.offset.min(part.length), at)))
    }

    fn append(&self, new: &[Mark]) -> io::Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path(&self.log))?;
        // Behind a record that was cut short, a new one could not be told from the rest of it.
        let whole = file.metadata()?.len() / RECORD as u64 * RECORD as u64;
        if whole != file.metadata()?.len() {
            file.set_len(whole)?;
        }
        file.write_all(&new.iter().flat_map(Mark::bytes).collect::<Vec<u8>>())
    }

    fn shrink(&mut self, parts: &[Part]) -> io::Result<()> {
        self.marks.retain(|mark| parts.iter().any(|part| part.id == mark.file));
        if self.marks.len() > MARKS_MAX / 2 {
            // Of two, the place of the first and the time of the second: too early a beginning, and never too late.
            let mut half: Vec<Mark> = Vec::with_capacity(self.marks.len() / 2 + 1);
            for pair in self.marks.chunks(2) {
                match pair {
                    [first, second] if first.file == second.file => {
                        half.push(Mark { at: second.at, ..*first })
                    }
                    _ => half.extend_from_slice(pair),
                }
            }
            self.marks = half;
        }
        let (new, name) = (self.log.with_extension("marks.new"), path(&self.log));
        std::fs::write(&new, self.marks.iter().flat_map(Mark::bytes).collect::<Vec<u8>>())?;
        std::fs::rename(new, name)
    }
}

impl Mark {
    fn bytes(&self) -> [u8; RECORD] {
        let mut out = [0; RECORD];
        let [inode, born] = self.file.numbers();
        for (n, number) in [inode, born, self.offset, self.at].into_iter().enumerate() {
            out[n * 8..n * 8 + 8].copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |n: usize| Some(u64::from_le_bytes(bytes.get(n * 8..n * 8 + 8)?.try_into().ok()?));
        let file = FileId::from_numbers([number(0)?, number(1)?]);
        Some(Self { file, offset: number(2)?, at: number(3)? })
    }
}
