//! What libvirt's errors mean to us. Its own words are always kept.

use virt::error::{Error, ErrorNumber};

use crate::vm::VmError;

/// How a call on a worker's thread fails.
#[derive(Debug)]
pub(super) enum Fault {
    Libvirt(Error),
    Vm(VmError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Libvirt(error)
    }
}

impl From<VmError> for Fault {
    fn from(error: VmError) -> Self {
        Self::Vm(error)
    }
}

/// What QEMU says of a host that is full, wherever libvirt puts it.
const NO_ROOM: [&str; 5] = [
    "Cannot allocate memory",
    "No space left on device",
    "cannot set up guest memory",
    "Disk quota exceeded",
    // All of the domain's ports are taken until it is started anew.
    "No more available PCI slots",
];
const NO_KVM: [&str; 3] = ["failed to initialize kvm", "Could not access KVM", "does not support virt type"];
/// Of `virDomainDefineXML`, when the name or the UUID is another domain's. It has no code of its own.
const TAKEN: [&str; 2] = ["already exists with uuid", "is already defined with uuid"];

/// What `tc`, which libvirt runs to limit an interface, says of a kernel that lacks sch_sfq, cls_u32 or act_police.
const NO_SHAPER: [&str; 3] =
    ["qdisc kind is unknown", "TC classifier not found", "Failed to load TC action module"];

/// Whether the host's kernel cannot limit what an interface carries.
pub(super) fn lacks_shaper(error: &Error) -> bool {
    NO_SHAPER.iter().any(|word| error.message().contains(word))
}

/// Maps by code, and by words only where libvirt gives none but a general one.
pub(super) fn told(call: &'static str, error: &Error) -> VmError {
    let detail = error.message().to_owned();
    let says = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    if error.code() == ErrorNumber::NoMemory || says(&NO_ROOM) {
        return VmError::Capacity(detail);
    }
    if lacks_shaper(error) {
        let lacks = "spec.networks: this host's kernel has not what limits an interface";
        return VmError::Unsupported(format!(
            "{lacks} (sch_htb, sch_sfq, sch_ingress, cls_u32, act_police): {detail}"
        ));
    }
    if says(&NO_KVM) {
        return VmError::Unsupported(detail);
    }
    if says(&TAKEN) {
        return VmError::Conflict(detail);
    }
    match error.code() {
        ErrorNumber::ConfigUnsupported
        | ErrorNumber::NoSupport
        | ErrorNumber::OperationUnsupported
        | ErrorNumber::ArgumentUnsupported
        | ErrorNumber::CpuIncompatible => VmError::Unsupported(detail),
        ErrorNumber::XmlError
        | ErrorNumber::XmlDetail
        | ErrorNumber::XmlInvalidSchema
        | ErrorNumber::InvalidArg => VmError::Refused(detail),
        _ => VmError::Failed { call, detail },
    }
}
