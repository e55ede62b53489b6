//! Makes VMs so, through libvirt.
//!
//! ```text
//!   observe (the domain, the status) --> plan (pure) --> apply (one step) --+
//!      ^                                                                    |
//!      +--------------------------------------------------------------------+
//! ```
//!
//! `running` is written after libvirt said so. What a step needs of other objects it waits for; what fails is tried
//! again by the runtime; what somebody does behind our back is an event that wakes a pass, which repairs or reports it
//! as the restart policy says. While libvirt is away the last known state stays, with a condition that says so.

mod apply;
mod define;
mod disks;
mod firmware;
mod guests;
mod hotplug;
mod live;
mod make;
mod needs;
mod observe;
mod origin;
mod plan;
mod plan_disks;
mod policy;
mod restore;
mod survey;
mod suspend;
#[cfg(test)]
mod tests;

use agentd_api::snapshot::Snapshot;
use agentd_api::vm::{Vm, VmStatus};
use agentd_api::{ErrorCode, Kind, Object};
use agentd_drivers::vm::VmError;
use agentd_drivers::vm::snapshot::OwnDisks;
use agentd_drivers::volume::VolumeDriver;
use agentd_drivers::{Class, Drivers, Instance};
use agentd_store::{Expect, Query, Store, Transact, TxError, Update};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use super::backend::Backend;
use super::guest::{BootQueue, GuestLocks};
use super::image::Contents;
use super::network::NetworkSync;
use super::runtime::{Fault, Outcome, Pass, Reconciler, Trigger};

pub use guests::run as guests;
pub use policy::Alarms;

/// What a VM has on the host, in the order in which it is undone.
pub const DOMAIN: &str = "domain";
pub const NETWORK: &str = "network";
pub const VOLUME: &str = "volume";

pub struct Vms {
    pub drivers: Drivers,
    pub instance: Instance,
    pub boot_id: String,
    pub sync: NetworkSync,
    pub backend: Backend,
    pub contents: Contents,
    /// Who is started when after a boot of the host.
    pub queue: Arc<BootQueue>,
    pub alarms: Alarms,
    /// How a VM is woken whose turn it is.
    pub trigger: Trigger,
    pub locks: GuestLocks,
}

#[async_trait]
impl Reconciler for Vms {
    type Kind = Vm;

    async fn reconcile(&self, pass: &Pass, object: &Object<Vm>) -> Outcome<VmStatus> {
        let _turn = self.locks.turn(object.meta.id).await;
        let (status, notes) = (object.status.clone(), Vec::new());
        apply::Work { vms: self, pass, object, status, notes, networked: false }.run().await
    }

    async fn finalize(&self, pass: &Pass, object: &Object<Vm>, finalizer: &str) -> Result<(), Fault> {
        let _turn = self.locks.turn(object.meta.id).await;
        match finalizer {
            DOMAIN => {
                take_snapshots_along(pass.store(), object).await?;
                self.undo_domain(object).await
            }
            NETWORK => self.undo_network(pass, object).await,
            VOLUME => {
                self.drivers.volume.remove(object.meta.id).await?;
                self.undo_origin(pass.store(), object).await?;
                self.release_content(pass.store(), object).await;
                Ok(())
            }
            other => Err(Fault::internal(format!("a VM has nothing to undo by the name of '{other}'"))),
        }
    }

    /// What a pass waits for is the disk and libvirt, not a processor, and many at once share the store's commits.
    fn concurrency(&self) -> usize {
        16
    }
    /// The survey compares all of them at once.
    fn resync(&self) -> Option<Duration> {
        None
    }
    fn all_at_start(&self) -> bool {
        false
    }
}

impl Vms {
    async fn undo_domain(&self, object: &Object<Vm>) -> Result<(), Fault> {
        self.turn_is_over(&object.meta.key(), None);
        // The digest is written down before anything is made: without one there is no domain, and libvirt, which may
        // not even be installed, need not be asked.
        if object.status.image_digest.is_none() {
            return Ok(());
        }
        self.drivers.vm.attend(object.meta.id, false);
        for done in
            [self.drivers.vm.destroy(object.meta.id).await, self.drivers.vm.undefine(object.meta.id).await]
        {
            match done {
                Ok(_) | Err(VmError::Missing(_)) => {}
                Err(error) => {
                    self.backend.told(&error);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// What its disk stood on goes with it where nothing else does: an archive's content, or that of an image which has
    /// gone before. It is no VM's own, so that one which cannot be removed holds up no deletion.
    async fn release_content(&self, store: &Store, object: &Object<Vm>) {
        let Some(digest) = &object.status.image_digest else { return };
        if let Err(fault) = self.contents.release(store, digest, Some(object.meta.id)).await {
            tracing::warn!(object = %object.meta.key(), "the content {digest} is swept later: {fault}");
        }
    }

    async fn undo_network(&self, pass: &Pass, object: &Object<Vm>) -> Result<(), Fault> {
        if object.status.addresses.is_empty() && object.status.leaving.is_empty() {
            return Ok(());
        }
        match self.sync.guest(pass.key()).await {
            // Where the host cannot have such a network at all there is nothing of the VM on it.
            Err(fault) if fault.class == Class::Unsupported => Ok(()),
            end => end,
        }
    }
}

/// The disks that come and go with a VM. None where it has none yet.
pub async fn own_disks(volumes: &dyn VolumeDriver, vm: Uuid) -> Result<Option<OwnDisks>, Fault> {
    let seen = volumes.observe(vm).await?;
    let disks: Vec<_> = seen.own_disks().map(Into::into).collect();
    Ok(seen.disk.is_some().then_some(OwnDisks { vm, disks }))
}

/// A VM that goes without anybody having asked about its snapshots (it was to go when it stopped) takes them with it.
async fn take_snapshots_along(store: &Store, object: &Object<Vm>) -> Result<(), Fault> {
    let query = Query {
        project: Some(object.meta.project.clone()),
        fields: vec![("vm".to_owned(), true, object.meta.name.to_string())],
        ..Query::kind(Snapshot::DEF.kind)
    };
    for snapshot in store.list(&query).items.into_iter().filter(|snapshot| !snapshot.deleting()) {
        let (key, id) = (snapshot.key().clone(), snapshot.id());
        let marked = store.transact(move |tx| {
            if tx.get(&key).is_some_and(|now| now.id() == id) {
                tx.update(&key, Expect::Id(id), Update { deleting: Some(true), ..Update::default() })?;
            }
            Ok::<(), TxError>(())
        });
        marked.await.map_err(|error: Transact<TxError>| {
            Fault::new(Class::Transient, ErrorCode::StoreUnavailable, error.to_string())
        })?;
    }
    Ok(())
}
