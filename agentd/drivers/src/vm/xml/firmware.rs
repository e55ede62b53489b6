//! UEFI and the TPM. Without them a guest has QEMU's own BIOS, which needs no word.

use super::element::{Element, el};
use crate::vm::DomainSpec;

/// The firmware's program, which all guests share and none can write, and the guest's own variables.
pub(super) fn flash(spec: &DomainSpec) -> Vec<Element> {
    let Some(uefi) = &spec.hardware.uefi else { return Vec::new() };
    let secure = if uefi.secure { "yes" } else { "no" };
    let loader = el("loader").attr("readonly", "yes").attr("secure", secure).attr("type", "pflash");
    vec![loader.text(uefi.code.display()), el("nvram").text(uefi.variables.display())]
}

/// With secure boot only code in system management mode may write the variables, or a guest would enrol keys of its own.
pub(super) fn features(spec: &DomainSpec) -> Element {
    let secure = spec.hardware.uefi.as_ref().is_some_and(|uefi| uefi.secure);
    el("features").child(el("acpi")).child(el("apic")).children(secure.then(|| el("smm").attr("state", "on")))
}

/// libvirt runs one for each guest, and keeps its content until the domain is undefined.
pub(super) fn tpm(spec: &DomainSpec) -> Option<Element> {
    let backend = || el("backend").attr("type", "emulator").attr("version", "2.0");
    spec.hardware.tpm.then(|| el("tpm").attr("model", "tpm-crb").child(backend()))
}

/// Whether the machine of a guest's memory is started as the one that is wanted, and has a TPM as it has. libvirt does not
/// compare that, and QEMU breaks off with no word that a user could act on.
pub fn same_firmware(saved: &str, wanted: &str) -> bool {
    let of = |text: &str| {
        let domain = Element::parse(text)?;
        let (os, devices) = (domain.find("os")?, domain.find("devices")?);
        let loader = os.find("loader").map(|loader| loader.content().to_owned());
        Some((os.find("kernel").is_some(), loader, devices.find("tpm").is_some()))
    };
    of(saved) == of(wanted)
}
