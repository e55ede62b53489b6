//! Network interfaces: a tap on the network's bridge.

use super::element::{Element, el};
use super::tuning;
use crate::vm::{DomainNic, Tuning};

pub(super) fn interface(nic: &DomainNic, tuning: &Tuning) -> Element {
    el("interface")
        .attr("type", "bridge")
        .child(el("mac").attr("address", nic.mac))
        .child(el("source").attr("bridge", &nic.bridge))
        .child(el("target").attr("dev", &nic.tap))
        .child(el("model").attr("type", "virtio"))
        .children(tuning.nics.get(&nic.tap).and_then(tuning::bandwidth))
        // No program of the card's own: guests boot from their disk or their kernel, and start sooner without.
        .child(el("rom").attr("enabled", "no"))
}
