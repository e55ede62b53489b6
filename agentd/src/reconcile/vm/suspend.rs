//! A guest's memory on disk: written when it is suspended, gone on from when it is started.
//!
//! That it is about to be written is written down first, that it is whole afterwards; in between the file itself tells. A
//! memory is good as long as its guest has not run since: where it did, by whatever hand, its disk is another, and the
//! memory is thrown away.

use agentd_api::vm::{StopKind, VmDesired, VmSaved};
use agentd_api::{ErrorCode, Progress, State, Timestamp};
use agentd_drivers::Class;
use agentd_drivers::vm::snapshot::{Memory, OwnDisks};

use super::apply::{Halt, Turn, Work};
use crate::reconcile::runtime::{Fault, Note};

impl Work<'_> {
    /// The disks that come and go with it. None where it has none yet.
    pub(super) async fn own_disks(&self) -> Result<Option<OwnDisks>, Fault> {
        super::own_disks(self.vms.drivers.volume.as_ref(), self.object.meta.id).await
    }

    pub(super) async fn suspend(&mut self) -> Result<Turn, Halt> {
        self.status.saved = Some(VmSaved { at: None, size: None, discard: false });
        self.status.common.progress = Some(doing("writing its memory to disk"));
        self.publish().await?;
        self.told(self.vms.drivers.vm.save_memory(self.object.meta.id, Memory::Suspended).await)?;
        self.adopt_memory().await
    }

    /// The domain has ended, and what was being written is whole or it is not.
    pub(super) async fn adopt_memory(&mut self) -> Result<Turn, Halt> {
        let id = self.object.meta.id;
        match self.told(self.vms.drivers.vm.saved_memory(id, Memory::Suspended).await)? {
            Some(size) => {
                self.status.saved =
                    Some(VmSaved { at: Some(Timestamp::now()), size: Some(size), discard: false });
                if self.status.was_up() {
                    self.record_end(StopKind::Suspended);
                }
                self.notes.push(Note::done("suspended", format!("its memory is on disk, {size}")));
            }
            None => {
                self.told(self.vms.drivers.vm.forget_memory(id, Memory::Suspended).await)?;
                self.status.saved = None;
            }
        }
        self.status.common.progress = None;
        Ok(Turn::Again)
    }

    /// It is not to be gone on from.
    pub(super) async fn forget_memory(&mut self) -> Result<Turn, Halt> {
        self.told(self.vms.drivers.vm.forget_memory(self.object.meta.id, Memory::Suspended).await)?;
        if let Some(VmSaved { at: Some(_), discard, .. }) = self.status.saved.take() {
            self.notes.push(if discard {
                Note::done("discarded", "its memory on disk is thrown away")
            } else {
                Note::seen("discarded", "it has run since its memory was written, which is thrown away")
            });
        }
        Ok(Turn::Again)
    }

    /// Lets it go on from its memory on disk.
    pub(super) async fn wake(&mut self) -> Result<Turn, Halt> {
        let needs = match self.begin_start(0).await? {
            Ok(needs) => needs,
            Err(turn) => return Ok(turn),
        };
        let spec = self.prepare(&needs).await?;
        self.status.common.progress = Some(doing("reading its memory from disk"));
        self.publish().await?;
        let paused = self.object.spec.desired == VmDesired::Paused;
        let started = self.vms.drivers.vm.start_from_memory(&spec, Memory::Suspended, paused).await;
        self.told(started).map_err(|halt| match halt {
            Halt::Fault(fault) if fault.class == Class::Permanent => Halt::Fault(Fault::permanent(
                ErrorCode::Conflict,
                format!(
                    "{fault}; `agentctl vm start --fresh {}` throws the memory away",
                    self.object.meta.name
                ),
            )),
            halt => halt,
        })?;
        self.has_started(&spec);
        self.notes.push(Note::done("resumed", "it goes on from its memory on disk"));
        self.told(self.vms.drivers.vm.forget_memory(self.object.meta.id, Memory::Suspended).await)?;
        self.status.saved = None;
        Ok(Turn::Again)
    }

    /// Off, with its memory on disk.
    pub(super) fn suspended(&mut self) -> Turn {
        let common = &mut self.status.common;
        (common.state, common.reason, common.progress) = (State::Suspended, None, None);
        common.clear_condition(crate::reconcile::guest::life::STOPPING);
        common.clear_condition(super::apply::PENDING_RESTART);
        Turn::End(None)
    }
}

pub(super) fn doing(step: &str) -> Progress {
    Progress::of_steps(step, 0, None)
}
