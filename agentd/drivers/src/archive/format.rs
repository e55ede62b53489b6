//! The layout of an archive: a tar file that `tar -x` unpacks, of which every byte is determined by what it holds.
//!
//! ```text
//! manifest.json | manifest.sha256 | disk.qcow2 | disk-1.qcow2 ... | uefi.fd | kernel | initrd | archive.sha256
//! ```
//! `manifest.sha256` is the checksum of the first file, the manifest has those of the others, and `archive.sha256` is
//! that of all bytes before it. Since a header follows from a name and a size, one that was altered is found by
//! comparing it with what it should be; the same holds for what fills up a file's last block.

pub const MANIFEST: &str = "manifest.json";
pub const MANIFEST_SUM: &str = "manifest.sha256";
pub const ARCHIVE_SUM: &str = "archive.sha256";
pub const DISK: &str = "disk.qcow2";
pub const KERNEL: &str = "kernel";
pub const INITRD: &str = "initrd";

/// What a UEFI keeps is half a megabyte.
pub const VARIABLES_MAX: u64 = 4 << 20;
/// Longer than any kernel takes.
pub const CMDLINE_MAX: usize = 4096;
pub const BLOCK: usize = 512;
/// A spec holds 320 KiB at most of what a user wrote.
pub const MANIFEST_MAX: u64 = 4 << 20;

/// `disk-1.qcow2`, ...
pub fn further_name(number: usize) -> String {
    format!("disk-{number}.qcow2")
}

pub fn further_number(name: &str) -> Option<usize> {
    let number = name.strip_prefix("disk-")?.strip_suffix(".qcow2")?.parse().ok().filter(|n| *n > 0)?;
    (further_name(number) == name).then_some(number)
}

/// The head of a file: POSIX ustar, with the size in GNU's binary form where it has more than eleven octal digits.
pub fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    if size < 1 << 33 {
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..148].copy_from_slice(b"00000000000\0");
    block[148..156].copy_from_slice(b"        ");
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The size that a header tells, where it is one of ours of that name.
pub fn size_in(header_block: &[u8; BLOCK], name: &str) -> Option<u64> {
    let digits = std::str::from_utf8(&header_block[124..135]).ok()?;
    let size = u64::from_str_radix(digits, 8).ok()?;
    (header(name, size) == *header_block).then_some(size)
}

/// What fills up the last block of a file.
pub fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK - over }
}

/// The two empty blocks behind the last file.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What is in a file of a checksum.
pub fn sum_text(hex: &str) -> String {
    format!("{hex}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_tells_its_size_and_nothing_may_differ() {
        for size in [0, 1, 511, 512, (1 << 33) - 1] {
            let block = header(MANIFEST, size);
            assert_eq!(size_in(&block, MANIFEST), Some(size));
            assert_eq!(size_in(&block, DISK), None);
            for at in 0..BLOCK {
                let mut altered = block;
                altered[at] ^= 1;
                assert_ne!(size_in(&altered, MANIFEST), Some(size), "byte {at}");
            }
        }
        assert_eq!(header(DISK, 1 << 33)[124], 0x80);
        assert_eq!((padding(0), padding(1), padding(512), padding(513)), (0, 511, 0, 511));
    }

    #[test]
    fn further_disks_have_one_name_each() {
        assert_eq!(further_number("disk-12.qcow2"), Some(12));
        for name in
            ["disk-0.qcow2", "disk-01.qcow2", "disk-.qcow2", "disk-1.raw", "disk.qcow2", "disk--1.qcow2"]
        {
            assert_eq!(further_number(name), None, "{name}");
        }
    }
}
