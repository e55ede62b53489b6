//! The PCI Express ports: on this machine a device that is plugged in later needs a free one, and none can be added
//! while the guest runs.

use super::element::{Element, el};

/// How many disks and interfaces can be plugged in between two starts.
const SPARE: usize = 12;
/// Each of these takes a port.
const ON_PCI: [&str; 8] =
    ["disk", "interface", "input", "rng", "memballoon", "filesystem", "vsock", "watchdog"];
/// The bus of the channels, which libvirt adds.
const ADDED: usize = 1;

/// As many as the devices need, and the spare ones. libvirt adds what this counts too few, and gives the devices the
/// first ones.
pub(super) fn ports(devices: &Element) -> Vec<Element> {
    let taken = devices.within().iter().filter(|device| ON_PCI.contains(&device.name())).count();
    let pci = || el("controller").attr("type", "pci");
    let mut all = vec![pci().attr("index", 0).attr("model", "pcie-root")];
    all.extend((0..taken + ADDED + SPARE).map(|_| pci().attr("model", "pcie-root-port")));
    all
}

/// Whether a definition has as many ports as the one that is wanted: the more was plugged in since, the fewer are free.
pub fn has_room(definition: &str, wanted: &str) -> bool {
    let count = |text: &str| text.matches("pcie-root-port").count();
    count(definition) >= count(wanted)
}
