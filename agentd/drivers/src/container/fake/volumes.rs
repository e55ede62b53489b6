//! The engine's volumes.

use async_trait::async_trait;
use uuid::Uuid;

use super::FakeContainers;
use super::state::World;
use crate::container::{Change, ContainerDef, ContainerError, ContainerVolumes, EngineVolume, MountSource};

impl World {
    /// Whether it has all that a definition names, as they are named.
    pub(super) fn has_volumes(&self, def: &ContainerDef) -> Result<(), ContainerError> {
        for volume in volumes(def) {
            match self.volumes.get(&volume.id) {
                Some(there) if there == volume => {}
                Some(_) => return Err(ContainerError::Conflict(format!("volume {} is another", volume.id))),
                None => return Err(ContainerError::NoVolume(volume.id)),
            }
        }
        Ok(())
    }

    fn is_mounted(&self, volume: Uuid) -> Option<&str> {
        let has = |def: &ContainerDef| volumes(def).any(|there| there.id == volume);
        let user = self.containers.values().find(|kept| kept.ours().is_some_and(has));
        user.map(|kept| kept.engine_id.as_str())
    }
}

fn volumes(def: &ContainerDef) -> impl Iterator<Item = &EngineVolume> {
    def.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(volume) => Some(volume),
        _ => None,
    })
}

#[async_trait]
impl ContainerVolumes for FakeContainers {
    async fn ensure_volume(&self, volume: &EngineVolume) -> Result<Change, ContainerError> {
        let volume = volume.clone();
        self.call("ensure_volume", move |inner| {
            let mut world = inner.world.lock();
            if world.volumes.get(&volume.id) == Some(&volume) {
                return Ok(Change::AlreadySo);
            }
            if let Some(user) = world.is_mounted(volume.id) {
                return Err(ContainerError::Conflict(format!("container {user} has it")));
            }
            world.volumes.insert(volume.id, volume);
            Ok(Change::Made)
        })
        .await
    }

    async fn remove_volume(&self, volume: Uuid) -> Result<Change, ContainerError> {
        self.call("remove_volume", move |inner| {
            let mut world = inner.world.lock();
            if let Some(user) = world.is_mounted(volume) {
                let detail = format!("container {user} has it");
                return Err(ContainerError::VolumeInUse { volume, detail });
            }
            Ok(match world.volumes.remove(&volume) {
                Some(_) => Change::Made,
                None => Change::AlreadySo,
            })
        })
        .await
    }

    async fn volumes(&self) -> Result<Vec<Uuid>, ContainerError> {
        self.call("volumes", |inner| Ok(inner.world.lock().volumes.keys().copied().collect())).await
    }
}
