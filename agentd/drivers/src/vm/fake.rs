//! A stateful stand-in for libvirt: it keeps domains in memory, behaves as the contract suite demands of every driver, and
//! can be told to fail, hang, be slow, or have things done to it behind the daemon's back.
//!
//! It owns no guest and touches no host. Like the real driver, a call goes on to its end when its caller stops waiting.

mod console;
mod controls;
mod disks;
mod graphics;
mod guest;
mod hotplug;
pub(crate) mod programs;
mod snapshot;
mod state;
mod stats;
#[cfg(test)]
mod tests;
mod tuning;

use std::sync::Arc;

use agentd_api::vm::Accel;
use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{
    AccelAnswer, Change, DomainEvent, DomainSeen, DomainSpec, HostFirmware, Probe, VmDriver, VmError,
};
use controls::Controls;
use state::Domains;

/// A guest takes no time to boot or to power off here, unless told otherwise through its controls.
#[derive(Debug, Clone)]
pub struct FakeVm {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    domains: Domains,
    controls: Controls,
    guests: guest::Guests,
    kept: snapshot::Kept,
    consoles: console::Consoles,
    screens: graphics::Screens,
}

impl Default for FakeVm {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeVm {
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                domains: Domains::new(),
                controls: Controls::new(),
                guests: guest::Guests::default(),
                kept: snapshot::Kept::default(),
                consoles: console::Consoles::default(),
                screens: graphics::Screens::default(),
            }),
        }
    }

    /// Runs `work` once the controls let `method` pass, detached from whoever waits for it.
    async fn call<T: Send + 'static>(
        &self,
        method: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, VmError> + Send + 'static,
    ) -> Result<T, VmError> {
        let inner = self.inner.clone();
        let task = tokio::spawn(async move {
            inner.controls.pass(method).await?;
            work(&inner)
        });
        task.await.unwrap_or_else(|gone| Err(VmError::Failed { call: method, detail: gone.to_string() }))
    }
}

#[async_trait]
impl VmDriver for FakeVm {
    async fn probe(&self) -> Result<Probe, VmError> {
        self.call("probe", |_| {
            Ok(Probe { version: "fake".to_owned(), capabilities: vec!["fake".to_owned()] })
        })
        .await
    }

    async fn accel(&self) -> AccelAnswer {
        // A failure that was asked for cannot be told through this method, but slowness and hanging can.
        let _ = self.call("accel", |_| Ok(())).await;
        self.inner.controls.accel()
    }

    fn firmware(&self) -> HostFirmware {
        self.inner.controls.firmware()
    }

    async fn list(&self) -> Result<Vec<DomainSeen>, VmError> {
        self.call("list", |inner| Ok(inner.domains.list())).await
    }

    async fn observe(&self, id: Uuid) -> Result<Option<DomainSeen>, VmError> {
        self.call("observe", move |inner| Ok(inner.domains.observe(id))).await
    }

    async fn ensure_defined(&self, spec: &DomainSpec) -> Result<Change, VmError> {
        let spec = spec.clone();
        self.call("ensure_defined", move |inner| {
            if let Some(limit) = inner.controls.memory().filter(|limit| spec.memory > *limit) {
                return Err(VmError::Capacity(format!("{} wanted, {limit} there", spec.memory)));
            }
            if spec.accel == Accel::Kvm && inner.controls.accel().accel != Accel::Kvm {
                return Err(VmError::Unsupported("this host has no KVM".to_owned()));
            }
            inner.domains.define(spec)
        })
        .await
    }

    fn digest(&self, spec: &DomainSpec) -> String {
        state::digest(spec)
    }

    fn fixed_digest(&self, spec: &DomainSpec) -> String {
        state::fixed_digest(spec)
    }

    async fn start(&self, id: Uuid) -> Result<Change, VmError> {
        self.call("start", move |inner| inner.domains.start(id)).await
    }

    async fn shutdown(&self, id: Uuid) -> Result<Change, VmError> {
        let inner = self.inner.clone();
        self.call("shutdown", move |here| {
            let change = here.domains.asked_to_power_off(id)?;
            if change == Change::Made && !here.controls.ignores_shutdown(id) {
                let takes = here.controls.shutdown_takes();
                tokio::spawn(async move {
                    tokio::time::sleep(takes).await;
                    inner.domains.power_off_by_guest(id);
                });
            }
            Ok(change)
        })
        .await
    }

    async fn destroy(&self, id: Uuid) -> Result<Change, VmError> {
        self.call("destroy", move |inner| Ok(inner.domains.destroy(id))).await
    }

    async fn pause(&self, id: Uuid) -> Result<Change, VmError> {
        self.call("pause", move |inner| inner.domains.set_paused(id, true)).await
    }

    async fn resume(&self, id: Uuid) -> Result<Change, VmError> {
        self.call("resume", move |inner| inner.domains.set_paused(id, false)).await
    }

    async fn undefine(&self, id: Uuid) -> Result<Change, VmError> {
        self.call("undefine", move |inner| inner.domains.undefine(id)).await
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.inner.domains.events()
    }

    async fn close(&self) {}
}
