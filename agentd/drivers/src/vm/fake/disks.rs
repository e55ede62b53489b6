//! The fake's disks: they are plugged at once, and let go of at once unless the guest was told to hold them.

use std::path::PathBuf;

use agentd_api::ByteSize;
use async_trait::async_trait;
use uuid::Uuid;

use super::FakeVm;
use super::state::{Domain, Domains};
use crate::vm::disks::{ROOT, SEED};
use crate::vm::xml::disk::free_target;
use crate::vm::{Cdrom, Change, DiskSeen, DomainDisk, DomainSpec, Unplugged, VmDisks, VmError};

#[async_trait]
impl VmDisks for FakeVm {
    async fn attach_disk(&self, id: Uuid, disk: &DomainDisk) -> Result<Change, VmError> {
        let disk = disk.clone();
        self.call("attach_disk", move |inner| inner.domains.attach(id, disk)).await
    }

    async fn detach_disk(&self, id: Uuid, serial: &str) -> Result<Unplugged, VmError> {
        let serial = serial.to_owned();
        self.call("detach_disk", move |inner| {
            let held = inner.controls.holds(id);
            inner.domains.detach(id, &serial, held)
        })
        .await
    }

    async fn resize_disk(&self, id: Uuid, disk: &str, size: ByteSize) -> Result<Change, VmError> {
        let disk = disk.to_owned();
        self.call("resize_disk", move |inner| inner.domains.resize(id, &disk, size)).await
    }

    async fn change_medium(&self, id: Uuid, medium: Option<PathBuf>) -> Result<Change, VmError> {
        self.call("change_medium", move |inner| inner.domains.change_medium(id, medium)).await
    }
}

impl FakeVm {
    /// Whether that guest does not let go of disks. Those it was asked for meanwhile go when it stops holding them.
    pub fn hold_disks(&self, id: Uuid, hold: bool) {
        self.inner.controls.set_holds(id, hold);
        if !hold {
            self.inner.domains.let_go(id);
        }
    }
    /// How large a disk was last made under the running guest.
    pub fn resized(&self, id: Uuid, serial: &str) -> Option<ByteSize> {
        self.inner.domains.with(id, |domain| domain.sizes.get(serial).copied()).flatten()
    }
    /// As `virsh detach-disk --live`.
    pub fn behind_our_back_unplug(&self, id: Uuid, serial: &str) {
        self.inner.domains.with(id, |domain| {
            domain.plugged.retain(|disk| disk.serial.as_deref() != Some(serial));
        });
        self.inner.domains.tell(Some(id));
    }
}

/// What a domain that is started has.
pub(super) fn at_start(spec: &DomainSpec) -> Vec<DiskSeen> {
    let disk = |target: &str, path: &PathBuf, serial: &str, read_only: bool| DiskSeen {
        target: target.to_owned(),
        source: Some(path.clone()),
        serial: Some(serial.to_owned()),
        read_only,
        cdrom: false,
    };
    let mut all = vec![disk("vda", &spec.disk, ROOT, false)];
    all.extend(spec.seed.iter().map(|seed| disk("vdb", seed, SEED, true)));
    for wanted in &spec.disks {
        let seen = plug(wanted, free_target(&all));
        all.push(seen);
    }
    all.extend(spec.cdrom.iter().map(|cdrom| DiskSeen {
        target: "sda".to_owned(),
        source: cdrom.medium.clone(),
        serial: None,
        read_only: true,
        cdrom: true,
    }));
    all
}

fn plug(disk: &DomainDisk, target: String) -> DiskSeen {
    DiskSeen {
        target,
        source: Some(disk.source.path().to_owned()),
        serial: Some(disk.serial.clone()),
        read_only: disk.read_only,
        cdrom: false,
    }
}

impl Domains {
    fn in_running<T>(
        &self,
        id: Uuid,
        call: &'static str,
        act: impl FnOnce(&mut Domain) -> Result<T, VmError>,
    ) -> Result<T, VmError> {
        let done = self.with(id, |domain| match domain.live {
            None => Err(VmError::Failed { call, detail: "the guest is off".to_owned() }),
            Some(_) => act(domain),
        });
        done.unwrap_or(Err(VmError::Missing(id)))
    }

    fn attach(&self, id: Uuid, disk: DomainDisk) -> Result<Change, VmError> {
        let change = self.in_running(id, "plug a disk", |domain| {
            if let Some(there) = domain.plugged.iter().find(|d| d.serial.as_ref() == Some(&disk.serial)) {
                let same =
                    there.source.as_deref() == Some(disk.source.path()) && there.read_only == disk.read_only;
                return match same {
                    true => Ok(Change::AlreadySo),
                    false => Err(VmError::Conflict(format!("another disk has the serial {}", disk.serial))),
                };
            }
            domain.plugged.push(plug(&disk, free_target(&domain.plugged)));
            if let Some(defined) = &mut domain.defined {
                defined.disks.retain(|d| d.serial != disk.serial);
                defined.disks.push(disk);
            }
            Ok(Change::Made)
        })?;
        self.tell(Some(id));
        Ok(change)
    }

    fn detach(&self, id: Uuid, serial: &str, held: bool) -> Result<Unplugged, VmError> {
        let done = self.in_running(id, "unplug a disk", |domain| {
            if let Some(defined) = &mut domain.defined {
                defined.disks.retain(|d| d.serial != serial);
            }
            let there = domain.plugged.iter().any(|d| d.serial.as_deref() == Some(serial));
            if there && held {
                domain.leaving.insert(serial.to_owned());
                return Ok(Unplugged::Asked);
            }
            domain.plugged.retain(|d| d.serial.as_deref() != Some(serial));
            Ok(Unplugged::Gone)
        })?;
        self.tell(Some(id));
        Ok(done)
    }

    fn let_go(&self, id: Uuid) {
        self.with(id, |domain| {
            let leaving = std::mem::take(&mut domain.leaving);
            domain.plugged.retain(|d| d.serial.as_ref().is_none_or(|s| !leaving.contains(s)));
        });
        self.tell(Some(id));
    }

    fn resize(&self, id: Uuid, disk: &str, size: ByteSize) -> Result<Change, VmError> {
        self.in_running(id, "grow a disk", |domain| {
            let named = |d: &&DiskSeen| d.serial.as_deref() == Some(disk) || d.target == disk;
            let Some(serial) = domain.plugged.iter().find(named).and_then(|d| d.serial.clone()) else {
                return Err(VmError::NoDisk { id, disk: disk.to_owned() });
            };
            let is = domain.sizes.entry(serial).or_default();
            if *is >= size {
                return Ok(Change::AlreadySo);
            }
            *is = size;
            Ok(Change::Made)
        })
    }

    fn change_medium(&self, id: Uuid, medium: Option<PathBuf>) -> Result<Change, VmError> {
        let change = self.in_running(id, "change a medium", |domain| {
            let Some(drive) = domain.plugged.iter_mut().find(|d| d.cdrom) else {
                return Err(VmError::Unsupported("the guest has no CD-ROM drive".to_owned()));
            };
            if drive.source == medium {
                return Ok(Change::AlreadySo);
            }
            drive.source.clone_from(&medium);
            if let Some(defined) = &mut domain.defined {
                defined.cdrom = Some(Cdrom { medium });
            }
            Ok(Change::Made)
        })?;
        self.tell(Some(id));
        Ok(change)
    }
}
