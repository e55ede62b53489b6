//! Reads of a qcow2 file which snapshots are in it, and what each of them alone holds.
//!
//! By ourselves and not by qemu-img: a process costs 20 ms, and this is asked often, of files that a guest may have open.
//! QEMU writes the table of snapshots down before it says that one is made or gone. How often a cluster is referred to it
//! writes later, so that the sizes of a running guest lag.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// More than QEMU allows (65536): a count above it is damage.
const SNAPSHOTS_MAX: u32 = 1 << 16;
/// Of an L1 or L2 entry: where it leads to.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;

#[derive(Debug)]
pub(super) struct Image {
    file: File,
    cluster_bits: u32,
    refcounts: u64,
    refcount_clusters: u32,
    /// Refcounts of other widths are not read.
    wide: bool,
    count: u32,
    table: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    l1: u64,
    l1_entries: u32,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("is no qcow2 file: {what}"))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn small(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte))
}

impl Image {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut head = [0u8; 104];
        file.read_exact_at(&mut head, 0).map_err(|_| damaged("it is too short"))?;
        if !head.starts_with(b"QFI\xfb") {
            return Err(damaged("it begins otherwise"));
        }
        let cluster_bits = small(&head[20..24]);
        let count = small(&head[60..64]);
        if !(9..=21).contains(&cluster_bits) || count > SNAPSHOTS_MAX {
            return Err(damaged("its header is damaged"));
        }
        // Version 2 has no such field, and 16 bits.
        let wide = small(&head[4..8]) < 3 || small(&head[96..100]) == 4;
        Ok(Self {
            file,
            cluster_bits,
            refcounts: number(&head[48..56]),
            refcount_clusters: small(&head[56..60]),
            wide,
            count,
            table: number(&head[64..72]),
        })
    }

    /// The snapshots, in the order in which they were made.
    pub(super) fn snapshots(&self) -> io::Result<Vec<Entry>> {
        let mut all = Vec::new();
        let mut at = self.table;
        for _ in 0..self.count {
            let mut head = [0u8; 40];
            self.file.read_exact_at(&mut head, at)?;
            let id = small(&head[12..14]);
            let name_length = small(&head[14..16]);
            let extra = small(&head[36..40]);
            let name_at = at + 40 + u64::from(extra) + u64::from(id);
            let mut name = vec![0u8; name_length as usize];
            self.file.read_exact_at(&mut name, name_at)?;
            all.push(Entry {
                name: String::from_utf8_lossy(&name).into_owned(),
                l1: number(&head[..8]),
                l1_entries: small(&head[8..12]),
            });
            at = (name_at + u64::from(name_length)).next_multiple_of(8);
        }
        Ok(all)
    }

    /// The bytes of clusters that this snapshot refers to and nothing else does.
    pub(super) fn held_by(&self, entry: &Entry) -> io::Result<u64> {
        if !self.wide {
            return Ok(0);
        }
        let mut refcounts = Refcounts { image: self, block: None };
        let mut clusters = 0u64;
        for l2 in self.entries(entry.l1, u64::from(entry.l1_entries) * 8)? {
            let l2 = l2 & OFFSET;
            if l2 == 0 {
                continue;
            }
            // What an L2 table that others have too leads to is not this snapshot's alone.
            if refcounts.of(l2)? != 1 {
                continue;
            }
            clusters += 1;
            for data in self.entries(l2, 1 << self.cluster_bits)? {
                if data & COMPRESSED == 0 && data & OFFSET != 0 && refcounts.of(data & OFFSET)? == 1 {
                    clusters += 1;
                }
            }
        }
        Ok(clusters << self.cluster_bits)
    }

    fn entries(&self, at: u64, bytes: u64) -> io::Result<Vec<u64>> {
        let length = usize::try_from(bytes).map_err(|_| damaged("a table is too long"))?;
        let mut table = vec![0u8; length];
        self.file.read_exact_at(&mut table, at)?;
        Ok(table.chunks_exact(8).map(number).collect())
    }
}

/// Looks refcounts up, with the block that was last read at hand.
struct Refcounts<'a> {
    image: &'a Image,
    block: Option<(u64, Vec<u8>)>,
}

impl Refcounts<'_> {
    fn of(&mut self, offset: u64) -> io::Result<u32> {
        let bits = self.image.cluster_bits;
        let cluster = offset >> bits;
        let in_block = 1u64 << (bits - 1);
        let (block, at) = (cluster / in_block, cluster % in_block);
        if block * 8 >= u64::from(self.image.refcount_clusters) << bits {
            return Ok(0);
        }
        if self.block.as_ref().is_none_or(|(held, _)| *held != block) {
            let place = self.image.entries(self.image.refcounts + block * 8, 8)?[0] & OFFSET;
            let mut bytes = vec![0u8; 1 << bits];
            if place != 0 {
                self.image.file.read_exact_at(&mut bytes, place)?;
            }
            self.block = Some((block, bytes));
        }
        let bytes = self.block.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
        let at = usize::try_from(at * 2).unwrap_or(usize::MAX);
        Ok(bytes.get(at..at.saturating_add(2)).map_or(0, small))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Program;

    async fn run(program: &str, arguments: &[&str]) {
        Program::new(program).args(arguments).run().await.unwrap_or_else(|error| panic!("{error}"));
    }

    #[tokio::test]
    async fn what_is_in_a_file_is_what_qemu_img_put_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk.qcow2");
        let disk = path.to_str().expect("UTF-8");
        run("qemu-img", &["create", "-q", "-f", "qcow2", disk, "64M"]).await;
        assert_eq!(Image::open(&path).expect("a disk").snapshots().expect("none"), []);
        for (name, byte) in [("first", "1"), ("second", "2"), ("third", "3")] {
            let write = format!("write -q -P {byte} 0 1M");
            run("qemu-io", &["-f", "qcow2", "-c", &write, disk]).await;
            run("qemu-img", &["snapshot", "-q", "-c", name, disk]).await;
        }
        let names = |image: &Image| {
            image.snapshots().expect("snapshots").into_iter().map(|s| s.name).collect::<Vec<_>>()
        };
        let image = Image::open(&path).expect("a disk");
        assert_eq!(names(&image), ["first", "second", "third"]);
        let held = |name: &str| {
            let all = image.snapshots().expect("snapshots");
            image.held_by(all.iter().find(|s| s.name == name).expect("it is there")).expect("a size")
        };
        // A megabyte each, and the table that leads to it; what the newest has the disk has too.
        assert_eq!((held("first"), held("second")), (17 << 16, 17 << 16));
        assert_eq!(held("third"), 0);
        run("qemu-img", &["snapshot", "-q", "-d", "second", disk]).await;
        assert_eq!(names(&Image::open(&path).expect("a disk")), ["first", "third"]);
    }

    #[test]
    fn what_is_no_disk_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk.qcow2");
        std::fs::write(&path, [0; 512]).expect("a file");
        assert_eq!(Image::open(&path).expect_err("zeros").kind(), io::ErrorKind::InvalidData);
        std::fs::write(&path, b"QFI\xfb").expect("a file");
        assert!(Image::open(&path).is_err());
    }
}
