//! Brings a running guest's disks to what is wanted, and gives volumes back once their guest has let go of them.
//!
//! Which volumes a VM has is what it has taken of them (allocation rows, written with its spec): one that the spec does
//! not name any more is still its own until no guest has it, and only then another's. So a daemon that is killed between
//! any two of these steps finds what is left to do by looking at the rows and at the domain.

use std::time::Duration;

use agentd_api::vm::VmVolumeStatus;
use agentd_api::volume::{ATTACHED, Volume};
use agentd_api::{Object, ObjectKey};
use agentd_drivers::Class;
use agentd_drivers::vm::disks::{own_serial, volume_serial};
use agentd_drivers::vm::{DiskFormat, DiskSource, DomainDisk, DomainSeen, Power, Unplugged};
use agentd_store::{Tx, TxError};
use uuid::Uuid;

use super::apply::{Halt, Work};
use super::needs;
use super::plan_disks::{DiskStep, WantedDisks, plan_disks};
use crate::reconcile::runtime::{Fault, Note};

/// There, and false, while a disk could not be plugged, unplugged or grown; the reason says which and why.
pub const DISKS_PLUGGED: &str = "disks_plugged";
/// A guest that holds a disk is asked again this often.
const ASK_AGAIN: Duration = Duration::from_secs(5);

impl Work<'_> {
    /// Gives back the volumes that are not wanted and that no guest has, and says in the status which it has and how.
    pub(super) async fn account_volumes(&mut self, domain: Option<&DomainSeen>) -> Result<(), Halt> {
        let running = domain.filter(|domain| domain.power != Power::Off);
        let held = |id: Uuid| running.and_then(|domain| domain.disk(&volume_serial(id)));
        let store = self.pass.store();
        let taken = store.allocated(self.pass.key(), ATTACHED);
        let (mut volumes, mut free) = (Vec::new(), Vec::new());
        for id in taken.iter().filter_map(|id| id.parse::<Uuid>().ok()) {
            let Some(stored) = store.by_id(id) else {
                free.push((id, None));
                continue;
            };
            let name = stored.name().clone();
            let wanted = self.object.spec.volumes.iter().find(|v| v.volume == name);
            let device = held(id).map(|disk| disk.target.clone());
            if wanted.is_none() && device.is_none() {
                free.push((id, Some(name)));
                continue;
            }
            let read_only = held(id).map(|disk| disk.read_only).or(wanted.map(|w| w.read_only));
            let read_only = read_only.unwrap_or(false);
            volumes.push(VmVolumeStatus { volume: name, id, read_only, device, detaching: wanted.is_none() });
        }
        let place = |v: &VmVolumeStatus| self.object.spec.volumes.iter().position(|w| w.volume == v.volume);
        volumes.sort_by_key(|v| (place(v).unwrap_or(usize::MAX), v.volume.clone()));
        if !free.is_empty() {
            self.give_back(free.iter().map(|(id, _)| *id).collect()).await?;
        }
        for name in free.into_iter().filter_map(|(_, name)| name) {
            self.notes.push(Note::done("detached", format!("volume '{name}'")));
        }
        self.status.volumes = volumes;
        Ok(())
    }

    /// Unless the spec, as it then stands, names them again.
    async fn give_back(&self, volumes: Vec<Uuid>) -> Result<(), Fault> {
        let key = self.pass.key().clone();
        let given = self.pass.store().transact(move |tx| {
            for id in &volumes {
                if !named(tx, &key, *id) {
                    tx.release(ATTACHED, &id.to_string(), &key);
                }
            }
            Ok::<(), TxError>(())
        });
        given.await.map_err(|error| Fault::transient(error.to_string()))
    }

    /// Plugs, unplugs and grows. A step that fails does not keep the others from being done, and is tried again.
    pub(super) async fn plug(&mut self, domain: &DomainSeen) -> Result<Option<Duration>, Halt> {
        let mut troubles = Vec::new();
        let wanted = self.wanted_disks(domain, &mut troubles).await?;
        let steps = plan_disks(&wanted, &domain.disks);
        let did = !steps.is_empty();
        for step in steps {
            if let Err(trouble) = self.disk_step(&step).await? {
                troubles.push(trouble);
            }
        }
        let mut again = None;
        if did {
            let id = self.object.meta.id;
            let Some(now) = self.told(self.vms.drivers.vm.observe(id).await)? else { return Ok(None) };
            self.account_volumes(Some(&now)).await?;
            // What had to go before it could come again.
            let left = troubles.is_empty() && !plan_disks(&wanted, &now.disks).is_empty();
            again = left.then_some(Duration::ZERO);
        }
        let common = &mut self.status.common;
        if troubles.is_empty() {
            common.clear_condition(DISKS_PLUGGED);
        } else {
            common.set_condition(DISKS_PLUGGED, false, troubles.join("; "));
            again = Some(ASK_AGAIN);
        }
        Ok(again)
    }

    async fn wanted_disks(
        &self,
        domain: &DomainSeen,
        troubles: &mut Vec<String>,
    ) -> Result<WantedDisks, Fault> {
        let mut wanted = WantedDisks::default();
        let (vm, drivers) = (self.object.meta.id, &self.vms.drivers);
        if !self.object.spec.disks.is_empty() {
            let files = drivers.volume.observe(vm).await?;
            for (n, disk) in (1..).zip(&self.object.spec.disks) {
                let plugged = domain.disk(&own_serial(n)).is_some();
                match files.further(n) {
                    // Only the QEMU that has it can grow it.
                    Some(file) if plugged && file.size < disk.size => {
                        wanted.larger.push((own_serial(n), disk.size));
                    }
                    Some(_) if plugged => {}
                    _ => match drivers.volume.ensure_further(vm, n, disk.size).await {
                        Ok(path) => wanted.plugged.push(own_disk(n, path)),
                        Err(error) => troubles.push(format!("disks[{}]: {error}", n - 1)),
                    },
                }
            }
        }
        for volume in &self.object.spec.volumes {
            match needs::volume(self.pass, drivers.pool.as_ref(), volume).await? {
                Ok(disk) => wanted.plugged.push(disk),
                Err(waiting) => troubles.push(waiting.reason),
            }
        }
        wanted.unplugged =
            self.status.volumes.iter().filter(|v| v.detaching).map(|v| volume_serial(v.id)).collect();
        if let Some(drive) = domain.cdrom() {
            match needs::medium(self.pass, drivers.image.as_ref(), self.object).await? {
                Ok(medium) => wanted.medium = medium,
                Err(waiting) => {
                    troubles.push(waiting.reason);
                    wanted.medium.clone_from(&drive.source);
                }
            }
        }
        Ok(wanted)
    }

    /// Ok(Err) says what stands in the way.
    async fn disk_step(&mut self, step: &DiskStep) -> Result<Result<(), String>, Halt> {
        let (vm, id) = (&self.vms.drivers.vm, self.object.meta.id);
        let (what, done) = match step {
            DiskStep::Attach(disk) => {
                let what = self.named(&disk.serial);
                let done = vm.attach_disk(id, disk).await;
                if done.is_ok() {
                    self.notes.push(Note::done("attached", what.clone()));
                }
                (what, done.map(|_| Ok(())))
            }
            DiskStep::Detach(serial) => {
                let what = self.named(serial);
                let done = vm.detach_disk(id, serial).await.map(|end| match end {
                    Unplugged::Gone => Ok(()),
                    Unplugged::Asked => Err(format!("the guest has not let go of {what}; it is asked again")),
                });
                (what, done)
            }
            DiskStep::Grow(serial, size) => {
                let done = vm.resize_disk(id, serial, *size).await;
                if done.is_ok() {
                    self.notes.push(Note::done("resized", format!("{serial} to {size}")));
                }
                (serial.clone(), done.map(|_| Ok(())))
            }
            DiskStep::ChangeMedium(medium) => {
                let done = vm.change_medium(id, medium.clone()).await;
                ("the CD-ROM drive's medium".to_owned(), done.map(|_| Ok(())))
            }
        };
        match done {
            Ok(end) => Ok(end),
            Err(error) if self.vms.backend.told(&error) => Err(Halt::Away),
            Err(error) => {
                let fault = Fault::from(error);
                let later = match fault.class {
                    Class::Capacity => " (a restart of the VM makes room)",
                    _ => "",
                };
                Ok(Err(format!("{what}: {fault}{later}")))
            }
        }
    }

    /// What a person calls the disk of that serial.
    fn named(&self, serial: &str) -> String {
        let volume = self.status.volumes.iter().find(|v| volume_serial(v.id) == serial);
        volume.map_or_else(|| serial.to_owned(), |v| format!("volume '{}'", v.volume))
    }
}

/// The VM's own n-th further disk.
pub fn own_disk(number: usize, path: std::path::PathBuf) -> DomainDisk {
    let (serial, source) = (own_serial(number), DiskSource::File(path));
    DomainDisk { serial, source, format: DiskFormat::Qcow2, read_only: false }
}

/// Whether the spec of that VM names that volume.
fn named(tx: &dyn Tx, vm: &ObjectKey, volume: Uuid) -> bool {
    let Some(volume) = tx.by_id(volume) else { return false };
    let vm: Option<Object<agentd_api::vm::Vm>> = tx.get(vm).and_then(|vm| vm.object().ok());
    debug_assert_eq!(volume.kind(), <Volume as agentd_api::Kind>::DEF.kind);
    vm.is_some_and(|vm| vm.spec.volumes.iter().any(|v| v.volume == *volume.name()))
}
