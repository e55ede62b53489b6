//! A stateful stand-in for a container engine: it keeps containers in memory, behaves as the contract suite demands of
//! every driver, and can be told to fail, hang, be slow, be away, or have things done to it behind the daemon's back.
//!
//! It runs nothing. A container whose command is `exit N` ends at once with N; any other goes on until it is stopped.
//! Like the real driver, a call goes on to its end when its caller stops waiting.

mod controls;
mod life;
mod networks;
mod state;
mod streams;
#[cfg(test)]
mod tests;
mod volumes;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use super::{
    ContainerDef, ContainerDriver, ContainerError, ContainerEvent, ContainerListed, ContainerLook,
    ContainerSeen, ForeignDef, ForeignSeen,
};
use crate::engine::{EngineError, EngineProbe, Flavor, Outage};
use crate::faults::Faults;
use state::World;

/// Methods are named as in the traits; a name that is none panics.
#[derive(Debug, Clone)]
pub struct FakeContainers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    world: Mutex<World>,
    faults: Faults<ContainerError>,
    events: broadcast::Sender<ContainerEvent>,
    /// Goes up with each change of any container.
    turns: watch::Sender<u64>,
}

impl Default for FakeContainers {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeContainers {
    /// The methods that can be made to fail, hang or be slow.
    pub const METHODS: &[&str] = &[
        "probe",
        "list",
        "observe",
        "foreign",
        "foreign_def",
        "image_id",
        "ensure_created",
        "start",
        "ask_to_stop",
        "stop",
        "kill",
        "signal",
        "pause",
        "unpause",
        "rename",
        "take_restarts",
        "remove",
        "update",
        "ensure_network",
        "remove_network",
        "networks",
        "connect",
        "disconnect",
        "ensure_volume",
        "remove_volume",
        "volumes",
        "exec",
        "attach",
        "logs",
        "pack",
        "unpack",
        "stats",
        "top",
        "diff",
        "commit",
        "wait",
    ];

    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                world: Mutex::new(World::default()),
                faults: Faults::new(Self::METHODS),
                events: broadcast::Sender::new(4096),
                turns: watch::Sender::new(0),
            }),
        }
    }

    /// Runs `work` once the faults let `method` pass, detached from whoever waits for it.
    async fn call<T: Send + 'static>(
        &self,
        method: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, ContainerError> + Send + 'static,
    ) -> Result<T, ContainerError> {
        let inner = self.inner.clone();
        let task = tokio::spawn(async move {
            inner.faults.pass(method).await?;
            inner.here()?;
            work(&inner)
        });
        let gone = |error: tokio::task::JoinError| {
            ContainerError::Engine(EngineError::Failed { call: method, detail: error.to_string() })
        };
        task.await.map_err(gone)?
    }
}

impl Inner {
    fn here(&self) -> Result<(), ContainerError> {
        if self.world.lock().away {
            let detail = "the fake was told to be away".to_owned();
            return Err(EngineError::Unavailable { socket: "fake.sock".to_owned(), detail }.into());
        }
        Ok(())
    }

    /// A container was changed.
    fn told(&self, id: Uuid) {
        self.turns.send_modify(|turns| *turns += 1);
        let _ = self.events.send(ContainerEvent { id: Some(id) });
    }
}

#[async_trait]
impl ContainerDriver for FakeContainers {
    async fn probe(&self) -> Result<EngineProbe, ContainerError> {
        self.call("probe", |_| {
            Ok(EngineProbe {
                flavor: Flavor::Docker,
                socket: "fake.sock".into(),
                version: "fake".to_owned(),
                api: "1.41".to_owned(),
                cgroups: 2,
                security: vec!["seccomp".to_owned()],
                storage: "fake".to_owned(),
                root: "/".into(),
            })
        })
        .await
    }

    async fn close(&self) {}
}

#[async_trait]
impl ContainerLook for FakeContainers {
    fn attend(&self, id: Uuid, engine_id: &str) {
        self.inner.world.lock().attend(id, engine_id);
    }

    fn leave(&self, id: Uuid) {
        self.inner.world.lock().attended.remove(&id);
    }

    async fn list(&self) -> Result<Vec<ContainerListed>, ContainerError> {
        self.call("list", |inner| Ok(inner.world.lock().list())).await
    }

    async fn observe(&self, id: Uuid) -> Result<Option<ContainerSeen>, ContainerError> {
        self.call("observe", move |inner| Ok(inner.world.lock().find(id).map(|kept| kept.seen(id)))).await
    }

    async fn foreign(&self) -> Result<Vec<ForeignSeen>, ContainerError> {
        self.call("foreign", |inner| Ok(inner.world.lock().foreign())).await
    }

    async fn foreign_def(&self, name: &str) -> Result<Option<ForeignDef>, ContainerError> {
        let name = name.to_owned();
        self.call("foreign_def", move |inner| Ok(inner.world.lock().foreign_def(&name))).await
    }

    async fn image_id(&self, name: &str) -> Result<Option<String>, ContainerError> {
        let name = name.to_owned();
        self.call("image_id", move |inner| Ok(inner.world.lock().image_id(&name))).await
    }

    fn events(&self) -> broadcast::Receiver<ContainerEvent> {
        self.inner.events.subscribe()
    }

    fn outage(&self) -> Option<Outage> {
        self.inner.world.lock().outage
    }

    fn digest(&self, def: &ContainerDef) -> String {
        super::def::digest(def)
    }
}
