//! What is packed in a kernel as a distribution has it: the kernel proper, and before it a program that unpacks it
//! (the kernel's Documentation/arch/x86/boot.rst). An emulated CPU needs a second for that, where the host needs none.

use std::path::{Path, PathBuf};

use super::Kitchen;
use crate::image::ImageError;
use crate::image::host::run::files;

const STEP: &str = "unpacking the kernel";
/// The first version of the boot protocol that says where the payload is.
const PROTOCOL: usize = 0x0208;
const SECTOR: usize = 512;

/// The kernel in `image` as a file in `scratch`, where there is one that QEMU starts; else `image` itself.
pub(super) async fn unpacked(kitchen: &Kitchen<'_>, image: &Path) -> Result<PathBuf, ImageError> {
    let (packed, kernel) = (kitchen.scratch.join("vmlinux.packed"), kitchen.scratch.join("vmlinux"));
    let (from, to) = (image.to_owned(), packed.clone());
    let unpacker = files(STEP, move || {
        let image = std::fs::read(from)?;
        let Some(payload) = Payload::of(&image) else { return Ok(None) };
        std::fs::write(to, payload.content)?;
        Ok(Some(payload.unpacker))
    })
    .await?;
    let Some(unpacker) = unpacker else { return Ok(image.to_owned()) };
    let script = r#"exec "$0" -dc <"$1" >"$2""#;
    // Found by its own name, so that it is named where it is missing.
    kitchen.program(unpacker)?;
    let shell = kitchen.program("sh")?.args(["-c", script, unpacker]).arg(&packed).arg(&kernel);
    kitchen.run(STEP, shell).await?;
    let made = kernel.clone();
    let starts = files(STEP, move || {
        std::fs::remove_file(packed)?;
        Ok(has_pvh_entry(&std::fs::read(made)?))
    });
    Ok(if starts.await? { kernel } else { image.to_owned() })
}

/// What is packed, and the program that unpacks it.
#[derive(Debug, PartialEq, Eq)]
struct Payload<'a> {
    content: &'a [u8],
    unpacker: &'static str,
}

impl<'a> Payload<'a> {
    fn of(image: &'a [u8]) -> Option<Self> {
        if image.get(0x202..0x206)? != b"HdrS" || number(image, 0x206, 2)? < PROTOCOL {
            return None;
        }
        // None written means four.
        let sectors = Some(number(image, 0x1f1, 1)?).filter(|n| *n > 0).unwrap_or(4);
        let begin = ((sectors + 1) * SECTOR).checked_add(number(image, 0x248, 4)?)?;
        let content = image.get(begin..begin.checked_add(number(image, 0x24c, 4)?)?)?;
        // Behind all but gzip's, which has it itself, stands how large the kernel is unpacked.
        let whole = || content.split_last_chunk::<4>().map(|(whole, _)| whole);
        let (content, unpacker) = match content {
            [0x1f, 0x8b, ..] => (content, "gzip"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => (whole()?, "xz"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => (whole()?, "zstd"),
            [0x02, 0x21, 0x4c, 0x18, ..] => (whole()?, "lz4"),
            _ => return None,
        };
        Some(Self { content, unpacker })
    }
}

/// Whether QEMU finds where to start this kernel: a note of Xen's that says it, which kernels have for PVH.
fn has_pvh_entry(elf: &[u8]) -> bool {
    const NOTES: usize = 4;
    let notes = || {
        let (table, size, count) = (number(elf, 32, 8)?, number(elf, 54, 2)?, number(elf, 56, 2)?);
        (0..count).find_map(|n| {
            let header = table.checked_add(n * size)?;
            (number(elf, header, 4)? == NOTES).then_some(())?;
            let begin = number(elf, header.checked_add(8)?, 8)?;
            elf.get(begin..begin.checked_add(number(elf, header.checked_add(32)?, 8)?)?)
        })
    };
    elf.starts_with(b"\x7fELF\x02\x01") && notes().is_some_and(|notes| names_pvh_entry(notes).is_some())
}

fn names_pvh_entry(mut notes: &[u8]) -> Option<()> {
    const PVH_ENTRY: usize = 18;
    loop {
        let (named, described) = (number(notes, 0, 4)?, number(notes, 4, 4)?);
        let name = notes.get(12..12usize.checked_add(named)?)?;
        if name == b"Xen\0" && number(notes, 8, 4)? == PVH_ENTRY {
            return Some(());
        }
        let rest =
            12usize.checked_add(named.next_multiple_of(4))?.checked_add(described.next_multiple_of(4))?;
        notes = notes.get(rest..)?;
    }
}

/// Little-endian; None past the end.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    bytes.iter().rev().try_fold(0usize, |n, byte| n.checked_mul(256).map(|n| n | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 3 * SECTOR];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
        image[0x248] = 7;
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).expect("small").to_le_bytes());
        image.truncate(2 * SECTOR);
        image.extend([0; 7]);
        image.extend(payload);
        image.extend(b"behind it");
        image
    }

    fn of(payload: &[u8]) -> Option<(Vec<u8>, &'static str)> {
        Payload::of(&image(payload)).map(|payload| (payload.content.to_owned(), payload.unpacker))
    }

    #[test]
    fn what_is_packed_is_told_by_how_it_begins() {
        assert_eq!(of(b"\x02\x21\x4c\x18kernelsize"), Some((b"\x02\x21\x4c\x18kernel".to_vec(), "lz4")));
        assert_eq!(of(b"\x28\xb5\x2f\xfdkernelsize"), Some((b"\x28\xb5\x2f\xfdkernel".to_vec(), "zstd")));
        assert_eq!(of(b"\xfd7zXZ\0kernelsize"), Some((b"\xfd7zXZ\0kernel".to_vec(), "xz")));
        assert_eq!(of(b"\x1f\x8bkernelsize"), Some((b"\x1f\x8bkernelsize".to_vec(), "gzip")));
        assert_eq!(of(b"BZhkernelsize"), None);
        assert_eq!(Payload::of(b"MZ, and no kernel"), None);
        let mut old = image(b"\x1f\x8bkernel");
        old[0x206] = 7;
        assert_eq!(Payload::of(&old), None, "it does not say where its payload is");
    }

    fn elf(kind: u8) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01".to_vec();
        elf.resize(64 + 56, 0);
        (elf[32], elf[54], elf[56], elf[64]) = (64, 56, 1, 4);
        let mut notes = vec![4, 0, 0, 0, 2, 0, 0, 0, 6, 0, 0, 0];
        notes.extend(b"Xen\0no\0\0");
        notes.extend([4, 0, 0, 0, 4, 0, 0, 0, kind, 0, 0, 0]);
        notes.extend(b"Xen\0\0\0\0\x01");
        elf[64 + 8] = 64 + 56;
        elf[64 + 32] = u8::try_from(notes.len()).expect("short");
        elf.extend(notes);
        elf
    }

    #[test]
    fn a_kernel_that_says_where_it_starts_is_told_from_one_that_does_not() {
        assert!(has_pvh_entry(&elf(18)));
        assert!(!has_pvh_entry(&elf(17)));
        assert!(!has_pvh_entry(b"MZ"));
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_brings_it_down(at in 0usize..1024, with in prop::collection::vec(any::<u8>(), 1..16)) {
            for mut bytes in [image(b"\x1f\x8bkernel"), elf(18)] {
                let end = bytes.len().min(at + with.len());
                if at < end {
                    bytes[at..end].copy_from_slice(&with[..end - at]);
                }
                let _ = (Payload::of(&bytes), has_pvh_entry(&bytes));
            }
        }
    }
}
