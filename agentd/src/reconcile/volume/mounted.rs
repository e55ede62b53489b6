//! Volumes with a file system: which containers have them, and the block device by which they do.
//!
//! ```text
//!   a container names it --> the pool makes its device, and the status says so --> containers' own passes have the engine
//!   know it, by a volume of the engine's that is on that device; the engine mounts and unmounts that
//!   none does any more --> the engine's volume is removed --> the device is taken away --> and the status says so
//! ```
//! The device is made before it is written down, and the engine is told after: so what the status says is all that must be
//! undone, and a device that it does not tell of is nobody's.

use std::time::Duration;

use agentd_api::container::{Container, MountSource};
use agentd_api::volume::{Volume, VolumeMount, VolumeStatus};
use agentd_api::{Kind, Object};
use agentd_drivers::Class;
use agentd_drivers::container::ContainerError;
use agentd_store::Query;
use uuid::Uuid;

use super::Volumes;
use crate::reconcile::runtime::{Fault, Note, Pass};

/// How soon what could not be taken back is tried again.
const LATER: Duration = Duration::from_secs(30);

/// Who has it, whether they run or not. The pass is made again when one comes or goes.
pub(super) fn users(pass: &Pass, object: &Object<Volume>) -> Vec<VolumeMount> {
    let name = &object.meta.name;
    let query = Query {
        project: Some(object.meta.project.clone()),
        fields: vec![("volume".to_owned(), true, name.to_string())],
        ..Query::kind(Container::DEF.kind)
    };
    let mut users = Vec::new();
    for stored in pass.list(&query) {
        let Ok(container) = stored.object::<Container>() else { continue };
        let named = container.spec.mounts.into_iter();
        let named = named.filter(|mount| matches!(&mount.source, MountSource::Volume(of) if of == name));
        users.extend(named.map(|mount| VolumeMount {
            container: container.meta.name.clone(),
            path: mount.path,
            read_only: mount.read_only,
        }));
    }
    users
}

impl Volumes {
    /// It has a device where containers have it, and none where none has. When to come again.
    pub(super) async fn serve(
        &self,
        object: &Object<Volume>,
        status: &mut VolumeStatus,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Duration>, Fault> {
        let id = object.meta.id;
        if !status.mounted_by.is_empty() {
            let device = self.drivers.pool.attach(id).await?.display().to_string();
            if status.device.as_ref() != Some(&device) {
                notes.push(Note::done("attached", format!("containers mount it by {device}")));
                status.device = Some(device);
            }
            return Ok(None);
        }
        match self.take_back(id, status.device.is_some()).await {
            Ok(()) => {
                if status.device.take().is_some() {
                    notes.push(Note::done("detached", "no container has it any more"));
                }
                Ok(None)
            }
            // The engine is away, or somebody else's container has it: it is ready all the same.
            Err(fault) if matches!(fault.class, Class::Transient | Class::Conflict) => {
                tracing::debug!(volume = %object.meta.name, "its device is not taken back: {fault}");
                Ok(Some(LATER))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Takes its device away, and where the engine was told of it, the engine's volume before.
    pub(super) async fn take_back(&self, id: Uuid, told: bool) -> Result<(), Fault> {
        if told {
            match self.drivers.container.remove_volume(id).await {
                Ok(_) => {}
                Err(ContainerError::VolumeInUse { detail, .. }) => {
                    return Err(Fault::conflict(format!("somebody else's container has it: {detail}")));
                }
                Err(error) => return Err(error.into()),
            }
        } else if !self.drivers.pool.attached().await?.contains(&id) {
            return Ok(());
        }
        Ok(self.drivers.pool.detach(id).await?)
    }
}
