//! Whether this host can give a VM what it asks for beside memory: processors to be bound to, huge pages, KVM. What is in a
//! spec already is not refused again: another field of it may be changed although the host is another by now.

use agentd_api::vm::{Accel, Vm, VmSpec, needs_kvm};
use agentd_api::{ErrorCode, FieldError, Kind, Problem};

use crate::intent::admission::Known;
use crate::intent::guest;

pub(super) fn check(known: &Known, is: Option<&VmSpec>, spec: &VmSpec) -> Result<(), Problem> {
    guest::check_expiry(Vm::DEF.kind, is.and_then(VmSpec::expiry), spec.expiry())?;
    check_pinning(known, is, spec)?;
    check_huge_pages(known, is, spec)?;
    check_firmware(known, is, spec)?;
    let same = |is: &VmSpec| is.nested == spec.nested && is.cpu_pinning == spec.cpu_pinning;
    match needs_kvm(spec) {
        Some((field, why)) if known.accel == Some(Accel::Tcg) && !is.is_some_and(same) => {
            Err(Problem::new(ErrorCode::Unsupported, why)
                .at(format!("spec.{field}"))
                .hint("`agentctl doctor` says why guests do not run under KVM here"))
        }
        _ => Ok(()),
    }
}

fn check_firmware(known: &Known, is: Option<&VmSpec>, spec: &VmSpec) -> Result<(), Problem> {
    let (had, had_tpm) = is.map_or((None, false), |is| (is.firmware, is.tpm));
    let firmware = spec.firmware.filter(|_| spec.firmware != had);
    match known.firmware.lacks(firmware, spec.tpm && !had_tpm).first() {
        Some(lack) => Err(Problem::new(ErrorCode::Unsupported, lack.why)
            .at(format!("spec.{}", lack.field))
            .hint(format!("`{}` installs it", lack.fix))),
        None => Ok(()),
    }
}

fn check_pinning(known: &Known, is: Option<&VmSpec>, spec: &VmSpec) -> Result<(), Problem> {
    if known.processors.is_empty() || is.is_some_and(|is| is.cpu_pinning == spec.cpu_pinning) {
        return Ok(());
    }
    let mut errors = Vec::new();
    for (n, set) in spec.cpu_pinning.iter().enumerate() {
        let lacks = set.without(&known.processors);
        if !lacks.is_empty() {
            let message = format!("this host has no processor {lacks}; it has {}", known.processors);
            errors.push(FieldError::new(format!("spec.cpu_pinning[{n}]"), message));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

fn check_huge_pages(known: &Known, is: Option<&VmSpec>, spec: &VmSpec) -> Result<(), Problem> {
    let same = |is: &VmSpec| is.huge_pages && is.memory == spec.memory;
    if !spec.huge_pages || is.is_some_and(same) {
        return Ok(());
    }
    let at = "spec.huge_pages";
    let pages = spec.memory.bytes().div_ceil(2 << 20);
    let hint = format!("`sysctl vm.nr_hugepages={pages}` reserves enough for this VM alone");
    match known.huge_pages {
        None => {
            let what = "this host's kernel has no huge pages";
            Err(Problem::new(ErrorCode::Unsupported, what).at(at))
        }
        Some(all) if all < spec.memory => {
            let detail =
                format!("{} is more than the {all} that this host has reserved in huge pages", spec.memory);
            Err(Problem::new(ErrorCode::InsufficientCapacity, detail).at(at).hint(hint))
        }
        Some(_) => Ok(()),
    }
}
