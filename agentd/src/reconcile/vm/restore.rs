//! Takes a VM back to a snapshot.
//!
//! ```text
//!  stopping --> reverting --> starting --> done
//!     |             |            |
//!     +--(nothing   +--> undoing <        done, with the reason: the VM is as it was
//!         changed)-----------|-----------> done, with the reason
//! ```
//! Each phase is written down before it begins and may be begun again. How the disks were is kept beside, as a snapshot of
//! our own, and how the guest was, as its memory, until it has succeeded: whatever fails, the VM is made as it was. A
//! backend that is away fails nothing: it is gone on with when it is back.

use agentd_api::vm::{GuestWas, RestorePhase, StopKind, Vm, VmDesired, VmRestore, VmRestored, VmSpec};
use agentd_api::{ErrorCode, Object, State, Timestamp};
use agentd_drivers::vm::snapshot::{Memory, OwnDisks, TakeSnapshot, UNDO};
use agentd_drivers::vm::{DomainSeen, Power, VmError};
use agentd_drivers::{Class, Classed};
use agentd_store::{Expect, Transact, TxError, Update};

use super::apply::{Halt, Turn, Work};
use super::suspend::doing;
use crate::reconcile::runtime::{Fault, Note};

impl Work<'_> {
    /// One phase of it.
    pub(super) async fn restore(
        &mut self,
        way: VmRestore,
        domain: Option<&DomainSeen>,
    ) -> Result<Turn, Halt> {
        let Some(of) = self.own_disks().await? else {
            return self.restored(Some("it has no disk".to_owned()));
        };
        let power = domain.map_or(Power::Off, |domain| domain.power);
        match way.phase {
            RestorePhase::Stopping => self.stop_for_restore(way, &of, power).await,
            RestorePhase::Reverting => self.revert(way, &of).await,
            RestorePhase::Starting => self.start_restored(way, &of, power).await,
            RestorePhase::Undoing => self.undo(way, &of, power).await,
        }
    }

    /// A driver's answer: Err with why it is to be given up.
    fn attempt<T>(&self, answer: Result<T, VmError>) -> Result<Result<T, String>, Halt> {
        match answer {
            Ok(value) => Ok(Ok(value)),
            Err(error) if self.vms.backend.told(&error) => Err(Halt::Away),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    async fn phase(&mut self, way: VmRestore, phase: RestorePhase, step: &str) -> Result<Turn, Halt> {
        self.status.restore = Some(VmRestore { phase, ..way });
        self.status.common.progress = Some(doing(step));
        self.publish().await?;
        Ok(Turn::Again)
    }

    async fn give_up(&mut self, way: VmRestore, error: String) -> Result<Turn, Halt> {
        let way = VmRestore { error: Some(error), ..way };
        self.phase(way, RestorePhase::Undoing, "making it as it was").await
    }

    async fn stop_for_restore(
        &mut self,
        mut way: VmRestore,
        of: &OwnDisks,
        power: Power,
    ) -> Result<Turn, Halt> {
        let vm = self.vms.drivers.vm.clone();
        let there = self.told(vm.snapshots(of).await)?;
        let whole = there
            .iter()
            .find(|seen| seen.id == way.id)
            .is_some_and(|seen| seen.in_first_disk && (!way.memory || seen.memory.is_some()));
        if power == Power::Off {
            // Its memory is whole where it ended by our doing; else it ended by itself, and stays so.
            let kept = self.told(vm.saved_memory(of.vm, Memory::Undo).await)?;
            way.was = way.was.filter(|_| kept.is_some());
        }
        if !whole {
            let missing = format!("snapshot '{}' is no longer whole on its disks", way.snapshot);
            return self.give_up(way, missing).await;
        }
        if power != Power::Off && there.iter().any(|seen| seen.id == UNDO) {
            // Of a try that was cut off; the guest has written since.
            self.told(vm.delete_snapshot(of, UNDO).await)?;
        }
        if power != Power::Off {
            let was = if power == Power::Paused { GuestWas::Paused } else { GuestWas::Running };
            way.was = Some(was);
            self.status.restore = Some(way.clone());
            self.status.common.state = State::Provisioning;
            self.status.common.reason = Some(format!("is being taken back to snapshot '{}'", way.snapshot));
            self.status.common.progress = Some(doing("stopping it"));
            self.publish().await?;
            if let Err(error) = self.attempt(vm.save_memory(of.vm, Memory::Undo).await)? {
                return self
                    .give_up(way, format!("it cannot be stopped so that it could go on: {error}"))
                    .await;
            }
        }
        if self.status.was_up() {
            self.record_end(StopKind::Restored);
        }
        let undo = TakeSnapshot { id: UNDO, of: of.clone(), memory: false };
        match self.attempt(vm.take_snapshot(&undo).await)? {
            Ok(_) => self.phase(way, RestorePhase::Reverting, "taking its disks back").await,
            Err(error) => self.give_up(way, error).await,
        }
    }

    async fn revert(&mut self, way: VmRestore, of: &OwnDisks) -> Result<Turn, Halt> {
        match self.attempt(self.vms.drivers.vm.revert(of, way.id).await)? {
            Ok(()) if way.memory => self.phase(way, RestorePhase::Starting, "reading its memory").await,
            Ok(()) => self.succeed(way, of).await,
            Err(error) => self.give_up(way, error).await,
        }
    }

    async fn start_restored(&mut self, way: VmRestore, of: &OwnDisks, power: Power) -> Result<Turn, Halt> {
        if power == Power::Off {
            let needs = match self.needs().await? {
                Ok(needs) => needs,
                Err(waiting) => return self.give_up(way, waiting.reason).await,
            };
            let spec = match self.prepare(&needs).await {
                Ok(spec) => spec,
                Err(Halt::Fault(fault)) => return self.give_up(way, fault.message).await,
                Err(away) => return Err(away),
            };
            let from = Memory::Snapshot(way.id);
            let started = self.vms.drivers.vm.start_from_memory(&spec, from, false).await;
            match self.attempt(started)? {
                Ok(_) => self.has_started(&spec),
                Err(error) => return self.give_up(way, error).await,
            }
        }
        self.succeed(way, of).await
    }

    /// What was kept for a failure goes, and what is wanted follows what is.
    async fn succeed(&mut self, way: VmRestore, of: &OwnDisks) -> Result<Turn, Halt> {
        self.forget_undo(of).await?;
        let wanted = match self.object.spec.desired {
            _ if way.memory => VmDesired::Running,
            VmDesired::Suspended => VmDesired::Stopped,
            other => other,
        };
        if self.status.saved.is_some() {
            self.told(self.vms.drivers.vm.forget_memory(of.vm, Memory::Suspended).await)?;
            self.status.saved = None;
        }
        if wanted != self.object.spec.desired {
            self.want(wanted).await?;
        }
        self.restored(None)
    }

    async fn forget_undo(&mut self, of: &OwnDisks) -> Result<(), Halt> {
        let vm = &self.vms.drivers.vm;
        self.told(vm.delete_snapshot(of, UNDO).await)?;
        self.told(vm.forget_memory(of.vm, Memory::Undo).await)?;
        Ok(())
    }

    async fn want(&self, desired: VmDesired) -> Result<(), Fault> {
        let (key, id) = (self.pass.key().clone(), self.pass.id());
        let done = self.pass.store().transact(move |tx| {
            let Some(now) = tx.get(&key).filter(|now| now.id() == id) else { return Ok(()) };
            let mut spec: VmSpec = match now.object::<Vm>() {
                Ok(Object { spec, .. }) => spec,
                Err(_) => return Ok(()),
            };
            spec.desired = desired;
            let Ok(spec) = serde_json::to_value(spec) else { return Ok(()) };
            let update = Update { spec: Some(spec), ..Update::default() };
            tx.update(&key, Expect::Id(id), update).map(drop)
        });
        done.await.map_err(|error: Transact<TxError>| {
            Fault::new(Class::Transient, ErrorCode::StoreUnavailable, error.to_string())
        })
    }

    async fn undo(&mut self, way: VmRestore, of: &OwnDisks, power: Power) -> Result<Turn, Halt> {
        let vm = self.vms.drivers.vm.clone();
        let kept = self.told(vm.snapshots(of).await)?;
        let kept = kept.iter().any(|seen| seen.id == UNDO && seen.in_first_disk);
        let memory = self.told(vm.saved_memory(of.vm, Memory::Undo).await)?;
        // Up without anything having been undone: its start was given up and happened all the same. With nothing kept
        // it is as it was already.
        if power != Power::Off && kept {
            self.told(vm.destroy(of.vm).await)?;
        }
        if kept {
            self.told(vm.revert(of, UNDO).await)?;
            self.told(vm.delete_snapshot(of, UNDO).await)?;
        }
        if let (Some(was), Some(_)) = (way.was, memory)
            && (power == Power::Off || kept)
        {
            self.go_on(was).await?;
        }
        self.told(vm.forget_memory(of.vm, Memory::Undo).await)?;
        self.restored(way.error)
    }

    /// Lets the guest go on from where it was stopped for this.
    async fn go_on(&mut self, was: GuestWas) -> Result<(), Halt> {
        let Ok(needs) = self.needs().await? else {
            return Err(Fault::transient("what it needs to go on is not there").into());
        };
        let spec = self.prepare(&needs).await?;
        let paused = was == GuestWas::Paused;
        match self.vms.drivers.vm.start_from_memory(&spec, Memory::Undo, paused).await {
            Err(error) if error.class() == Class::Permanent => {
                // Its spec was changed since it was started: it can only be started anew.
                self.notes.push(Note::failed(format!("it cannot go on from where it was: {error}")));
                Ok(())
            }
            started => {
                self.told(started)?;
                self.has_started(&spec);
                Ok(())
            }
        }
    }

    fn restored(&mut self, error: Option<String>) -> Result<Turn, Halt> {
        let Some(way) = self.status.restore.take() else { return Ok(Turn::Again) };
        self.notes.push(match &error {
            None => Note::done("restored", format!("it is as it was in snapshot '{}'", way.snapshot)),
            Some(why) => Note::failed(format!("it is not taken back to '{}': {why}", way.snapshot)),
        });
        self.status.common.reason = None;
        self.status.common.progress = None;
        self.status.last_restore =
            Some(VmRestored { snapshot: way.snapshot, id: way.id, at: Timestamp::now(), error });
        // The spec may be another by now.
        Ok(Turn::End(Some(std::time::Duration::ZERO)))
    }
}
