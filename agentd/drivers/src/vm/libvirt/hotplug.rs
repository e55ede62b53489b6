//! Changes of a guest that runs: CPUs, memory, interfaces. Each looks first at what the guest has.

use agentd_api::{ByteSize, MacAddr};
use async_trait::async_trait;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::fault::Fault;
use super::{LibvirtVm, TELL, domains};
use crate::vm::nics::VmNics;
use crate::vm::resize::VmResize;
use crate::vm::{Change, DomainNic, LiveSeen, VmError, xml};

/// How libvirt and QEMU say that the guest was asked and has not let go. None of these has a code of its own.
const ASKED: [&str; 2] = ["unplug request timed out", "already in the process of unplug"];
/// What a call that failed without an error comes back with.
const NO_ERROR: &str = "the cause is unknown";
const NO_PORT: &str = "No more available PCI";

#[async_trait]
impl VmResize for LibvirtVm {
    async fn set_cpus(&self, id: Uuid, cpus: u32) -> Result<Change, VmError> {
        self.run("change a guest's CPUs", TELL, move |c, tag| set_cpus(c, tag, id, cpus)).await
    }
    async fn set_memory(&self, id: Uuid, memory: ByteSize) -> Result<Change, VmError> {
        self.run("change a guest's memory", TELL, move |c, tag| set_memory(c, tag, id, memory)).await
    }
}

#[async_trait]
impl VmNics for LibvirtVm {
    async fn attach_nic(&self, id: Uuid, nic: &DomainNic) -> Result<Change, VmError> {
        xml::check_nic(nic)?;
        let nic = nic.clone();
        self.run("plug in an interface", TELL, move |c, tag| attach_nic(c, tag, id, &nic)).await
    }
    async fn detach_nic(&self, id: Uuid, mac: MacAddr) -> Result<Change, VmError> {
        self.run("unplug an interface", TELL, move |c, tag| detach_nic(c, tag, id, mac)).await
    }
}

/// The domain and what its guest has. Fails where it is off.
fn running(connect: &Connect, tag: &str, id: Uuid, call: &'static str) -> Result<(Domain, LiveSeen), Fault> {
    let off = || VmError::Failed { call, detail: "the guest is off".to_owned() };
    let (domain, mark) = domains::find(connect, tag, id)?.ok_or(VmError::Missing(id))?;
    let seen = domains::seen(&domain, mark)?.ok_or(VmError::Missing(id))?;
    let live = seen.live.ok_or_else(off)?;
    Ok((domain, live))
}

/// A guest that was asked and takes its time is no failure.
fn asked<T>(done: Result<T, Error>) -> Result<Change, Fault> {
    match done {
        Ok(_) => Ok(Change::Made),
        Err(error) if ASKED.iter().any(|words| error.message().contains(words)) => Ok(Change::Made),
        Err(error) if error.code() == ErrorNumber::DeviceMissing => Ok(Change::AlreadySo),
        Err(error) => Err(error.into()),
    }
}

fn set_cpus(connect: &Connect, tag: &str, id: Uuid, cpus: u32) -> Result<Change, Fault> {
    let (domain, live) = running(connect, tag, id, "change a guest's CPUs")?;
    if !(1..=live.cpus_max).contains(&cpus) {
        let text = format!("it can have 1 to {} CPUs until it is started anew, not {cpus}", live.cpus_max);
        return Err(VmError::Refused(text).into());
    }
    if live.cpus == cpus {
        return Ok(Change::AlreadySo);
    }
    match domain.set_vcpus_flags(cpus, sys::VIR_DOMAIN_VCPU_LIVE) {
        // The guest said no at once, for which libvirt 9 has no error at all.
        Err(error) if cpus < live.cpus && error.message().contains(NO_ERROR) => Ok(Change::Made),
        done => asked(done),
    }
}

fn set_memory(connect: &Connect, tag: &str, id: Uuid, memory: ByteSize) -> Result<Change, Fault> {
    let (domain, live) = running(connect, tag, id, "change a guest's memory")?;
    if memory > live.memory_max {
        let text = format!("it can have {} until it is started anew, not {memory}", live.memory_max);
        return Err(VmError::Refused(text).into());
    }
    if live.memory == memory {
        return Ok(Change::AlreadySo);
    }
    asked(domain.set_memory_flags(memory.bytes() >> 10, sys::VIR_DOMAIN_MEM_LIVE))
}

fn attach_nic(connect: &Connect, tag: &str, id: Uuid, nic: &DomainNic) -> Result<Change, Fault> {
    let (domain, live) = running(connect, tag, id, "plug in an interface")?;
    match live.nics.iter().find(|seen| seen.mac == nic.mac) {
        Some(seen) if seen.bridge == nic.bridge => return Ok(Change::AlreadySo),
        Some(seen) => {
            let text = format!("the guest has an interface {} on the bridge {}", seen.mac, seen.bridge);
            return Err(VmError::Conflict(text).into());
        }
        None => {}
    }
    match domain.attach_device_flags(&xml::render_nic(nic), sys::VIR_DOMAIN_AFFECT_LIVE) {
        Ok(_) => Ok(Change::Made),
        Err(error) if error.message().contains(NO_PORT) => {
            Err(VmError::Capacity("no port for a device is free until it is started anew".to_owned()).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn detach_nic(connect: &Connect, tag: &str, id: Uuid, mac: MacAddr) -> Result<Change, Fault> {
    let (domain, live) = running(connect, tag, id, "unplug an interface")?;
    let Some(seen) = live.nics.into_iter().find(|seen| seen.mac == mac) else {
        return Ok(Change::AlreadySo);
    };
    let nic = DomainNic { mac, bridge: seen.bridge, tap: seen.tap };
    asked(domain.detach_device_flags(&xml::render_nic(&nic), sys::VIR_DOMAIN_AFFECT_LIVE))
}
