//! What a file of unknown origin is, by its content alone.
//!
//! Everything in it is hostile. Only what is recognised here is ever given to qemu-img, with the format named, so that
//! nothing is probed there; what refers to another file (a backing file, an external data file, a parent, a list of
//! extents) is refused here, before any other program looks at it. Reads a few sectors, changes nothing.

use std::io::{self, Read, Seek, SeekFrom};

/// Enough of the beginning to hold every mark that is looked for; btrfs has the last one, at 64 KiB.
const HEAD: usize = 80 << 10;
const SECTOR: u64 = 512;
const ISO: (usize, &[u8]) = (32_769, b"CD001");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Qcow2,
    Raw,
    Vmdk,
    Vhdx,
    /// A CD's or DVD's file system, which is a raw disk to QEMU.
    Iso,
}

impl Format {
    /// As it is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Iso => "iso",
        }
    }

    /// As qemu-img's `-f` has it.
    pub const fn qemu(self) -> &'static str {
        match self {
            Self::Iso => "raw",
            other => other.as_str(),
        }
    }
}

/// A file that may be an image, as far as its headers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recognised {
    pub format: Format,
    /// The size of the disk in it, where the first header says it.
    pub virtual_size: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("{0}")]
    Refused(String),
    #[error("the file cannot be read")]
    Read(#[from] io::Error),
}

fn refused<T>(why: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError::Refused(why.into()))
}

/// Says what `file` is, or why it can be no image.
pub fn recognise(file: &mut (impl Read + Seek)) -> Result<Recognised, FormatError> {
    let length = file.seek(SeekFrom::End(0))?;
    let head = read_at(file, 0, HEAD)?;
    match head.get(..4).unwrap_or_default() {
        b"QFI\xfb" => return qcow2(&head),
        b"KDMV" => return vmdk(file, &head),
        b"vhdx" if head.starts_with(b"vhdxfile") => {
            return Ok(Recognised { format: Format::Vhdx, virtual_size: None });
        }
        _ => {}
    }
    if let Some(what) = known_but_unwelcome(&head) {
        return refused(what);
    }
    raw(&head, length)
}

/// Up to `length` bytes from `offset`; fewer where the file ends.
fn read_at(file: &mut (impl Read + Seek), offset: u64, length: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn big(head: &[u8], at: usize, width: usize) -> u64 {
    head.get(at..at + width).unwrap_or_default().iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn little(head: &[u8], at: usize, width: usize) -> u64 {
    head.get(at..at + width).unwrap_or_default().iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn has(head: &[u8], at: usize, mark: &[u8]) -> bool {
    head.get(at..at + mark.len()) == Some(mark)
}

/// QEMU's docs/interop/qcow2.rst. All numbers are big-endian.
fn qcow2(head: &[u8]) -> Result<Recognised, FormatError> {
    const INCOMPATIBLE_KNOWN: u64 = 0b1_1101;
    let (version, cluster_bits) = (big(head, 4, 4), big(head, 20, 4));
    if head.len() < 104 || !(2..=3).contains(&version) {
        return refused(format!("is a qcow2 file of version {version}; only 2 and 3 are taken"));
    }
    if big(head, 8, 8) != 0 || big(head, 16, 4) != 0 {
        return refused(
            "is a qcow2 file with a backing file; flatten it first: qemu-img convert -O qcow2 IN OUT",
        );
    }
    if big(head, 32, 4) != 0 {
        return refused("is an encrypted qcow2 file");
    }
    if !(9..=21).contains(&cluster_bits) {
        return refused("is a damaged qcow2 file: its cluster size is impossible");
    }
    let mut at = 72;
    if version == 3 {
        let incompatible = big(head, 72, 8);
        if incompatible & 0b10 != 0 {
            return refused(
                "is a qcow2 file that is marked as corrupt; repair it first: qemu-img check -r all",
            );
        }
        if incompatible & 0b100 != 0 {
            return refused("is a qcow2 file with an external data file; convert it to one without");
        }
        if incompatible & !INCOMPATIBLE_KNOWN != 0 {
            return refused("is a qcow2 file that uses features which are not known here");
        }
        at = usize::try_from(big(head, 100, 4)).unwrap_or(usize::MAX);
    }
    qcow2_extensions(head, at)?;
    let size = big(head, 24, 8);
    if !size.is_multiple_of(SECTOR) {
        return refused(format!("is a qcow2 file of {size} bytes, which is no whole number of sectors"));
    }
    Ok(Recognised { format: Format::Qcow2, virtual_size: Some(size) })
}

fn qcow2_extensions(head: &[u8], mut at: usize) -> Result<(), FormatError> {
    const DATA_FILE: u64 = 0x4441_5441;
    const ENCRYPTION: u64 = 0x0537_be77;
    while at.checked_add(8).is_some_and(|end| end <= head.len()) {
        let (kind, length) = (big(head, at, 4), big(head, at + 4, 4));
        match kind {
            0 => break,
            DATA_FILE => return refused("is a qcow2 file that names an external data file"),
            ENCRYPTION => return refused("is an encrypted qcow2 file"),
            _ => {}
        }
        let Ok(length) = usize::try_from(length) else { break };
        let Some(next) = at.checked_add(8).and_then(|n| n.checked_add(length.next_multiple_of(8))) else {
            break;
        };
        at = next;
    }
    Ok(())
}

/// A hosted sparse extent ("VMDK4"). Its descriptor may name a parent or further extents, anywhere on the host.
fn vmdk(file: &mut (impl Read + Seek), head: &[u8]) -> Result<Recognised, FormatError> {
    const DESCRIPTOR: usize = 20 * 512;
    let (version, capacity) = (little(head, 4, 4), little(head, 12, 8));
    if !(1..=3).contains(&version) {
        return refused(format!("is a VMDK file of version {version}; only 1 to 3 are taken"));
    }
    if capacity == 0 {
        return refused("is a VMDK file that only lists other files; convert it to one file first");
    }
    // qemu-img looks for a parent in the second sector whatever the header says, so both places are read.
    let named = little(head, 28, 8).saturating_mul(SECTOR);
    for offset in [SECTOR, named] {
        let text = read_at(file, offset, DESCRIPTOR)?;
        let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
        if text.contains("parentfilenamehint") {
            return refused("is a VMDK file with a parent; convert it to a whole one first");
        }
        let cid = text.split("parentcid=").nth(1).map(|rest| rest.trim_start_matches('"'));
        if cid.is_some_and(|cid| !cid.starts_with("ffffffff")) {
            return refused("is a VMDK file with a parent; convert it to a whole one first");
        }
        let kind = text.split("createtype=").nth(1).map(|rest| rest.trim_start_matches('"'));
        if kind.is_some_and(|k| !k.starts_with("monolithicsparse") && !k.starts_with("streamoptimized")) {
            return refused("is one part of a VMDK disk of several files; convert it to one file first");
        }
    }
    let size = capacity.saturating_mul(SECTOR);
    Ok(Recognised { format: Format::Vmdk, virtual_size: Some(size) })
}

/// Formats that a person may well try, and what to do about each.
fn known_but_unwelcome(head: &[u8]) -> Option<&'static str> {
    const KNOWN: [(usize, &[u8], &str); 12] = [
        (0, b"COWD", "is a VMDK file of the oldest kind; convert it to qcow2 first"),
        (
            0,
            b"# Disk DescriptorFile",
            "is a VMDK descriptor, a text that names other files; send the disk itself",
        ),
        (0, b"\x1f\x8b", "is compressed with gzip; decompress it first"),
        (0, b"\xfd7zXZ\0", "is compressed with xz; decompress it first"),
        (0, b"\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it first"),
        (0, b"BZh", "is compressed with bzip2; decompress it first"),
        (0, b"PK\x03\x04", "is a zip archive; send the disk in it"),
        (0, b"conectix", "is a VHD file; convert it first: qemu-img convert -f vpc -O qcow2 IN OUT"),
        (0, b"\x7fELF", "is a program, not a disk"),
        (0, b"LUKS\xba\xbe", "is an encrypted disk"),
        (
            64,
            b"\x7f\x10\xda\xbe",
            "is a VirtualBox VDI file; convert it first: qemu-img convert -f vdi -O qcow2 IN OUT",
        ),
        (257, b"ustar", "is a tar archive; send the disk in it"),
    ];
    KNOWN.iter().find(|(at, mark, _)| has(head, *at, mark)).map(|(_, _, why)| *why)
}

fn raw(head: &[u8], length: u64) -> Result<Recognised, FormatError> {
    const MARKS: [(usize, &[u8]); 8] = [
        (510, b"\x55\xaa"),
        (512, b"EFI PART"),
        (4096, b"EFI PART"),
        (512, b"LABELONE"),
        (1080, b"\x53\xef"),
        (0, b"XFSB"),
        (0x1_0040, b"_BHRfS_M"),
        ISO,
    ];
    if !MARKS.iter().any(|(at, mark)| has(head, *at, mark)) {
        let text = head.iter().take(4096).all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..));
        return refused(if head.is_empty() {
            "is empty"
        } else if text {
            "is a text file, not a disk image"
        } else {
            "is no disk image: neither qcow2, VMDK or VHDX, nor a raw disk with a partition table or a file system"
        });
    }
    if has(head, ISO.0, ISO.1) {
        // Also one that can be put on a stick, and then has a partition table too.
        return match length.is_multiple_of(2048) {
            true => Ok(Recognised { format: Format::Iso, virtual_size: Some(length) }),
            false => refused(format!(
                "is an ISO of {length} bytes, which is no whole number of blocks: it was cut off"
            )),
        };
    }
    if !length.is_multiple_of(SECTOR) {
        return refused(format!(
            "is a raw disk of {length} bytes, which is no whole number of sectors: it was cut off, or is no disk"
        ));
    }
    Ok(Recognised { format: Format::Raw, virtual_size: Some(length) })
}

#[cfg(test)]
mod tests;
