//! Changes of the fake's running guests. A guest lets go of what it is asked for at once, unless it was told to hold on
//! to it or is paused.

use agentd_api::{ByteSize, MacAddr};
use async_trait::async_trait;
use uuid::Uuid;

use super::{FakeVm, Inner};
use crate::vm::nics::VmNics;
use crate::vm::resize::VmResize;
use crate::vm::{Change, DomainNic, DomainSpec, Power, VmError};

/// As many interfaces as a guest can be given between two starts.
const PORTS: usize = 12;

impl FakeVm {
    /// Whether that guest keeps all that it is asked to let go of: CPUs, memory, interfaces, disks.
    pub fn hold_on(&self, id: Uuid, holds: bool) {
        self.inner.controls.set_holds(id, holds);
    }
    /// What that guest runs with at this moment.
    pub fn running_with(&self, id: Uuid) -> Option<DomainSpec> {
        self.inner.domains.running_with(id)
    }
}

impl Inner {
    fn lets_go(&self, id: Uuid) -> bool {
        let runs = self.domains.observe(id).is_some_and(|seen| seen.power == Power::Running);
        runs && !self.controls.holds(id)
    }
}

#[async_trait]
impl VmResize for FakeVm {
    async fn set_cpus(&self, id: Uuid, cpus: u32) -> Result<Change, VmError> {
        self.call("set_cpus", move |inner| {
            let lets_go = inner.lets_go(id);
            inner.domains.change_running(id, "set_cpus", |live| {
                if !(1..=live.cpus_max.max(live.cpus)).contains(&cpus) {
                    return Err(VmError::Refused(format!("{cpus} CPUs wanted, {} there", live.cpus_max)));
                }
                if live.cpus == cpus {
                    return Ok(Change::AlreadySo);
                }
                if cpus > live.cpus || lets_go {
                    live.cpus_max = live.cpus_max.max(live.cpus);
                    live.cpus = cpus;
                }
                Ok(Change::Made)
            })
        })
        .await
    }

    async fn set_memory(&self, id: Uuid, memory: ByteSize) -> Result<Change, VmError> {
        self.call("set_memory", move |inner| {
            // Its driver moves the balloon both ways.
            let lets_go = inner.lets_go(id);
            inner.domains.change_running(id, "set_memory", |live| {
                if memory > live.memory_max.max(live.memory) {
                    return Err(VmError::Refused(format!("{memory} wanted, {} there", live.memory_max)));
                }
                if live.memory == memory {
                    return Ok(Change::AlreadySo);
                }
                if lets_go {
                    live.memory_max = live.memory_max.max(live.memory);
                    live.memory = memory;
                }
                Ok(Change::Made)
            })
        })
        .await
    }
}

#[async_trait]
impl VmNics for FakeVm {
    async fn attach_nic(&self, id: Uuid, nic: &DomainNic) -> Result<Change, VmError> {
        let nic = nic.clone();
        self.call("attach_nic", move |inner| {
            inner.domains.change_running(id, "attach_nic", |live| {
                match live.nics.iter().find(|has| has.mac == nic.mac) {
                    Some(has) if has.bridge == nic.bridge => return Ok(Change::AlreadySo),
                    Some(has) => return Err(VmError::Conflict(format!("{} is on {}", has.mac, has.bridge))),
                    None => {}
                }
                if live.nics.len() >= PORTS {
                    return Err(VmError::Capacity("no port is free".to_owned()));
                }
                if live.nics.iter().any(|has| has.tap == nic.tap) {
                    let detail = format!("the tap {} is in use", nic.tap);
                    return Err(VmError::Failed { call: "attach_nic", detail });
                }
                live.nics.push(nic);
                Ok(Change::Made)
            })
        })
        .await
    }

    async fn detach_nic(&self, id: Uuid, mac: MacAddr) -> Result<Change, VmError> {
        self.call("detach_nic", move |inner| {
            let lets_go = inner.lets_go(id);
            inner.domains.change_running(id, "detach_nic", |live| {
                if live.nics.iter().all(|nic| nic.mac != mac) {
                    return Ok(Change::AlreadySo);
                }
                if lets_go {
                    live.nics.retain(|nic| nic.mac != mac);
                }
                Ok(Change::Made)
            })
        })
        .await
    }
}
