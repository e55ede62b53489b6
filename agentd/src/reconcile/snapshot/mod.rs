//! Takes snapshots, keeps them in sight, removes them.
//!
//! A snapshot is taken in its VM's turn ([`GuestLocks`]), so that nothing else is done to the VM meanwhile. What an earlier try
//! left is removed by the driver first: a try that a crash cut off is made anew. One that fails is `failed` for good, after
//! a few tries where it may pass by itself: it was to be of a moment, and that is gone. That a guest's file systems are
//! about to be frozen is written down before; they are thawed by whoever comes after.
//!
//! Taking a VM back to one is the VM's own matter: `vm/restore.rs`.

mod freeze;
mod schedule;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use agentd_api::snapshot::{Snapshot, SnapshotStatus};
use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, Kind, Object, ObjectKey, Progress, State, Timestamp};
use agentd_drivers::vm::Power;
use agentd_drivers::vm::snapshot::{OwnDisks, TakeSnapshot};
use agentd_drivers::{Class, Drivers};
use agentd_store::{DecodeError, Query, Store};
use async_trait::async_trait;

use super::backend::{BACKEND_AVAILABLE, Backend};
use super::guest::GuestLocks;
use super::runtime::{Fault, Note, Outcome, Pass, Reconciler, Trigger};
use super::vm::own_disks;

use freeze::{Freeze, thaw};
pub use schedule::{prune, run as schedule};

pub const DISKS: &str = "disks";
/// How often one is tried that fails in a way that may pass.
const TRIES: u32 = 3;
/// How soon it is looked again for libvirt, and for a guest that does not thaw.
const SOON: Duration = Duration::from_secs(2);

pub struct Snapshots {
    pub drivers: Drivers,
    pub locks: GuestLocks,
    pub backend: Backend,
    pub trigger: Trigger,
}

/// Why it is not taken now.
enum Not {
    /// It is waited for.
    Yet(String),
    Away(String),
    Ever(Fault),
}

impl From<Fault> for Not {
    fn from(fault: Fault) -> Self {
        Self::Ever(fault)
    }
}

#[async_trait]
impl Reconciler for Snapshots {
    type Kind = Snapshot;

    async fn reconcile(&self, pass: &Pass, object: &Object<Snapshot>) -> Outcome<SnapshotStatus> {
        if object.status.common.state == State::Ready {
            return self.look(pass, object).await;
        }
        let mut status = object.status.clone();
        match self.take(pass, object, &mut status).await {
            Ok(()) => {
                let again = status.freezing.then_some(SOON);
                let note = Note::done("taken", taken_text(&status));
                let outcome = Outcome { again, ..Outcome::settled(status) }.note(note);
                self.after(pass, object).await;
                outcome
            }
            Err(Not::Yet(reason)) => {
                status.common.state = State::Pending;
                (status.common.reason, status.common.progress) = (Some(reason), None);
                Outcome::settled(status)
            }
            Err(Not::Away(reason)) => {
                status.common.set_condition(BACKEND_AVAILABLE, false, reason.clone());
                status.common.state = State::Pending;
                (status.common.reason, status.common.progress) = (Some(reason), None);
                Outcome::settled(status).again(SOON)
            }
            Err(Not::Ever(fault)) => {
                status.common.progress = None;
                let tried = object.status.common.attempts.as_ref().map_or(0, |a| a.count) + 1;
                let passes = fault.class == Class::Transient && tried < TRIES;
                let class = if passes { Class::Transient } else { Class::Permanent };
                Outcome::failed(status, Fault { class, ..fault })
            }
        }
    }

    async fn finalize(&self, pass: &Pass, object: &Object<Snapshot>, finalizer: &str) -> Result<(), Fault> {
        if finalizer != DISKS {
            let message = format!("a snapshot has nothing to undo by the name of '{finalizer}'");
            return Err(Fault::internal(message));
        }
        let Some(vm) = self.vm(pass.store(), object)? else { return Ok(()) };
        let _turn = self.locks.turn(vm.meta.id).await;
        // What lies in the folder of a VM that goes, goes with it.
        let Some(vm) = self.vm(pass.store(), object)?.filter(|vm| !vm.meta.deleting()) else { return Ok(()) };
        if vm.status.restore.as_ref().is_some_and(|way| way.id == object.meta.id) {
            return Err(Fault::conflict(format!("{} is being taken back to it", vm.meta.key())));
        }
        let Some(of) = self.disks(&vm).await? else { return Ok(()) };
        if object.status.freezing {
            thaw(&self.drivers.vm, of.vm).await?;
        }
        self.told(self.drivers.vm.delete_snapshot(&of, object.meta.id).await)?;
        self.neighbours(pass.store(), object);
        Ok(())
    }

    /// They lie in disks, and change only in what of them is still shared.
    fn resync(&self) -> Option<Duration> {
        Some(Duration::from_secs(3600))
    }
    /// [`schedule`] wakes those that are not at rest.
    fn all_at_start(&self) -> bool {
        false
    }
}

impl Snapshots {
    fn told<T>(&self, answer: Result<T, agentd_drivers::vm::VmError>) -> Result<T, Fault> {
        answer.map_err(|error| {
            self.backend.told(&error);
            error.into()
        })
    }

    /// The VM that it is of, and not a later one of that name.
    fn vm(&self, store: &Store, object: &Object<Snapshot>) -> Result<Option<Object<Vm>>, Fault> {
        let key = vm_key(object);
        let Some(stored) = store.get(&key) else { return Ok(None) };
        let vm = stored
            .object::<Vm>()
            .map_err(|error| Fault::internal(format!("{key} cannot be read: {error}")))?;
        Ok((Some(vm.meta.id) == object.status.vm_id).then_some(vm))
    }

    /// None where it has none yet.
    async fn disks(&self, vm: &Object<Vm>) -> Result<Option<OwnDisks>, Fault> {
        if vm.status.image_digest.is_none() {
            return Ok(None);
        }
        own_disks(self.drivers.volume.as_ref(), vm.meta.id).await
    }

    async fn take(
        &self,
        pass: &Pass,
        object: &Object<Snapshot>,
        status: &mut SnapshotStatus,
    ) -> Result<(), Not> {
        // Where it has to wait for its VM, that one's change wakes it.
        let found = pass.get::<Vm>(&object.spec.vm)?.filter(|vm| Some(vm.meta.id) == status.vm_id);
        let gone = || Fault::permanent(ErrorCode::NotFound, "its VM is gone");
        let id = found.ok_or_else(gone)?.meta.id;
        let _turn = self.locks.turn(id).await;
        let vm = self.vm(pass.store(), object)?.ok_or_else(gone)?;
        if vm.meta.deleting() {
            return Err(Not::Yet("its VM is being deleted".to_owned()));
        }
        if vm.status.restore.is_some() {
            return Err(Not::Yet("its VM is being taken back to a snapshot".to_owned()));
        }
        let Some(of) = self.disks(&vm).await? else {
            return Err(Not::Yet("its VM has no disk yet".to_owned()));
        };
        if let Some(down) = self.backend.down() {
            return Err(Not::Away(down));
        }
        if status.freezing {
            thaw(&self.drivers.vm, of.vm).await?;
        }
        let began = Timestamp::now();
        status.common.set_condition(BACKEND_AVAILABLE, true, "");
        status.common.state = State::Provisioning;
        status.common.reason = None;
        let step = if object.spec.memory { "taking its disks and its memory" } else { "taking its disks" };
        status.common.progress = Some(Progress::of_steps(step, 0, None));
        status.vm_generation = Some(vm.meta.generation);
        status.freezing = !object.spec.memory;
        pass.publish::<Snapshot>(status).await?;
        let want = TakeSnapshot { id: object.meta.id, of: of.clone(), memory: object.spec.memory };
        let (taken, freeze) = freeze::take(&self.drivers.vm, want).await;
        status.freezing = freeze == Freeze::StillFrozen;
        let guest = self.answer(taken)?;
        status.taken_at = Some(began);
        status.guest = Some(match guest {
            Power::Off => State::Stopped,
            Power::Running => State::Running,
            Power::Paused => State::Paused,
        });
        (status.frozen, status.not_frozen_because) = match freeze {
            Freeze::NotNeeded => (None, None),
            Freeze::Frozen | Freeze::StillFrozen => (Some(true), None),
            Freeze::NotFrozen(why) => (Some(false), Some(why)),
        };
        status.size = self.drivers.vm.snapshot_size(&of, object.meta.id).await.ok();
        status.common.state = State::Ready;
        status.common.progress = None;
        Ok(())
    }

    fn answer<T>(&self, answer: Result<T, agentd_drivers::vm::VmError>) -> Result<T, Not> {
        answer.map_err(|error| {
            if self.backend.told(&error) { Not::Away(error.to_string()) } else { Not::Ever(error.into()) }
        })
    }

    /// One that is there: what it takes, and whether its guest still waits to be thawed.
    async fn look(&self, pass: &Pass, object: &Object<Snapshot>) -> Outcome<SnapshotStatus> {
        let mut status = object.status.clone();
        let vm = match self.vm(pass.store(), object) {
            Ok(Some(vm)) if vm.meta.deleting() => return Outcome::settled(status),
            Ok(Some(vm)) => vm,
            Ok(None) => return Outcome { delete: true, ..Outcome::settled(status) },
            Err(fault) => return Outcome::failed(status, fault),
        };
        if status.freezing {
            status.freezing = thaw(&self.drivers.vm, vm.meta.id).await.is_err();
        }
        if let Ok(Some(of)) = self.disks(&vm).await
            && let Ok(size) = self.drivers.vm.snapshot_size(&of, object.meta.id).await
        {
            status.size = Some(size);
        }
        let again = status.freezing.then_some(SOON);
        Outcome { again, ..Outcome::settled(status) }
    }

    /// What follows from a new one: those around it hold other things alone, and a policy's oldest may go.
    async fn after(&self, pass: &Pass, object: &Object<Snapshot>) {
        self.neighbours(pass.store(), object);
        if object.status.by_policy
            && let Err(fault) = prune(pass.store(), object).await
        {
            tracing::error!(object = %pass.key(), "snapshots of a policy are not removed: {fault}");
        }
    }

    /// Has the sizes of the snapshots before and after this one looked at.
    fn neighbours(&self, store: &Store, object: &Object<Snapshot>) {
        let Ok(all) = of_vm(store, object) else { return };
        let mut others: Vec<&Object<Snapshot>> = all
            .iter()
            .filter(|o| o.status.common.state == State::Ready && o.meta.id != object.meta.id)
            .collect();
        others.sort_by_key(|other| other.meta.id);
        let at = others.partition_point(|other| other.meta.id < object.meta.id);
        for near in [at.checked_sub(1), Some(at)].into_iter().flatten().filter_map(|n| others.get(n)) {
            self.trigger.seen(&near.meta.key());
        }
    }
}

fn vm_key(object: &Object<Snapshot>) -> ObjectKey {
    ObjectKey::of::<Vm>(object.meta.project.clone(), object.spec.vm.clone())
}

/// The snapshots of the same VM that are not on their way out, itself too.
fn of_vm(store: &Store, object: &Object<Snapshot>) -> Result<Vec<Object<Snapshot>>, DecodeError> {
    let query = Query {
        project: Some(object.meta.project.clone()),
        fields: vec![("vm".to_owned(), true, object.spec.vm.to_string())],
        ..Query::kind(Snapshot::DEF.kind)
    };
    let all = store.list(&query).items.into_iter().filter(|s| !s.deleting());
    let all = all.map(|stored| stored.object::<Snapshot>()).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|other| other.status.vm_id == object.status.vm_id).collect())
}

fn taken_text(status: &SnapshotStatus) -> String {
    match (status.frozen, &status.not_frozen_because) {
        (Some(true), _) => "its disks, with the guest's file systems frozen".to_owned(),
        (_, Some(why)) => format!("its disks, with the guest's file systems not frozen: {why}"),
        _ => "whole".to_owned(),
    }
}

/// What the pass wakes that has a schedule: see [`schedule`].
pub struct Scheduled {
    pub store: Store,
    pub trigger: Trigger,
    /// The time, which tests set.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}
