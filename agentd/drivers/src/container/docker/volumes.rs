//! The engine's volumes on our block devices.

use std::collections::HashMap;
use std::path::Path;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{EngineContainers, INSTANCE, Inner, VOLUME};
use crate::Instance;
use crate::container::{
    Change, ContainerDef, ContainerError, ContainerVolumes, EngineVolume, Mount, MountSource,
};
use crate::engine::wire::query;
use crate::engine::{ACT, ASK, EngineError};

const LOOK: &str = "look at a volume";
const MAKE: &str = "make a volume";
const REMOVE: &str = "remove a volume";
/// Blocks that files have left are given back to the pool; a device of the host's is none that a container could open by a
/// file in a volume.
const OPTIONS: &str = "discard,nodev";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Found {
    name: String,
    driver: String,
    labels: Option<HashMap<String, String>>,
    options: Option<HashMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct List {
    volumes: Option<Vec<Found>>,
}

/// The engine's name of one of our volumes.
pub(super) fn name(volume: Uuid, instance: &Instance) -> String {
    format!("{}{volume}", prefix(instance))
}

fn prefix(instance: &Instance) -> String {
    format!("agentd-{}.", instance.tag())
}

/// What the engine's own driver needs to know to mount it.
pub(super) fn options(device: &Path) -> HashMap<String, String> {
    let device = device.display().to_string();
    let options = [("type", "ext4"), ("device", device.as_str()), ("o", OPTIONS)];
    options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(super) fn labels(volume: Uuid, instance: &Instance) -> HashMap<String, String> {
    let labels = [(INSTANCE, instance.tag().to_owned()), (VOLUME, volume.to_string())];
    labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

impl Found {
    fn is_ours(&self, instance: &Instance) -> bool {
        let labels = self.labels.as_ref();
        labels.and_then(|labels| labels.get(INSTANCE)).is_some_and(|tag| tag == instance.tag())
    }
    fn is(&self, wanted: &EngineVolume) -> bool {
        let options = options(&wanted.device);
        self.driver == "local" && self.options.as_ref().is_some_and(|there| *there == options)
    }
}

impl Inner {
    async fn volume(&self, id: Uuid) -> Result<Option<Found>, EngineError> {
        let linked = self.engine.linked().await?;
        let path = format!("/volumes/{}", name(id, &self.instance));
        match self.within(LOOK, ASK, linked.wire.json::<Found>(LOOK, &path)).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the engine has all volumes of a definition. It would make one that is not there.
    pub(super) async fn has_volumes(&self, def: &ContainerDef) -> Result<(), ContainerError> {
        for Mount { source, .. } in &def.mounts {
            let MountSource::Volume(wanted) = source else { continue };
            let found = self.volume(wanted.id).await?.ok_or(ContainerError::NoVolume(wanted.id))?;
            self.check(&found, wanted)?;
        }
        Ok(())
    }

    /// That what is there is what was wanted.
    fn check(&self, found: &Found, wanted: &EngineVolume) -> Result<(), ContainerError> {
        if found.is_ours(&self.instance) && found.is(wanted) {
            return Ok(());
        }
        let name = name(wanted.id, &self.instance);
        Err(ContainerError::Conflict(format!("the engine's volume {name} is another than ours")))
    }

    async fn ensure_volume(&self, wanted: &EngineVolume) -> Result<Change, ContainerError> {
        if let Some(found) = self.volume(wanted.id).await? {
            if !found.is_ours(&self.instance) || found.is(wanted) {
                return self.check(&found, wanted).map(|()| Change::AlreadySo);
            }
            match self.remove_volume(wanted.id).await {
                Ok(_) => {}
                Err(ContainerError::VolumeInUse { detail, .. }) => {
                    return Err(ContainerError::Conflict(detail));
                }
                Err(error) => return Err(error),
            }
        }
        let document = json!({
            "Name": name(wanted.id, &self.instance),
            "Driver": "local",
            "DriverOpts": options(&wanted.device),
            "Labels": labels(wanted.id, &self.instance),
        });
        self.post(MAKE, ACT, "/volumes/create", &document).await?;
        // One that somebody else made meanwhile is answered as if it were ours.
        let found = self.volume(wanted.id).await?.ok_or(ContainerError::NoVolume(wanted.id))?;
        self.check(&found, wanted).map(|()| Change::Made)
    }

    async fn remove_volume(&self, id: Uuid) -> Result<Change, ContainerError> {
        if !self.volume(id).await?.is_some_and(|found| found.is_ours(&self.instance)) {
            return Ok(Change::AlreadySo);
        }
        let linked = self.engine.linked().await?;
        let path = format!("/volumes/{}", name(id, &self.instance));
        match self.within(REMOVE, ACT, linked.wire.delete(REMOVE, &path)).await {
            Ok(()) => Ok(Change::Made),
            Err(error) if error.is_missing() => Ok(Change::AlreadySo),
            Err(error) if error.status() == Some(409) => {
                Err(ContainerError::VolumeInUse { volume: id, detail: error.message().to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl ContainerVolumes for EngineContainers {
    async fn ensure_volume(&self, volume: &EngineVolume) -> Result<Change, ContainerError> {
        let volume = volume.clone();
        self.detached(MAKE, |inner| async move { inner.ensure_volume(&volume).await }).await
    }

    async fn remove_volume(&self, volume: Uuid) -> Result<Change, ContainerError> {
        self.detached(REMOVE, move |inner| async move { inner.remove_volume(volume).await }).await
    }

    async fn volumes(&self) -> Result<Vec<Uuid>, ContainerError> {
        const CALL: &str = "list volumes";
        let inner = &self.inner;
        let filters = json!({ "label": [format!("{INSTANCE}={}", inner.instance.tag())] }).to_string();
        let linked = inner.engine.linked().await?;
        let path = query("/volumes", &[("filters", &filters)]);
        let found = inner.within(CALL, ASK, linked.wire.json::<List>(CALL, &path)).await?;
        let prefix = prefix(&inner.instance);
        let id = |found: Found| found.name.strip_prefix(&prefix)?.parse().ok();
        Ok(found.volumes.unwrap_or_default().into_iter().filter_map(id).collect())
    }
}
