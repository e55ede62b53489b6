//! Reads an archive that a stranger may have written: every length is bounded, every number is checked.

use std::io::{self, Read};

use super::{BLOCK, Entry, FAILED, Kind, TOTAL, padding};
use crate::TreeError;

/// The longest pax header, or long name, that is read.
const EXTRA_MAX: u64 = 64 << 10;

/// Reads from an archive's beginning to its end.
pub(crate) struct Reader<R> {
    inner: R,
    /// What is left of the current entry's content, and of what fills it up.
    left: u64,
    filler: usize,
    /// How many bytes all files have together, where the sender said so.
    pub(crate) total: Option<u64>,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, left: 0, filler: 0, total: None }
    }

    /// The next entry, or None at the archive's end. What was not read of the one before is skipped.
    pub(crate) fn entry(&mut self) -> Result<Option<Entry>, TreeError> {
        self.skip()?;
        let mut pax = Pax::default();
        loop {
            let Some(head) = self.block()? else { return Ok(None) };
            let size = number(&head[124..136])?;
            match head[156] {
                b'x' => pax.read(&self.extra(size)?)?,
                b'g' => self.global(size)?,
                b'L' => pax.path = Some(text_of(&self.extra(size)?)),
                b'K' => pax.target = Some(text_of(&self.extra(size)?)),
                letter => return self.found(letter, &head, pax).map(Some),
            }
        }
    }

    fn found(&mut self, letter: u8, head: &[u8; BLOCK], pax: Pax) -> Result<Entry, TreeError> {
        let path = pax.path.unwrap_or_else(|| name_of(head));
        let kind = match letter {
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Folder,
            b'0' | 0 | b'7' => Kind::File,
            b'5' => Kind::Folder,
            b'2' => Kind::Link,
            other => {
                let what = match other {
                    b'1' => "a hard link",
                    b'3' | b'4' => "a device",
                    b'6' => "a pipe",
                    _ => "of an unknown kind",
                };
                let path = String::from_utf8_lossy(&path);
                return Err(TreeError::Archive(format!("holds '{}', which is {what}", path.escape_debug())));
            }
        };
        let size = match (kind, pax.size) {
            (Kind::File, Some(size)) => size,
            (Kind::File, None) => number(&head[124..136])?,
            _ => 0,
        };
        (self.left, self.filler) = (size, padding(size));
        let (seconds, nanos) = match pax.mtime {
            Some(time) => time,
            None => (i64::try_from(number(&head[136..148])?).unwrap_or(0), 0),
        };
        let target = pax.target.unwrap_or_else(|| text_of(&head[157..257]));
        // What fits in 12 bits.
        let mode = (number(&head[100..108])? & 0o7777) as u32;
        Ok(Entry { kind, path, target, mode, size, seconds, nanos })
    }

    fn global(&mut self, size: u64) -> Result<(), TreeError> {
        let records = self.extra(size)?;
        each_record(&records, |key, value| {
            let text = String::from_utf8_lossy(value);
            if key != b"comment" {
                return Ok(());
            }
            if let Some(why) = text.strip_prefix(FAILED) {
                return Err(TreeError::Told(why.replace(char::is_control, " ")));
            }
            self.total = text.strip_prefix(TOTAL).and_then(|n| n.parse().ok()).or(self.total);
            Ok(())
        })
    }

    fn skip(&mut self) -> Result<(), TreeError> {
        let left = self.left.saturating_add(self.filler as u64);
        let skipped = io::copy(&mut (&mut self.inner).take(left), &mut io::sink());
        let skipped = skipped.map_err(|e| TreeError::io("reading the archive", e))?;
        (self.left, self.filler) = (0, 0);
        if skipped < left { Err(short()) } else { Ok(()) }
    }

    /// The next block that says something, or None at the end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TreeError> {
        let mut block = [0; BLOCK];
        self.inner.read_exact(&mut block).map_err(cut)?;
        if block == [0; BLOCK] {
            return Ok(None);
        }
        let sum = number(&block[148..156])?;
        let spaced = block.iter().enumerate().map(|(n, b)| if (148..156).contains(&n) { b' ' } else { *b });
        if spaced.map(u64::from).sum::<u64>() != sum {
            return Err(TreeError::Archive("is damaged, or is none: a header's sum is wrong".to_owned()));
        }
        Ok(Some(block))
    }

    fn extra(&mut self, size: u64) -> Result<Vec<u8>, TreeError> {
        let length = usize::try_from(size).ok().filter(|_| size <= EXTRA_MAX);
        let length = length.ok_or_else(|| TreeError::Archive(format!("has a header of {size} bytes")))?;
        let mut bytes = vec![0; length + padding(size)];
        self.inner.read_exact(&mut bytes).map_err(cut)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// The content of the current entry.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn short() -> TreeError {
    TreeError::Archive("ends in the middle".to_owned())
}

fn cut(error: io::Error) -> TreeError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        short()
    } else {
        TreeError::io("reading the archive", error)
    }
}

fn unreadable() -> TreeError {
    TreeError::Archive("has a header that cannot be read".to_owned())
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<(i64, u32)>,
}

impl Pax {
    fn read(&mut self, records: &[u8]) -> Result<(), TreeError> {
        each_record(records, |key, value| {
            let text = || std::str::from_utf8(value).ok();
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => {
                    self.size = Some(text().and_then(|t| t.parse().ok()).ok_or_else(unreadable)?);
                }
                b"mtime" => self.mtime = Some(text().and_then(from_decimal).ok_or_else(unreadable)?),
                _ => {}
            }
            Ok(())
        })
    }
}

fn from_decimal(text: &str) -> Option<(i64, u32)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let mut digits: String = part.chars().take(9).collect();
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    while digits.len() < 9 {
        digits.push('0');
    }
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

fn each_record(
    mut records: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    while !records.is_empty() {
        let space = records.iter().position(|b| *b == b' ').ok_or_else(unreadable)?;
        let length = std::str::from_utf8(&records[..space]).ok().and_then(|t| t.parse::<usize>().ok());
        let length = length.filter(|l| *l > space + 1 && *l <= records.len()).ok_or_else(unreadable)?;
        let line = records[space + 1..length].strip_suffix(b"\n").ok_or_else(unreadable)?;
        let equals = line.iter().position(|b| *b == b'=').ok_or_else(unreadable)?;
        each(&line[..equals], &line[equals + 1..])?;
        records = &records[length..];
    }
    Ok(())
}

/// A number in octal digits, or in GNU's binary form.
fn number(field: &[u8]) -> Result<u64, TreeError> {
    let bad = || TreeError::Archive("is damaged, or is none: a number is not one".to_owned());
    if field[0] == 0x80 {
        let (high, low) = field[1..].split_at((field.len() - 1).saturating_sub(8));
        if high.iter().any(|b| *b != 0) {
            return Err(bad());
        }
        return Ok(low.iter().fold(0, |sum, b| (sum << 8) | u64::from(*b)));
    }
    let text: Vec<u8> = field.iter().copied().filter(|b| !matches!(b, b' ' | 0)).collect();
    if text.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(&text).map_err(|_| bad())?;
    u64::from_str_radix(text, 8).map_err(|_| bad())
}

fn text_of(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|b| *b != 0).collect()
}

fn name_of(head: &[u8; BLOCK]) -> Vec<u8> {
    let (name, prefix) = (text_of(&head[..100]), text_of(&head[345..500]));
    if &head[257..263] != b"ustar\0" || prefix.is_empty() {
        return name;
    }
    [prefix, name].join(&b'/')
}
