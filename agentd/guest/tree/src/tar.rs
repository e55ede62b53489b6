//! The tar format: ustar with pax headers (POSIX.1-2001, pax). Long names of GNU tar are read as well.

mod read;

use std::io::{self, Write};

pub(crate) use read::Reader;

const BLOCK: usize = 512;
/// What ends an archive.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// Our own words, in the comment of a global header, which others read over.
const TOTAL: &str = "agentd total=";
const FAILED: &str = "agentd failed=";
/// What 11 octal digits cannot say.
const OCTAL_END: u64 = 1 << 33;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// With '/' between its parts, as it is in the archive.
    pub(crate) path: Vec<u8>,
    /// Where a link points.
    pub(crate) target: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

pub(crate) fn padding(size: u64) -> usize {
    // Less than a block.
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

/// The header of an entry, with a pax header before it where it needs one.
pub(crate) fn header(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    if entry.path.len() > 100 {
        record(&mut records, "path", &entry.path);
    }
    if entry.target.len() > 100 {
        record(&mut records, "linkpath", &entry.target);
    }
    if entry.size >= OCTAL_END {
        record(&mut records, "size", entry.size.to_string().as_bytes());
    }
    let whole = entry.nanos == 0 && u64::try_from(entry.seconds).is_ok_and(|s| s < OCTAL_END);
    if !whole {
        record(&mut records, "mtime", decimal(entry.seconds, entry.nanos).as_bytes());
    }
    let mut out = if records.is_empty() { Vec::new() } else { extra(b'x', &records) };
    let letter = match entry.kind {
        Kind::File => b'0',
        Kind::Folder => b'5',
        Kind::Link => b'2',
    };
    let size = if entry.size >= OCTAL_END { 0 } else { entry.size };
    let seconds = u64::try_from(entry.seconds).unwrap_or(0).min(OCTAL_END - 1);
    out.extend(block(letter, (&entry.path, &entry.target), entry.mode, (size, seconds)));
    out
}

/// How many bytes of files follow, for who shows how far it is.
pub(crate) fn total(bytes: u64) -> Vec<u8> {
    comment(&format!("{TOTAL}{bytes}"))
}

/// Why no more follows.
pub(crate) fn failed(why: &str) -> Vec<u8> {
    comment(&format!("{FAILED}{}", why.replace('\n', " ")))
}

fn comment(text: &str) -> Vec<u8> {
    let mut records = Vec::new();
    record(&mut records, "comment", text.as_bytes());
    extra(b'g', &records)
}

/// Seconds and nanoseconds as pax has them: one decimal number, which may be negative.
fn decimal(seconds: i64, nanos: u32) -> String {
    if seconds < 0 && nanos > 0 {
        let (whole, rest) = (-(seconds + 1), 1_000_000_000 - nanos);
        return format!("-{whole}.{rest:09}");
    }
    format!("{seconds}.{nanos:09}")
}

/// `LENGTH key=value\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn extra(letter: u8, records: &[u8]) -> Vec<u8> {
    let size = records.len() as u64;
    let mut out = block(letter, (b"././@PaxHeader", b""), 0o644, (size, 0)).to_vec();
    out.extend_from_slice(records);
    out.resize(out.len() + padding(size), 0);
    out
}

fn block(letter: u8, (path, target): (&[u8], &[u8]), mode: u32, (size, seconds): (u64, u64)) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &path[..path.len().min(100)]);
    put(100, format!("{:07o}", mode & 0o7777).as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{seconds:011o}").as_bytes());
    put(148, b"        ");
    put(156, &[letter]);
    put(157, &target[..target.len().min(100)]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Writes what fills an entry up to whole blocks.
pub(crate) fn fill(out: &mut impl Write, size: u64) -> io::Result<()> {
    out.write_all(&[0; BLOCK][..padding(size)])
}
