//! Limits and pinning of running guests.
//!
//! Each part is set by itself, and one that cannot be had does not keep the others from being set. What libvirt leaves
//! out without a word (CPU shares, where it has no cgroup for them) is found by asking for it back.

use std::ffi::{CStr, CString};

use agentd_api::vm::{CpuSet, DiskLimits, NicLimits};
use agentd_api::{ByteSize, vm::CPU_SHARES_MAX};
use async_trait::async_trait;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::{Domain, SchedulerInfo};
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::domains::find;
use super::fault::{Fault, lacks_shaper};
use super::{LibvirtVm, TELL, ffi};
use crate::vm::xml::{self, kib};
use crate::vm::{DomainSpec, Tuning, Unmet, VmError, VmTuning};

const PINNING: &str = "cpu_pinning";
const SHARES: &str = "cpu_shares";

#[async_trait]
impl VmTuning for LibvirtVm {
    async fn tune(&self, id: Uuid, tuning: &Tuning) -> Result<Vec<Unmet>, VmError> {
        let tuning = tuning.clone();
        self.run("limit a guest", TELL, move |c, tag| tune(c, tag, id, &tuning)).await
    }

    async fn tuning(&self, id: Uuid) -> Result<Option<Tuning>, VmError> {
        self.look("read a guest's limits", move |c, tag| tuning(c, tag, id)).await
    }
}

/// The hierarchy of control groups in which a guest's weight for processors is kept. Its two versions count otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CpuGroups {
    One,
    Two,
}

impl CpuGroups {
    /// As libvirt chooses: the second version where it has the controller.
    fn of_host() -> Self {
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        if controllers.split_whitespace().any(|c| c == "cpu") { Self::Two } else { Self::One }
    }

    /// 100 of ours is what each version gives by default.
    fn native(self, shares: u32) -> u32 {
        match self {
            Self::One => (shares * 1024 / 100).max(2),
            Self::Two => shares,
        }
    }

    fn ours(self, native: u32) -> u32 {
        match self {
            Self::One => (native * 100).div_ceil(1024).clamp(1, CPU_SHARES_MAX),
            Self::Two => native,
        }
    }
}

/// The definition with its figures as this host counts them.
pub(super) fn bound(spec: &DomainSpec) -> DomainSpec {
    let mut spec = spec.clone();
    spec.tuning.cpu_shares = spec.tuning.cpu_shares.map(|shares| CpuGroups::of_host().native(shares));
    spec
}

fn tuning(connect: &Connect, tag: &str, id: Uuid) -> Result<Option<Tuning>, Fault> {
    let Some((domain, _)) = find(connect, tag, id)? else { return Ok(None) };
    if !domain.is_active()? {
        return Ok(None);
    }
    let Some(mut seen) = xml::read_tuning(&domain.get_xml_desc(0)?) else {
        let detail = "its XML cannot be read".to_owned();
        return Err(VmError::Failed { call: "read a guest's limits", detail }.into());
    };
    seen.cpu_shares = seen.cpu_shares.map(|native| CpuGroups::of_host().ours(native));
    Ok(Some(seen))
}

fn tune(connect: &Connect, tag: &str, id: Uuid, wanted: &Tuning) -> Result<Vec<Unmet>, Fault> {
    let (domain, _) = find(connect, tag, id)?.ok_or(VmError::Missing(id))?;
    if !domain.is_active()? {
        return Ok(Vec::new());
    }
    let Some(seen) = tuning(connect, tag, id)? else { return Ok(Vec::new()) };
    let mut unmet = Vec::new();
    if seen.disk != wanted.disk {
        told(tune_disk(&domain, &wanted.disk), "disk_limits", &mut unmet)?;
    }
    for tap in seen.nics.keys().chain(wanted.nics.keys()).collect::<std::collections::BTreeSet<_>>() {
        let limits = wanted.nics.get(tap).copied().unwrap_or_default();
        if seen.nics.get(tap).copied().unwrap_or_default() != limits {
            told(tune_nic(&domain, tap, &limits), "networks", &mut unmet)?;
        }
    }
    if seen.cpu_shares != wanted.cpu_shares || wanted.cpu_shares.is_some() {
        tune_shares(&domain, wanted.cpu_shares, &mut unmet)?;
    }
    if seen.pinning != wanted.pinning {
        pin(connect, &domain, &wanted.pinning, &mut unmet)?;
    }
    Ok(unmet)
}

/// What this host cannot do is told of and no error; all else is one.
fn told(done: Result<(), Fault>, field: &'static str, unmet: &mut Vec<Unmet>) -> Result<(), Fault> {
    match done {
        Err(Fault::Libvirt(error)) if cannot(&error) => {
            unmet.push(Unmet { field, why: error.message().to_owned(), at_restart: false });
            Ok(())
        }
        other => other,
    }
}

fn cannot(error: &Error) -> bool {
    lacks_shaper(error)
        || matches!(
            error.code(),
            ErrorNumber::OperationInvalid
                | ErrorNumber::OperationUnsupported
                | ErrorNumber::ConfigUnsupported
                | ErrorNumber::ArgumentUnsupported
                | ErrorNumber::NoSupport
        )
}

/// Zero takes a limit off.
fn tune_disk(domain: &Domain, limits: &DiskLimits) -> Result<(), Fault> {
    let bytes = |size: Option<ByteSize>| size.map_or(0, ByteSize::bytes);
    let figures = [
        (sys::VIR_DOMAIN_BLOCK_IOTUNE_READ_BYTES_SEC, bytes(limits.read)),
        (sys::VIR_DOMAIN_BLOCK_IOTUNE_WRITE_BYTES_SEC, bytes(limits.write)),
        (sys::VIR_DOMAIN_BLOCK_IOTUNE_READ_IOPS_SEC, limits.read_iops.map_or(0, u64::from)),
        (sys::VIR_DOMAIN_BLOCK_IOTUNE_WRITE_IOPS_SEC, limits.write_iops.map_or(0, u64::from)),
    ];
    Ok(ffi::set_block_tune(domain, &text(xml::disk::ROOT_TARGET)?, &figures)?)
}

fn tune_nic(domain: &Domain, tap: &str, limits: &NicLimits) -> Result<(), Fault> {
    let rate = |rate: Option<ByteSize>| rate.map_or(0, |rate| u32::try_from(kib(rate)).unwrap_or(u32::MAX));
    let figures: [(&CStr, u32); 2] = [
        (sys::VIR_DOMAIN_BANDWIDTH_IN_AVERAGE, rate(limits.inbound)),
        (sys::VIR_DOMAIN_BANDWIDTH_OUT_AVERAGE, rate(limits.outbound)),
    ];
    Ok(ffi::set_nic_tune(domain, &text(tap)?, &figures)?)
}

fn text(name: &str) -> Result<CString, Fault> {
    CString::new(name).map_err(|_| VmError::Nul(name.replace('\0', "\\0")).into())
}

fn tune_shares(domain: &Domain, shares: Option<u32>, unmet: &mut Vec<Unmet>) -> Result<(), Fault> {
    let native = u64::from(CpuGroups::of_host().native(shares.unwrap_or(100)));
    match domain.get_scheduler_parameters_flags(sys::VIR_DOMAIN_AFFECT_LIVE) {
        Ok(is) if is.cpu_shares == Some(native) => return Ok(()),
        Ok(_) => {}
        // Where nothing is wanted, nothing is missing.
        Err(error) if cannot(&error) && shares.is_none() => return Ok(()),
        Err(error) => return told(Err(error.into()), SHARES, unmet),
    }
    let wanted = SchedulerInfo {
        scheduler_type: "posix".to_owned(),
        cpu_shares: Some(native),
        ..SchedulerInfo::default()
    };
    let set = domain.set_scheduler_parameters_flags(&wanted, sys::VIR_DOMAIN_AFFECT_LIVE);
    told(set.map(drop).map_err(Fault::from), SHARES, unmet)
}

/// Under emulation QEMU's threads are no CPUs of the guest, and libvirt binds them at the start alone.
fn pin(connect: &Connect, domain: &Domain, pinning: &[CpuSet], unmet: &mut Vec<Unmet>) -> Result<(), Fault> {
    let host = connect.get_node_info()?;
    let all = usize::try_from(host.nodes * host.sockets * host.cores * host.threads).unwrap_or_default();
    let live = sys::VIR_DOMAIN_AFFECT_LIVE;
    let cpus = domain.get_vcpus_flags(live)?;
    let pinned = (0..cpus).try_for_each(|cpu| {
        let set = pinning.get(cpu as usize).or(pinning.first().filter(|_| pinning.len() == 1));
        domain.pin_vcpu_flags(cpu, &map(set, all), live).map(drop)
    });
    let pinned = pinned.and_then(|()| {
        let set = pinning.first().filter(|_| pinning.len() == 1);
        domain.pin_emulator(&map(set, all), live).map(drop)
    });
    match pinned {
        Err(error) if cannot(&error) => {
            let why = error.message().to_owned();
            unmet.push(Unmet { field: PINNING, why, at_restart: true });
            Ok(())
        }
        other => Ok(other?),
    }
}

/// A bit for each processor of the host; all of them where there is no set.
fn map(set: Option<&CpuSet>, all: usize) -> Vec<u8> {
    let mut map = vec![0u8; all.div_ceil(8).max(1)];
    let mut mark = |cpu: usize| {
        if let Some(byte) = map.get_mut(cpu / 8) {
            *byte |= 1 << (cpu % 8);
        }
    };
    match set {
        Some(set) => set.iter().for_each(|cpu| mark(cpu as usize)),
        None => (0..all).for_each(&mut mark),
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_as_each_version_counts() {
        for (shares, one) in [(1, 10), (50, 512), (100, 1024), (10_000, 102_400)] {
            assert_eq!(CpuGroups::One.native(shares), one);
            assert_eq!(CpuGroups::Two.native(shares), shares);
        }
        for shares in 1..=CPU_SHARES_MAX {
            assert_eq!(CpuGroups::One.ours(CpuGroups::One.native(shares)), shares);
        }
    }

    #[test]
    fn a_map_has_a_bit_for_each_processor() {
        let set: CpuSet = "0,9".parse().expect("a set");
        assert_eq!(map(Some(&set), 16), [0b1, 0b10]);
        assert_eq!(map(None, 9), [0xff, 1]);
        assert_eq!(map(Some(&set), 2), [1], "what the host has not is left out");
    }
}
