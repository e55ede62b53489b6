//! Disks: the root disk first, then the seed.

use super::element::{Element, el};
use crate::vm::DomainSpec;

pub(super) fn disks(spec: &DomainSpec) -> Vec<Element> {
    let root = disk("qcow2", &spec.disk, "vda");
    let seed = spec.seed.as_ref().map(|seed| disk("raw", seed, "vdb").child(el("readonly")));
    std::iter::once(root).chain(seed).collect()
}

/// Written through the host's page cache, so that guests share what is cached of their image; a guest's flush reaches the
/// disk. What a guest discards is given back to the host.
fn disk(format: &str, file: &std::path::Path, target: &str) -> Element {
    let driver = el("driver").attr("name", "qemu").attr("type", format).attr("cache", "writeback");
    el("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .child(if format == "raw" { driver } else { driver.attr("discard", "unmap") })
        .child(el("source").attr("file", file.display()))
        .child(el("target").attr("dev", target).attr("bus", "virtio"))
}
