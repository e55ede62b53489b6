//! Makes the disks of a VM that is made of another one or came in an archive, and takes away what they stand on once nobody needs it.
//!
//! ```text
//! linked: snapshot --copy what is above its image--> a set, shared by the clones of that snapshot <-- the VM's disks
//! full:   snapshot --copy all--> a set of the VM's own, which becomes the VM's disks
//! import: the archive's content, as an image's <-- the VM's disk; the archive's set, which becomes its further disks
//! ```
//! The disk that is booted from comes last, so that where it is, all are. A snapshot that was taken for this VM alone goes
//! after that. A daemon that is killed in between finds by the disks, the sets and the snapshot's object how far it was;
//! a set that is not whole is begun anew. The source is only read: what it does meanwhile is not waited for.

use agentd_api::snapshot::Snapshot;
use agentd_api::vm::{CloneMode, OriginSnapshot, Vm, VmOrigin};
use agentd_api::{ErrorCode, Kind, Object, ObjectKey, State};
use agentd_drivers::Class;
use agentd_drivers::volume::DiskSpec;
use agentd_drivers::volume::sets::CopyDisk;
use agentd_store::{Expect, Query, Store, Transact, TxError, Update};
use uuid::Uuid;

use super::Vms;
use super::apply::{Halt, Turn, Work};
use super::suspend::doing;
use crate::reconcile::guest::needs::Waiting;
use crate::reconcile::runtime::{Fault, Note};

/// There only while its source is waited for.
pub const SOURCE_READY: &str = "source_ready";

impl Work<'_> {
    /// Makes the disks of a VM that has none yet.
    pub(super) async fn make_disks(&mut self, mut origin: VmOrigin) -> Result<Turn, Halt> {
        if !self.has_disks(&origin).await? {
            let source = match &origin.snapshot {
                None => None,
                Some(of) => match self.source(of)? {
                    Ok(source) => Some((of.clone(), source)),
                    Err(waiting) => return Ok(self.wait_for(waiting)),
                },
            };
            self.status.common.state = State::Provisioning;
            self.status.common.reason = None;
            self.status.common.clear_condition(SOURCE_READY);
            self.status.common.progress = Some(doing("making its disks of its source's"));
            self.publish().await?;
            match source {
                Some((of, source)) => self.copy(&origin, &of, source).await?,
                None => self.take_over(&origin).await?,
            }
        }
        if let Some(of) = origin.snapshot.as_ref().filter(|of| of.own) {
            drop_snapshot(self.pass.store(), self.object, of).await?;
        }
        origin.disks_made = true;
        self.notes.push(match (&origin.snapshot, origin.mode, &origin.vm) {
            (None, _, vm) => Note::done("imported", format!("its disks are of an archive of VM '{vm}'")),
            (_, CloneMode::Full, vm) => Note::done("cloned", format!("its disks are copied from VM '{vm}'")),
            (_, CloneMode::Linked, vm) => {
                Note::done("cloned", format!("its disks are linked from VM '{vm}'"))
            }
        });
        self.status.origin = Some(origin);
        self.status.common.progress = None;
        self.publish().await?;
        Ok(Turn::Again)
    }

    /// Whether all of them are there: what is taken over is there once nothing is left to be taken.
    async fn has_disks(&self, origin: &VmOrigin) -> Result<bool, Fault> {
        let (volumes, vm) = (&self.vms.drivers.volume, self.object.meta.id);
        let left = match (&origin.snapshot, origin.mode) {
            (None, _) => origin.set,
            (Some(_), CloneMode::Full) => Some(vm),
            (Some(_), CloneMode::Linked) => None,
        };
        let there = volumes.observe(vm).await?.disk.is_some();
        Ok(there && (left.is_none() || volumes.observe_set(left.unwrap_or_default()).await?.is_none()))
    }

    /// What came in an archive: its further disks and what its UEFI kept are a set, and its content is stored as an image's is.
    async fn take_over(&self, origin: &VmOrigin) -> Result<(), Fault> {
        let (drivers, vm) = (&self.vms.drivers, self.object.meta.id);
        let gone = || Fault::permanent(ErrorCode::NotFound, "what came in its archive is gone from the disk");
        if let Some(set) = origin.set {
            let left = drivers.volume.observe_set(set).await?.is_some();
            let has = drivers.volume.observe(vm).await?;
            if !left && has.further.is_empty() && !has.variables {
                return Err(gone());
            }
            drivers.volume.adopt_set(vm, set).await?;
        }
        let digest = self.status.image_digest.clone().unwrap_or_default();
        let content = drivers.image.observe(&digest).await?.ok_or_else(gone)?;
        let disk = DiskSpec { vm, backing: content.disk, size: self.object.spec.disk };
        drivers.volume.ensure_disk(&disk).await?;
        Ok(())
    }

    /// The id of the VM whose disks hold the snapshot, which is whole.
    fn source(&self, of: &OriginSnapshot) -> Result<Result<Uuid, Waiting>, Fault> {
        let gone = |what: &str| Fault::permanent(ErrorCode::NotFound, format!("{what} is gone"));
        let found = self.pass.get::<Snapshot>(&of.name)?.filter(|s| s.meta.id == of.id && !s.meta.deleting());
        let Some(Object { status, .. }) = found else {
            return Err(gone(&format!("the snapshot '{}' that it was to be made of", of.name)));
        };
        let (state, why) = (status.common.state, status.common.reason);
        if let (State::Ready, Some(vm)) = (state, status.vm_id) {
            return Ok(Ok(vm));
        }
        let (failed, why) = (state == State::Failed, why.map(|why| format!(": {why}")).unwrap_or_default());
        let reason = match failed {
            true => format!("the snapshot '{}' of its source failed{why}", of.name),
            false => format!("the snapshot '{}' of its source is not ready yet ({state}){why}", of.name),
        };
        Ok(Err(Waiting { condition: SOURCE_READY, reason, failed, progress: None }))
    }

    async fn copy(&self, origin: &VmOrigin, of: &OriginSnapshot, source: Uuid) -> Result<(), Fault> {
        let (volumes, vm) = (&self.vms.drivers.volume, self.object.meta.id);
        let upper = origin.mode == CloneMode::Linked;
        // Of a linked one it is of the snapshot, and other clones of that wait here until it is whole.
        let set = if upper { of.id } else { vm };
        let _turn = self.vms.locks.turn_of_set(set).await;
        if volumes.observe_set(set).await?.is_none() {
            let disks = volumes.observe(source).await?;
            if disks.disk.is_none() {
                let message = format!("the disks of its source '{}' are gone", origin.vm);
                return Err(Fault::permanent(ErrorCode::NotFound, message));
            }
            volumes.begin_set(set).await?;
            for (number, disk) in disks.numbered_disks() {
                let copy = CopyDisk { set, number, disk: disk.to_owned(), snapshot: of.id, upper };
                let copied = volumes.copy_disk(&copy).await?;
                if number == 0 && !copied {
                    let message = format!("the snapshot '{}' is no longer whole on its disks", of.name);
                    return Err(Fault::permanent(ErrorCode::NotFound, message));
                }
            }
            volumes.copy_variables(set, source, of.id).await?;
            volumes.finish_set(set).await?;
        }
        if upper {
            volumes.link_set(vm, set).await?
        } else {
            volumes.adopt_set(vm, set).await?
        };
        Ok(())
    }
}

/// Marks the snapshot for deletion that was taken for this VM alone.
async fn drop_snapshot(store: &Store, object: &Object<Vm>, of: &OriginSnapshot) -> Result<(), Fault> {
    let (key, id) = (ObjectKey::of::<Snapshot>(object.meta.project.clone(), of.name.clone()), of.id);
    let marked = store.transact(move |tx| {
        if tx.get(&key).is_some_and(|now| now.id() == id && !now.deleting()) {
            tx.update(&key, Expect::Id(id), Update { deleting: Some(true), ..Update::default() })?;
        }
        Ok::<(), TxError>(())
    });
    marked.await.map_err(|error: Transact<TxError>| {
        Fault::new(Class::Transient, ErrorCode::StoreUnavailable, error.to_string())
    })
}

impl Vms {
    /// Takes away what was there for this VM beside its folder: the snapshot that was taken for it, and the sets that
    /// nothing else stands on. The VM's own disks are gone by now.
    pub(super) async fn undo_origin(&self, store: &Store, object: &Object<Vm>) -> Result<(), Fault> {
        let Some(origin) = &object.status.origin else { return Ok(()) };
        if let Some(of) = origin.snapshot.as_ref().filter(|of| of.own && !origin.disks_made) {
            drop_snapshot(store, object, of).await?;
        }
        for set in origin.bases.iter().copied().chain(origin.set).chain([object.meta.id]) {
            let _turn = self.locks.turn_of_set(set).await;
            if !needed(store, set, object.meta.id) {
                self.drivers.volume.remove_set(set).await?;
            }
        }
        Ok(())
    }
}

/// Whether another VM than `except` stands on that set, or is about to.
fn needed(store: &Store, set: Uuid, except: Uuid) -> bool {
    let query =
        Query { fields: vec![("base".to_owned(), true, set.to_string())], ..Query::kind(Vm::DEF.kind) };
    store.list(&query).items.iter().any(|vm| vm.id() != except)
}
