//! Network interfaces: a tap on the network's bridge.

use super::element::{Element, el};
use crate::vm::DomainNic;

pub(super) fn interface(nic: &DomainNic) -> Element {
    el("interface")
        .attr("type", "bridge")
        .child(el("mac").attr("address", nic.mac))
        .child(el("source").attr("bridge", &nic.bridge))
        .child(el("target").attr("dev", &nic.tap))
        .child(el("model").attr("type", "virtio"))
}
