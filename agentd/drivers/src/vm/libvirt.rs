//! The driver for libvirt.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::accel::AccelWish;
use super::{AccelAnswer, Change, DomainEvent, DomainSeen, DomainSpec, Probe, VmDriver, VmError};
use crate::Instance;

#[derive(Debug, Clone)]
pub struct LibvirtOptions {
    /// As `qemu:///system`.
    pub uri: String,
    pub instance: Instance,
    pub accel: AccelWish,
}

#[derive(Debug)]
pub struct LibvirtVm {
    options: LibvirtOptions,
    events: broadcast::Sender<DomainEvent>,
}

impl LibvirtVm {
    /// Never fails: where libvirt is not there, calls answer Unavailable, and it is tried again.
    pub fn new(options: LibvirtOptions) -> Arc<Self> {
        Arc::new(Self { options, events: broadcast::Sender::new(1024) })
    }
    fn away<T>(&self) -> Result<T, VmError> {
        Err(VmError::Unavailable { uri: self.options.uri.clone(), detail: "not connected".to_owned() })
    }
}

#[async_trait]
impl VmDriver for LibvirtVm {
    async fn probe(&self) -> Result<Probe, VmError> {
        self.away()
    }
    async fn accel(&self) -> AccelAnswer {
        AccelAnswer { accel: agentd_api::vm::Accel::Tcg, reason: "not probed".to_owned() }
    }
    async fn list(&self) -> Result<Vec<DomainSeen>, VmError> {
        self.away()
    }
    async fn observe(&self, _id: Uuid) -> Result<Option<DomainSeen>, VmError> {
        self.away()
    }
    async fn ensure_defined(&self, _spec: &DomainSpec) -> Result<Change, VmError> {
        self.away()
    }
    fn digest(&self, spec: &DomainSpec) -> String {
        format!("{spec:?}")
    }
    async fn start(&self, _id: Uuid) -> Result<Change, VmError> {
        self.away()
    }
    async fn shutdown(&self, _id: Uuid) -> Result<Change, VmError> {
        self.away()
    }
    async fn destroy(&self, _id: Uuid) -> Result<Change, VmError> {
        self.away()
    }
    async fn pause(&self, _id: Uuid) -> Result<Change, VmError> {
        self.away()
    }
    async fn resume(&self, _id: Uuid) -> Result<Change, VmError> {
        self.away()
    }
    async fn undefine(&self, _id: Uuid) -> Result<Change, VmError> {
        self.away()
    }
    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.events.subscribe()
    }
    async fn close(&self) {}
}
