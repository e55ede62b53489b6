//! Makes volumes ready and as large as they should be, and says who has them.
//!
//! ```text
//!   pending --> provisioning (made, its image copied) --> ready <--> attached (a VM or containers have it)
//!                                                           \--> failed (its content is gone)
//! ```
//!
//! That a VM has a volume is decided by the intents, and that it has it no more by the VM's own passes; here it is only
//! shown. A volume that a running guest has is grown by that guest's QEMU, since no one else can; any other in its pool.
//! Content that is gone from the pool is never made anew: an empty disk in its place would be a lie. What containers have of
//! a volume with a file system is in [`mounted`].

mod mounted;
#[cfg(test)]
mod tests;

use std::time::Duration;

use agentd_api::image::Image;
use agentd_api::vm::Vm;
use agentd_api::volume::{ATTACHED, Volume, VolumeAttachment, VolumeFormat, VolumeMode, VolumeStatus};
use agentd_api::{ErrorCode, Kind, Object, ObjectKey, State};
use agentd_drivers::Drivers;
use agentd_drivers::vm::disks::volume_serial;
use agentd_drivers::vm::{DiskFormat, Power};
use agentd_drivers::volume::pool::{Content as Begins, PoolVolume, PooledVolume};
use agentd_store::Query;
use async_trait::async_trait;

use super::runtime::{Fault, Note, Outcome, Pass, Reconciler};

/// The one thing that a volume has on the host.
pub const CONTENT: &str = "content";

pub struct Volumes {
    pub drivers: Drivers,
}

/// What there is of it, or why there is nothing yet.
enum Content {
    There(PooledVolume),
    Waits(String),
}

#[async_trait]
impl Reconciler for Volumes {
    type Kind = Volume;

    async fn reconcile(&self, pass: &Pass, object: &Object<Volume>) -> Outcome<VolumeStatus> {
        let mut status = object.status.clone();
        let new = status.size.is_none();
        let there = match self.content(pass, object, &mut status).await {
            Ok(Content::There(there)) => there,
            Ok(Content::Waits(reason)) => {
                (status.common.state, status.common.reason) = (State::Pending, Some(reason));
                return Outcome::settled(status);
            }
            Err(fault) => return Outcome::failed(status, fault),
        };
        status.path = Some(there.source.path().display().to_string());
        status.size = Some(there.size);
        let mut notes = Vec::new();
        if new {
            notes.push(Note::done("created", format!("{}, {}", there.size, there.format.as_str())));
        }
        let mut again = None;
        let mut fault = None;
        let had = match object.spec.mode {
            VolumeMode::Block => {
                status.serial = Some(volume_serial(object.meta.id));
                status.attached_to = attachment(pass, object);
                status.attached_to.is_some()
            }
            VolumeMode::Filesystem => {
                status.mounted_by = mounted::users(pass, object);
                match self.serve(object, &mut status, &mut notes).await {
                    Ok(later) => again = later,
                    Err(why) => fault = Some(why),
                }
                !status.mounted_by.is_empty()
            }
        };
        status.common.state = if had { State::Attached } else { State::Ready };
        status.common.reason = None;
        match self.grow(pass, object, &there).await {
            Ok(false) => {}
            Ok(true) => {
                notes.push(Note::done("resized", format!("from {} to {}", there.size, object.spec.size)));
                status.size = Some(object.spec.size);
            }
            Err(why) => fault = Some(why),
        }
        Outcome { fault, again, notes, ..Outcome::settled(status) }
    }

    async fn finalize(&self, pass: &Pass, object: &Object<Volume>, finalizer: &str) -> Result<(), Fault> {
        if finalizer != CONTENT {
            let text = format!("a volume has nothing to undo by the name of '{finalizer}'");
            return Err(Fault::internal(text));
        }
        // The intents refuse to delete what is attached, and to attach what is deleted.
        if let Some(vm) = pass.store().owner_of(ATTACHED, &object.meta.id.to_string()) {
            return Err(Fault::conflict(format!("it is attached to {vm}")));
        }
        if object.spec.mode == VolumeMode::Filesystem {
            if let Some(user) = mounted::users(pass, object).first() {
                return Err(Fault::conflict(format!("container '{}' has it", user.container)));
            }
            self.take_back(object.meta.id, object.status.device.is_some()).await?;
        }
        Ok(self.drivers.pool.remove(object.meta.id).await?)
    }

    fn resync(&self) -> Option<Duration> {
        Some(Duration::from_secs(600))
    }
}

impl Volumes {
    async fn content(
        &self,
        pass: &Pass,
        object: &Object<Volume>,
        status: &mut VolumeStatus,
    ) -> Result<Content, Fault> {
        let id = object.meta.id;
        if let Some(there) = self.drivers.pool.observe(id).await? {
            return Ok(Content::There(there));
        }
        if status.size.is_some() {
            let message = "its content is gone from the pool";
            return Err(Fault::permanent(ErrorCode::NotFound, message));
        }
        let content = match (object.spec.mode, &object.spec.image) {
            (VolumeMode::Filesystem, _) => Begins::FileSystem,
            (VolumeMode::Block, None) => Begins::Empty,
            (VolumeMode::Block, Some(name)) => {
                let ready = pass.get::<Image>(name)?.filter(|i| i.status.common.state == State::Ready);
                let Some(digest) = ready.and_then(|image| image.status.digest) else {
                    return Ok(Content::Waits(format!("image '{name}' is not ready")));
                };
                match self.drivers.image.observe(&digest).await? {
                    Some(content) => Begins::Image(content.disk),
                    None => return Ok(Content::Waits(format!("the content of image '{name}' is gone"))),
                }
            }
        };
        (status.common.state, status.common.reason) = (State::Provisioning, None);
        pass.publish::<Volume>(status).await?;
        let format = match object.spec.format {
            VolumeFormat::Qcow2 => DiskFormat::Qcow2,
            VolumeFormat::Raw => DiskFormat::Raw,
        };
        let wanted = PoolVolume { id, size: object.spec.size, format, content };
        Ok(Content::There(self.drivers.pool.ensure(&wanted).await?))
    }

    /// Whether it was grown.
    async fn grow(&self, pass: &Pass, object: &Object<Volume>, there: &PooledVolume) -> Result<bool, Fault> {
        let (id, wanted) = (object.meta.id, object.spec.size);
        if there.size >= wanted {
            return Ok(false);
        }
        let owner = pass.store().owner_of(ATTACHED, &id.to_string());
        let vm = owner.and_then(|key| pass.store().get(&key)).map(|vm| vm.id());
        let domain = match vm {
            Some(vm) => self.drivers.vm.observe(vm).await?,
            None => None,
        };
        let serial = volume_serial(id);
        match domain.filter(|domain| domain.power != Power::Off && domain.disk(&serial).is_some()) {
            Some(domain) => drop(self.drivers.vm.resize_disk(domain.id, &serial, wanted).await?),
            None => self.drivers.pool.grow(id, wanted).await?,
        }
        Ok(true)
    }
}

/// The VM that has it, as that VM's own status says. The pass is made again when that changes.
fn attachment(pass: &Pass, object: &Object<Volume>) -> Option<VolumeAttachment> {
    let query = Query {
        project: Some(object.meta.project.clone()),
        fields: vec![("volume".to_owned(), true, object.meta.name.to_string())],
        ..Query::kind(Vm::DEF.kind)
    };
    let named = pass.list(&query);
    let owner: ObjectKey = pass.store().owner_of(ATTACHED, &object.meta.id.to_string())?;
    let vm = named.iter().find(|vm| *vm.key() == owner)?.object::<Vm>().ok()?;
    let entry = vm.status.volumes.iter().find(|v| v.id == object.meta.id)?;
    Some(VolumeAttachment {
        vm: owner.name,
        read_only: entry.read_only,
        device: entry.device.clone(),
        detaching: entry.detaching,
    })
}
