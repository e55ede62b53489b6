//! From nothing to running and back.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::state::{Kept, Made, World, name_of};
use super::{FakeContainers, Inner};
use crate::container::{
    Change, ContainerDef, ContainerError, ContainerLife, ContainerLimits, ContainerState, Created,
    EndpointSeen, EngineRestart, ExitSeen, Limits, Wired,
};

const KILLED: i32 = 128 + 9;
const STOPPED: i32 = 128 + 15;

fn create(world: &mut World, def: ContainerDef) -> Result<Created, ContainerError> {
    if world.image_id(&def.image).is_none() {
        return Err(ContainerError::NoImage(def.image));
    }
    if let Some(kept) = world.find(def.id) {
        let same = kept
            .ours()
            .is_none_or(|made| crate::container::def::digest(made) == crate::container::def::digest(&def));
        return Ok(if same { Created::AlreadySo } else { Created::Differs });
    }
    let name = name_of(&def);
    if let Some(other) = world.containers.values().find(|kept| kept.name == name) {
        return Err(ContainerError::Conflict(format!("container {} is named {name}", other.engine_id)));
    }
    if let Some(endpoint) = def.endpoints.iter().find(|e| !world.networks.contains_key(&e.network)) {
        return Err(ContainerError::NoNetwork(endpoint.network));
    }
    world.has_volumes(&def)?;
    let engine_id = world.new_engine_id();
    let mut kept = Kept::new(engine_id.clone(), name, Made::Ours(Box::new(def.clone())));
    kept.id = Some(def.id);
    kept.limits = def.limits.settled();
    let wired = |e: &crate::container::Endpoint| EndpointSeen {
        network: Wired::Ours(e.network),
        ip: Some(e.ip),
        mac: Some(e.mac),
        linked: true,
    };
    kept.endpoints = def.endpoints.iter().map(wired).collect();
    world.containers.insert(engine_id, kept);
    Ok(Created::Made)
}

impl Inner {
    /// Changes a container that is there, and tells of it where it was changed.
    pub(super) fn change(
        &self,
        id: Uuid,
        work: impl FnOnce(&mut Kept) -> Result<Change, ContainerError>,
    ) -> Result<Change, ContainerError> {
        let change = {
            let mut world = self.world.lock();
            work(world.find_mut(id).ok_or(ContainerError::Missing(id))?)?
        };
        if change == Change::Made {
            self.told(id);
        }
        Ok(change)
    }

    /// Whether it was on. One that is deaf is not ended.
    fn ask(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.change(id, |kept| {
            match kept.state {
                ContainerState::Running if !kept.deaf => {
                    kept.end(ExitSeen { code: STOPPED, oom: false, error: None });
                }
                ContainerState::Running => {}
                ContainerState::Paused => kept.asked = true,
                _ => return Ok(Change::AlreadySo),
            }
            Ok(Change::Made)
        })
    }

    fn end_by_kill(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.change(id, |kept| {
            if !kept.state.is_on() {
                return Ok(Change::AlreadySo);
            }
            kept.end(ExitSeen { code: KILLED, oom: false, error: None });
            Ok(Change::Made)
        })
    }
}

#[async_trait]
impl ContainerLife for FakeContainers {
    async fn ensure_created(&self, def: &ContainerDef) -> Result<Created, ContainerError> {
        let def = def.clone();
        let id = def.id;
        self.call("ensure_created", move |inner| {
            def.check()?;
            let created = create(&mut inner.world.lock(), def)?;
            if created == Created::Made {
                inner.told(id);
            }
            Ok(created)
        })
        .await
    }

    async fn start(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.call("start", move |inner| {
            inner.change(id, |kept| {
                if kept.state.is_on() {
                    return Ok(Change::AlreadySo);
                }
                kept.begin();
                Ok(Change::Made)
            })
        })
        .await
    }

    async fn ask_to_stop(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.call("ask_to_stop", move |inner| inner.ask(id)).await
    }

    async fn stop(&self, id: Uuid, grace: Duration) -> Result<Change, ContainerError> {
        let inner = self.inner.clone();
        let change = self.call("stop", move |inner| inner.ask(id)).await?;
        let mut turns = inner.turns.subscribe();
        let off = async {
            while inner.world.lock().find(id).is_some_and(|kept| kept.state.is_on()) {
                let _ = turns.changed().await;
            }
        };
        if change == Change::Made && tokio::time::timeout(grace, off).await.is_err() {
            inner.end_by_kill(id)?;
        }
        Ok(change)
    }

    async fn kill(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.call("kill", move |inner| inner.end_by_kill(id)).await
    }

    async fn signal(&self, id: Uuid, number: u32) -> Result<(), ContainerError> {
        self.call("signal", move |inner| {
            inner.change(id, |kept| {
                if !kept.state.is_on() {
                    return Err(ContainerError::Off(id));
                }
                // As a program that handles none.
                let code = i32::try_from(number).map_or(KILLED, |number| 128 + number);
                kept.end(ExitSeen { code, oom: false, error: None });
                Ok(Change::Made)
            })
        })
        .await
        .map(drop)
    }

    async fn pause(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.call("pause", move |inner| {
            inner.change(id, |kept| match kept.state {
                ContainerState::Running => {
                    kept.state = ContainerState::Paused;
                    Ok(Change::Made)
                }
                ContainerState::Paused => Ok(Change::AlreadySo),
                _ => Err(ContainerError::Off(id)),
            })
        })
        .await
    }

    async fn unpause(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.call("unpause", move |inner| {
            inner.change(id, |kept| match kept.state {
                ContainerState::Paused => {
                    kept.state = ContainerState::Running;
                    if kept.asked && !kept.deaf {
                        kept.end(ExitSeen { code: STOPPED, oom: false, error: None });
                    }
                    Ok(Change::Made)
                }
                ContainerState::Running => Ok(Change::AlreadySo),
                _ => Err(ContainerError::Off(id)),
            })
        })
        .await
    }

    async fn rename(&self, def: &ContainerDef) -> Result<Change, ContainerError> {
        let (id, name) = (def.id, name_of(def));
        self.call("rename", move |inner| {
            let taken = inner.world.lock().containers.values().find(|kept| kept.name == name).map(|k| k.id);
            inner.change(id, |kept| {
                if kept.name == name {
                    return Ok(Change::AlreadySo);
                }
                if taken.is_some() {
                    return Err(ContainerError::Conflict(format!("another container is named {name}")));
                }
                kept.name = name;
                Ok(Change::Made)
            })
        })
        .await
    }

    async fn take_restarts(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.call("take_restarts", move |inner| {
            inner.change(id, |kept| match &mut kept.def {
                Made::Foreign(def) if def.restart != EngineRestart::Never => {
                    def.restart = EngineRestart::Never;
                    Ok(Change::Made)
                }
                _ => Ok(Change::AlreadySo),
            })
        })
        .await
    }

    async fn remove(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.call("remove", move |inner| {
            let taken = inner.world.lock().take(id);
            if taken.is_none() {
                return Ok(Change::AlreadySo);
            }
            inner.told(id);
            Ok(Change::Made)
        })
        .await
    }
}

#[async_trait]
impl ContainerLimits for FakeContainers {
    async fn update(&self, id: Uuid, limits: &Limits) -> Result<Change, ContainerError> {
        let limits = limits.settled();
        self.call("update", move |inner| {
            limits.check()?;
            inner.change(id, |kept| {
                if kept.limits == limits {
                    return Ok(Change::AlreadySo);
                }
                kept.limits = limits;
                Ok(Change::Made)
            })
        })
        .await
    }
}
