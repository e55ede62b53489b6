//! Disks: the root disk first, then the seed, then all others, and the CD-ROM drive; and how they are read back.
//!
//! Disks are virtio-blk, each on a PCI Express port of its own (see `ports`). The CD-ROM drive is on virtio-scsi: kernels for
//! clouds have no driver for SATA, and all that boot here have this one.

use std::path::Path;

use super::element::{Element, el};
use super::tuning;
use crate::vm::DomainSpec;
use crate::vm::disks::{Cdrom, DiskSeen, DiskSource, DomainDisk, ROOT, SEED};

/// The first target is the root disk's. The others follow without a gap, so that a guest that names disks in the order
/// in which it finds them names them alike.
const FIRST_FREE: usize = 1;
/// The root disk's target.
pub(crate) const ROOT_TARGET: &str = "vda";
const CDROM_TARGET: &str = "sda";

pub(super) fn disks(spec: &DomainSpec) -> Vec<Element> {
    let root = disk(("file", "qcow2"), &spec.disk, ROOT_TARGET)
        .child(el("serial").text(ROOT))
        .children(tuning::iotune(&spec.tuning.disk));
    let seed = spec
        .seed
        .as_ref()
        .map(|seed| disk(("file", "raw"), seed, "vdb").child(el("readonly")).child(el("serial").text(SEED)));
    let others = spec.disks.iter().enumerate().map(|(n, disk)| plugged(disk, &target_of(spec, n)));
    let cdrom = spec.cdrom.iter().flat_map(|cdrom| {
        [el("controller").attr("type", "scsi").attr("index", 0).attr("model", "virtio-scsi"), drive(cdrom)]
    });
    std::iter::once(root).chain(seed).chain(others).chain(cdrom).collect()
}

/// The target of the n-th further disk of a guest that is started anew.
fn target_of(spec: &DomainSpec, n: usize) -> String {
    target(FIRST_FREE + usize::from(spec.seed.is_some()) + n)
}

/// The name of the n-th virtio disk, as Linux counts: vda to vdz, vdaa, ...
pub(super) fn target(n: usize) -> String {
    let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap_or(0));
    match n.checked_sub(26) {
        None => format!("vd{}", letter(n)),
        Some(rest) => format!("vd{}{}", letter(rest / 26), letter(rest)),
    }
}

/// The first target that none of these has.
pub(crate) fn free_target(taken: &[DiskSeen]) -> String {
    let free = |name: &String| taken.iter().all(|disk| disk.target != *name);
    (FIRST_FREE..).map(target).find(free).unwrap_or_default()
}

/// What libvirt is told to plug a disk in.
pub(crate) fn render_disk(disk: &DomainDisk, target: &str) -> String {
    plugged(disk, target).text_of_tree()
}

/// What libvirt is told to find the disk that it shall unplug.
pub(crate) fn render_seen(seen: &DiskSeen) -> String {
    let source = seen.source.iter().map(|file| el("source").attr("file", file.display()));
    el("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .children(source)
        .child(el("target").attr("dev", &seen.target).attr("bus", "virtio"))
        .text_of_tree()
}

pub(crate) fn render_cdrom(cdrom: &Cdrom, target: &str) -> String {
    drive_at(cdrom, target).text_of_tree()
}

fn plugged(wanted: &DomainDisk, target: &str) -> Element {
    let kind = match &wanted.source {
        DiskSource::File(_) => "file",
        DiskSource::Block(_) => "block",
    };
    let driver = el("driver")
        .attr("name", "qemu")
        .attr("type", wanted.format.as_str())
        .attr("cache", "writeback")
        .attr("discard", "unmap");
    body(kind, driver, wanted.source.path(), target)
        .children(wanted.read_only.then(|| el("readonly")))
        .child(el("serial").text(&wanted.serial))
}

fn drive(cdrom: &Cdrom) -> Element {
    drive_at(cdrom, CDROM_TARGET)
}

fn drive_at(cdrom: &Cdrom, target: &str) -> Element {
    el("disk")
        .attr("type", "file")
        .attr("device", "cdrom")
        .child(el("driver").attr("name", "qemu").attr("type", "qcow2"))
        .children(cdrom.medium.iter().map(|file| el("source").attr("file", file.display())))
        .child(el("target").attr("dev", target).attr("bus", "scsi"))
        .child(el("readonly"))
}

/// Written through the host's page cache, so that guests share what is cached of their image; a guest's flush reaches the
/// disk. What a guest discards is given back to the host.
fn disk((kind, format): (&str, &str), file: &Path, target: &str) -> Element {
    let driver = el("driver").attr("name", "qemu").attr("type", format).attr("cache", "writeback");
    let driver = if format == "raw" { driver } else { driver.attr("discard", "unmap") };
    body(kind, driver, file, target)
}

fn body(kind: &str, driver: Element, path: &Path, target: &str) -> Element {
    let attribute = if kind == "block" { "dev" } else { "file" };
    el("disk")
        .attr("type", kind)
        .attr("device", "disk")
        .child(driver)
        .child(el("source").attr(attribute, path.display()))
        .child(el("target").attr("dev", target).attr("bus", "virtio"))
}

/// The disks in what libvirt says of a domain. None where that is not of a shape that it writes.
pub(crate) fn read_disks(domain: &str) -> Option<Vec<DiskSeen>> {
    Element::parse(domain)?.find("devices")?.all("disk").map(read_disk).collect()
}

fn read_disk(disk: &Element) -> Option<DiskSeen> {
    let source = disk.find("source").and_then(|source| source.get("file").or_else(|| source.get("dev")));
    Some(DiskSeen {
        target: disk.find("target")?.get("dev")?.to_owned(),
        source: source.map(Into::into),
        serial: disk.find("serial").map(|serial| serial.content().to_owned()),
        read_only: disk.find("readonly").is_some(),
        cdrom: disk.get("device") == Some("cdrom"),
    })
}

/// Whether a definition has the disks and the drive of `spec`, as they would be named at a start. Disks without a serial are somebody
/// else's, and neither missed nor minded.
pub(crate) fn as_wanted(definition: &str, spec: &DomainSpec) -> bool {
    let Some(seen) = read_disks(definition) else { return false };
    let ours = |s: &DiskSeen| -> Option<(String, std::path::PathBuf, bool, String)> {
        let serial = s.serial.clone().filter(|_| !s.cdrom)?;
        Some((serial, s.source.clone()?, s.read_only, s.target.clone()))
    };
    let mut is: Vec<_> = seen.iter().filter_map(ours).collect();
    let wanted = spec
        .disks
        .iter()
        .enumerate()
        .map(|(n, d)| (d.serial.clone(), d.source.path().to_owned(), d.read_only, target_of(spec, n)));
    let seed = spec.seed.iter().map(|seed| (SEED.to_owned(), seed.clone(), true, target(1)));
    let mut wanted: Vec<_> =
        wanted.chain([(ROOT.to_owned(), spec.disk.clone(), false, target(0))]).chain(seed).collect();
    is.sort_unstable();
    wanted.sort_unstable();
    let drive = seen.iter().find(|disk| disk.cdrom).map(|disk| Cdrom { medium: disk.source.clone() });
    is == wanted && drive == spec.cdrom
}
